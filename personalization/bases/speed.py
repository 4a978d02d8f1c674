"""How fast this machine's CPU is, measured once in under a second and kept in a small file.

    of_this_machine(torch.bfloat16).seconds(work)

The kernels that a denoiser spends nine tenths of its time in are timed at sizes that it has. A
layer of few pixels takes the time to read its weights, which is timed apart.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import torch
from torch.nn import functional

from personalization.bases.work import Work
from personalization.files import write_atomically

THREADS = torch.get_num_threads()  # as the process begins: the page leaves most threads but one
LAYERS = 3  # of a kind, of which the first is not timed
REST = 1.06  # of what is counted: activations, norms and the like, 5 % of a forward of SD 1.5
_MEASURING = threading.Lock()


@dataclass(frozen=True)
class Speed:
    """FLOP a second by kernel, and numbers of weights that a convolution reads in one."""

    convolution: float
    linear: float
    attention: float
    kernels: float

    def seconds(self, work: Work) -> float:
        """What it takes."""
        return REST * (
            work.convolution / self.convolution
            + work.linear / self.linear
            + work.attention / self.attention
            + work.kernels / self.kernels
        )


@cache
def of_this_machine(dtype: torch.dtype) -> Speed:
    """From the file, or measured now, by the thread that asks first, with the threads it has."""
    with _MEASURING:
        path = _file(dtype)
        try:
            return Speed(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            speed = measure(dtype)
        with contextlib.suppress(OSError):  # where nothing can be kept it is measured each time
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(asdict(speed)))
        return speed


def measure(dtype: torch.dtype) -> Speed:
    """Time each kernel at a size that a denoiser has."""
    with torch.inference_mode():
        convolution = _convolution(640, 640, 32, dtype)
        few_pixels = _convolution(1920, 1280, 8, dtype)
        x = torch.zeros(512, 640, dtype=dtype)
        matrices = [torch.zeros(5120, 640, dtype=dtype) for _ in range(LAYERS)]
        linear = _each([partial(functional.linear, x, matrix) for matrix in matrices])
        queries = [torch.zeros(1, 8, 2048, 40, dtype=dtype) for _ in range(2)]
        attend = functional.scaled_dot_product_attention
        attention = _each([partial(attend, q, q, q) for q in queries])
    per_second = _flops(640, 640, 32) / convolution
    reading = max(few_pixels - _flops(1920, 1280, 8) / per_second, 1e-4)
    return Speed(
        convolution=per_second,
        linear=2 * x.numel() * 5120 / linear,
        attention=4 * 8 * 2048**2 * 40 / attention,
        kernels=9 * 1920 * 1280 / reading,
    )


def _convolution(channels: int, out: int, side: int, dtype: torch.dtype) -> float:
    """Seconds of a 3 x 3 convolution, laid out as the UNets are."""
    last = torch.channels_last
    x = torch.zeros(1, channels, side, side, dtype=dtype).to(memory_format=last)
    weights = [torch.zeros(out, channels, 3, 3, dtype=dtype) for _ in range(LAYERS)]
    weights = [weight.to(memory_format=last) for weight in weights]
    return _each([partial(functional.conv2d, x, weight, padding=1) for weight in weights])


def _flops(channels: int, out: int, side: int) -> float:
    return 2.0 * 9 * channels * out * side**2


def _each(layers: Sequence[Callable[[], object]]) -> float:
    """Seconds of the fastest layer, the first not counted: there a kernel is chosen.

    No layer comes twice, so that no weights lie in the processor's cache, as in a UNet none do.
    The fastest, because what else runs on the machine only ever slows one.
    """
    layers[0]()
    times = []
    for layer in layers[1:]:
        started = time.perf_counter()
        layer()
        times.append(time.perf_counter() - started)
    return min(times)


def _file(dtype: torch.dtype) -> Path:
    """Where it is kept: another number of threads or another torch is another speed."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    precision = str(dtype).removeprefix("torch.")
    return home / "personalization" / f"speed-{precision}-{THREADS}-{torch.__version__}.json"
