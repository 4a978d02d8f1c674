"""The versions of a published adapter: what each held, what changed, and its file again.

    history("someone/mug-lora", token) -> [Version, ...]    fetch(version, folder, token) -> Path

A version is a tag, v1 and on, on the commit that brought it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

from personalization.errors import HubError
from personalization.evaluation.recipe_words import settings_in_words
from personalization.files import scratch
from personalization.sharing.hub import in_words
from personalization.sharing.model_card import AS_TRAINED, EMBEDS, WEIGHTS

if TYPE_CHECKING:
    from personalization.sharing.publish import Prepared

_COMPARED = ("subject_fidelity", "prompt_fidelity", "drift", "strength")


@dataclass(frozen=True)
class Version:
    """A tag of a repository, with its commit."""

    repository: str
    tag: str
    commit: str
    date: datetime
    changes: tuple[str, ...]  # since the version before, in sentences
    address: str


@dataclass(frozen=True)
class Held:
    """What a version says of itself: recipe.json and report.json; empty where it has none."""

    recipe: dict[str, Any] = field(default_factory=dict, hash=False)
    report: dict[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, made: Prepared) -> Held:
        """What is about to be published."""
        report = json.loads(made.files.get("report.json", b"{}"))
        return cls(made.published.about.recipe, report)

    @property
    def figures(self) -> dict[str, float]:
        """The means of the report that are compared between versions; none where it has none."""
        with suppress(KeyError, TypeError):
            figures = self.report["figures"]
            return {
                "subject_fidelity": figures["balance"]["subject_fidelity"]["mean"],
                "prompt_fidelity": figures["balance"]["prompt_fidelity"]["mean"],
                "drift": figures["drift"]["towards"]["mean"],
                "strength": figures["balance"]["strength"],
            }
        return {}


def history(
    repository: str, token: str | None = None, *, endpoint: str | None = None
) -> list[Version]:
    """The versions of a repository, the newest first. Raises `HubError`, also where it has none."""
    api = HfApi(endpoint=endpoint, token=token or False)
    with in_words(repository, token):
        commits = {each.commit_id: each for each in api.list_repo_commits(repository)}
        found = [
            Version(
                *(repository, tag, oid, commits[oid].created_at),
                tuple(re.findall(r"^- (.+)$", commits[oid].message, re.MULTILINE)),
                f"{api.endpoint}/{repository}/tree/{tag}",
            )
            for tag, oid in reversed(tags(api, repository).items())
            if oid in commits
        ]
    if not found:
        raise HubError(f"{repository} has no versions: this app did not publish it.", field="name")
    return found


def of_tag(versions: Sequence[Version], tag: str) -> Version:
    """The version of that name. Raises `HubError`."""
    for version in versions:
        if version.tag == tag:
            return version
    names = ", ".join(version.tag for version in versions)
    raise HubError(f"There is no version “{tag[:20]}”. There are {names}.", field="version")


def held_by(version: Version, token: str | None = None, *, endpoint: str | None = None) -> Held:
    """What a version says of itself. Raises `HubError`."""
    with in_words(version.repository, token):
        return held(
            HfApi(endpoint=endpoint, token=token or False), version.repository, version.commit
        )


def fetch(
    version: Version, folder: Path, token: str | None = None, *, endpoint: str | None = None
) -> Path:
    """Download a version's adapter, as it was trained, into `folder`. Raises `HubError`."""
    api = HfApi(endpoint=endpoint, token=token or False)
    with in_words(version.repository, token):
        files = api.list_repo_files(version.repository, revision=version.commit)
        for name in (AS_TRAINED, WEIGHTS, EMBEDS):
            if name in files:
                got = hf_hub_download(
                    version.repository,
                    name,
                    revision=version.commit,
                    local_dir=folder,
                    token=token or False,
                    endpoint=endpoint,
                )
                return Path(got)
    raise HubError(f"{version.repository} at {version.tag} holds no adapter.", field="version")


@dataclass(frozen=True)
class Latest:
    """What a repository has: its tags, the first version first, and what the last one says."""

    files: frozenset[str]
    tags: tuple[str, ...]
    held: Held


def latest(api: HfApi, repository: str) -> Latest | None:
    """What is there under that name; None for a name that is free.

    Raises `HubError` for a repository that this app did not publish.
    """
    try:
        files = set(api.list_repo_files(repository))
    except RepositoryNotFoundError:
        return None
    if files - {".gitattributes", "README.md"} and "recipe.json" not in files:
        raise HubError(
            f"You have a repository {repository} already, and this app did not publish it: choose "
            "another name.",
            field="name",
        )
    return Latest(frozenset(files), tuple(tags(api, repository)), held(api, repository))


def tags(api: HfApi, repository: str) -> dict[str, str]:
    """The commit of each version, the first version first."""
    refs = api.list_repo_refs(repository).tags
    ours = {tag.name: str(tag.target_commit) for tag in refs if re.fullmatch(r"v\d+", tag.name)}
    return dict(sorted(ours.items(), key=lambda item: int(item[0][1:])))


def held(api: HfApi, repository: str, revision: str | None = None) -> Held:
    """What the repository says of itself at that revision, by default the newest."""
    read: dict[str, dict[str, Any]] = {}
    for name in ("recipe.json", "report.json"):
        with suppress(EntryNotFoundError, ValueError), scratch() as folder:
            path = api.hf_hub_download(repository, name, revision=revision, local_dir=folder)
            content = json.loads(Path(path).read_bytes())
            read[name] = content if isinstance(content, dict) else {}
    return Held(read.get("recipe.json", {}), read.get("report.json", {}))


def changes(before: Held, now: Held) -> Iterator[str]:
    """What differs, in sentences: the recipe, then figures."""
    for name, was, is_now in differing(before.recipe, now.recipe):
        yield f"{name}: {was} before, {is_now} now"
    then, latest = before.figures, now.figures
    for key in _COMPARED:
        if key in then and key in latest and then[key] != latest[key]:
            yield f"{key.replace('_', ' ')}: {then[key]:.3f} before, {latest[key]:.3f} now"


def differing(before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The settings of two recipes that differ, as people read them; "none" where one lacks."""
    was, is_now = settings_in_words(before), settings_in_words(now)
    for name in {**is_now, **was}:
        if was.get(name) != is_now.get(name):
            yield name, was.get(name, "none"), is_now.get(name, "none")
