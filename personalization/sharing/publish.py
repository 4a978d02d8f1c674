"""What is published: an adapter with its card, recipe and report, as the files of a repository.

    made = prepare(adapter, spec, wish, report)    upload.upload(made, token)

`prepare` writes nothing and asks the Hub for nothing, so that the card can be looked at first.
Photos are never among the files unless `wish.photos` are given.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from personalization.adapters import formats
from personalization.adapters.adapter import Adapter
from personalization.adapters.adapter_deltas import TEXTUAL_INVERSION
from personalization.adapters.scaling import can_scale, scaled
from personalization.bases.catalog import BaseSpec
from personalization.errors import AdapterError, HubError
from personalization.evaluation import evidence_html
from personalization.evaluation.evidence import Evidence
from personalization.evaluation.report import Report
from personalization.evaluation.spectrum_files import Kept
from personalization.files import scratch
from personalization.sampling.image_grid import image_grid
from personalization.sharing import licences, model_card
from personalization.sharing.model_card import Published
from personalization.stacking.stack import Slot

PICTURES = 8  # in the gallery
QUALITY = 88
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Wish:
    """What a person chooses: the name without the owner, who sees it, under what licence."""

    name: str
    private: bool = True
    licence: str = ""  # the Hub's name of it
    photos: tuple[Image.Image, ...] = ()  # only those whose box was ticked

    def check(self, spec: BaseSpec) -> Wish:
        """Return self, or raise `HubError` by field."""
        if not _NAME.fullmatch(self.name) or ".." in self.name or "--" in self.name:
            raise HubError(
                f"“{self.name[:60]}” cannot be a repository’s name: letters, digits, and single "
                "dashes, dots or underscores between them, and no owner before it.",
                field="name",
            )
        licences.check(self.licence, spec.licence)
        return self


@dataclass(frozen=True)
class Prepared:
    """What will be uploaded: the files by path, but for the card, which `published` makes."""

    wish: Wish
    published: Published
    files: dict[str, bytes] = field(repr=False)

    @property
    def card(self) -> str:
        """The README.md as it will be."""
        return str(model_card.card(self.published))

    def content(self, published: Published) -> dict[str, bytes]:
        """All files, with what tells of the version."""
        told = {"README.md": str(model_card.card(published)).encode()}
        if published.evidence:
            evidence = replace(published.evidence, version=published.version)
            told[model_card.EVIDENCE] = evidence_html.render(evidence).encode()
            told["evidence.json"] = _json(evidence.as_dict())
        return self.files | told


def prepare(
    adapter: Adapter,
    spec: BaseSpec,
    wish: Wish,
    report: Report | None = None,
    evidence: Evidence | None = None,
    spectrum: Kept | None = None,
) -> Prepared:
    """Everything that a repository will hold. Raises `HubError` or `AdapterError`."""
    wish.check(spec)
    Slot(adapter).check(spec)
    about = adapter.description
    files = {"recipe.json": _json(about.recipe)}
    baked: float | None = None
    if can_scale(adapter) and about.strength not in (0.0, 1.0):
        baked = about.strength
    made = _exported(scaled(adapter, baked) if baked is not None else adapter)
    if baked is not None or len(made) > 2:  # nothing else is whole, and as it was trained
        files[model_card.AS_TRAINED] = _own_file(adapter)
    files |= made
    pictures: list[tuple[str, str]] = []
    if report is not None:
        files["report.json"] = _json(report.as_dict())
        for number, (image, caption) in enumerate(report.strip(PICTURES)):
            path = f"images/{number}.webp"
            files[path] = _webp(image)
            pictures.append((path, caption))
        if report.sweep:
            files[model_card.SWEEP] = _webp(_sheet(report))
    if spectrum is not None:
        files[model_card.SPECTRUM] = spectrum.page
        files[model_card.SHEET] = _webp(spectrum.sheet)
    for number, photo in enumerate(wish.photos):
        files[f"photos/{number}.webp"] = _webp(photo)
    is_word = about.method == TEXTUAL_INVERSION
    word = next((path for path in made if path.endswith(".word.safetensors")), "")
    weights = next(
        path
        for path in made
        if path.startswith("learned" if is_word else "pytorch") and path != word
    )
    published = Published(
        repository=wish.name,
        spec=spec,
        about=about,
        licence=wish.licence,
        files=frozenset(files),
        weights=weights,
        word=word,
        baked=baked,
        report=report,
        pictures=tuple(pictures),
        evidence=evidence,
        spectrum=spectrum.table if spectrum else None,
    )
    return Prepared(wish, published, files)


def _own_file(adapter: Adapter) -> bytes:
    """The adapter as the app keeps it: all of it in one file."""
    with scratch() as folder:
        path = folder / "adapter.safetensors"
        return adapter.save(path, formats.diffusers_metadata(adapter)).read_bytes()


def _exported(adapter: Adapter) -> dict[str, bytes]:
    """For diffusers, and for kohya's world: there a word is named after itself."""
    is_word = adapter.description.method == TEXTUAL_INVERSION
    name = model_card.EMBEDS if is_word else model_card.WEIGHTS
    files: dict[str, bytes] = {}
    with scratch() as temporary:
        for kind, prefix in (("diffusers", ""), ("kohya", "kohya/")):
            target = temporary / kind / name
            target.parent.mkdir()
            try:
                written = formats.export(adapter, target, kind)  # type: ignore[arg-type]
            except AdapterError:
                if kind == "diffusers":
                    raise
                continue  # what kohya's format cannot hold is not offered there
            for path in written:
                files[f"{prefix}{path.name}"] = path.read_bytes()
    return files


def _sheet(report: Report) -> Image.Image:
    """The sweep's pictures, a row a prompt, a column a strength."""
    prompts = list(dict.fromkeys(shot.prompt for shot in report.sweep))
    strengths = sorted({shot.strength for shot in report.sweep})
    by_place = {(shot.prompt, shot.strength): shot.image for shot in report.sweep}
    rows: Sequence[Sequence[Image.Image]] = [
        [by_place[prompt, strength] for strength in strengths if (prompt, strength) in by_place]
        for prompt in prompts
    ]
    return image_grid(rows, prompts, [f"strength {strength:g}" for strength in strengths])


def _webp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=QUALITY)
    return buffer.getvalue()


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
