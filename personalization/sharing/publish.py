"""Publishing: an adapter with its card, recipe and report as a repository on the Hub.

    made = prepare(adapter, spec, wish, report)    upload(made, token) -> address

`prepare` writes nothing and asks the Hub for nothing, so that the card can be looked at first.
Photos are never among the files unless `wish.photos` are given. A token is used for the call alone.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from PIL import Image

from personalization.adapters import formats
from personalization.adapters.adapter import Adapter
from personalization.adapters.adapter_deltas import TEXTUAL_INVERSION
from personalization.adapters.scaling import can_scale, scaled
from personalization.bases.catalog import BaseSpec
from personalization.errors import AdapterError, HubError
from personalization.evaluation.report import Report
from personalization.files import scratch
from personalization.sampling.image_grid import image_grid
from personalization.sharing import licences, model_card
from personalization.sharing.model_card import Published

PICTURES = 8  # in the gallery
QUALITY = 88
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
_COMPARED = ("subject_fidelity", "prompt_fidelity", "drift", "strength")


@dataclass(frozen=True)
class Wish:
    """What a person chooses: the name without the owner, who sees it, under what licence."""

    name: str
    private: bool = True
    licence: str = ""
    photos: tuple[Image.Image, ...] = ()  # only those whose box was ticked

    def check(self, spec: BaseSpec) -> Wish:
        """Return self, or raise `HubError` by field."""
        if not _NAME.fullmatch(self.name) or ".." in self.name or "--" in self.name:
            raise HubError(
                f"“{self.name[:60]}” cannot be a repository’s name: letters, digits, and single "
                "dashes, dots or underscores between them.",
                field="name",
            )
        licences.check(self.licence, spec.licence)
        return self


@dataclass(frozen=True)
class Prepared:
    """What will be uploaded: the files by path, but for the card, which `published` makes."""

    wish: Wish
    published: Published
    files: dict[str, bytes] = field(repr=False)

    @property
    def card(self) -> str:
        """The README.md as it will be."""
        return str(model_card.card(self.published))


def prepare(adapter: Adapter, spec: BaseSpec, wish: Wish, report: Report | None = None) -> Prepared:
    """Everything that a repository will hold. Raises `HubError` or `AdapterError`."""
    wish.check(spec)
    about = adapter.description
    files = {"recipe.json": _json(about.recipe)}
    baked: float | None = None
    if can_scale(adapter) and about.strength not in (0.0, 1.0):
        baked = about.strength
        files |= _exported(adapter, "unscaled/")
        adapter = scaled(adapter, baked)
    made = _exported(adapter, "")
    files |= made
    pictures: list[tuple[str, str]] = []
    if report is not None:
        files["report.json"] = _json(report.as_dict())
        for number, (image, caption) in enumerate(report.strip(PICTURES)):
            path = f"images/{number}.webp"
            files[path] = _webp(image)
            pictures.append((path, caption))
        if report.sweep:
            files[model_card.SWEEP] = _webp(_sheet(report))
    for number, photo in enumerate(wish.photos):
        files[f"photos/{number}.webp"] = _webp(photo)
    is_word = about.method == TEXTUAL_INVERSION
    word = next((path for path in made if path.endswith(".word.safetensors")), "")
    weights = next(
        path
        for path in made
        if path.startswith("learned" if is_word else "pytorch") and path != word
    )
    published = Published(
        repository=wish.name,
        spec=spec,
        about=about,
        licence=wish.licence,
        files=frozenset(files),
        weights=weights,
        word=word,
        baked=baked,
        report=report,
        pictures=tuple(pictures),
    )
    return Prepared(wish, published, files)


def upload(made: Prepared, token: str, *, endpoint: str | None = None) -> str:
    """Create the repository, or a new version in one's own, in one commit; returns its address.

    A repository of that name that this app did not publish is left alone. Raises `HubError`;
    nothing is half there, since a commit is all or nothing.
    """
    if not token:
        raise HubError("You are not signed in: sign in with Hugging Face, then publish again.")
    api = HfApi(endpoint=endpoint, token=token)
    with _said(made.wish.name):
        owner = str(api.whoami()["name"])
        repository = f"{owner}/{made.wish.name}"
        before = _earlier(api, repository)
        published = replace(made.published, repository=repository)
        if before is None:
            address = str(api.create_repo(repository, private=made.wish.private))
        else:
            address = f"{api.endpoint}/{repository}"
            published = replace(
                published,
                version=f"v{len(before.tags) + 1}",
                earlier=before.tags,
                changes=tuple(changes(before.report, before.recipe, made)),
            )
        content = {**made.files, "README.md": str(model_card.card(published)).encode()}
        commit = api.create_commit(
            repository,
            [CommitOperationAdd(path, data) for path, data in sorted(content.items())],
            commit_message=f"{published.version}: {published.about.title or made.wish.name}",
            commit_description="\n".join(f"- {change}" for change in published.changes),
        )
        api.create_tag(repository, tag=published.version, revision=commit.oid, exist_ok=True)
    return address


@dataclass(frozen=True)
class Earlier:
    """What a repository held before: its tags, and the last version's figures and recipe."""

    tags: tuple[str, ...]
    report: dict[str, Any]
    recipe: dict[str, Any]


