"""What takes seconds to load, behind the page that is there already; and bases by their names.

torch, diffusers and transformers are most of a start. So nothing of the page imports them at its
top: they are loaded once it answers, and what needs them waits. All wait on one future and none
imports them meanwhile, since two threads that import parts of each other get half of a module.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

import spaces  # before torch: on ZeroGPU it takes the devices' place

from personalization import bases
from personalization.bases.catalog import CATALOG, BaseSpec
from personalization.errors import BaseError
from personalization.training import base_selection

from .compute import Compute
from .main_thread import on_main_thread

if TYPE_CHECKING:
    from personalization.bases.base import Base

ON_ZERO = spaces.config.Config.zero_gpu
MODULES = (
    *("training.loop", "training.estimate", "evaluation.evaluate", "sampling.sweep"),
    *("stacking.stack", "adapters.extraction", "sharing.hub"),
)
GETTING_READY = "Getting ready, a few seconds …"


@cache
def loading() -> Future[None]:
    """The load, which begins with the first call; on ZeroGPU it is over then."""
    if ON_ZERO:
        future: Future[None] = Future()
        load()
        future.set_result(None)
        return future
    executor = ThreadPoolExecutor(1, thread_name_prefix="loading")
    future = executor.submit(load)
    executor.shutdown(wait=False)
    return future


def load() -> None:
    """Everything that the first visitor would wait for."""
    for name in MODULES:
        import_module(f"personalization.{name}")
    if not ON_ZERO:
        compute()
    if device() == "cpu":
        measure_cpu()
    default_base()


def wait_until_ready() -> None:
    """Wait for the load; a failure of it is raised to everyone who needs it."""
    loading().result()


def measure_cpu() -> None:
    """How fast the cores are, for estimates; once on a machine, under a second."""
    from personalization.bases.loading import precision
    from personalization.bases.speed import of_this_machine

    any_real = precision(CATALOG["sd15"], bases.best_device())
    compute().call(of_this_machine, any_real)


@cache
def compute() -> Compute:
    """The thread that has the cores. (ZeroGPU's worker is a process of its own.)"""
    return Compute.with_the_cores()


def device() -> str:
    """ "cuda", "mps" or "cpu"."""
    return "cuda" if ON_ZERO else bases.best_device().type


@cache
def default_base() -> tuple[BaseSpec, str]:
    """The base that the process starts on, loaded; and why it is not the one that was meant.

    Where that one cannot be had, it is the pocket, so that the app is there in any case.
    """
    try:
        spec = base_selection.default(bases.best_device(), shared=ON_ZERO)
        bases.load(spec)
    except BaseError as error:
        logging.getLogger("app").warning("%s", error)
        return base_selection.POCKET, str(error)
    return spec, ""


def spec_of(name: str) -> BaseSpec:
    """The base of that name; the process's own where there is none. Raises `BaseError`."""
    own, _ = default_base()
    return own if name in ("", own.name) else base_selection.named(name)


def base(name: str) -> Base:
    """The base of that name, loaded on the first use. Raises `BaseError`."""
    spec = spec_of(name)
    return on_main_thread(lambda: bases.load(spec)) if ON_ZERO else bases.load(spec)
