"""For programs: the named endpoints, each with a docstring for gradio_client and MCP alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

import gradio as gr

from personalization.bases import best_device
from personalization.data.concept import Concept, Kind
from personalization.evaluation.figures import Estimate
from personalization.evaluation.report import Report
from personalization.events import SliceEnded
from personalization.recipe import Recipe
from personalization.training.base_selection import options
from personalization.training.start import check_new

from .event_options import REFRESH
from .evidence_endpoints import build_evidence_endpoints
from .exchange_endpoints import build_exchange_endpoints
from .guides import guides_of
from .jobs_endpoints import build_jobs_endpoints
from .loaded import ON_ZERO, default_base, spec_of
from .loaded import base as loaded
from .long_work import check_confirmed
from .messages import collected
from .progress import Pace
from .publishing_endpoints import build_publishing_endpoints
from .recipe_endpoints import Photos, RecipeObject, asked_recipe, build_recipe_endpoints
from .report import compared, is_measured
from .requests import Name, Whole, at_most, build_endpoint
from .run_endpoints import IN_TURN, Trained, continue_run, move_up_run, stop_run, train
from .runs import awaited, enqueue, foreseen, measure_part, pieces_of, report_seconds
from .session import workspace_of
from .spectrum_endpoints import build_spectrum_endpoint
from .stack_endpoints import build_stack_endpoints
from .things_endpoints import build_things_endpoints
from .training_tab import SUBJECT, WORD, Training
from .uploads import publish_file, take_uploads

FramingName = Literal["", "crop", "shape", "subject"]
Runs = Annotated[list[Name], at_most(50)]


def recipe_for(
    training: Training, base: str, steps: int | None, seed: int, given: Recipe | None = None
) -> Recipe:
    """What is given or the base's own recipe, with these steps and seed. Raises `RecipeError`."""
    own = given or training.recipe(spec_of(base))
    return own.changed(steps=steps or own.steps, seed=seed or own.seed)


def check_time(base: str, recipe: Recipe, what: tuple[Kind, str], confirm: bool) -> None:
    """Refuse what takes more than ten minutes and is not confirmed. Raises `RecipeError`."""
    check_confirmed(foreseen(base, recipe, *what).seconds, confirm)


def read_concept(
    photos: Sequence[str], kind: Kind, placeholder_token: str, class_noun: str
) -> tuple[Concept, list[str]]:
    """What is to be taught, and a sentence for each photo that cannot be used.

    Raises `PhotoError` where none can, or `ConceptError`.
    """
    readable, errors = take_uploads(photos)
    if errors and not readable:
        raise errors[0]
    concept = Concept(kind, placeholder_token, class_noun.strip(), tuple(readable))
    return concept, [str(error) for error in errors]


def train_word(  # noqa: PLR0913 - its parameters are the interface
    photos: Photos,
    placeholder_token: Name,
    initializer_token: Name,
    kind: Kind = "object",
    steps: Whole | None = None,
    seed: Whole = 0,
    session: Name = "",
    base: Name = "",
    preset: Name = "",
    framing: FramingName = "",
    confirm: bool = False,
    hold: bool = False,
    recipe: RecipeObject | None = None,
) -> Iterator[Trained]:
    """Teach the base a new word from a few photos (textual inversion), and stream the progress.

    Args:
        photos: three to five pictures of the same thing or look: files (handle_file in
            gradio_client), or for each its address (https://...) or its content (data:...). A file
            called as another with -mask behind is its mask: white where the subject is.
        placeholder_token: the new word, such as <my-mug>; it must not mean anything yet.
        initializer_token: the closest word that the base knows, such as mug.
        kind: object, creature, person or style.
        steps: optimizer steps; nothing for the recipe's own.
        seed: the same seed and photos give the same word.
        session: what an earlier call returned as "session", to keep what it made; empty for new.
        base: a name as list_bases says; empty for the app's own.
        preset: a name as keep_preset says; empty for the base's own recipe.
        framing: shape (photos as they are), crop (the square in the middle) or subject (around
            what their masks say); empty for the recipe's own.
        confirm: whether to begin what takes more than ten minutes on this machine, which is
            refused otherwise, with the time that it takes.
        hold: whether to make the run and not begin it, for send_job or continue_run.
        recipe: every setting, as suggest_recipe gives them; nothing for the base's own recipe.

    Returns:
        The status (session, run, state, step, steps, loss, seconds_left, trigger), and at the end
        the adapter's file and pictures drawn with the word.
    """
    given = asked_recipe(session, preset, recipe, WORD.purpose)
    chosen = recipe_for(WORD, base, steps, seed, given)
    chosen = chosen.changed(framing=framing or chosen.framing)
    check_time(base, chosen, (kind, initializer_token), confirm or hold)
    concept, notes = read_concept(photos, kind, placeholder_token, initializer_token)
    yield from train(session, base, concept, chosen, notes, hold=hold)