def versions(repository: str, token: str | None, *, endpoint: str | None = None) -> tuple[str, ...]:
    """The tags of a repository, the first version first. Raises `HubError`."""
    api = HfApi(endpoint=endpoint, token=token or False)
    with _said(repository):
        return _tags(api, repository)


def changes(report: dict[str, Any], recipe: dict[str, Any], made: Prepared) -> Iterator[str]:
    """What differs from the version before, in sentences: the recipe, then figures."""
    now = made.published.about.recipe
    for key in sorted({*recipe, *now}):
        if recipe.get(key) != now.get(key):
            yield f"{key}: {recipe.get(key, 'nothing')} before, {now.get(key, 'nothing')} now"
    figures = json.loads(made.files["report.json"]) if "report.json" in made.files else {}
    then, latest = _summary(report), _summary(figures)
    for key in _COMPARED:
        if then.get(key) is not None and latest.get(key) is not None and then[key] != latest[key]:
            yield f"{key.replace('_', ' ')}: {then[key]:.3f} before, {latest[key]:.3f} now"


def _summary(report: dict[str, Any]) -> dict[str, float]:
    """The means of a report.json that are compared between versions."""
    with suppress(KeyError, TypeError):
        figures = report["figures"]
        return {
            "subject_fidelity": figures["balance"]["subject_fidelity"]["mean"],
            "prompt_fidelity": figures["balance"]["prompt_fidelity"]["mean"],
            "drift": figures["drift"]["towards"]["mean"],
            "strength": figures["balance"]["strength"],
        }
    return {}


def _earlier(api: HfApi, repository: str) -> Earlier | None:
    """What is there under that name; None for a name that is free. Raises `HubError`."""
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
    read: dict[str, dict[str, Any]] = {}
    for name in ("report.json", "recipe.json"):
        with suppress(EntryNotFoundError, ValueError), scratch() as folder:
            path = api.hf_hub_download(repository, name, local_dir=folder)
            read[name] = json.loads(Path(path).read_bytes())
    return Earlier(_tags(api, repository), read.get("report.json", {}), read.get("recipe.json", {}))


def _tags(api: HfApi, repository: str) -> tuple[str, ...]:
    names = [tag.name for tag in api.list_repo_refs(repository).tags]
    ours = [name for name in names if re.fullmatch(r"v\d+", name)]
    return tuple(sorted(ours, key=lambda name: int(name[1:])))


def _exported(adapter: Adapter, folder: str) -> dict[str, bytes]:
    """For diffusers, and for kohya's world: there a word is named after itself."""
    is_word = adapter.description.method == TEXTUAL_INVERSION
    name = "learned_embeds.safetensors" if is_word else model_card.WEIGHTS
    files: dict[str, bytes] = {}
    with scratch() as temporary:
        for kind, prefix in (("diffusers", ""), ("kohya", "kohya/")):
            target = temporary / kind / name
            target.parent.mkdir()
            try:
                written = formats.export(adapter, target, kind)  # type: ignore[arg-type]
            except AdapterError:
                if kind == "diffusers":
                    raise
                continue  # what kohya's format cannot hold is not offered there
            for path in written:
                files[f"{folder}{prefix}{path.name}"] = path.read_bytes()
    return files


def _sheet(report: Report) -> Image.Image:
    """The sweep's pictures, a row a prompt, a column a strength."""
    prompts = list(dict.fromkeys(shot.prompt for shot in report.sweep))
    strengths = sorted({shot.strength for shot in report.sweep})
    by_place = {(shot.prompt, shot.strength): shot.image for shot in report.sweep}
    rows: Sequence[Sequence[Image.Image]] = [
        [by_place[prompt, strength] for strength in strengths if (prompt, strength) in by_place]
        for prompt in prompts
    ]
    return image_grid(rows, prompts, [f"strength {strength:g}" for strength in strengths])


def _webp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=QUALITY)
    return buffer.getvalue()


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


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
