"""Hugging Face Jobs by program."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from personalization.errors import HubError
from personalization.training.run import Run

from .jobs_panel import look_after
from .publishing_endpoints import Token
from .requests import Name, Whole, build_endpoint
from .session import workspaces

if TYPE_CHECKING:
    from personalization.sharing.jobs import Sent


def list_job_hardware(token: Token = "") -> list[dict[str, Any]]:
    """List the machines of Hugging Face Jobs with their prices, the cheapest with a GPU first.

    Args:
        token: yours, where the Hub asks for one; it is used for this call and not kept.

    Returns:
        For each its "name", for send_job, "title", "memory" of its accelerator, and
        "dollars_an_hour".
    """
    from personalization.sharing import jobs

    return [asdict(each) for each in jobs.hardware(token or None)]


def send_job(
    session: Name, run: Name, machine: Name, token: Token, minutes: Whole = 60
) -> dict[str, Any]:
    """Have a run learned on Hugging Face Jobs, for your account's credit.

    Its photos go into a private repository of yours, which the job deletes before its first step.

    Args:
        session: what train_word or train_subject returned as "session".
        run: what it returned as "run"; hold makes one that has not begun. The job begins anew.
        machine: as list_job_hardware says.
        token: yours, which may run jobs and write; the job has it as a secret, and nothing else
            keeps it.
        minutes: when it is switched off at the latest, 1 to 360.

    Returns:
        "address", the job's page, and "most", the dollars that it can cost.
    """
    from personalization.sharing import jobs

    opened = workspaces().open(session).run(run)
    if jobs.Sent.of(opened):
        raise HubError("This run is on its way already: look_at_job says how far.", field="run")
    found = {each.name: each for each in jobs.hardware(token or None)}
    if machine not in found:
        raise HubError(f"There is no machine “{machine[:40]}”. Take one of {', '.join(found)}.")
    sent = jobs.send(opened, jobs.Order(found[machine], minutes), token)
    return {"address": sent.address, "most": sent.most}


def look_at_job(session: Name, run: Name, token: Token) -> dict[str, Any]:
    """Say how far a job is; take what it learned once it is done, and leave nothing on the Hub.

    Args:
        session: what train_word or train_subject returned as "session".
        run: as send_job was given it.
        token: yours; it is used for this call and not kept.

    Returns:
        "stage": waiting, running, done, failed or cancelled; "step" and "steps", "doing", and
        "message", what the Hub says of a failure. Once it is done the adapter is in the session's
        library, and continue_run gives its file and pictures.
    """
    workspace = workspaces().open(session)
    opened = workspace.run(run)
    return asdict(look_after(workspace, opened, _sent(opened), token))


def cancel_job(session: Name, run: Name, token: Token) -> dict[str, Any]:
    """End a job, and delete what is on the Hub of it; the run is kept.

    Args:
        session: what train_word or train_subject returned as "session".
        run: as send_job was given it.
        token: yours; it is used for this call and not kept.

    Returns:
        "run", its name.
    """
    from personalization.sharing import jobs

    opened = workspaces().open(session).run(run)
    jobs.cancel(_sent(opened), opened, token)
    return {"run": run}


def _sent(run: Run) -> Sent:
    """The run's job. Raises `HubError` where it has none."""
    from personalization.sharing import jobs

    if (sent := jobs.Sent.of(run)) is None:
        raise HubError("This run is not on Hugging Face Jobs: it is here, or back.", field="run")
    return sent


def build_jobs_endpoints() -> None:
    """All of them answer with JSON."""
    for function in (list_job_hardware, send_job, look_at_job, cancel_job):
        build_endpoint(function)
