"""Going back to a version that was published: its adapter into the library, nothing lost.

go_back(workspace, "mug", version, token) -> Gone
"""

from __future__ import annotations

from dataclasses import dataclass

from personalization.adapters import formats
from personalization.adapters.adapter import Adapter
from personalization.errors import HubError
from personalization.files import scratch
from personalization.sharing import versions
from personalization.sharing.versions import Version
from personalization.workspaces.library import Entry
from personalization.workspaces.publications import hash_of
from personalization.workspaces.workspace import Workspace


@dataclass(frozen=True)
class Gone:
    """What the library has now; and what was there, where no version holds that."""

    entry: Entry
    kept: Entry | None


def repository_of(workspace: Workspace, name: str) -> str:
    """Where an adapter of the library is on the Hub. Raises `HubError`, `AdapterError`."""
    entry = workspace.library.entry(name)
    if known := workspace.publications.of(name):
        return known.repository
    about = entry.description
    if about and about.source:
        return "/".join(about.source.split("/")[:2])
    raise HubError(
        f"“{(about.title if about else '') or name}” is not on the Hub yet, as far as is known "
        "here: publish it, and its versions are listed here. One that you published elsewhere can "
        "be added from the Hub.",
        field="name",
    )


def adapter_of(workspace: Workspace, version: Version, token: str | None) -> Adapter:
    """A version's adapter, as it was trained. Raises `HubError`, `AdapterError`."""
    workspace.make_room(0)
    with scratch(workspace.folder) as folder:
        return formats.read(versions.fetch(version, folder, token))


def go_back(workspace: Workspace, name: str, version: Version, token: str | None) -> Gone:
    """Make the adapter of that name what it was in that version.

    What no version holds is kept beside it under a name of its own; one that comes with the app
    stays, and the version is put beside it. Raises `HubError`, `AdapterError`, `WorkspaceError`.
    """
    library, publications = workspace.library, workspace.publications
    entry = library.entry(name)
    old = adapter_of(workspace, version, token)
    if not entry.own:
        back, kept = library.add(old, old.description.title or name), None
    else:
        known = publications.of(name)
        title = (entry.description.title if entry.description else "") or name
        is_published = known is not None and known.sha256 == hash_of(entry.path)
        kept = None if is_published else library.add(entry.path, f"{title} before {version.tag}")
        back = library.replace(name, old)
    publications.remember(back.name, version.repository, back.path)
    return Gone(back, kept)
