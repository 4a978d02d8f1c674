"""Uploading what is prepared: a new repository, or a new version in one's own, in one commit.

    upload(made, token) -> Uploaded

A token is an argument, used for the call and forgotten. The adapter stays where it is, whatever the
Hub says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

from personalization.errors import HubError
from personalization.sharing import model_card, versions
from personalization.sharing.publish import Prepared
from personalization.sharing.versions import Latest

# What a version before has left: of a repository's other files nothing is known here.
_OURS = re.compile(r"(images|kohya|photos|unscaled)/.*|(report|evidence)\.\w+|\w+\.safetensors")


@dataclass(frozen=True)
class Uploaded:
    """Where it is now."""

    address: str
    repository: str
    version: str
    changes: tuple[str, ...]  # since the version before
    card: str = field(repr=False)


def own_token() -> str:
    """What this machine's user is signed in with: for the command line, never for a visitor."""
    return get_token() or ""


def upload(made: Prepared, token: str, *, endpoint: str | None = None) -> Uploaded:
    """Create the repository, or a new version in one's own.

    A repository of that name that this app did not publish is left alone. Raises `HubError`;
    nothing is half there, since a commit is all or nothing.
    """
    if not token:
        raise HubError("You are not signed in: sign in with Hugging Face, then publish again.")
    api = HfApi(endpoint=endpoint, token=token)
    with _said(made.wish.name):
        repository = f"{api.whoami()['name']}/{made.wish.name}"
        before = versions.latest(api, repository)
        published = replace(made.published, repository=repository)
        if before is None:
            api.create_repo(repository, private=made.wish.private)
        else:
            _check_seen_by(api, repository, made.wish.private)
            published = replace(
                published,
                version=f"v{len(before.tags) + 1}",
                earlier=before.tags,
                changes=_changes(before, made),
            )
        content = made.content(published)
        old = sorted(f for f in before.files - set(content) if _OURS.match(f)) if before else []
        commit = api.create_commit(
            repository,
            [
                *(CommitOperationAdd(path, data) for path, data in sorted(content.items())),
                *map(CommitOperationDelete, old),
            ],
            commit_message=f"{published.version}: {published.about.title or made.wish.name}",
            commit_description="\n".join(f"- {change}" for change in published.changes),
        )
    address = f"{api.endpoint}/{repository}"
    try:
        api.create_tag(repository, tag=published.version, revision=commit.oid, exist_ok=True)
    except (HTTPError, OSError, RuntimeError) as error:
        raise HubError(
            f"It is published at {address}, but the Hub stopped before the version had its name, "
            f"{published.version}: publish once more, and it has."
        ) from error
    return Uploaded(
        address, repository, published.version, published.changes, str(model_card.card(published))
    )


def _changes(before: Latest, made: Prepared) -> tuple[str, ...]:
    """Since the version before; nothing where an upload stopped before the first one was there."""
    if not before.tags:
        return ()
    return tuple(versions.changes(before.held, versions.Held.of(made)))


def _check_seen_by(api: HfApi, repository: str, private: bool) -> None:
    """Refuse a version whose repository is seen by others than was chosen. Raises `HubError`."""
    is_private = bool(api.model_info(repository).private)
    if is_private != private:
        is_now, asked = ("private", "public") if is_private else ("public", "private")
        raise HubError(
            f"{repository} is {is_now}, and this version is to be {asked}. Change that at "
            f"{api.endpoint}/{repository}/settings first, or choose another name.",
            field="name",
        )


@contextmanager
def _said(name: str) -> Iterator[None]:
    """What the Hub refuses, or the way there, as a sentence; the adapter stays in the library."""
    try:
        yield
    except HfHubHTTPError as error:
        raise HubError(_refusal(name, error.response.status_code), field="name") from error
    except (OfflineModeIsEnabled, HTTPError, OSError, RuntimeError) as error:
        raise HubError(
            "The Hub does not answer, or stopped halfway, so nothing was published. The adapter is "
            "still in your library: try again."
        ) from error


def _refusal(name: str, status: int) -> str:
    kept = "The adapter is still in your library."
    if status == 401:
        return f"Your sign-in has ended: sign in again, then publish. {kept}"
    if status == 403:
        return (
            "Your sign-in does not allow this app to publish: sign out, sign in again and agree "
            f"that it creates repositories; or choose a name that is free. {kept}"
        )
    if status == 409:
        return f"There is something called {name} already: choose another name. {kept}"
    return f"The Hub refused {name} (it answered {status}). {kept}"
