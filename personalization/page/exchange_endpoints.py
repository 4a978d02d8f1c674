"""What comes in and goes out by program: files, the Hub, links and pictures, as named endpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr

from personalization.errors import AdapterError, RecipeError
from personalization.sampling.picture_record import read_record
from personalization.workspaces.library import Entry

from . import html
from .adapter_rows import Row, receive
from .event_options import ON_GPU
from .exchange import files_of, take_from_hub
from .gpu import gpu_extract
from .requests import Name, Prompt, Whole, build_endpoint
from .session import Visit, library_of, owner_of, workspace_of, workspaces
from .stack_endpoints import Adapters
from .stack_link import StackLink, link_to
from .uploads import Upload

MAX_RANK = 128  # of a LoRA that is extracted, as the page's slider has it


def export_adapter(name: Name, session: Name = "") -> list[str]:
    """Give an adapter as files for other programs, each read back and compared with it.

    Args:
        name: as list_adapters says.
        session: what train_word or train_subject returned; empty for the ready ones.

    Returns:
        A file for diffusers and one for kohya (ComfyUI, A1111, Forge), and a word's own file.
    """
    return files_of(owner_of(session), name)[0]


def add_from_hub(
    repository: Name,
    file: Name,
    session: Name,
    base: Name = "",
    token: Name = "",
) -> dict[str, Any]:
    """Fetch an adapter from a repository on the Hugging Face Hub into the session's library.

    Args:
        repository: its id, such as someone/mug-lora.
        file: which of its files; empty for the first adapter in it.
        session: what train_word or train_subject returned, or empty for a new one.
        base: a name as list_bases says; empty for the app's own.
        token: yours, for a repository that is private or gated; it is used for this call and not
            kept. Who is signed in to the page does not count here.

    Returns:
        "session", and of the adapter its "name", "trigger", "method", "family", and in how many
        "modules" it changes weights.
    """
    from personalization.sharing import hub

    chosen, *_ = hub.adapters_in(repository, token or None, file=file)
    visit = Visit(workspace_of(session), base)
    return _added(visit, take_from_hub(visit, chosen, token or None))


def add_from_file(file: Upload, session: Name, title: Name = "", base: Name = "") -> dict[str, Any]:
    """Take an adapter's file into the session's library: .safetensors, of whichever program.

    Args:
        file: a file (handle_file in gradio_client), its address (https://...) or its content
            (data:...).
        session: what train_word or train_subject returned, or empty for a new one.
        title: what to call it; empty for the file's own name.
        base: a name as list_bases says; empty for the app's own.

    Returns:
        "session", and of the adapter its "name", "trigger", "method", "family", and in how many
        "modules" it changes weights.
    """
    visit, path = Visit(workspace_of(session), base), Path(file)
    entry = receive(base, visit.workspace.library, path, title.strip() or path.stem)
    if title.strip():  # a file of this app's says what it is called
        entry = visit.workspace.library.rename(entry.name, title.strip(), "")
    return _added(visit, entry)


def extract_lora(session: Name, run: Name, rank: Whole = 16) -> dict[str, Any]:
    """Make a LoRA of a run that fine-tuned all weights, into the session's library.

    Args:
        session: what train_word or train_subject returned as "session".
        run: what it returned as "run"; it must have finished, by the full fine-tune.
        rank: of the LoRA, 1 to 128.

    Returns:
        "name", for draw_stack; "residual", the part of the change that it does not hold.
    """
    workspace = workspaces().open(session)
    opened = workspace.run(run)
    if opened.recipe.method_name != "full" or opened.state.status != "finished":
        raise AdapterError(
            f"“{run[:40]}” is no full fine-tune that has finished: only of such a one can a LoRA "
            "be extracted.",
            field="run",
        )
    if not 1 <= rank <= MAX_RANK:
        raise RecipeError(f"rank is {rank}; it must lie between 1 and {MAX_RANK}.", field="rank")
    made = gpu_extract(opened.base, opened.adapter_path, rank)
    entry = workspace.library.add(made.adapter, made.adapter.description.title)
    return {"name": entry.name, "residual": made.residual}


def link_to_stack(
    adapters: Adapters,
    prompt: Prompt = "",
    seed: Whole | None = None,
    combine: Name = "sum",
    session: Name = "",
) -> dict[str, Any]:
    """Give the end of a link that opens the page with a stack: nothing private is in it.

    Args:
        adapters: as draw_stack takes them; "name" and "weight" are what a link holds.
        prompt: what to draw; its first 1,000 characters.
        seed: of the picture; nothing for a new one each time.
        combine: sum, svd, ties, dare, orthogonal, switch or composite.
        session: what train_word or train_subject returned, where adapters come from the Hub.

    Returns:
        "query", to be put behind the app's address; "missing", the names of adapters that nobody
        else has and that are not in it.
    """
    entries = {entry.name: entry for entry in library_of(owner_of(session)).list()}
    for asked in adapters:
        if asked.name not in entries:
            raise AdapterError(
                f"There is no adapter called “{asked.name[:40]}”. list_adapters says which there "
                "are.",
                field="adapters",
            )
    rows = [Row(asked.name, asked.weight) for asked in adapters]
    link, missing = link_to(rows, entries, prompt, seed, combine)
    query = link.query()
    StackLink.parse(dict(parse_qsl(query.removeprefix("?"))))  # raises what would not open
    return {"query": query, "missing": [entry.name for entry in missing]}


def read_picture(picture: Upload) -> dict[str, Any]:
    """Read the record that a picture of this app carries: how to draw it again.

    Args:
        picture: the PNG as it was drawn (handle_file in gradio_client), its address (https://...)
            or its content (data:...).

    Returns:
        The record: base, adapters with hashes and weights, prompt, seed, settings.
    """
    record = read_record(Path(picture))
    if record is None:
        raise RecipeError(html.NO_RECORD, field="picture")
    return record.to_dict()


def _added(visit: Visit, entry: Entry) -> dict[str, Any]:
    """What is told of an adapter that has come."""
    from personalization.adapters import formats

    held = formats.contents(entry.path)
    said = ("trigger", "method", "family")
    return {"session": visit.workspace.id, "name": entry.name, "modules": held.modules} | {
        name: getattr(held.description, name) for name in said
    }


def build_exchange_endpoints() -> None:
    """What answers with files has a component, which nobody sees."""
    build_endpoint(export_adapter, [gr.File(label="files", file_count="multiple")])
    build_endpoint(add_from_hub)
    build_endpoint(add_from_file)
    build_endpoint(extract_lora, **ON_GPU)
    build_endpoint(link_to_stack, queue=False)
    build_endpoint(read_picture, queue=False)
