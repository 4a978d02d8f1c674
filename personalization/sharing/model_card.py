"""The model card: what a repository of an adapter says of it, for people and for the Hub.

card(published).content -> README.md    card(published).data -> its front matter
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from personalization.adapters.adapter import Description
from personalization.bases.catalog import ASSETS, BaseSpec
from personalization.evaluation.evidence import Evidence
from personalization.evaluation.figures import Estimate, Figures
from personalization.evaluation.recipe_words import method_in_words, settings_in_words
from personalization.evaluation.report import Report
from personalization.evaluation.spectrum_files import LOSING
from personalization.files import size_words

WEIGHTS = "pytorch_lora_weights.safetensors"
WORD = "pytorch_lora_weights.word.safetensors"
EMBEDS = "learned_embeds.safetensors"
AS_TRAINED = "unscaled/adapter.safetensors"
EVIDENCE = "evidence.html"
SWEEP = "images/strengths.webp"
SHEET = "images/spectrum.webp"
SPECTRUM = "spectrum.html"


@dataclass(frozen=True)
class Published:
    """An adapter as it lies in a repository."""

    repository: str
    spec: BaseSpec
    about: Description
    licence: str
    files: frozenset[str]  # paths in the repository
    weights: str  # the path of what diffusers loads
    word: str = ""  # the path of the word that is loaded beside it
    baked: float | None = None  # the strength that is baked in, where one is
    report: Report | None = None
    pictures: tuple[tuple[str, str], ...] = ()  # paths, and their prompts
    evidence: Evidence | None = None  # what a person says of the pictures
    spectrum: dict[str, Any] | None = None  # the table of the same photos taught in every way
    changes: tuple[str, ...] = ()  # since the version before
    version: str = "v1"
    earlier: tuple[str, ...] = ()

    @property
    def is_word(self) -> bool:
        """Whether it is a learned word alone."""
        return self.about.method == "textual_inversion"

    @property
    def prompt(self) -> str:
        """What calls it."""
        if self.about.kind == "style":
            return f"a dog, {self.about.placeholder_token} style"
        return f"a photo of {self.about.trigger}"


def card(published: Published) -> ModelCard:
    """The card, parsed once by huggingface_hub as the Hub will."""
    front = metadata(published).to_yaml()
    sections = (
        _head(published),
        _verdict(published),
        _use(published),
        _fails(published),
        _spectrum(published),
        _evidence(published),
        _how(published),
        _versions(published),
    )
    body = "\n\n".join(section for section in sections if section)
    return ModelCard(f"---\n{front}\n---\n\n{body}\n", ignore_metadata_errors=False)


def metadata(published: Published) -> ModelCardData:
    """The front matter."""
    spec, about = published.spec, published.about
    kind = "textual-inversion" if published.is_word else "lora"
    tags = ["text-to-image", "diffusers", kind, "personalization"]
    if kind == "lora":
        tags += ["template:sd-lora", "dreambooth"]
    more: dict[str, Any] = {"instance_prompt": published.prompt}
    if not _is_here(spec):
        more |= {"base_model": spec.source, "base_model_relation": "adapter"}
    if published.pictures:
        more["widget"] = [
            {"text": prompt, "output": {"url": path}} for path, prompt in published.pictures
        ]
        more["thumbnail"] = published.pictures[0][0]
    if published.licence == "other":
        more |= {
            "license_name": spec.licence,
            "license_link": f"https://huggingface.co/{spec.source}",
        }
    return ModelCardData(
        license=published.licence,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=tags,
        model_name=about.title or published.repository,
        **more,
    )


def code(published: Published) -> str:
    """What loads it, as it stands: to be pasted."""
    spec, about = published.spec, published.about
    lines = [
        "from diffusers import DiffusionPipeline",
        "",
        f'pipe = DiffusionPipeline.from_pretrained("{_source(spec)}")',
    ]
    if published.is_word:
        lines.append(
            f'pipe.load_textual_inversion("{published.repository}", '
            f'weight_name="{published.weights}")'
        )
    else:
        lines.append(
            f'pipe.load_lora_weights("{published.repository}", weight_name="{published.weights}")'
        )
        if published.word:
            lines.append(
                f'pipe.load_textual_inversion("{published.repository}", '
                f'weight_name="{published.word}")'
            )
        if published.baked is None and about.strength != 1:
            lines.append(f'pipe.set_adapters(["default_0"], [{about.strength:g}])')
    lines.append(f'image = pipe("{published.prompt}").images[0]')
    return "\n".join(lines)


def _source(spec: BaseSpec) -> str:
    """What `from_pretrained` takes; a base of the app's own from its folder."""
    path = Path(spec.source)
    home = ASSETS.parent
    return path.relative_to(home).as_posix() if path.is_relative_to(home) else spec.source


