"""The evidence of a run by program."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import gradio as gr
from pydantic import Field

from personalization.evaluation.evidence import MAX_WHY

from .evidence import evidence_of, judge, made
from .requests import Name, build_endpoint
from .session import workspaces

Verdict = Literal["chosen", "rejected", ""]
Line = Annotated[str, Field(max_length=MAX_WHY)]


def list_evidence(session: Name, run: Name) -> list[dict[str, Any]]:
    """List the pictures of a run's report, with what was said of each.

    Args:
        session: what train_word or train_subject returned as "session".
        run: what it returned as "run"; report must have measured it.

    Returns:
        For each its "picture", for judge_picture, "prompt", "seed", "strength", "verdict" and
        "why".
    """
    judged = evidence_of(workspaces().open(session).run(run)).judgements
    return [{"picture": each.key} | asdict(each) for each in judged]


def judge_picture(
    session: Name, run: Name, picture: Name, verdict: Verdict, why: Line = ""
) -> dict[str, Any]:
    """Choose a picture of a run's report as evidence, or reject it, and say why.

    Args:
        session: what train_word or train_subject returned as "session".
        run: what it returned as "run".
        picture: as list_evidence says.
        verdict: chosen or rejected; empty to take it back.
        why: a line.

    Returns:
        What is kept, as list_evidence has it.
    """
    opened = workspaces().open(session).run(run)
    kept = judge(opened, picture, verdict=verdict, why=why)
    return {"picture": kept.key} | asdict(kept)


def evidence_card(session: Name, run: Name) -> str:
    """Give the evidence card of a run: pictures chosen and rejected, and what they come of.

    Args:
        session: what train_word or train_subject returned as "session".
        run: what it returned as "run"; report must have measured it.

    Returns:
        One HTML file with its pictures, and without a photo.
    """
    workspace = workspaces().open(session)
    return made(workspace, workspace.run(run))


def build_evidence_endpoints() -> None:
    """What answers with a file has a component, which nobody sees."""
    build_endpoint(list_evidence)
    build_endpoint(judge_picture)
    build_endpoint(evidence_card, [gr.File(label="card")])
