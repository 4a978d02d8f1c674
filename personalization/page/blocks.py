"""The page as Gradio runs it: what comes in is bounded first, what goes wrong is a sentence.

Every event passes here, the page's private ones and the named endpoints: what a program sends to a
private event is no more trustworthy than what it sends to an endpoint.
"""

from __future__ import annotations

import errno
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import anyio.to_thread
import gradio as gr
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar
from gradio.blocks import BlocksConfig
from gradio.utils import get_upload_folder

from personalization.data.image_file import AT_ONCE, check_pixels
from personalization.errors import PhotoError

from .entered import as_entered, described
from .fetching import fetched_in, is_address
from .messages import MISSHAPED, user_message
from .session import VISITOR
from .uploads import paths_in, remember_files, uploaded

MAX_TEXT = 20_000  # characters of one text
MAX_DATA = 2**26  # of one that is a file's content (data:...)
MAX_PARTS = 20_000  # of all that one request holds: texts, numbers, lists, objects
MAX_DEPTH = 32
MAX_NUMBER = 2**63
_THE_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_DECODERS: RunVar[CapacityLimiter] = RunVar("decoders")


class PageConfig(BlocksConfig):
    """What a page is made of. Gradio copies it for each session, which is each tab and program.

    Beside the components a session would have a description of each, which takes a tenth of a
    second and megabytes, and in it all that was sent last: for links that bring a page back as it
    was, which the app does not give out (`stack_link` is its own).
    """

    def __copy__(self) -> BlocksConfig:
        config = super().__copy__()
        config.config_for_block = lambda *_: {}
        return config


class Page(gr.Blocks):
    """Gradio's Blocks with a border around what it runs."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.default_config = PageConfig(self)

    def queue(self, *args: Any, **named: Any) -> Page:
        """Gradio's, which says with the place where it takes no more."""
        super().queue(*args, **named)
        waiting, push = self._queue, self._queue.push

        async def said(*asked: Any, **more: Any) -> Any:
            taken, answer, state = await push(*asked, **more)
            if state == "queue_full":
                answer = (
                    f"{len(waiting)} requests wait already, which is the most: yours would be "
                    f"number {len(waiting) + 1}. Try again once some are done; nothing that you "
                    "entered is lost."
                )
            return taken, answer, state

        waiting.push = said  # type: ignore[method-assign]
        return self

    async def process_api(self, block_fn: Any, inputs: list[Any], *args: Any, **named: Any) -> Any:
        """Run an event. Raises `gr.Error` and nothing else."""
        try:
            check_bounds(inputs)
            check_count(block_fn, inputs)
            if "event_data" in named:
                named["event_data"] = described(named["event_data"])
            answer = await super().process_api(block_fn, inputs, *args, **named)
            if visitor := _whose(block_fn, inputs):
                await anyio.to_thread.run_sync(remember_files, visitor, inputs, answer["data"])
            return answer
        except gr.Error as error:
            # Gradio's own repeat what was sent, which may be a prompt or the key to a workspace.
            error.print_exception = False
            raise
        except Exception as error:
            raise gr.Error(user_message(error), print_exception=False) from error

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], *args: Any, **named: Any
    ) -> Any:
        """What was sent, as the components make it. Raises `gr.Error`."""
        try:
            if any(map(is_address, paths_in(inputs))):
                folder = Path(get_upload_folder())
                inputs = await anyio.to_thread.run_sync(fetched_in, inputs, folder)
            decoders = _decoders() if check_pictures(block_fn, inputs) else nullcontext()
            async with decoders:
                values = await super().preprocess_data(block_fn, inputs, *args, **named)
            return [*map(as_entered, block_fn.inputs, values)]
        except PhotoError as error:
            raise _refused(str(error)) from error
        except Exception as error:
            if isinstance(error, gr.Error) and "<class" not in str(error):
                raise
            if isinstance(error, OSError) and error.errno in _THE_DISKS:
                raise  # Gradio keeps a copy of what came
            raise gr.Error(MISSHAPED, print_exception=False) from error


def check_bounds(value: Any) -> None:
    """Raise `gr.Error` for more than any request needs, before anything is done with it."""
    parts = 0
    left = [(value, 0)]
    while left:
        each, depth = left.pop()
        parts += 1
        if isinstance(each, str):
            most = MAX_DATA if each.startswith("data:") else MAX_TEXT
            if len(each) > most:
                raise _refused(f"A text has {len(each)} characters; at most {most} are taken.")
        elif isinstance(each, (int, float)):
            if abs(each) > MAX_NUMBER:
                raise _refused("A number is beyond all that are taken here.")
        elif isinstance(each, dict):
            left += [(part, depth + 1) for pair in each.items() for part in pair]
        elif isinstance(each, (list, tuple)):
            left += [(part, depth + 1) for part in each]
        if parts + len(left) > MAX_PARTS or depth > MAX_DEPTH:
            raise _refused("That is more than can be meant: it holds too many parts.")


def check_count(block_fn: Any, inputs: list[Any]) -> None:
    """Raise `gr.Error` where there are not as many values as the event takes."""
    if isinstance(block_fn, gr.blocks.BlockFunction) and len(inputs) != len(block_fn.inputs):
        names = [str(getattr(part, "label", "") or "") for part in block_fn.inputs]
        named = f": {', '.join(names)}" if all(names) else ""
        raise _refused(f"{len(inputs)} values came, and this takes {len(block_fn.inputs)}{named}.")


def check_pictures(block_fn: Any, inputs: list[Any]) -> int:
    """How many pictures Gradio would decode. Raises `PhotoError` for one that is too large."""
    count = 0
    for part, value in zip(block_fn.inputs, inputs, strict=False):
        if isinstance(part, (gr.Image, gr.ImageEditor)):
            for path in paths_in(value):
                check_pixels(uploaded(path), Path(path).name)
                count += 1
    return count


def _decoders() -> CapacityLimiter:
    """Of requests whose pictures are decoded, no more at once than memory is meant for."""
    try:
        return _DECODERS.get()
    except LookupError:  # the first of this event loop
        limiter = CapacityLimiter(AT_ONCE)
        _DECODERS.set(limiter)
        return limiter


def _whose(block_fn: Any, inputs: list[Any]) -> str:
    """The workspace that an event is about, by its id: the page's, or what a program says."""
    for part, value in zip(block_fn.inputs, inputs, strict=False):
        keeps = (
            getattr(part, "storage_key", "") == VISITOR or getattr(part, "label", "") == "session"
        )
        if keeps and isinstance(value, str):
            return value
    return ""


def _refused(why: str) -> gr.Error:
    return gr.Error(why, print_exception=False)
