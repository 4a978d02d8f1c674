"""The bases: what they are (`catalog`), what they give (`base`), and their families."""

from personalization.bases.catalog import CATALOG, BaseSpec
from personalization.bases.registry import best_device, load

__all__ = ["CATALOG", "BaseSpec", "best_device", "load"]