def train_subject(  # noqa: PLR0913 - its parameters are the interface
    photos: Photos,
    placeholder_token: Name,
    class_noun: Name,
    kind: Kind = "object",
    steps: Whole | None = None,
    seed: Whole = 0,
    session: Name = "",
    base: Name = "",
    preset: Name = "",
    framing: FramingName = "",
    confirm: bool = False,
    hold: bool = False,
    recipe: RecipeObject | None = None,
) -> Iterator[Trained]:
    """Teach the base a subject (DreamBooth with a LoRA and prior preservation), with progress.

    Args:
        photos: three to five pictures of the same subject: files (handle_file in
            gradio_client), or for each its address (https://...) or its content (data:...). A file
            called as another with -mask behind is its mask: white where the subject is.
        placeholder_token: a rare word that will stand for it, such as sks.
        class_noun: its class, such as dog.
        kind: object, creature, person or style.
        steps: optimizer steps; nothing for the recipe's own.
        seed: the same seed and photos give the same adapter.
        session: what an earlier call returned as "session", to keep what it made; empty for new.
        base: a name as list_bases says; empty for the app's own.
        preset: a name as keep_preset says; empty for the base's own recipe.
        framing: shape (photos as they are), crop (the square in the middle) or subject (around
            what their masks say); empty for the recipe's own.
        confirm: whether to begin what takes more than ten minutes on this machine, which is
            refused otherwise, with the time that it takes.
        hold: whether to make the run and not begin it, for send_job or continue_run.
        recipe: every setting, as suggest_recipe gives them; nothing for the base's own recipe.

    Returns:
        The status (session, run, state, step, steps, loss, seconds_left, trigger), and at the end
        the adapter's file and pictures drawn with the subject.
    """
    given = asked_recipe(session, preset, recipe, SUBJECT.purpose)
    chosen = recipe_for(SUBJECT, base, steps, seed, given)
    chosen = chosen.changed(framing=framing or chosen.framing)
    check_time(base, chosen, (kind, class_noun), confirm or hold)
    concept, notes = read_concept(photos, kind, placeholder_token, class_noun)
    yield from train(session, base, concept, chosen, notes, hold=hold)


