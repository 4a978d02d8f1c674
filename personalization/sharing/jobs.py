"""A run on Hugging Face's machines, for the visitor's own credit (Jobs).

    sent = send(run, order, token)    look(sent, token) -> Progress    fetch(sent, run, token)

This package as it is here and the run's folder go into a private dataset repository; the job
deletes that as soon as it has it, and leaves what it learned in one of the same name (see
`job_at_work`), which `fetch` takes and deletes. Where a job failed or was cancelled, `discard`
deletes whichever is there. The job has the visitor's token as a secret, since it reads and writes
in their name; here a token is an argument, used for the call.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from personalization.bases.catalog import ASSETS, CATALOG
from personalization.errors import HubError, RunError
from personalization.files import scratch, write_atomically
from personalization.training.run import Run

PACKAGE = Path(__file__).resolve().parents[1]
RUN = "run"  # the run's folder in the repository
MARK = "personalization "  # before a line of progress
JOB_TOKEN = "JOB_TOKEN"  # the secret that a job reads and writes with, and no library looks for
SENT = "job.json"  # beside a run that was sent away; no token in it
MAX_MINUTES = 360
MAX_FILE = 4 * 2**30  # bytes that come back as one file
_TAKEN = re.compile(r"(adapter\.safetensors|state\.json|log\.jsonl|previews/step-\d+-\d+\.png)")
_NOT_THERE = ("gradio", "spaces", "mcp")  # of the requirements: a job has no page
# Under 255 characters, as huggingface_hub asks whether it is a file.
_BEGIN = (
    "import os,sys;from huggingface_hub import snapshot_download as s;"
    "r=sys.argv[1];e=os.environ;"
    "os.chdir(s(r,repo_type='dataset',local_dir='j',token=e['JOB_TOKEN']));"
    "os.execv(sys.executable,[sys.executable,'-m','personalization.sharing.job_at_work',r])"
)
Stage = Literal["waiting", "running", "done", "failed", "cancelled"]
_STAGES: dict[str, Stage] = {
    "SCHEDULING": "waiting",
    "RUNNING": "running",
    "COMPLETED": "done",
    "CANCELED": "cancelled",
}


@dataclass(frozen=True)
class Hardware:
    """A machine to choose, with its price."""

    name: str
    title: str
    memory: str  # of its accelerator; "" without one
    dollars_an_hour: float


@dataclass(frozen=True)
class Order:
    """What a visitor chose: a machine, and when it is switched off at the latest."""

    hardware: Hardware
    minutes: int

    @property
    def most(self) -> float:
        """Dollars that it can cost."""
        return self.hardware.dollars_an_hour * self.minutes / 60

    def check(self) -> Order:
        """Return self, or raise `HubError`."""
        if not 1 <= self.minutes <= MAX_MINUTES:
            raise HubError(f"A job takes 1 to {MAX_MINUTES} minutes.", field="minutes")
        return self


@dataclass(frozen=True)
class Sent:
    """A job under way: kept beside its run."""

    id: str
    repository: str
    address: str
    most: float  # dollars

    @classmethod
    def of(cls, run: Run) -> Sent | None:
        """The job of a run; None where it was not sent away, or is back."""
        try:
            return cls(**json.loads((run.folder / SENT).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None


@dataclass(frozen=True)
class Progress:
    """How far it is."""

    stage: Stage
    step: int = 0
    steps: int = 0
    doing: str = ""
    message: str = ""  # what the Hub says of a failure

    @property
    def under_way(self) -> bool:
        """Whether it has not ended yet."""
        return self.stage in ("waiting", "running")


def hardware(token: str | None, *, endpoint: str | None = None) -> list[Hardware]:
    """What can be had, the cheapest with an accelerator first. Raises `HubError`."""
    with _said():
        listed = HfApi(endpoint=endpoint, token=token or False).list_jobs_hardware()
    hours = {"minute": 60, "hour": 1, "second": 3600}
    found = [
        Hardware(
            each.name,
            each.pretty_name,
            each.accelerator.vram if each.accelerator else "",
            round(each.unit_cost_usd * hours[each.unit_label], 4),
        )
        for each in listed
        if each.unit_label in hours
    ]
    return sorted(found, key=lambda each: (not each.memory, each.dollars_an_hour))


def send(run: Run, order: Order, token: str, *, endpoint: str | None = None) -> Sent:
    """Upload the run, and have it learned. Raises `HubError`; then nothing is left there."""
    order.check()
    if not token:
        raise HubError("You are not signed in: sign in with Hugging Face, then send it again.")
    if run.base not in CATALOG and "/" not in run.base:
        raise HubError("This base is a file of this machine, which a job does not have.")
    api = HfApi(endpoint=endpoint, token=token)
    with _said():
        repository = f"{api.whoami()['name']}/personalization-job-{secrets.token_hex(4)}"
        try:
            api.create_repo(repository, repo_type="dataset", private=True)
            api.create_commit(
                repository, _files(run), repo_type="dataset", commit_message="A run to be learned"
            )
            job = api.run_uv_job(
                "python",
                script_args=["-c", _BEGIN, repository],
                dependencies=requirements(),
                secrets={JOB_TOKEN: token},
                flavor=order.hardware.name,
                timeout=f"{order.minutes}m",
            )
        except BaseException:
            _delete(api, repository)
            raise
    sent = Sent(job.id, repository, job.url, round(order.most, 2))
    write_atomically(run.folder / SENT, json.dumps(asdict(sent)))
    return sent


def look(sent: Sent, token: str, *, endpoint: str | None = None) -> Progress:
    """How far a job is, by the Hub and by its logs. Raises `HubError`."""
    api = HfApi(endpoint=endpoint, token=token)
    with _said():
        status = api.inspect_job(job_id=sent.id).status
        stage = _STAGES.get(
            str(status.stage.value if hasattr(status.stage, "value") else status.stage), "failed"
        )
        said: dict[str, Any] = {}
        if stage in ("running", "done"):
            for line in api.fetch_job_logs(job_id=sent.id, tail=50):
                if line.startswith(MARK):
                    said |= _line(line)
    return Progress(
        stage,
        int(said.get("step", 0)),
        int(said.get("steps", 0)),
        str(said.get("doing", "")),
        status.message or "",
    )


def fetch(sent: Sent, run: Run, token: str, *, endpoint: str | None = None) -> Path:
    """What a finished job learned, into its run's folder; then nothing of it is on the Hub.

    Only files that a run has are taken, and an adapter only where it can be read. Raises `HubError`
    or `RunError`.
    """
    from personalization.adapters.adapter import read

    api = HfApi(endpoint=endpoint, token=token)
    with _said(), scratch(run.folder) as folder:
        for file in api.list_repo_tree(sent.repository, repo_type="dataset", recursive=True):
            size = getattr(file, "size", None)
            if size is not None and size <= MAX_FILE and _TAKEN.fullmatch(file.path):
                api.hf_hub_download(
                    sent.repository, file.path, repo_type="dataset", local_dir=folder
                )
        adapter = folder / "adapter.safetensors"
        if not adapter.exists():
            raise RunError("The job left no adapter. Its logs are on its page.")
        read(adapter)  # raises what is wrong with it
        paths = [path for path in folder.rglob("*") if path.is_file()]
        taken = {path.relative_to(folder).as_posix(): path for path in paths}
        for name in sorted(
            taken, key=lambda name: name == "state.json"
        ):  # which says that it is done
            if _TAKEN.fullmatch(name):
                write_atomically(run.folder / name, taken[name].read_bytes())
    discard(sent, run, token, endpoint=endpoint)
    return run.adapter_path


def discard(sent: Sent, run: Run, token: str, *, endpoint: str | None = None) -> None:
    """Delete what is on the Hub of a job that has ended. Raises `HubError`."""
    with _said():
        _delete(HfApi(endpoint=endpoint, token=token), sent.repository)
    (run.folder / SENT).unlink(missing_ok=True)


def cancel(sent: Sent, run: Run, token: str, *, endpoint: str | None = None) -> None:
    """End a job, and delete what is on the Hub of it. Raises `HubError`."""
    with _said():
        HfApi(endpoint=endpoint, token=token).cancel_job(job_id=sent.id)
    discard(sent, run, token, endpoint=endpoint)


def learned_files(folder: Path) -> list[CommitOperationAdd]:
    """Of a finished run's folder, what comes back: no photos."""
    return [
        CommitOperationAdd(name, path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and _TAKEN.fullmatch(name := path.relative_to(folder).as_posix())
    ]


def requirements() -> list[str]:
    """What the package needs on a machine without a page, with its ranges."""
    lines = (PACKAGE.parent / "requirements.txt").read_text().splitlines()
    wanted = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [line for line in wanted if re.split(r"[\[<>=]", line)[0] not in _NOT_THERE]


def _files(run: Run) -> list[CommitOperationAdd]:
    """The package as it is here, the run, and the pocket where that is its base."""
    code = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    found = {f"personalization/{path.relative_to(PACKAGE).as_posix()}": path for path in code}
    if run.base == "pocket":
        base = ASSETS / "pocket"
        found |= {
            f"assets/pocket/{path.relative_to(base).as_posix()}": path
            for path in base.rglob("*")
            if path.is_file()
        }
    for path in run.folder.rglob("*"):
        name = path.relative_to(run.folder).as_posix()
        if path.is_file() and (name == "run.json" or name.startswith("photos/")):
            found[f"{RUN}/{name}"] = path
    return [CommitOperationAdd(name, path) for name, path in sorted(found.items())]


def _delete(api: HfApi, repository: str) -> None:
    with suppress(RepositoryNotFoundError):  # the job has deleted it
        api.delete_repo(repository, repo_type="dataset")


def _line(line: str) -> dict[str, Any]:
    try:
        said = json.loads(line.removeprefix(MARK))
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


@contextmanager
def _said() -> Iterator[None]:
    """What the Hub refuses, or the way there, as a sentence; the run is still here."""
    kept = "The run is kept here."
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        sentence = {
            401: f"Your sign-in has ended: sign in again. {kept}",
            402: f"Your account has no credit for Jobs: add some in your billing settings. {kept}",
            403: "Your sign-in does not allow this app to run jobs: sign out, sign in again and "
            f"agree to it. {kept}",
            404: f"That job, or its repository, is no longer there. {kept}",
        }
        raise HubError(
            sentence.get(status, f"The Hub refused the job (it answered {status}). {kept}")
        ) from error
    except (OfflineModeIsEnabled, HTTPError, OSError, RuntimeError) as error:
        raise HubError(f"The Hub does not answer: try again. {kept}") from error
