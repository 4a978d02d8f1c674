"""What the page says, as HTML: pure functions of photos, runs, descriptions and records.

Nothing here knows the web framework; what a visitor wrote is always escaped.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw

from personalization.adapters.adapter import Description
from personalization.bases.catalog import CATALOG, BaseSpec
from personalization.bases.ready import ReadyAdapter
from personalization.data.frames import Canvas, Frame, frame
from personalization.data.photos import Photo
from personalization.data.words import contains
from personalization.evaluation.report import Report
from personalization.evaluation.spectrum import WHOLE_MODEL, Mark, spectrum
from personalization.files import size_words
from personalization.sampling.picture_record import PictureRecord, RegionRecord
from personalization.training.base_selection import Option
from personalization.training.run import Run
from personalization.workspaces.library import Entry

from .examples import ExampleSet

if TYPE_CHECKING:  # take seconds to import
    from personalization.adapters.extraction import Extracted
    from personalization.sampling.picture_record import PictureRecord
    from personalization.sharing.hub import Found
    from personalization.training.estimate import Outlook

METHODS = {
    "textual_inversion": "a learned word",
    "lora": "a LoRA",
    "loha": "a LoHa",
    "lokr": "a LoKr",
    "dora": "a DoRA",
    "full": "a full fine-tune",
}
STACK_PROMISE = (
    '<p class="promise">Adapters add up. Put several on the base, say how much of each, and call '
    "them by their words.</p>"
)
MASKS = (
    '<p class="hint">A mask says which part of a photo is the subject: brush over it here, or add '
    "a picture of the same size, white there and black elsewhere, together with its photo, as "
    "mug-mask.png for mug.png. What it leaves out is shown faint, and hardly learned.</p>"
)
EXTRACT = (
    '<p class="hint">This file holds the model’s own weights as they became. Other programs want '
    "an adapter: extract one, small enough to share and to stack.</p>"
)
EMPTY_LIST = '<p class="list-empty">Nothing on the list: pictures come from the base as it is.</p>'
RESTORE_HINT = (
    '<p class="hint restore-hint">A picture from here holds its settings. Drop it to get them '
    "back.</p>"
)
TAKE_HINT = (
    '<p class="hint">One file for diffusers, one for ComfyUI, A1111 and Forge, each read back and '
    "compared with the adapter before it is offered. Those three know a learned word by its "
    "file’s name: that file is called as the word is.</p>"
)
SIGN_IN_HINT = (
    '<p class="hint">A private repository opens to who is signed in. The token is used to look and '
    "to fetch, and kept nowhere.</p>"
)
DUPLICATE = (
    '<p class="hint">A duplicate is yours: private if you like, with no queue but your own. A free '
    "account’s runs on ZeroGPU as this one may; other hardware is chosen and paid by the hour in "
    "its settings. Files last where a storage bucket is mounted and "
    "<code>PERSONALIZATION_HOME</code> names it; without one they go with each restart.</p>"
)
NO_STORAGE = (
    "Nothing outlasts a restart of this Space: no storage bucket is mounted, so adapters, runs and "
    "photos go with it. In its settings mount one, and let PERSONALIZATION_HOME name its folder; "
    "or take away, or publish, what you want to keep."
)
LINK_HINT = (
    '<p class="hint">A link opens this stack: its adapters and weights, the prompt, the seed.</p>'
)
SHOWN = 256  # pixels of a photo's longer side, as it is shown
PHOTO_DAMAGED = "A photo that was kept is damaged, and was taken out. Add it again."
PHOTOS_GONE = (
    "Photos that were here are gone: your workspace was deleted, or not used for days, and a new "
    "one has begun. Add them again."
)
NOTHING_TO_TAKE = "There is nothing on the list to take away. Add an adapter first."
NO_START = (
    "The picture that it started from is no longer in your workspace: add it under “Start from”, "
    "or on the canvas."
)
NO_RECORD = "This picture holds no settings: only PNG files that the app drew do."

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


def trigger(run: Run) -> str:
    """The words that call what `run` teaches: a learned word carries its class itself."""
    return (
        run.concept.placeholder_token
        if run.recipe.method_name == "textual_inversion"
        else run.concept.name
    )


FACES = "A face is somebody’s: use it with their consent."


def section(number: int, title: str, hint: str = "") -> str:
    """The numbered head of a part of the form."""
    said = f'<p class="hint">{hint}</p>' if hint else ""
    return f'<div class="section"><h3><span class="number">{number}</span>{title}</h3>{said}</div>'


def crops(photos: Sequence[tuple[str, Photo]], canvas: Canvas) -> str:
    """Each photo as it will be framed, with a button that takes it out."""
    if not photos:
        return ""
    frames = [frame(photo, canvas) for _, photo in photos]
    cells = "".join(
        f'<figure class="crop"><img src="{data_uri(_seen(photo, framed))}" '
        f'alt="{escape(photo.name)}">'
        f'<button type="button" data-key="{key}" title="Take {escape(photo.name)} out" '
        f'aria-label="Take {escape(photo.name)} out">×</button>'
        f"<figcaption>{escape(photo.name)}<br>{_size(framed)}</figcaption></figure>"
        for (key, photo), framed in zip(photos, frames, strict=True)
    )
    return f'<div class="crops">{cells}</div><p class="hint">{_framed(frames)}</p>'


def _size(framed: Frame) -> str:
    return f"{framed.size[0]} × {framed.size[1]}"


def _framed(frames: Sequence[Frame]) -> str:
    """What the model sees of the photos."""
    sizes = {_size(framed) for framed in frames}
    where = f"{sizes.pop()} pixels" if len(sizes) == 1 else f"{len(sizes)} shapes"
    least = min(framed.share for framed in frames)
    if least > 0.995:
        return f"In {where}: it sees all of each photo."
    return f"In {where}: it sees what is in the frame, {least:.0%} of a photo or more."


def example_sets(sets: Iterable[ExampleSet]) -> str:
    """A button each, with its photos fanned out."""
    buttons = "".join(
        f'<button type="button" class="example" data-key="{escape(each.key)}">'
        f'<span class="fan">{"".join(_thumbnail(path) for path in each.photos[:3])}</span>'
        f"{escape(each.title)}</button>"
        for each in sets
    )
    return (
        f'<div class="examples"><span class="hint">or try</span>{buttons}</div>' if buttons else ""
    )


def ready_adapters(ready: Sequence[ReadyAdapter]) -> str:
    """A button for each, which fetches it; whose it is and its licence beside it."""
    buttons = "".join(
        f'<button type="button" class="chip" data-key="{escape(each.key)}" '
        f'title="{escape(each.checkpoint.source)}, {escape(each.checkpoint.licence)}">'
        f"{escape(each.title)}</button>"
        for each in ready
    )
    said = '<span class="hint">From the Hub, by others:</span>'
    return f'<div class="chips ready">{said}{buttons}</div>' if buttons else ""


def reason(sentence: str) -> str:
    """Why this recipe."""
    return f'<p class="hint">{escape(sentence)}</p>'


def problems(sentences: Sequence[str]) -> str:
    """What is wrong and stops it: read out at once where a screen is read."""
    return _notes(sentences, "error", ' role="alert"')


def warnings(sentences: Sequence[str]) -> str:
    """What could be better and stops nothing."""
    return _notes(sentences, "warning", "")


def word_chips(
    placeholder_token: str, pieces: Sequence[str], start: Sequence[str], learned: bool
) -> str:
    """How the base reads the word, and what it starts from.

    `pieces` are the tokens that it is read as today; `start` those of the words to start from.
    """
    if not pieces:
        return ""
    reading = "".join(f'<span class="chip">{escape(piece)}</span>' for piece in pieces)
    if learned:
        new = f'<span class="chip new">{escape(placeholder_token)}</span>'
        after = f'<span class="arrow">becomes</span>{new}' if len(pieces) > 1 else new
        line = f'<div class="chips"><span class="lead">Read today as</span>{reading}{after}</div>'
        if start:
            chips = "".join(f'<span class="chip">{escape(piece)}</span>' for piece in start)
            line += f'<div class="chips"><span class="lead">Starts from</span>{chips}</div>'
        return line
    class_noun = "".join(f'<span class="chip known">{escape(piece)}</span>' for piece in start)
    return f'<div class="chips"><span class="lead">Read as</span>{reading}{class_noun}</div>'


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


def uncalled(prompt: str, words: Sequence[str]) -> list[str]:
    """A sentence for each adapter that the prompt does not call by its word."""
    return [
        f"The prompt does not call {word}: what was learned hardly shows without its word."
        for word in words
        if word and not any(contains(prompt, form) for form in (word, f"{word}s"))
    ]


def hint(text: str) -> str:
    """A quiet sentence."""
    return f'<p class="hint">{escape(text)}</p>'


def called(entry: Entry) -> str:
    """What an adapter is called in a list: by its word, where it has one."""
    about = entry.description
    return (about.trigger or about.title if about else "") or entry.name


def adapter_row(entry: Entry, picture: Path | None = None) -> str:
    """An adapter in the list: a picture of it or a sign, its word, and what it is."""
    if entry.description is None:
        return f'<div class="adapter"><b>{escape(entry.name)}</b><p>{escape(entry.error)}</p></div>'
    about = entry.description
    badge = (
        f'<span class="badge {escape(about.method)}" aria-hidden="true">{_glyph(about.method)}'
        "</span>"
    )
    if picture:
        badge = f'<img class="badge" src="{data_uri(picture, 96)}" alt="">'
    return (
        f'<div class="adapter">{badge}<div><b class="token">{escape(called(entry))}</b>'
        f"<p>{escape(_kind(about))} · {size_words(entry.size)} · {_whose(entry)}</p>"
        f"{_trigger_words(about)}</div></div>"
    )


def found(each: Found) -> str:
    """A file of a repository, on one line."""
    if each.contents is None:
        return each.name
    about = each.contents.description
    parts = [each.name, _kind(about), about.family or "family unknown", size_words(each.size)]
    return " · ".join(part for part in (about.trigger, *parts) if part)


def saved(title: str, residual: float) -> str:
    """The stack is an adapter now, and what was lost on the way."""
    lost = "It is the same change" if residual < 5e-4 else f"It keeps {1 - residual:.1%} of it"
    return f"Saved as “{title}” in your library. {lost}."


def _where(region: RegionRecord | None) -> str:
    """In which part of the picture, as it follows the adapter's name."""
    if region is None:
        return ""
    box = " ".join(f"{side:g}" for side in region.box)
    place = "where brushed" if region.mask else f"in {box}"
    return f" ({place}: “{region.prompt}”)" if region.prompt else f" ({place})"


