"""The whole spectrum in words while it is at work: each way, and what of it is done."""

from __future__ import annotations

from html import escape

from personalization.evaluation.spectrum_files import SHEET
from personalization.events import Stage

from .html import duration
from .spectrum_work import SpectrumView

_DOING = {
    "learning": "step {0.done} of {0.total}",
    "class images": "drawing the class as it is now, {0.done} of {0.total} pictures",
    "photos": "reading the photos",
    "looking": "looking at the photos, {0.done} of {0.total}",
    "the judge": "calling the judge",
    SHEET: "row {0.done} of {0.total}",
}
_MEASURING = "measuring whether it worked, {0.done} of {0.total} pictures"


def so_far(view: SpectrumView, waiting: str = "") -> str:
    """A bar over all ways, what is being done, and the ways in turn."""
    left = ""
    if view.way and view.seconds_left:
        left = f'<span class="left">{duration(view.seconds_left)} left</span>'
    share = 100 * view.share
    return (
        '<div class="run"><div class="run-line"><span>The whole spectrum</span>'
        f'{left}</div><div class="bar{"" if view.way else " busy"}" role="progressbar" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{share:.0f}" '
        f'aria-label="Of all ways"><i style="width:{share if view.way else 100:.1f}%"></i></div>'
        f'<div class="run-detail">{escape(_detail(view, waiting))}</div>{_ways(view)}</div>'
    )


def _detail(view: SpectrumView, waiting: str) -> str:
    if not view.way:
        return waiting or "Waiting for the machine…"
    return f"{view.way[0].upper()}{view.way[1:]}{_doing(view.stage)}"


def _doing(stage: Stage | None) -> str:
    return f": {_DOING.get(stage.name, _MEASURING).format(stage)}" if stage else "…"


def _ways(view: SpectrumView) -> str:
    """Those that are done, the one at work, those to come."""
    items = []
    for number, way in enumerate([*view.ways, SHEET]):
        state = "done" if number < view.number else "now" if way == view.way else "to-come"
        mark = {"done": "✓ ", "now": "", "to-come": ""}[state]
        current = ' aria-current="step"' if state == "now" else ""
        items.append(f'<li class="{state}"{current}>{mark}{escape(way)}</li>')
    return f'<ol class="ways">{"".join(items)}</ol>'