def _is_here(spec: BaseSpec) -> bool:
    """Whether the base is a folder, which the Hub knows nothing of."""
    return Path(spec.source).is_absolute()


def _head(published: Published) -> str:
    about, spec = published.about, published.spec
    what = "A learned word" if published.is_word else f"A {method_in_words(about.method)} adapter"
    gallery = "<Gallery />" if published.pictures else ""
    return "\n\n".join(
        part
        for part in (
            f"# {about.title or published.repository.rpartition('/')[2]}",
            f"{what} for {spec.title}. It is called by `{about.trigger}`.",
            gallery,
        )
        if part
    )


def _verdict(published: Published) -> str:
    report = published.report
    if report is None and (said := published.about.report.get("verdict")):
        return f"## Did it work?\n\n{said}"
    if report is None:
        return "Nothing was measured: look at the pictures, and judge for yourself."
    lines = [f"## Did it work?\n\n{report.verdict}"]
    if figures := report.figures:
        lines.append(_table(figures))
    if SWEEP in published.files:
        lines.append(f"Over its strength:\n\n![Pictures over the adapter's strength]({SWEEP})")
    return "\n\n".join(lines)


def _table(figures: Figures) -> str:
    """The figures beside the untouched base and the real photos."""
    rows: list[tuple[str, Sequence[str]]] = [
        (
            f"at strength {figures.balance.strength:g}",
            (_said(figures.balance.subject_fidelity), _said(figures.balance.prompt_fidelity)),
        ),
        (
            "the untouched base",
            (_said(figures.base.subject_fidelity), _said(figures.base.prompt_fidelity)),
        ),
    ]
    if figures.real:
        rows.append(("the photos among themselves", (_said(figures.real), "")))
    body = "\n".join(f"| {name} | {' | '.join(cells)} |" for name, cells in rows)
    drift = figures.drift.towards
    encoders = ", ".join(dict.fromkeys(figures.encoders))
    return (
        "| | subject fidelity | prompt fidelity |\n|---|---|---|\n"
        f"{body}\n\nMeans with 95 % intervals over {figures.pictures} pictures, by {encoders}. "
        f"The class without the word drifted {drift.mean:.0%} of the way to the subject "
        f"({drift.low:.0%} to {drift.high:.0%}); copies of photos: {figures.copying.copies}."
    )


def _said(estimate: Estimate) -> str:
    return f"{estimate.mean:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _use(published: Published) -> str:
    said = [f"## Use it\n\n```python\n{code(published)}\n```"]
    if published.baked is not None:
        said.append(
            f"The recommended strength, {published.baked:g}, is baked in: 1.0 is right everywhere. "
            f"`{AS_TRAINED}` is as it was trained."
        )
    if published.is_word:
        said.append(
            "In A1111 and ComfyUI a word is called by its file's name, so the file for them is "
            "named after it."
        )
    if _is_here(published.spec):
        said.append(
            "The base is the pocket, which comes with the app that made this: run it in its folder."
        )
    return "\n\n".join(said)