def record(picture: PictureRecord) -> str:
    """How a picture came to be."""
    adapters = ", ".join(
        f"{a.title or a.name} × {a.weight:g}{_where(a.region)}" for a in picture.adapters
    )
    shown = [
        ("prompt", picture.prompt),
        ("negative", picture.negative),
        ("adapters", adapters or "none"),
        ("combined by", picture.combine if len(picture.adapters) > 1 else ""),
        ("seed", picture.seed),
        ("steps", picture.steps),
        ("guidance", picture.guidance),
        ("scheduler", picture.scheduler),
        ("base", picture.base),
    ]
    if picture.task != "text":
        shown.append(("from", f"{picture.task}, strength {picture.strength:g}"))
    if picture.reference.pictures:
        reference = picture.reference
        count = len(reference.pictures)
        shown.append(("reference", f"{reference.reach} of {count}, weight {reference.weight:g}"))
    if picture.structure.kind:
        structure = picture.structure
        until = f", until {structure.until:g}" if structure.until < 1 else ""
        shown.append(("structure", f"{structure.kind}, strength {structure.weight:g}{until}"))
    cells = "".join(
        f"<dt>{name}</dt><dd>{escape(_short(value))}</dd>"
        for name, value in shown
        if value not in (None, "")
    )
    return f'<dl class="record">{cells}</dl>'


