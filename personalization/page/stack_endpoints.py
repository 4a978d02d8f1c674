"""The stack by program: what the stack tab does, as named endpoints."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import gradio as gr
from pydantic import Field

from personalization.errors import StackError
from personalization.sampling.settings import Settings
from personalization.stacking.regions import Region
from personalization.stacking.stack import MAX_SLOTS, Slot, Stack
from personalization.workspaces.library import Library

from .adapter_rows import Row, listed
from .event_options import ON_GPU
from .gpu import gpu_merge
from .guides import (
    ReferenceRequest,
    StartRequest,
    StructureRequest,
    asked_for,
    start_in,
    usable_guides,
)
from .loaded import base as loaded
from .loaded import spec_of
from .long_work import check_confirmed, drawing_seconds, sheet_seconds
from .pictures import keep
from .requests import (
    AdapterRequest,
    Name,
    Number,
    Prompt,
    RegionRequest,
    Request,
    Whole,
    at_most,
    build_endpoint,
)
from .session import library_of, owner_of, workspace_of
from .stacks import cut_off, draw_with, sweep_with
from .uploads import publish_pictures

if TYPE_CHECKING:
    from personalization.sampling.picture_record import Picture
    from personalization.sampling.sweep import Axis


Adapters = Annotated[list[AdapterRequest], at_most(MAX_SLOTS)]
MAX_PICTURES = 64  # of a sweep, as `sampling.sweep` says, which takes seconds to import


class AxisRequest(Request):
    """A setting that a sweep goes along, and its values."""

    what: Literal["weight", "guidance", "steps", "seed", "prompt", "combine"]
    values: Annotated[list[Any], at_most(MAX_PICTURES)] = Field(
        description="a list of the values that it takes"
    )
    slot: Whole = Field(0, description="a whole number, of the adapter whose weight is swept")

    def axis(self) -> Axis:
        """The axis, whose values `Axis.check` looks at."""
        from personalization.sampling.sweep import Axis

        return Axis(self.what, tuple(self.values), self.slot)


def stack_in(adapters: Sequence[AdapterRequest], library: Library, base: str, **how: Any) -> Stack:
    """The stack that a program asks for, not yet checked against the base."""
    rows = [Row(a.name, a.weight, a.text_weight, a.blocks) for a in adapters]
    stack = listed(library, rows, **how)
    slots = (
        replace(slot, region=region_of(adapter.region))
        for slot, adapter in zip(stack.slots, adapters, strict=True)
    )
    stack = replace(stack, slots=tuple(slots))
    for slot in stack.slots:
        if not slot.misfit(spec_of(base)):
            check_blocks(base, slot)
    return stack


def region_of(asked: RegionRequest | None) -> Region | None:
    """Where an adapter counts."""
    if asked is None:
        return None
    left, top, right, bottom = asked.box
    return Region((left, top, right, bottom), asked.prompt)


def check_blocks(base: str, slot: Slot) -> None:
    """Refuse a block that the base does not have. Raises `StackError`."""
    parts = loaded(base).modules.items() if slot.blocks else ()
    paths = [
        f"{path}."
        for component, module in parts
        for path, _ in module.named_modules()
        if not component.startswith("text_encoder")
    ]
    for block in slot.blocks:
        if not block or not any(path.startswith(f"{block}.") for path in paths):
            raise StackError(
                f"The blocks of “{slot.library_name[:40]}” name “{block[:40]}”, and no part of the "
                f"denoiser is called so. It has {', '.join(spec_of(base).blocks.values())}, and "
                "what these are made of.",
                field="blocks",
            )


def noted(base: str, stack: Stack, picture: Picture, missing: Sequence[str] = ()) -> dict[str, Any]:
    """A picture's record, with what the base has not read of its prompt, and what is `missing`."""
    record = picture.record.to_dict()
    notes = [*cut_off(base, stack, picture.record.prompt), *missing]
    return record | {"notes": notes} if notes else record