def _fails(published: Published) -> str:
    if published.report is None or not published.report.failures:
        return ""
    return "## Where it fails\n\n" + "\n".join(f"- {each}" for each in published.report.failures)


def _spectrum(published: Published) -> str:
    """The same photos in every way: the table, who loses, the sheet; the page has the rest."""
    told = published.spectrum
    if not told:
        return ""
    rows = [
        f"| {row['name']} | {_share(row['subject_fidelity'])} | {_share(row['prompt_fidelity'])} "
        f"| {_share(row['drift'])} | {size_words(row['size']) if row['size'] else ''} "
        f"| {'' if row['seconds'] is None else format(row['seconds'], '.0f') + ' s'} |"
        for row in told["rows"]
    ]
    lost = [f"{said}: {', '.join(told[key])}." for key, said in LOSING.items() if told.get(key)]
    table = "\n".join(["| | subject | prompt | drift | file | time |", "|---" * 6 + "|", *rows])
    return "\n\n".join(
        (
            "## The same photos in every way",
            " ".join([told["verdict"], *lost]),
            table,
            f"![Rows the ways, columns the same prompts and seeds]({SHEET})",
            f"All of it: [{SPECTRUM}]({_blob(published, SPECTRUM)}).",
        )
    )


def _share(estimate: dict[str, float] | None) -> str:
    if not estimate:
        return ""
    return f"{estimate['mean']:.0%} ({estimate['low']:.0%} to {estimate['high']:.0%})"


def _blob(published: Published, path: str) -> str:
    return f"https://huggingface.co/{published.repository}/blob/{published.version}/{path}"


def _evidence(published: Published) -> str:
    """What a person chose and rejected, and why; the pictures are on the page of its own."""
    evidence = published.evidence
    if evidence is None:
        return ""
    rows = [
        f"| {verdict} | {cell(judgement.why)} | {cell(shot.prompt)} | {shot.seed} |"
        for verdict in ("chosen", "rejected")
        for shot, judgement in evidence.judged(verdict)  # type: ignore[arg-type]
    ]
    table = "\n".join(["| | why | prompt | seed |", "|---|---|---|---|", *rows]) if rows else ""
    link = _blob(published, EVIDENCE)
    said = f"Each picture with its seed, the technical note and the failures: [{EVIDENCE}]({link})."
    return "\n\n".join(part for part in ("## Evidence", table, said) if part)


def cell(text: str) -> str:
    """Somebody's words in a table: as they are, and no markup."""
    return re.sub(r"([\\`*_\[\]<>|!#])", r"\\\1", " ".join(text.split()))


def _how(published: Published) -> str:
    about = published.about
    said = ", ".join(map(": ".join, settings_in_words(about.recipe).items()))
    facts = [
        ("class noun", about.class_noun),
        ("base", f"{published.spec.source if not _is_here(published.spec) else 'the pocket'}"),
        ("recipe", said or about.method),
        ("software", ", ".join(f"{name} {it}" for name, it in about.software.items())),
    ]
    lines = "\n".join(f"- {name}: {value}" for name, value in facts if value not in ("", None))
    more = "The recipe as a file is `recipe.json`" + (
        ", the report's figures are in `report.json`." if "report.json" in published.files else "."
    )
    return f"## How it was taught\n\n{lines}\n\n{more}"


def _versions(published: Published) -> str:
    if not published.earlier:
        return ""
    changes = "\n".join(f"- {change}" for change in published.changes) or "- the same again"
    tree = f"https://huggingface.co/{published.repository}/tree"
    *older, before, now = (
        f"[{tag}]({tree}/{tag})" for tag in (*published.earlier, published.version)
    )
    said = f"## Versions\n\nThis is {now}. Since {before}:\n\n{changes}"
    return f"{said}\n\nEarlier ones: {', '.join(older)}." if older else said
