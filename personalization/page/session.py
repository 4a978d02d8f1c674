"""A visitor's session: their workspace here, and what their browser remembers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import gradio as gr

from personalization.workspaces.workspace import Workspace, Workspaces

from .event_options import IF_ARRIVED, UNQUEUED

SECRET = "personalization"  # BrowserState wants one; what it keeps is the visitor's own


@cache
def workspaces() -> Workspaces:
    """The process's workspaces; their root is made with the first call."""
    return Workspaces()


def workspace_of(session: str) -> Workspace:
    """The caller's workspace, or a new one."""
    return workspaces().open(session) if session else workspaces().new()


def remembered(name: str, value: Any) -> gr.BrowserState:
    """What the visitor's browser keeps over a reload."""
    return gr.BrowserState(value, storage_key=f"personalization-{name}", secret=SECRET)


def keep(state: gr.BrowserState, fields: Sequence[Any]) -> None:
    """Have the browser remember what these fields hold, whatever changes them."""
    changes = [field.change for field in fields]
    gr.on(changes, None, [state, *fields], state, js=IF_ARRIVED, **UNQUEUED)


def recalled(fields: Sequence[Any], values: Sequence[Any]) -> dict:
    """The fields as they were; nothing where the browser remembers another form."""
    return dict(zip(fields, values, strict=True)) if len(values) == len(fields) else {}