def published(address: str, version: str = "", changes: Sequence[str] = ()) -> str:
    """Where an adapter is now, and what its version changed."""
    safe = escape(address, quote=True)
    link = f'<a href="{safe}" target="_blank">{safe}</a>'
    said = "".join(f"<li>{escape(change)}</li>" for change in changes)
    told = f'<ul class="hint">{said}</ul>' if said else ""
    return f'<p class="hint">Published {escape(version)}: {link}</p>{told}'


def choice(entry: Entry) -> str:
    """An adapter in a list to choose from, on one line."""
    about = entry.description
    if about is None:
        return f"{entry.name} (cannot be read)"
    return f"{called(entry)} · {_kind(about)} · {_whose(entry)}"


def other_base(name: str | None, spec: BaseSpec) -> list[str]:
    """A sentence where a picture was drawn by another base than the one in use."""
    if not name or name == spec.name:
        return []
    drew = CATALOG[name].title if name in CATALOG else name
    return [f"{drew} drew this picture, and {spec.title} is in use: it will look different."]


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


def not_in_link(words: Sequence[str]) -> list[str]:
    """A sentence for the adapters that nobody else could open."""
    if not words:
        return []
    are = "is" if len(words) == 1 else "are"
    return [
        f"{', '.join(words)} {are} yours alone and not in the link. What is public on the Hub and "
        "was added from there can be in one."
    ]


