"""What ZeroGPU lends and refuses: its terms, its refusals in words, and asking for less.

Read from the package `spaces` (0.51.3: `zero/client.py`, `zero/configs.json`) and the Hub's pages
on ZeroGPU, November 2026. A request is checked beforehand against what the visitor has left of
their day, on today's cards at 1.5 times its seconds; what was refused for that can be asked for
again with less. Who a visitor is, a token says that Hugging Face puts into each request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

import gradio as gr

from .html import duration

FACTOR = 1.5  # of the default size
DAY = {"": 120, "free": 300, "Pro": 2400}  # seconds a day: nobody in particular, an account, PRO
LEAST = 5  # seconds of work that are worth an allocation

Kind = Literal["quota", "too long", "ended", "busy"]
Item = TypeVar("Item")
_QUOTA = re.compile(r"your (?:(\w+) )?ZeroGPU quota \((\d+)s requested vs\. (-?\d+)s left\)")
_WAIT = re.compile(r"Try again in (?:(\d+) days?, )?(\d+):(\d+):(\d+)")
_SIGN_IN = (
    "Signed in to huggingface.co, a free account has "
    f"{DAY['free'] // 60} minutes a day, and PRO {DAY['Pro'] // 60}."
)
_TITLES: dict[str, Kind] = {
    "ZeroGPU quota exceeded": "quota",
    "ZeroGPU pending credits exceeded": "quota",
    "ZeroGPU illegal duration": "too long",
    "ZeroGPU queue timeout": "busy",
}


@dataclass(frozen=True)
class Refusal:
    """Why a card was not lent. Nothing had begun."""

    kind: Kind
    account: str | None = None  # one of `DAY`, where it is told
    requested: int | None = None  # seconds as they were checked
    left: int | None = None  # of the day
    wait: int | None = None  # seconds until there are more

    @classmethod
    def of(cls, error: BaseException) -> Refusal | None:
        """What a `gr.Error` of the package says; None for any other error."""
        if not isinstance(error, gr.Error):
            return None
        said = str(error.message)
        kind = _TITLES.get(str(error.title))
        if "Expired ZeroGPU proxy token" in said:
            kind = "ended"
        elif "No GPU was available" in said:  # in a client's or a quota's name, too
            kind = "busy"
        if kind is None:
            return None
        wait = None
        if found := _WAIT.search(said):
            days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
            wait = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        if counted := _QUOTA.search(said):
            account, requested, left = counted.groups()
            return cls(kind, account or "", int(requested), max(0, int(left)), wait)
        return cls(kind, wait=wait)

    def grants(self, asked: int) -> int | None:
        """The seconds that would have been lent, of `asked` that were not; None where none."""
        if self.kind == "too long":
            return asked // 2
        if self.requested and self.left is not None:
            return int(self.left * asked / self.requested)
        return None

    @property
    def passes(self) -> bool:
        """Whether a new request, with its fresh token, may be granted at once."""
        return self.kind in ("ended", "busy")

    @property
    def sentence(self) -> str:
        """What is the matter, what remains, and what helps."""
        if self.kind == "ended":
            return (
                "Hugging Face’s token for this page has ended, so ZeroGPU does not know whose "
                "seconds to take. Reload the page: it goes on from there."
            )
        if self.kind == "busy":
            return "No card of ZeroGPU was free for a minute. Try again in a while."
        if self.kind == "too long":
            return "ZeroGPU lends no card for that long at once. Take fewer steps or pictures."
        back = f" More come in {duration(self.wait)}." if self.wait else ""
        more = f" {_SIGN_IN}" if self.account in ("", None) else ""
        if self.account == "free":
            more = f" PRO has {DAY['Pro'] // 60} minutes a day."
        if self.left is None:
            return f"ZeroGPU lends no card to you, or to this Space, for now.{back}{more}"
        return (
            f"Of your ZeroGPU seconds of today {self.left} are left, and this is counted as "
            f"{self.requested}.{back}{more}"
        )


def granted(ask: Callable[[int], Iterator[Item]], seconds: int, margin: int) -> Iterator[Item]:
    """What `ask(seconds)` yields; where that is refused, with as many as would be granted.

    Seconds of work: a request asks for `margin` more. Raises the refusal where less than `LEAST`
    would be left.
    """
    while True:
        try:
            yield from ask(seconds)
            return
        except gr.Error as error:
            refusal = Refusal.of(error)
            fewer = refusal.grants(seconds + margin) if refusal else None
            if fewer is None or not LEAST <= fewer - margin < seconds:
                raise
            seconds = fewer - margin


def for_pictures(known: float, margin: int) -> int:
    """Seconds to ask for: half as much again as pictures take by the estimate, and 5 to begin.

    `margin` more than these 5 at least.
    """
    return 5 + max(margin, round(1.5 * known))


def fits(seconds: float, other: str = "", beside: float | None = None) -> str:
    """Whether work of that many seconds is within what ZeroGPU lends a day, in words.

    beside: what `other`, and the pictures of both, would take, where that is known: it is said
    where anyone's day holds all of it.
    """
    counted = round(FACTOR * seconds)
    said = f"counted by ZeroGPU as {duration(counted, about=False)}"
    if counted <= DAY[""]:
        both = beside is not None and FACTOR * (seconds + beside) <= DAY[""]
        also = f", which holds {other} beside it" if both else ""
        return f"{said}, of the {DAY[''] // 60} minutes a day that anyone has{also}"
    for account, name in (("free", "a free account"), ("Pro", "PRO")):
        if counted <= DAY[account]:
            return (
                f"{said}, more than the {DAY[''] // 60} minutes a day that anyone has: signed in "
                f"to huggingface.co, {name} has {DAY[account] // 60}"
            )
    return f"{said}: several days, also for PRO; a run goes on from its checkpoint each day"


def worker_ended(error: gr.Error) -> str:
    """Why a worker of ZeroGPU ended that had its card, where it was not by a sentence; else ""."""
    if error.title != "ZeroGPU worker error":
        return ""
    why = "" if str(error.message) == "GPU task aborted" else f" ({error.message})"
    return (
        f"ZeroGPU’s worker ended before it was done{why}. What was saved is kept: continue, or "
        "start again."
    )
