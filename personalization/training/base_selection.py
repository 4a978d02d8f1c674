"""Which base: the one that the owner names, the one that suits the device, the one that is chosen.

A name stands for a base everywhere: an entry of the catalog ("sdxl"), a repository on the Hub
("someone/their-model"), or the owner's own, which may be a folder or a file on their disk. What a
visitor types is never a path.

What measures and reads is imported where it is used: it takes seconds, and the page starts without.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from personalization.bases.catalog import CATALOG, BaseSpec
from personalization.errors import BaseError
from personalization.recipe import Recipe
from personalization.training.presets import SMALLER, Purpose

if TYPE_CHECKING:
    import torch

VARIABLE = "PERSONALIZATION_BASE"
POCKET = CATALOG["pocket"]
PREFERRED = ("sdxl", "sd15")  # by what is published for them, where a subject can be taught
PHOTOGRAPHS = ("sd15", "bk-sdm-small", "bk-sdm-tiny")  # on a CPU, by what they draw
PATIENCE = 3600.0  # seconds that somebody may wait for a run there
_PAGE = re.compile(r"^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


@dataclass(frozen=True)
class Option:
    """A base, and why it cannot be had here; "" where it can."""

    spec: BaseSpec
    why_not: str


def default(device: torch.device, free: int | None = None, *, shared: bool = False) -> BaseSpec:
    """The owner's, by ``$PERSONALIZATION_BASE``; else what the device has the memory to teach.

    The pocket on a CPU. free: bytes, measured where it is not given; shared: a GPU lent by the
    minute, as ZeroGPU's, where the quicker base is the better. Raises `BaseError`.
    """
    chosen = os.environ.get(VARIABLE, "").strip()
    if chosen:
        from personalization.bases.loading import recognised

        return CATALOG[chosen] if chosen in CATALOG else recognised(chosen)
    if device.type == "cpu":
        return POCKET
    from personalization.bases import memory
    from personalization.training.estimate import estimate

    free = memory.available(device) if free is None else free
    for name in PREFERRED[1:] if shared else PREFERRED:
        spec = CATALOG[name]
        if free is not None and estimate(spec, spec.recipes["subject"]).memory <= free:
            return spec
    return POCKET


def named(text: str) -> BaseSpec:
    """What a visitor chose or typed: an entry of the catalog, or a repository on the Hub.

    Reads an index, and no weights. Raises `BaseError`.
    """
    name = text.strip()
    return CATALOG.get(name) or _repository(name)


def options(default: BaseSpec, device: torch.device, free: int | None = None) -> list[Option]:
    """The process's own base, then the catalog, with what stands against each.

    free: bytes, measured where it is not given.
    """
    others = [spec for spec in CATALOG.values() if spec.name != default.name]
    return [Option(default, ""), *(Option(spec, _why_not(spec, device, free)) for spec in others)]


@dataclass(frozen=True)
class Suited:
    """A base for photographs, and what its own recipe takes with photos of `size` pixels."""

    spec: BaseSpec
    size: int
    seconds: float | None  # None where it cannot be told


@lru_cache(maxsize=8)
def for_photographs(
    purpose: Purpose, device: torch.device, *, shared: bool = False
) -> Suited | None:
    """The base for photographs that this machine can carry, with its own recipe.

    On a GPU as `default` prefers; on a CPU the first that is taught within an hour, with photos of
    its own size or else with smaller ones, or else the quickest. None where none has the memory.
    """
    from personalization.bases import memory

    preferred = PREFERRED[1:] if shared else PREFERRED
    free = memory.available(device)
    found: list[Suited] = []
    for spec, recipe in _tried(PHOTOGRAPHS if device.type == "cpu" else preferred, purpose, device):
        suited = _suited(spec, recipe, device, free)
        if suited and (device.type != "cpu" or (suited.seconds or 0.0) <= PATIENCE):
            return suited
        found += [suited] if suited else []
    return min(found, key=lambda each: each.seconds or 0.0, default=None)


def _tried(
    names: Sequence[str], purpose: Purpose, device: torch.device
) -> Iterator[tuple[BaseSpec, Recipe]]:
    """All at their own size first; on a CPU then with photos of fewer pixels."""
    for size in (0, *SMALLER) if device.type == "cpu" else (0,):
        for spec in map(CATALOG.__getitem__, names):
            yield spec, replace(spec.recipes[purpose], resolution=size)


def _suited(
    spec: BaseSpec, recipe: Recipe, device: torch.device, free: int | None
) -> Suited | None:
    """None where it does not fit into `free` bytes."""
    from personalization.bases.loading import precision
    from personalization.training.estimate import estimate, outlook_on

    if free is not None and estimate(spec, recipe, precision(spec, device)).memory > free:
        return None
    return Suited(spec, recipe.size(spec.size), outlook_on(spec, recipe, device).seconds)


def _why_not(spec: BaseSpec, device: torch.device, free: int | None) -> str:
    from personalization.bases import memory
    from personalization.bases.loading import precision

    free = memory.available(device) if free is None else free
    if free is None or memory.fits(spec, device, free):
        return ""
    weights = memory.weights(spec.architecture, precision(spec, device))
    needed, there = f"{weights / memory.GIB:.1f}", f"{free / memory.GIB:.1f}"
    return f"its weights take {needed} GiB, and {there} GiB are free here."


@lru_cache(maxsize=64)
def _repository(text: str) -> BaseSpec:
    """A repository that a visitor named by its id or its address, read as nobody in particular."""
    from personalization.bases.loading import recognised

    name = _PAGE.sub("", text)
    if name != text:  # an address may lead further in
        name = "/".join(name.split("?")[0].split("/")[:2])
    name = name.removesuffix("/")
    if not _REPOSITORY.fullmatch(name) or ".." in name or Path(name).exists():
        raise BaseError(
            f"“{text[:60]}” is no base that is known here, and no repository’s name. One has an "
            "owner and a name, such as someone/their-model. The base in use stays."
        )
    return replace(recognised(name, anonymous=True), name=name)