def bases(options: Sequence[Option], variable: str) -> str:
    """The bases that cannot be had here, together where the reason is the same."""
    reasons: dict[str, list[str]] = {}
    for option in options:
        if option.why_not:
            reasons.setdefault(option.why_not, []).append(option.spec.title)
    items = "".join(
        f"<li><b>{escape(', '.join(titles))}:</b> {escape(why)}</li>"
        for why, titles in reasons.items()
    )
    if not items:
        return ""
    return (
        f'<ul class="bases-not">{items}<li>Who runs the app can choose any base, with the variable '
        f"<code>{variable}</code>.</li></ul>"
    )


def terms(spec: BaseSpec, seconds: float | None = None) -> str:
    """What a base is allowed for, and the size that it draws; seconds: of a picture, where told."""
    gated = ", gated" if spec.gated else ""
    pace = f"; {duration(seconds)} a picture here" if seconds else ""
    return f"{spec.title} ({spec.size} px, {spec.licence}{gated}{pace})"


def outlook(said: Outlook, device: str, lent: str | None = None) -> str:
    """What a run will take, and leave, as far as it can be told before.

    lent: what its seconds are on a GPU that is lent, "" where none can tell; None on one's own.
    """
    words = ["how long shows after a few steps"]
    if said.seconds is not None:
        words = [f"{duration(said.seconds)} {'here' if lent is None else 'of GPU time'}"]
    if said.file:
        words.append(f"a file of {size_words(said.file)}")
    if said.memory:
        where = "the GPU’s memory" if device == "cuda" else "memory"
        words.append(f"{said.memory / 2**30:.1f} GiB of {where}")
    line = ", ".join(words)
    also = f". The GPU time is {lent}" if lent else ""
    return f'<p class="hint">{line[0].upper()}{line[1:]}{also}</p>'


def machine(rows: Sequence[tuple[Any, ...]], device: str) -> str:
    """A table of (base, why not, seconds of a word, of a subject), as far as each is known."""
    lines = "".join(
        f'<tr><th scope="row">{escape(title)}</th>'
        + (
            f'<td colspan="2">{escape(why_not)}</td>'
            if why_not
            else "".join(f"<td>{_time(seconds)}</td>" for seconds in times)
        )
        + "</tr>"
        for title, why_not, *times in rows
    )
    return (
        f'<table class="machine"><caption>By each base’s own recipes on {escape(device)}. Weights '
        'that are not here yet are fetched first.</caption><thead><tr><th scope="col">base</th>'
        '<th scope="col">a word</th><th scope="col">a subject</th></tr></thead>'
        f"<tbody>{lines}</tbody></table>"
    )


def first_start(title: str, word: float | None, subject: float | None) -> str:
    """A line for the log."""
    return f"{title} is loaded. Here a word takes {_time(word)}, a subject {_time(subject)}."


def _time(seconds: float | None) -> str:
    return duration(seconds) if seconds else "a time that shows after a few steps"


def header(base: str, device: str, last: Mark | None = None, whole: int = WHOLE_MODEL) -> str:
    """The title, one sentence, the spectrum with the visitor's `last` result, the base.

    `whole` is what a full fine-tune of this base weighs, in bytes.
    """
    return (
        '<header><div class="head-line"><h1>Personalization</h1>'
        f'<p class="state"><i class="dot"></i>{escape(base)}<span class="sep">·</span>'
        f"{escape(device)}</p></div>"
        '<p class="lede">Show a text-to-image model a few photos, give them a word, '
        "and draw with it.</p>"
        f'<div class="spectrum">{spectrum([last] if last else [], whole=whole)}</div></header>'
    )


