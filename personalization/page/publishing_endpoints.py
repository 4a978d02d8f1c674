"""Publishing by program."""

from __future__ import annotations

from typing import Annotated, Any

import gradio as gr
from pydantic import Field

from .event_options import ON_GPU
from .loaded import spec_of
from .publishing import Asked, made, remember
from .requests import Name, Prompt, Whole, at_most, build_endpoint
from .session import library_of, owner_of, workspaces
from .uploads import publish_pictures
from .versions import MOST, SEEDS, asked, drawn, versions_of

Token = Annotated[str, Field(max_length=4000)]  # a sign-in's is longer than a name
Versions = Annotated[list[Name], at_most(8)]
MorePrompts = Annotated[list[Prompt], at_most(MOST - 1)]


def publish_adapter(  # noqa: PLR0913 - its parameters are the interface
    name: Name,
    repository: Name = "",
    session: Name = "",
    token: Token = "",
    private: bool = True,
    licence: Name = "",
    photos: bool = False,
    base: Name = "",
    look: bool = False,
) -> dict[str, Any]:
    """Publish an adapter on the Hugging Face Hub, with a card that says how well it worked.

    The same repository again gets a new version, with a tag and what has changed.

    Args:
        name: as list_adapters says.
        repository: what to call it, without an owner: it will be yours; empty for the adapter's
            own name.
        session: what train_word or train_subject returned; empty for the ready ones.
        token: yours, which may write; it is used for this call and not kept. Who is signed in to
            the page does not count here. A look needs none.
        private: whether only you see it.
        licence: as the Hub calls it; empty for what the base's own suggests. What that forbids is
            refused, with what may be taken.
        photos: whether the photos that it learned from are uploaded too.
        base: a name as list_bases says; empty for the adapter's own.
        look: whether to see the card and the files only, and to publish nothing.

    Returns:
        "card", the README.md as text, and "files", their sizes in bytes by path (those that name
        their version as for a first one); and where it was
        published "address", "version" and "changes", sentences on what differs from the version
        before.
    """
    from personalization.sharing.licences import suggested
    from personalization.sharing.upload import upload

    owner = owner_of(session)
    about = library_of(owner).entry(name).description
    spec = spec_of(base or (about.base if about else ""))
    licence = licence or suggested(spec.licence)
    ready = made(owner, Asked(name, repository, licence, private, photos), spec)
    content = ready.content(ready.published)
    files = {path: len(content[path]) for path in sorted(content)}
    if look:
        return {"card": ready.card, "files": files}
    done = upload(ready, token)
    if owner:
        remember(owner, name, done)
    return {
        "address": done.address,
        "version": done.version,
        "changes": list(done.changes),
        "card": done.card,
        "files": files,
    }


def list_versions(name: Name, session: Name, token: Token = "") -> list[dict[str, Any]]:
    """List the versions of an adapter that was published from here, or added from the Hub.

    Args:
        name: as list_adapters says.
        session: what train_word or train_subject returned.
        token: yours, where the repository is private; it is used for this call and not kept.

    Returns:
        For each, the newest first, its "version", "date", "changes" since the one before as
        sentences, "address", and what it says of itself: "recipe" and "figures".
    """
    from personalization.sharing.versions import held_by

    found = versions_of(workspaces().open(session), name, token)
    return [
        {
            "version": version.tag,
            "date": version.date.isoformat(),
            "changes": list(version.changes),
            "address": version.address,
            "recipe": (held := held_by(version, token)).recipe,
            "figures": held.figures,
        }
        for version in found
    ]


def compare_versions(  # noqa: PLR0913 - its parameters are the interface
    name: Name,
    session: Name,
    versions: Versions,
    prompt: Prompt,
    seed: Whole = 0,
    token: Token = "",
    base: Name = "",
    count: Whole = SEEDS,
    more_prompts: MorePrompts | None = None,
) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    """Draw the same prompts and seeds with several versions of an adapter.

    Args:
        name: as list_adapters says.
        session: what train_word or train_subject returned.
        versions: as list_versions says, such as ["v1", "v2"].
        prompt: what to draw, with the adapter's word in it.
        seed: of the first picture of each prompt; the next has the next.
        token: yours, where the repository is private; it is used for this call and not kept.
        base: a name as list_bases says; empty for the app's own.
        count: pictures of each prompt, 1 to 4.
        more_prompts: up to three, which are drawn too.

    Returns:
        The pictures, version by version in that order, prompt by prompt, each with its version's
        recommended strength; and the record of each with its "version".
    """
    from personalization.sharing.versions import of_tag

    owner = workspaces().open(session)
    found = versions_of(owner, name, token)
    settings = asked([prompt, *(more_prompts or ())], seed, count)
    shown = [drawn(owner, of_tag(found, tag), token, base, settings) for tag in versions]
    pictures = [picture for each in shown for picture in each.pictures]
    records = [
        picture.record.to_dict() | {"version": each.version.tag}
        for each in shown
        for picture in each.pictures
    ]
    return publish_pictures(owner, pictures), records


def restore_version(name: Name, session: Name, version: Name, token: Token = "") -> dict[str, Any]:
    """Go back to a version: its file becomes the adapter of that name in the session's library.

    Args:
        name: as list_adapters says.
        session: what train_word or train_subject returned.
        version: as list_versions says, such as v1.
        token: yours, where the repository is private; it is used for this call and not kept.

    Returns:
        "name", for draw_stack; "kept", the name under which what was there before is kept, empty
        where a version holds that.
    """
    from personalization.sharing.going_back import go_back
    from personalization.sharing.versions import of_tag

    owner = workspaces().open(session)
    chosen = of_tag(versions_of(owner, name, token), version)
    gone = go_back(owner, name, chosen, token)
    return {"name": gone.entry.name, "kept": gone.kept.name if gone.kept else ""}


def build_publishing_endpoints() -> None:
    """What answers with pictures has components, which nobody sees."""
    build_endpoint(publish_adapter)
    build_endpoint(list_versions)
    pictures = [gr.Gallery(label="pictures"), gr.JSON(label="records")]
    build_endpoint(compare_versions, pictures, **ON_GPU)
    build_endpoint(restore_version)