def report(
    session: Name, run: Name, confirm: bool = False
) -> Iterator[tuple[dict[str, Any], dict | None, str | None]]:
    """Measure whether a finished run worked, and write the recommended strength into its adapter.

    Subject and prompt fidelity over the adapter's strength beside the untouched base and the real
    photos, drift, copying, cost. What was measured already is given at once.

    Args:
        session: what train_word or train_subject returned as "session".
        run: what it returned as "run".
        confirm: whether to begin what takes more than ten minutes on this machine, which is
            refused otherwise, with the time that it takes.

    Returns:
        The status (state, done and total pictures, verdict, strength), and at the end the report
        with every figure, and as one HTML file with its pictures.
    """
    workspace = workspace_of(session)
    opened = workspace.run(run)
    opened.clear_stop()
    status: dict[str, Any] = {"session": workspace.id, "run": run, "state": "measuring"}
    done = Report.open(opened.folder) if is_measured(opened) else None
    if done is None:
        check_confirmed(report_seconds(opened), confirm)
    if done is None and not ON_ZERO:
        for job in awaited(enqueue(workspace, opened, "measure"), REFRESH):
            if job.stage:
                status |= {"done": job.stage.done, "total": job.stage.total}
            yield status, None, None
        done = Report.open(opened.folder)
    pace, left = Pace(), 0
    while done is None:
        for event in measure_part(workspace, opened, pace.each, left):
            if isinstance(event, Report):
                done = event
            elif isinstance(event, SliceEnded):
                pace, left = Pace(pace.each), event.steps - event.step
            else:
                pace.take(event)
                status |= {"done": event.done, "total": event.total}
                yield status, None, None
    status |= {"state": "finished", "verdict": done.verdict}
    if done.figures:
        status["strength"] = done.figures.balance.strength
    yield status, done.as_dict(), publish_file(workspace, opened.folder / "report.html")


def compare(session: Name, runs: Runs) -> list[dict[str, Any]]:
    """Say what several measured runs learned, forgot, weigh and cost, side by side.

    Args:
        session: what train_word or train_subject returned as "session".
        runs: what they returned as "run"; report must have measured each.

    Returns:
        For each its name, method, strength, size in bytes, seconds, and subject_fidelity,
        prompt_fidelity and drift as {mean, low, high}, shares of their references.
    """
    rows = compared(workspace_of(session), runs).rows()
    return [
        {name: asdict(v) if isinstance(v, Estimate) else v for name, v in row.items()}
        for row in rows
    ]


def check_placeholder_token(placeholder_token: Name, base: Name = "") -> dict[str, Any]:
    """Say how the base reads a word, and whether it can be taught.

    Args:
        placeholder_token: the word.
        base: a name as list_bases says; empty for the app's own.

    Returns:
        "pieces", what it is read as today; "error", a sentence, empty where it can be taught.
    """
    errors: list[str] = []
    with collected(errors):
        check_new(loaded(base), placeholder_token)
    pieces = pieces_of(base, placeholder_token)
    return {"pieces": pieces, "error": " ".join(errors)}


def list_bases() -> list[dict[str, Any]]:
    """List the bases that can be taught and drawn with, the app's own first.

    Returns:
        For each its name, title, licence, side in pixels, and "why_not": a sentence where this
        machine cannot have it; "references", how many reference pictures it looks at, "readers",
        who can look at them, and "maps", by kind the repositories of what follows them. Beside
        these, the name of a repository on the Hub is a base too.
    """
    own, _ = default_base()
    said = ("name", "title", "licence", "size")
    return [
        {name: getattr(option.spec, name) for name in said}
        | {"why_not": option.why_not, **guides_of(option.spec)}
        for option in options(own, best_device())
    ]


def build_endpoints() -> None:
    """The named endpoints; what answers with files has components, which nobody sees."""
    with gr.Column(visible=False):
        for function in (train_word, train_subject, continue_run):
            files = [gr.File(label="adapter"), gr.Gallery(label="pictures")]
            build_endpoint(function, [gr.JSON(label="status"), *files], **IN_TURN)
        for at_once in (stop_run, move_up_run):
            build_endpoint(at_once, queue=False)
        build_jobs_endpoints()
        build_stack_endpoints()
        build_exchange_endpoints()
        build_recipe_endpoints()
        build_things_endpoints()
        build_publishing_endpoints()
        build_evidence_endpoints()
        measured = [gr.JSON(label="status"), gr.JSON(label="report"), gr.File(label="page")]
        build_endpoint(report, measured, **IN_TURN)
        build_spectrum_endpoint(**IN_TURN)
        for question in (compare, check_placeholder_token, list_bases):
            build_endpoint(question, queue=False)