def device_words(device: str, *, shared: bool) -> str:
    """The device as a visitor calls it."""
    if shared:
        return "ZeroGPU, shared"
    if device == "cpu":
        return f"this machine’s CPU, {os.cpu_count()} cores, no network needed"
    return "this machine’s GPU"


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


def duration(seconds: float, *, about: bool = True) -> str:
    """ "about 40 s", "about 3 min": in steps that a person plans with."""
    lead = "about " if about else ""
    if seconds < 10:
        return f"{lead}{max(1, round(seconds))} s"
    if seconds < 100:
        return f"{lead}{5 * round(seconds / 5) if about else round(seconds)} s"
    if seconds < 5400:
        return f"{lead}{seconds / 60:.0f} min"
    return f"{lead}{seconds / 3600:.1f} h"


def data_uri(picture: Image.Image | Path, side: int = 256) -> str:
    """A picture inside the page itself: no address leads to it."""
    if isinstance(picture, Path):
        try:
            with Image.open(picture) as file:
                file.load()
                picture = file
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return "data:,"  # it is gone, or damaged: the rest is shown
    small = picture.convert("RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=88, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _kind(about: Description) -> str:
    return METHODS.get(about.method, about.method).removeprefix("a ")


def _trigger_words(about: Description) -> str:
    """What others' files name as what calls them, to be clicked into the prompt."""
    words = [word for word in about.trigger_words if word != about.trigger]
    chips = "".join(
        f'<button type="button" class="chip" data-key="{escape(word)}" '
        f'title="Put “{escape(word)}” into the prompt">{escape(word)}</button>'
        for word in words
    )
    return f'<div class="chips triggers">{chips}</div>' if chips else ""


def _whose(entry: Entry) -> str:
    return "yours" if entry.own else "ready"


def extracted(made: Extracted) -> str:
    """What a LoRA keeps of a full fine-tune, over all and layer by layer."""
    beside = made.beside / made.change
    rows = "".join(
        f"<tr><td>{escape(str(layer.place))}</td><td>{layer.residual:.1%}</td></tr>"
        for layer in sorted(made.layers, key=lambda layer: -layer.residual)
    )
    return (
        f'<div class="extracted"><p>A LoRA of rank {made.adapter.description.rank} is in your '
        f"library. It leaves out <b>{made.residual:.1%}</b> of what the fine-tune changed, by the "
        f"size of the change (Frobenius norm); biases and norms, which no LoRA holds, are "
        f"{beside:.1%}. A higher rank leaves out less.</p><details><summary>Left out, layer by "
        f"layer</summary><table>{rows}</table></details></div>"
    )


def _seen(photo: Photo, framed: Frame) -> Image.Image:
    """The photo, faint where a mask leaves it out and nearly gone outside of its frame."""
    whole = photo.image.copy()
    whole.thumbnail((SHOWN, SHOWN))
    grey = Image.new("RGB", whole.size, (128, 128, 128))
    image = whole
    if photo.mask is not None:
        image = Image.composite(
            whole, Image.blend(whole, grey, 0.75), photo.mask.resize(whole.size)
        )
    if framed.share > 0.995:
        return image
    scale = whole.width / photo.image.width, whole.height / photo.image.height
    left, top, right, bottom = (
        round(side * by) for side, by in zip(framed.box, scale * 2, strict=True)
    )
    shown = Image.blend(whole, grey, 0.85)
    shown.paste(image.crop((left, top, right, bottom)), (left, top))
    outline = (left, top, right - 1, bottom - 1)
    ImageDraw.Draw(shown).rectangle(outline, outline=(255, 255, 255), width=2)
    return shown


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _thumbnail(path: Path) -> str:
    return f'<img src="{data_uri(path, 96)}" alt="">'


def _notes(sentences: Sequence[str], tone: str, role: str) -> str:
    if not sentences:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="notes {tone}"{role}>{items}</ul>'


def _glyph(method: str) -> str:
    return {"textual_inversion": "“ ”", "full": "■"}.get(method, "≡")
