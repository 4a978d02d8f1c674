"""Adapters that guide a base beside its prompt: where each family's own are found.

For a reference picture an IP-Adapter (Ye et al. 2023, arXiv 2308.06721) with the image encoder that
it was trained on; for a map a T2I-Adapter (Mou et al. 2023, arXiv 2302.08453). Nothing here loads
anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from personalization.bases.catalog import ASSETS, Checkpoint
from personalization.data.maps import MapKind


@dataclass(frozen=True)
class ReferenceSpec:
    """An IP-Adapter's file, its image encoder, and the blocks that carry style and layout.

    A folder as source is on this machine. `patches`: it reads the encoder's states before the last
    layer, and not the pooled vector. The blocks are prefixes of paths in the UNet, which
    InstantStyle (Wang et al. 2024, arXiv 2404.02733) found for SDXL.
    """

    weights: Checkpoint
    file: str
    encoder: Checkpoint
    encoder_folder: str
    style: tuple[str, ...]
    layout: tuple[str, ...]
    patches: bool = True


@dataclass(frozen=True)
class StructureSpec:
    """A T2I-Adapter in diffusers' layout."""

    weights: Checkpoint


_HUB = "h94/IP-Adapter"
_REVISION = None  # the newest: none is pinned, as none could be tried
REFERENCES: dict[str, ReferenceSpec] = {
    "pocket": ReferenceSpec(
        Checkpoint(str(ASSETS / "pocket-reference"), None, "apache-2.0"),
        "ip-adapter.safetensors",
        Checkpoint(str(ASSETS / "pocket-judge"), None, "apache-2.0"),
        "",
        style=("up_blocks",),
        layout=("down_blocks",),
    ),
    "sd1": ReferenceSpec(
        Checkpoint(_HUB, _REVISION, "apache-2.0"),
        "models/ip-adapter-plus_sd15.safetensors",
        Checkpoint(_HUB, _REVISION, "apache-2.0"),
        "models/image_encoder",
        style=("up_blocks.1",),
        layout=("down_blocks.2",),
    ),
    "sdxl": ReferenceSpec(
        Checkpoint(_HUB, _REVISION, "apache-2.0"),
        "sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors",
        Checkpoint(_HUB, _REVISION, "apache-2.0"),
        "models/image_encoder",
        style=("up_blocks.0.attentions.1",),
        layout=("down_blocks.2.attentions.1",),
    ),
}
STRUCTURES: dict[tuple[str, MapKind], StructureSpec] = {
    ("pocket", "edges"): StructureSpec(
        Checkpoint(str(ASSETS / "pocket-structure" / "edges"), None, "apache-2.0")
    ),
    ("sd1", "edges"): StructureSpec(
        Checkpoint("TencentARC/t2iadapter_canny_sd15v2", None, "apache-2.0")
    ),
    ("sdxl", "edges"): StructureSpec(
        Checkpoint("TencentARC/t2i-adapter-canny-sdxl-1.0", None, "apache-2.0")
    ),
}