def draw_stack(  # noqa: PLR0913 - its parameters are the interface
    adapters: Adapters,
    prompt: Prompt,
    negative: Prompt = "",
    seed: Whole = 0,
    count: Whole = 1,
    steps: Whole | None = None,
    guidance: Number | None = None,
    session: Name = "",
    combine: Name = "sum",
    density: Number = 0.5,
    base: Name = "",
    scheduler: Name = "",
    fast: bool = False,
    reference: ReferenceRequest | None = None,
    structure: StructureRequest | None = None,
    confirm: bool = False,
    start: StartRequest | None = None,
) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    """Draw with several adapters at once, each with its weight.

    Args:
        adapters: a list of {"name": as list_adapters says, "weight": -2 to 2}; may be empty. Each
            may have a "text_weight" for its text-encoder part, and "blocks", factors by the path
            of a part of the denoiser: {"up_blocks.1": 0.5}. And a "region", the part of the
            picture where it counts: {"box": [0, 0, 0.5, 1], "prompt": "a photo of sks dog"}, with
            left, top, right, bottom from 0 to 1; "prompt" below then says the scene. Each region
            is one more pass of the model at each step.
        prompt: what to draw, with the adapters' words in it.
        negative: what should not be there.
        seed: of the first picture; the next has the next.
        count: how many pictures.
        steps: of the sampler; nothing for the base's own.
        guidance: how strictly to keep to the prompt; nothing for the base's own.
        session: what train_word or train_subject returned, to find what they made.
        combine: sum, svd, ties, dare, orthogonal, switch or composite.
        density: how much of each TIES and DARE keep, above 0 and up to 1.
        base: a name as list_bases says; empty for the app's own.
        scheduler: such as "Euler a" or "DDIM"; empty for the base's own. What it can be is said
            where it cannot.
        fast: in a few steps, by LCM-LoRA, on bases that have one.
        reference: an object, {"pictures": up to four files, addresses or contents as of
            train_word, "weight": 0 to 1.5, "reach": all, style or layout}: what the picture is to
            look like, without any training, on a base that list_bases says "references" of. A face
            is somebody's: use it with their consent.
        structure: an object, {"picture": one, "kind": of the base's "maps", "weight": 0 to 1.5,
            "until": of the steps, 0 to 1, "is_map": whether the picture is the map itself, "by":
            whose}: where things go.
        confirm: whether to begin what takes more than ten minutes on this machine, which is
            refused otherwise, with the time that it takes.
        start: an object, {"picture": what to begin from, "mask": white where it is drawn anew;
            nothing for all of it, "strength": how much of it changes, 0.05 to 1}.

    Returns:
        The pictures, and the record of each: base, adapters with hashes and weights, settings.
        "notes" say what of a prompt that is too long was cut off, which adapters were left out as
        they are for another family, and what was left out because this base, or this machine, does
        not have it.
    """
    owner = owner_of(session)
    stack = stack_in(adapters, library_of(owner), base, combine=combine, density=density)
    stack, left_out = stack.fitting(spec_of(base))
    settings = Settings(
        prompt, negative, seed, count, steps or None, guidance, scheduler or None, fast=fast
    )
    if start:
        settings = replace(settings, task=start.task, strength=start.strength)
    seconds = drawing_seconds(spec_of(base), settings.check(), stack)
    check_confirmed(seconds and seconds * count, confirm)
    asked = asked_for(reference, structure, owner)
    guides, missing = usable_guides(base, asked, settings.check())
    begun = start_in(start, base, owner)
    pictures = draw_with(base, stack, [settings], begun, guides)
    drawn = publish_pictures(owner, pictures)
    missing = [*left_out, *missing, *(keep(owner, drawn) if owner else ())]
    return drawn, [noted(base, stack, picture, missing) for picture in pictures]


def sweep_stack(  # noqa: PLR0913 - its parameters are the interface
    adapters: Adapters,
    prompt: Prompt,
    across: AxisRequest | None = None,
    down: AxisRequest | None = None,
    seed: Whole = 0,
    session: Name = "",
    base: Name = "",
    reference: ReferenceRequest | None = None,
    structure: StructureRequest | None = None,
    confirm: bool = False,
) -> tuple[str, list[list[dict[str, Any]]]]:
    """Draw the same picture along one or two settings, as a labelled sheet.

    Args:
        adapters: as draw_stack takes them.
        prompt: what to draw.
        across: such as {"what": "weight", "values": [0.2, 0.8], "slot": 0}, where "what" is weight,
            guidance, steps, seed, prompt or combine, and "slot" says whose weight; nothing for the
            base, each adapter alone, and all of them together.
        down: another one for the rows; may be nothing.
        seed: of every picture.
        session: what train_word or train_subject returned, to find what they made.
        base: a name as list_bases says; empty for the app's own.
        reference: as draw_stack takes it; every picture is drawn with it.
        structure: as draw_stack takes it; every picture is drawn with it.
        confirm: whether to begin what takes more than ten minutes on this machine, which is
            refused otherwise, with the time that it takes.

    Returns:
        The sheet, and the record of each picture, row by row; with "notes" as draw_stack's.
    """
    from personalization.sampling.sweep import Sweep, side_by_side

    owner = owner_of(session)
    whole, spec = stack_in(adapters, library_of(owner), base), spec_of(base)
    stack, left_out = whole.fitting(spec)
    axis = across.axis().fitting(whole, spec) if across else side_by_side(stack)
    other = down.axis().fitting(whole, spec) if down else None
    settings = Settings(prompt, seed=seed).check()
    asked = asked_for(reference, structure, owner)
    guides, missing = usable_guides(base, asked, settings)
    plan = Sweep(stack, settings, axis, other, guides)
    check_confirmed(sheet_seconds(spec, plan.check(spec)), confirm)
    grid = sweep_with(base, plan)
    drawn = publish_pictures(owner, [grid.sheet()])
    missing = [*left_out, *missing, *(keep(owner, drawn) if owner else ())]
    records = [[noted(base, stack, each, missing) for each in row] for row in grid.pictures]
    return drawn[0][0], records


