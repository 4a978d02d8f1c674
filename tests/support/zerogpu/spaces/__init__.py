"""ZeroGPU without a GPU: what the package `spaces` does to a decorated function there.

Put this folder's parent first on PYTHONPATH and `import spaces` finds it. It keeps to what the
real package (0.51.3, `spaces/zero/wrappers.py` and `client.py`) does to arguments, results,
errors and time:

- every call runs in a forked process: arguments, results and yields cross it pickled, and what it
  changes in memory is lost;
- a request is checked at 1.5 times its seconds before anything starts: against the longest that is
  granted, and against what is left of the visitor's day, from which what they use is taken, times
  1.5 as well (which the package does not tell);
- who the visitor is, the `X-IP-Token` of their request says (see `tests.support.scheduler.token`):
  {"user", "auth", "left", "runs", "exp"}; once that has ended it is refused;
- the process is killed when its seconds are over, in the midst of whatever it does. They are the
  processor's, of one thread: a card that is lent is nobody else's, whatever this machine does;
- a `gr.Error` arrives as it is, any other exception as its class name alone;
- each of these raises a `gr.Error` with the title that the real one has.

`ZERO_ALLOWANCE` is the longest duration that is granted (seconds). `ZERO_LOG` names a file to which
each allocation is written: whose, asked, used, how it ended.
"""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from functools import wraps
from inspect import isgeneratorfunction
from multiprocessing.connection import Connection
from typing import Any

import gradio as gr
import psutil

from . import config

__all__ = ["GPU", "config"]

_fork = multiprocessing.get_context("fork")
_FACTOR = 1.5
_LOOK = 0.2  # seconds between two looks at what a worker has used
_used: dict[str, float] = {}  # by visitor
_runs: dict[str, int] = {}


def GPU(task: Callable | None = None, *, duration: Any = None, size: str | None = None) -> Any:  # noqa: N802 - as there
    """Decorate `task` as `spaces.GPU` does. `duration`: seconds, or a function of the arguments."""
    if task is None:
        return lambda task: GPU(task, duration=duration, size=size)

    def run(*args: Any, **kwargs: Any) -> Iterator[Any]:
        asked = duration(*args, **kwargs) if callable(duration) else (duration or 60)
        visitor = _visitor()
        _refuse(asked, visitor)
        arguments = pickle.dumps((args, kwargs))
        here, there = _fork.Pipe()
        worker = _fork.Process(target=_work, args=(task, arguments, there), daemon=True)
        worker.start()
        there.close()
        lent = psutil.Process(worker.pid)
        used, ended = 0.0, "killed"
        try:
            while True:
                while not here.poll(_LOOK):
                    used = _processor_seconds(lent)
                    if used > asked:
                        raise gr.Error("GPU task aborted", title="ZeroGPU worker error")
                try:
                    kind, value = pickle.loads(here.recv_bytes())
                except EOFError as error:
                    raise gr.Error("GPU task aborted", title="ZeroGPU worker error") from error
                if kind == "yield":
                    yield value
                elif kind == "error":
                    ended = "error"
                    raise value
                elif kind == "foreign":
                    ended = "error"
                    raise gr.Error(value, title="ZeroGPU worker error")
                else:
                    ended = "done"
                    return
        finally:
            used = max(used, _processor_seconds(lent))
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
            _account(visitor, {"task": task.__name__, "asked": asked, "used": used, "ended": ended})

    if isgeneratorfunction(task):
        return wraps(task)(run)

    @wraps(task)
    def call(*args: Any, **kwargs: Any) -> Any:
        return next(value for value in list(run(*args, **kwargs)))

    return call


def _work(task: Callable, arguments: bytes, pipe: Connection) -> None:
    import torch

    torch.set_num_threads(1)  # OpenMP's threads did not come along into the fork
    args, kwargs = pickle.loads(arguments)
    try:
        if isgeneratorfunction(task):
            for value in task(*args, **kwargs):
                pipe.send_bytes(pickle.dumps(("yield", value)))
        else:
            pipe.send_bytes(pickle.dumps(("yield", task(*args, **kwargs))))
        pipe.send_bytes(pickle.dumps(("end", None)))
    except gr.Error as error:
        pipe.send_bytes(pickle.dumps(("error", error)))
    except Exception as error:
        pipe.send_bytes(pickle.dumps(("foreign", type(error).__name__)))
    finally:
        pipe.close()
        os._exit(0)


def _processor_seconds(worker: psutil.Process) -> float:
    """What it has computed; 0 once it is gone."""
    try:
        times = worker.cpu_times()
    except psutil.Error:
        return 0.0
    return times.user + times.system


def _visitor() -> dict[str, Any]:
    """What the token in the request says."""
    from gradio.context import LocalContext

    request = LocalContext.request.get(None)
    token = request.headers.get("x-ip-token") if request else None
    if token is None:
        return {}
    _, payload, _ = token.split(".")
    return json.loads(base64.urlsafe_b64decode(f"{payload}=="))


def _refuse(seconds: float, visitor: dict[str, Any]) -> None:
    asked = round(_FACTOR * seconds)
    if visitor.get("exp", float("inf")) < time.time():
        raise gr.Error("Expired ZeroGPU proxy token", title="ZeroGPU client error")
    if asked > _FACTOR * float(os.environ.get("ZERO_ALLOWANCE", "300")):
        raise gr.Error(
            f"The requested GPU duration ({asked}s) is larger than the maximum allowed",
            title="ZeroGPU illegal duration",
        )
    left = round(visitor.get("left", 120) - _used.get(visitor.get("user", ""), 0.0))
    if _runs.get(visitor.get("user", ""), 0) >= visitor.get("runs", 1000):
        message = "You have exceeded your ZeroGPU runs limit. "
        raise gr.Error(message, title="ZeroGPU quota exceeded")
    if asked > left:
        gpu = {"": "ZeroGPU", "regular": "free ZeroGPU", "pro": "Pro ZeroGPU"}
        raise gr.Error(
            f"You have exceeded your {gpu[visitor.get('auth', '')]} quota "
            f"({asked}s requested vs. {left}s left). Try again in 12:00:00. ",
            title="ZeroGPU quota exceeded",
        )


def _account(visitor: dict[str, Any], entry: dict[str, Any]) -> None:
    user = visitor.get("user", "")
    _runs[user] = _runs.get(user, 0) + 1
    _used[user] = _used.get(user, 0.0) + _FACTOR * entry["used"]
    if log := os.environ.get("ZERO_LOG"):
        with open(log, "a") as file:
            file.write(json.dumps({"user": user} | entry) + "\n")
