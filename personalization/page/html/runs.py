"""A run in words: what a tab promises, the verdict, a recorded one."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from personalization.bases.catalog import CATALOG
from personalization.evaluation.report import Report
from personalization.files import size_words
from personalization.training.run import Run

from .words import METHODS, data_uri, duration, trigger

# A line on each way to teach a subject.
WAYS = {
    "lora": "A LoRA: two thin matrices beside each layer. Small, quick, read by every program.",
    "loha": "A LoHa: products of thin matrices. Of a higher rank at twice the size of a LoRA.",
    "lokr": "A LoKr: Kronecker products. The smallest file; other programs get it as a LoRA.",
    "dora": "A DoRA: a LoRA that learns lengths and directions apart. Close, and slower.",
    "full": "A full fine-tune: every weight learns. The closest; the file holds the whole model.",
}
_STEPS = {
    "word": (
        ("A new word", "is added to the model’s dictionary, at the place of one that it knows."),
        ("It moves", "step by step to where the model draws your photos. Nothing else changes."),
        ("You get", "pictures of it anywhere, and a file of a few kilobytes for any program "
         "that knows this base."),
    ),
    "subject": (
        ("The class first:", "the model draws what it takes the class to be, to hold on to it."),
        ("A thin layer", "over its weights learns your photos, while the class stays as drawn."),
        ("You get", "pictures of your subject anywhere, and a small file that stacks with others."),
    ),
}  # fmt: skip


def verdict(run: Run, size: int, report: Report | None = None) -> str:
    """The first lines under a finished run: whether it worked, what there is, what it cost."""
    method, state = METHODS[run.recipe.method_name], run.state
    name = f'<b class="token">{escape(trigger(run))}</b>'
    said = escape(report.verdict) if report else f"{name} is trained."
    what = f"{name}: {method}" if report else method[0].upper() + method[1:]
    best = ""
    if report and report.figures and len(report.figures.levels) > 1:
        best = f" Best at strength {report.figures.balance.strength:g}."
    return (
        f'<div class="verdict"><p>{said}</p><p class="hint">{what} of {size_words(size)}, '
        f"{state.step} steps in {duration(state.seconds, about=False)}.{best}</p></div>"
    )


def recorded(run: Run) -> str:
    """That a run was made elsewhere: when, on what, from which photos."""
    base, day = CATALOG[run.base].title, run.record.created[:10]
    photos = "".join(f'<img src="{data_uri(p.image)}" alt="A photo">' for p in run.concept.photos)
    return (
        '<div class="recorded"><p><b>Recorded</b> on '
        f"<time>{escape(day)}</time> with {escape(base)}. Nothing is computed while you look.</p>"
        f'<div class="from">{photos}</div></div>'
    )


def train_your_own(*, whole: bool) -> str:
    """The way from a recorded run to one's own, and to all of it where it is not all shown."""
    rest = "" if whole else ", or look at " + _aside("?run=recorded", "all of this run")
    return (
        f'<p class="own">{_aside("?", "Train your own", "call-out")}<span class="hint">with your '
        f"photos and a word{rest}</span></p>"
    )


def _aside(address: str, text: str, kind: str = "") -> str:
    """A link that leaves the page where it is: it may be a frame in somebody's post."""
    return f'<a class="{kind}" href="{address}" target="_blank" rel="noopener">{text}</a>'


def intro(purpose: str, photos: Sequence[Path] = (), drawn: Sequence[tuple[Path, str]] = ()) -> str:
    """What stands where the run will be: an example's photos and the pictures, with their prompts,
    that came of them; and what happens, in three sentences."""
    shown = ""
    if photos and drawn:
        seen = "".join(f'<img src="{data_uri(path)}" alt="A photo">' for path in photos)
        made = "".join(
            f'<figure><img src="{data_uri(path)}" alt="{escape(said)}">'
            f"<figcaption>{escape(said)}</figcaption></figure>"
            for path, said in drawn
        )
        shown = (
            f'<h3>From photos like these …</h3><div class="from">{seen}</div>'
            f'<h3>… pictures that nobody took</h3><div class="to">{made}</div>'
        )
    items = "".join(f"<li><b>{title}</b> {text}</li>" for title, text in _STEPS[purpose])
    return f'<div class="intro">{shown}<h3>What happens</h3><ol>{items}</ol></div>'


def privacy(lifetime: float) -> str:
    """What becomes of what a visitor brings."""
    return (
        '<p class="hint">Your photos stay on this machine, in a folder that only your browser '
        f"knows. It is deleted {lifetime / 86400:.0f} days after your last visit, or now.</p>"
    )
