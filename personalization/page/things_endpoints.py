"""“Your things” by program: what the foot of the page does, as named endpoints."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import gradio as gr

from personalization.workspaces.belongings import Kind, Order, arranged, belongings
from personalization.workspaces.trash import UNDO

from .housekeeping import forget_all
from .requests import Name, at_most, build_endpoint
from .session import workspaces
from .things import packed, remove

Names = Annotated[list[Name], at_most(1000)]
SAID = ("kind", "name", "title", "size", "when", "about", "error")


def list_things(session: Name, search: Name = "", order: Order = "newest") -> dict[str, Any]:
    """List all that a session has: runs, adapters, photos, pictures, presets.

    Args:
        session: what train_word or train_subject returned.
        search: words that the title, the name or the line about it must have; empty for all.
        order: newest, name or size.

    Returns:
        "used" and "quota" in bytes, and "things": of each its kind, name, title, size in bytes,
        "when" in seconds since 1970, what it is, and a sentence where it is damaged.
    """
    workspace = workspaces().open(session)
    found = arranged(belongings(workspace), search[:200], order)
    things = [{name: asdict(each)[name] for name in SAID} for each in found]
    return {"used": workspace.size(), "quota": workspace.quota, "things": things}


def delete_things(session: Name, kind: Kind, names: Names | None = None) -> dict[str, Any]:
    """Delete some of what a session has, or all of one kind.

    Args:
        session: what train_word or train_subject returned.
        kind: run, adapter, photo, picture or preset.
        names: as list_things says; nothing for all of that kind.

    Returns:
        "deleted", how many; "undo", for undo_delete; "seconds", how long that works; "kept", a
        sentence for each run that is going and was not deleted.
    """
    done = remove(workspaces().open(session), kind, names)
    kept = list(done.kept)
    return {"deleted": done.count, "undo": done.ticket, "seconds": UNDO, "kept": kept}


def undo_delete(session: Name, undo: Name) -> dict[str, Any]:
    """Bring back what delete_things has deleted, within its seconds.

    Args:
        session: what train_word or train_subject returned.
        undo: what delete_things returned as "undo".

    Returns:
        "restored", the names of what is back.
    """
    back = workspaces().open(session).trash.put_back(undo)
    return {"restored": [path.name for path in back]}


def rename_adapter(
    session: Name, name: Name, title: Name = "", placeholder_token: Name = ""
) -> dict[str, Any]:
    """Give an adapter of the session's another title, or its learned word another name.

    Args:
        session: what train_word or train_subject returned.
        name: as list_adapters says.
        title: the new title; empty leaves it.
        placeholder_token: the new word, in any script and without a space; empty leaves it. Only a
            word that was learned with the adapter can be renamed, or a stranger's.

    Returns:
        "name", which stays, "title", and "trigger", what calls it now.
    """
    entry = workspaces().open(session).library.rename(name, title, placeholder_token.strip())
    about = entry.description
    return {
        "name": entry.name,
        "title": about.title if about else "",
        "trigger": about.trigger if about else "",
    }


def keep_preset(session: Name, run: Name, title: Name) -> dict[str, Any]:
    """Keep a run's recipe as a preset of the session's own.

    Args:
        session: what train_word or train_subject returned as "session".
        run: what it returned as "run".
        title: what to call it.

    Returns:
        "preset", its name, which train_word and train_subject take.
    """
    workspace = workspaces().open(session)
    return {"preset": workspace.presets.keep(title, workspace.run(run).recipe)}


def download_things(session: Name) -> str:
    """Give all that a session has as one zip.

    Args:
        session: what train_word or train_subject returned.

    Returns:
        The zip: runs with their reports and checkpoints, adapters, photos, pictures, presets.
    """
    return packed(workspaces().open(session))


def forget_me(session: Name) -> dict[str, Any]:
    """Delete all that a session has at once and for good, the session too; what runs is ended.

    Args:
        session: what train_word or train_subject returned.

    Returns:
        "deleted", the session's name.
    """
    forget_all(workspaces().open(session).id)
    return {"deleted": session}


def build_things_endpoints() -> None:
    """What answers with a file has a component, which nobody sees."""
    build_endpoint(download_things, [gr.File(label="zip")])
    build_endpoint(keep_preset, queue=False)
    for function in (list_things, delete_things, undo_delete, rename_adapter, forget_me):
        build_endpoint(function, queue=False)