def compare_adapters(adapters: Adapters, session: Name = "", base: Name = "") -> dict[str, Any]:
    """Say how adapters interfere, before anything is drawn.

    Args:
        adapters: as draw_stack takes them.
        session: what train_word or train_subject returned, to find what they made.
        base: a name as list_bases says; empty for the app's own.

    Returns:
        "pairs": for each its "names", the "cosine" of the two changes, the "shared" part of their
        directions, what that means in "words", and both figures layer by layer in "layers";
        "suggested": weights with which the sum changes the base no more than the strongest alone.
    """
    from personalization.stacking.interference import overlaps, suggest

    names = [adapter.name for adapter in adapters]
    stack = stack_in(adapters, library_of(owner_of(session)), base).check(spec_of(base))
    found = overlaps([slot.adapter for slot in stack.slots])
    pairs = [
        {
            "names": [names[i], names[j]],
            "words": found[i, j].words,
            "cosine": found[i, j].cosine,
            "shared": found[i, j].shared,
            "layers": {str(at.place): [at.cosine, at.shared] for at in found[i, j].layers},
        }
        for i, j in itertools.combinations(range(len(names)), 2)
    ]
    return {"pairs": pairs, "suggested": list(suggest(stack))}


def save_stack(
    adapters: Adapters,
    title: Name,
    session: Name,
    combine: Name = "sum",
    base: Name = "",
) -> dict[str, Any]:
    """Save a stack as one adapter into the session's library.

    Args:
        adapters: as draw_stack takes them.
        title: what to call it.
        session: what train_word or train_subject returned, or empty for a new one.
        combine: sum, svd, ties, dare or orthogonal.
        base: a name as list_bases says; empty for the app's own.

    Returns:
        "session"; "name", for draw_stack; and "residual", the part of the change that was lost
        on the way.
    """
    stack = stack_in(adapters, library_of(owner_of(session)), base, combine=combine)
    stack.check(spec_of(base))
    result = gpu_merge(base, stack, title)
    workspace = workspace_of(session)
    entry = workspace.library.add(result.adapter, title)
    return {"session": workspace.id, "name": entry.name, "residual": result.residual}


def list_adapters(session: Name = "") -> list[dict[str, Any]]:
    """List the adapters that draw_stack can use: the ready ones, and the session's own.

    Args:
        session: what train_word or train_subject returned; empty for the ready ones alone.

    Returns:
        For each its name, title, trigger word, method, recommended strength and size in bytes.
    """
    entries = library_of(owner_of(session)).list()
    said = ("title", "trigger", "method", "strength")
    return [
        {"name": entry.name, "size": entry.size, "own": entry.own}
        | {name: getattr(entry.description, name) for name in said}
        for entry in entries
        if entry.description
    ]


def build_stack_endpoints() -> None:
    """What answers with files and pictures has components, which nobody sees."""
    pictures = [gr.Gallery(label="pictures"), gr.JSON(label="records")]
    build_endpoint(draw_stack, pictures, **ON_GPU)
    sheet = [gr.Image(label="sheet", type="filepath"), gr.JSON(label="records")]
    build_endpoint(sweep_stack, sheet, **ON_GPU)
    build_endpoint(save_stack, **ON_GPU)
    build_endpoint(compare_adapters)
    build_endpoint(list_adapters, queue=False)
