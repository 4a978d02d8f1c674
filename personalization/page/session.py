"""A visitor's session: their workspace here, and what their browser remembers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import gradio as gr

from personalization.errors import WorkspaceError
from personalization.training.run import Run
from personalization.workspaces.library import Library
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


def owner_of(session: str) -> Workspace | None:
    """The caller's workspace; nobody's without a session: nothing is made for a look."""
    return workspaces().open(session) if session else None


def library_of(owner: Workspace | None) -> Library:
    """Their adapters, or the ready ones alone."""
    nobodys = workspaces().root / "nobody"  # is never there
    return owner.library if owner else Library(nobodys)


def page_workspace(visitor: str) -> Workspace:
    """The workspace of an open page: a new one in its place where it has expired meanwhile.

    Raises `WorkspaceError` for what is no workspace's id.
    """
    try:
        return workspaces().open(visitor)
    except WorkspaceError:
        return workspaces().renew(visitor)


VISITOR = "personalization-visitor"  # where a browser keeps the workspace's id


def remembered(name: str, value: Any) -> gr.BrowserState:
    """What the visitor's browser keeps over a reload."""
    return gr.BrowserState(value, storage_key=f"personalization-{name}", secret=SECRET)


def keep(state: gr.BrowserState, fields: Sequence[Any]) -> None:
    """Have the browser remember what these fields hold, whatever changes them."""
    changes = [field.change for field in fields]
    gr.on(changes, None, [state, *fields], state, js=IF_ARRIVED, **UNQUEUED)


Values = dict[Any, Any]  # what a set of components holds, by component: an event's inputs


def recalled(fields: Sequence[Any], values: Sequence[Any]) -> dict:
    """The fields as they were; nothing where the browser remembers another form."""
    return dict(zip(fields, values, strict=True)) if len(values) == len(fields) else {}


@dataclass(frozen=True)
class Visit:
    """A visitor's workspace and base, and their runs, which are read once."""

    workspace: Workspace
    base: str  # by its name

    @cached_property
    def runs(self) -> list[Run]:
        """All of them, the newest first."""
        return self.workspace.runs()

    @classmethod
    def open(cls, visitor: str, base: str) -> Visit:
        """Of the workspace of that id. Raises `WorkspaceError`."""
        return cls(page_workspace(visitor), base)
