"""Errors as sentences, on the page and to programs."""

from __future__ import annotations

import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from personalization.errors import PersonalizationError
from personalization.files import disk_problem, on_disk

from .lending import Refusal, worker_ended
from .loaded import wait_until_ready

MISSHAPED = "What was sent is not what this takes. Load the page again, and enter it anew."


def user_message(error: BaseException) -> str:
    """An error as a sentence; one that nobody foresaw by its name, with its place in the log.

    Not its text: that may hold a prompt, or a path with the name of a workspace, which opens it.
    """
    if isinstance(error, PersonalizationError):
        return str(error)
    if refusal := Refusal.of(error):
        return refusal.sentence
    if isinstance(error, gr.Error):  # `gpu.in_words` in ZeroGPU's worker
        return worker_ended(error) or str(error.message)
    if problem := disk_problem(error):
        return problem
    log_unforeseen(error)
    return (
        f"Something went wrong that the app did not foresee ({type(error).__name__}). "
        "What was saved is kept: continue, or start again."
    )


def log_unforeseen(error: BaseException) -> None:
    """Its name and its place, for the owner, and nothing of what it says."""
    where = "".join(traceback.format_tb(error.__traceback__))
    logging.getLogger("app").error("unforeseen: %s\n%s", type(error).__name__, where)


def keep_values_out_of_the_log() -> None:
    """Gradio warns of values that a component does not have, and repeats them; nobody needs it."""
    warnings.filterwarnings("ignore", module=r"gradio\b")


@contextmanager
def collected(sentences: list[str]) -> Iterator[None]:
    """What is wrong, added to the others that are."""
    try:
        with on_disk():
            yield
    except PersonalizationError as error:
        sentences.append(str(error))


@contextmanager
def raised() -> Iterator[None]:
    """What is wrong, as the error that a program calling an endpoint gets."""
    wait_until_ready()
    try:
        yield
    except Exception as error:
        raise gr.Error(user_message(error), print_exception=False) from error
