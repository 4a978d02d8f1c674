"""The Hub: the only file that speaks to it, and the only one that sees a token.

    adapters_in("someone/mug-lora", token) -> [Found, ...]    fetch(found, folder, token) -> Path

A token is an argument, used for the call and forgotten. Without one nobody is signed in, whatever
token the machine has of its own. What is fetched goes into the folder that is named and into no
cache: another visitor may not be allowed to see it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # httpx2's root, under the name that huggingface_hub has it by
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    SafetensorsParsingError,
)
from huggingface_hub.utils import validate_repo_id

from personalization.adapters import formats
from personalization.errors import AdapterError, HubError
from personalization.files import Header

MAX_LOOKS = 100  # files of one repository whose headers are read
AT_ONCE = 8  # of which so many at a time
MAX_SIZE = 2 * 2**30  # bytes of one file: what is larger is a model
PEFT = ("adapter_model.safetensors", "adapter_config.json")
_PAGE = re.compile(r"^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/")
# What pipelines and models are made of, and adapters are not.
_PARTS = re.compile(r"(diffusion_pytorch_model|model|flax_model|optimizer)\b.*\.safetensors")
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")


@dataclass(frozen=True)
class Found:
    """An adapter in a repository, as its header describes it; or why it cannot be taken."""

    repository: str
    revision: str  # the commit: what is fetched is what was described
    files: tuple[str, ...]  # one; PEFT's also has a configuration
    size: int  # bytes
    contents: formats.Contents | None
    error: str = ""

    @property
    def name(self) -> str:
        """The file's path in the repository."""
        return self.files[0]

    @property
    def title(self) -> str:
        """What it is called in a library: its file, or its repository where the file says less."""
        stem = PurePosixPath(self.name).stem
        usual = {PurePosixPath(PEFT[0]).stem, "pytorch_lora_weights", "learned_embeds", "lora"}
        return self.repository.rpartition("/")[2] if stem in usual else stem


def repository_id(text: str) -> str:
    """The repository that a visitor named, by its id or its address. Raises `HubError`."""
    given = text.strip()
    name = _PAGE.sub("", given)
    if name != given:  # an address may lead further in
        name = "/".join(name.split("?")[0].split("/")[:2])
    name = name.removesuffix("/")
    try:
        validate_repo_id(name)
    except HFValidationError:
        name = ""
    if not name:
        raise HubError(
            f"“{given[:60]}” is no repository’s name. It has an owner and a name, such as "
            "someone/mug-lora, with letters, digits and single dashes or dots.",
            field="repository",
        )
    return name


def adapters_in(
    repository: str,
    token: str | None = None,
    *,
    file: str = "",
    revision: str | None = None,
    endpoint: str | None = None,
) -> list[Found]:
    """The adapters in a repository, or the one in `file`, described from their headers alone.

    Where there are more files than are looked at, the last entry says so.

    Raises `HubError` where there is no such repository, no adapter in it, or no answer.
    """
    repository = repository_id(repository)
    api = HfApi(endpoint=endpoint, token=token or False)
    with in_words(repository, token):
        info = api.model_info(repository, revision=revision, files_metadata=True)
        sizes = {
            sibling.rfilename: sibling.size or 0
            for sibling in info.siblings or ()
            if ".." not in PurePosixPath(sibling.rfilename).parts
        }
        candidates = [
            name
            for name, size in sizes.items()
            if name.endswith(".safetensors")
            and not _PARTS.fullmatch(PurePosixPath(name).name)
            and size <= MAX_SIZE
            and file in ("", name)
        ]
        look = partial(_look, api, repository, str(info.sha), sizes=sizes)
        with ThreadPoolExecutor(AT_ONCE) as looking:
            found = list(looking.map(look, candidates[:MAX_LOOKS]))
    if rest := candidates[MAX_LOOKS:]:
        error = f"{len(rest)} more files of {repository} were not looked at: name the one you want."
        found.append(Found(repository, str(info.sha), (rest[0],), sizes[rest[0]], None, error))
    if not found and file:
        raise HubError(f"There is no adapter “{file[:60]}” in {repository}.", field="file")
    if not found:
        raise HubError(_no_adapters(repository, list(sizes)), field="repository")
    return found


def fetch(
    found: Found, folder: Path, token: str | None = None, *, endpoint: str | None = None
) -> Path:
    """Download what was found into `folder`; returns what `formats.read` takes.

    Raises `HubError`; a half download leaves nothing under the file's name.
    """
    with in_words(found.repository, token):
        paths = [
            Path(
                hf_hub_download(
                    found.repository,
                    name,
                    revision=found.revision,
                    local_dir=folder,
                    token=token or False,
                    endpoint=endpoint,
                )
            )
            for name in found.files
        ]
    return paths[0] if len(paths) == 1 else paths[0].parent


def _look(api: HfApi, repository: str, revision: str, name: str, sizes: dict[str, int]) -> Found:
    """One file's header, through a request for its first bytes."""
    path, files = PurePosixPath(name), [name]
    if path.name == PEFT[0]:
        config = str(path.with_name(PEFT[1]))
        files += [config] if config in sizes else []
    size = sum(sizes[file] for file in files)
    try:
        read = api.parse_safetensors_file_metadata(repository, name, revision=revision)
        shapes = {key: tuple(tensor.shape) for key, tensor in read.tensors.items()}
        header = Header(dict(read.metadata), shapes).bounded(path.name)
        contents = formats.contents_of_header(Path(name), header)
    except SafetensorsParsingError:
        error = f"{path.name} cannot be read as a safetensors file: ask its owner to mend it."
        return Found(repository, revision, tuple(files), size, None, error)
    except AdapterError as error:
        return Found(repository, revision, tuple(files), size, None, str(error))
    return Found(repository, revision, tuple(files), size, contents)


def _no_adapters(repository: str, names: Sequence[str]) -> str:
    if any(name.endswith(_PICKLES) for name in names) and not any(
        name.endswith(".safetensors") for name in names
    ):
        return (
            f"{repository} holds pickles, which could run code, and no .safetensors file: nothing "
            "of it is opened. Ask its owner for a .safetensors file."
        )
    return (
        f"There are no adapters in {repository}: no .safetensors file that is a LoRA, one of its "
        "kin or a learned word. Look for a repository with one."
    )


@contextmanager
def in_words(repository: str, token: str | None) -> Iterator[None]:
    """What the Hub refuses, or the way there, as a sentence."""
    try:
        yield
    except GatedRepoError as error:
        then = "" if token else ", then sign in here"
        raise HubError(
            f"{repository} is gated: its owner asks you to agree to something first. Do that at "
            f"https://huggingface.co/{repository}{then}.",
            field="repository",
        ) from error
    except RepositoryNotFoundError as error:
        hint = (
            "Check the spelling, and that your account may see it."
            if token
            else "Check the spelling; if it is private, sign in first."
        )
        raise HubError(
            f"There is no repository {repository} on the Hub that you may see. {hint}",
            field="repository",
        ) from error
    except (EntryNotFoundError, RevisionNotFoundError) as error:
        raise HubError(
            f"{repository} has changed while you looked at it. Look again.", field="repository"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise HubError(
            f"The Hub refused to give {repository} (it answered {status}). Try again later.",
            field="repository",
        ) from error
    except (OfflineModeIsEnabled, HTTPError, OSError) as error:
        raise HubError(
            f"The Hub does not answer, so {repository} cannot be read. Check the network, or add "
            "the adapter from a file.",
            field="repository",
        ) from error
