"""Pictures over an adapter's strength, with a slider that changes them in the browser, at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from personalization.evaluation.report import Report
from personalization.sampling.picture_record import read_record

from .html import data_uri

# The frames of each prompt lie on one another; the slider says which is seen.
ON_SLIDE = """element.addEventListener('input', (event) => {
    const box = event.target.closest('.strengths');
    if (!box) return;
    const at = event.target.value;
    box.querySelectorAll('[data-at]').forEach((part) => {
        part.classList.toggle('seen', part.dataset.at === at);
    });
    event.target.setAttribute(
        'aria-valuetext', box.querySelector('output.seen')?.textContent ?? '');
});"""


@dataclass(frozen=True)
class Frame:
    """A picture at one strength."""

    path: Path
    prompt: str
    strength: float


def frames_in(folder: Path) -> list[Frame]:
    """The pictures in a folder that say which prompt and strength of one adapter drew them."""
    found = [(path, read_record(path)) for path in sorted(folder.glob("*.png"))]
    return [
        Frame(path, record.prompt, record.adapters[0].weight)
        for path, record in found
        if record and record.adapters
    ]


def strengths(frames: Sequence[Frame], report: Report) -> str:
    """A figure for each prompt over one slider, which begins at the recommended strength."""
    values = sorted({frame.strength for frame in frames})
    prompts = list(dict.fromkeys(frame.prompt for frame in frames))
    best = report.figures.balance.strength if report.figures else 1.0
    first = min(range(len(values)), key=lambda at: abs(values[at] - best))
    figures = "".join(
        f'<figure><div class="frames">{_frames(frames, prompt, values, first)}</div>'
        f"<figcaption>{escape(prompt)}</figcaption></figure>"
        for prompt in prompts
    )
    said = "".join(
        f'<output data-at="{at}" class="{"seen" if at == first else ""}">'
        f"{_said(value, best)}</output>"
        for at, value in enumerate(values)
    )
    return (
        f'<div class="strengths"><div class="strength-row">{figures}</div>'
        f'<label><span>How much of it</span><input type="range" min="0" max="{len(values) - 1}" '
        f'step="1" value="{first}" aria-label="Strength" '
        f'aria-valuetext="{_said(values[first], best)}">{said}</label></div>'
    )


def _frames(frames: Sequence[Frame], prompt: str, values: Sequence[float], first: int) -> str:
    return "".join(
        f'<img data-at="{values.index(frame.strength)}" '
        f'class="{"seen" if values.index(frame.strength) == first else ""}" '
        f'src="{data_uri(frame.path)}" alt="{escape(prompt)}, strength {frame.strength:g}">'
        for frame in frames
        if frame.prompt == prompt
    )


def _said(value: float, best: float) -> str:
    if value == 0:
        return "0, the base as it is"
    return f"{value:g}, recommended" if value == best else f"{value:g}"
