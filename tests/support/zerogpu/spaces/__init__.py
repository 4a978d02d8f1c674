"""ZeroGPU without a GPU: what the package `spaces` does to a decorated function there.

Put this folder's parent first on PYTHONPATH and `import spaces` finds it. It keeps to what the
real package (0.51.3, `spaces/zero/wrappers.py` and `client.py`) does to arguments, results,
errors and time:

- every call runs in a forked process: arguments, results and yields cross it pickled, and what it
  changes in memory is lost;
- a duration longer than what the visitor may ask for is refused before anything starts;
- the process is killed when its seconds are over, in the midst of whatever it does;
- a `gr.Error` arrives as it is, any other exception as its class name alone;
- each of these raises a `gr.Error` with the title that the real one has.

`ZERO_ALLOWANCE` is the longest duration that is granted (seconds), `ZERO_QUOTA` what the visitor
has left in all. `ZERO_LOG` names a file to which each allocation is written: asked, used, how it
ended.
"""

from __future__ import annotations

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

from . import config

__all__ = ["GPU", "config"]

_fork = multiprocessing.get_context("fork")
_used = 0.0


def GPU(task: Callable | None = None, *, duration: Any = None, size: str | None = None) -> Any:  # noqa: N802 - as there
    """Decorate `task` as `spaces.GPU` does. `duration`: seconds, or a function of the arguments."""
    if task is None:
        return lambda task: GPU(task, duration=duration, size=size)

    def run(*args: Any, **kwargs: Any) -> Iterator[Any]:
        asked = duration(*args, **kwargs) if callable(duration) else (duration or 60)
        _refuse(asked)
        arguments = pickle.dumps((args, kwargs))
        here, there = _fork.Pipe()
        worker = _fork.Process(target=_work, args=(task, arguments, there), daemon=True)
        worker.start()
        there.close()
        started = time.monotonic()
        ended = "killed"
        try:
            while True:
                if not here.poll(max(0.0, asked - (time.monotonic() - started))):
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
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
            _account(task.__name__, asked, time.monotonic() - started, ended)

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


def _refuse(asked: float) -> None:
    allowance = float(os.environ.get("ZERO_ALLOWANCE", "60"))
    if asked > allowance:
        raise gr.Error(
            f"The requested GPU duration ({asked:.0f}s) is larger than the maximum allowed",
            title="ZeroGPU illegal duration",
        )
    left = float(os.environ.get("ZERO_QUOTA", "1e9")) - _used
    if asked > left:
        raise gr.Error(
            f"You have exceeded your GPU quota ({asked:.0f}s requested vs. {left:.0f}s left).",
            title="ZeroGPU quota exceeded",
        )


def _account(task: str, asked: float, used: float, ended: str) -> None:
    global _used
    _used += used
    if log := os.environ.get("ZERO_LOG"):
        with open(log, "a") as file:
            entry = {"task": task, "asked": asked, "used": round(used, 2), "ended": ended}
            file.write(json.dumps(entry) + "\n")
