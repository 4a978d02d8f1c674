"""What a base takes of a device, from its architecture alone: no weights, no device needed.

A step of training is run on torch's meta device, where tensors have shapes and no values: what
autograd keeps for the way back is added up, and multiplications are counted, as CUDA would do them
under autocast. Attention counts as a fused kernel does it: its weights are never kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from personalization.bases.architectures import ARCHITECTURES, Architecture
from personalization.bases.catalog import CATALOG, BaseSpec
from personalization.bases.loading import precision
from personalization.errors import BaseError

GIB = 2**30
CONTEXT = 0.6 * GIB  # what CUDA takes before the first tensor


@dataclass(frozen=True)
class Load:
    """What a step of training has to do."""

    size: int  # pixels to a side
    batch: int
    text_trained: bool  # whether a gradient goes on to the prompt
    # Whether by gradient checkpointing, which keeps what goes into each block, and of one block at
    # a time what is in it, for the price of a second forward.
    recomputed: bool = False


@dataclass(frozen=True)
class Step:
    """What a forward and a backward pass keep and compute."""

    activations: int  # bytes held between the two
    flops: float  # of both


def weights(architecture: str, dtype: torch.dtype = torch.bfloat16) -> int:
    """Bytes of all components, buffers included."""
    return sum(_parameters(architecture).values()) * dtype.itemsize


@lru_cache
def _parameters(architecture: str) -> dict[str, int]:
    counts = {}
    for name, part in ARCHITECTURES[architecture].parts.items():
        module = part.on_meta()
        counts[name] = sum(t.numel() for t in (*module.parameters(), *module.buffers()))
    return counts


def available(device: torch.device) -> int | None:
    """Bytes that are free on the device; None where the machine does not say."""
    try:
        if device.type == "cuda":
            return torch.cuda.mem_get_info(device)[0]
        if device.type == "mps":
            return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, RuntimeError):
        return None


def fits(spec: BaseSpec, device: torch.device, free: int) -> bool:
    """Whether the weights alone fit into `free` bytes."""
    return weights(spec.architecture, precision(device)) <= free


def check(spec: BaseSpec, device: torch.device, free: int | None = None) -> None:
    """Raise `BaseError` where the weights alone do not fit, with what would fit.

    free: bytes; what the device has where it is not given. A machine that does not say passes.
    """
    free = available(device) if free is None else free
    if free is None or fits(spec, device, free):
        return
    needed = weights(spec.architecture, precision(device))
    fitting = [other.title for other in CATALOG.values() if fits(other, device, free)]
    raise BaseError(
        f"{spec.title} takes {needed / GIB:.1f} GiB before it draws, and {free / GIB:.1f} GiB are "
        f"free here. What fits: {', '.join(fitting)}. The base in use stays."
    )


def step(architecture: str, denoiser: Any, load: Load) -> Step:
    """One step of training `denoiser`, which is on the meta device, with what is trained set so."""
    forward = _forward(ARCHITECTURES[architecture], denoiser, load)
    weights = {_storage(t) for t in (*denoiser.parameters(), *denoiser.buffers())}
    activations: dict[int, int] = {}  # bytes by storage

    def hold(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in weights:
            activations[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    counter, autocast = FlopCounterMode(display=False), _Autocast()
    blocks = _Blocks(hold, lambda: counter.get_total_flops() + autocast.flops)
    with _recomputed(denoiser, blocks if load.recomputed else None), counter, autocast:
        with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
            loss = forward().float().square().mean()
        held = sum(activations.values())
        torch.autograd.backward(loss)
    for parameter in denoiser.parameters():
        parameter.grad = None
    flops = counter.get_total_flops() + autocast.flops + blocks.flops
    return Step(held + blocks.largest, flops)


@contextmanager
def _recomputed(denoiser: Any, blocks: _Blocks | None) -> Iterator[None]:
    """The denoiser's gradient checkpointing done by `blocks`; None: without it."""
    if blocks is None:
        yield
        return
    denoiser.enable_gradient_checkpointing(blocks)
    try:
        yield
    finally:
        denoiser.disable_gradient_checkpointing()


class _Blocks:
    """In the place of diffusers' gradient checkpointing: what it would keep, and compute again."""

    def __init__(self, keep: Callable[[Tensor], Tensor], work: Callable[[], float]):
        self.keep, self.work = keep, work
        self.largest = 0  # bytes inside one block
        self.flops = 0.0

    def __call__(self, block: Callable[..., Any], *inputs: Any) -> Any:
        inside: dict[int, int] = {}

        def hold(tensor: Tensor) -> Tensor:
            inside[_storage(tensor)] = tensor.untyped_storage().nbytes()
            return tensor

        for value in inputs:
            if isinstance(value, Tensor):
                self.keep(value)
        before = self.work()
        with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
            answer = block(*inputs)
        self.flops += self.work() - before
        self.largest = max(self.largest, sum(inside.values()))
        return answer


def _storage(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address


def _forward(architecture: Architecture, denoiser: Any, load: Load) -> Callable[[], Tensor]:
    """The denoiser's forward on inputs of the right shapes."""
    channels, pixels = architecture.latents
    side = load.size // pixels
    tokens, width = architecture.context
    context = _empty(load.batch, tokens, width).requires_grad_(load.text_trained)
    pooled = _empty(load.batch, architecture.pooled).requires_grad_(load.text_trained)
    noisy, level = _empty(load.batch, channels, side, side).float(), _empty(load.batch).float()
    inputs: dict[str, Any]
    if architecture.denoiser == "unet":
        inputs = {"sample": noisy}
        if architecture.pooled:
            sizes = _empty(load.batch, 6)
            inputs["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes}
    elif architecture.pooled:
        inputs = {"hidden_states": noisy, "pooled_projections": pooled}
    else:
        inputs = {
            "hidden_states": noisy.flatten(2).transpose(1, 2),
            "txt_ids": torch.zeros(load.batch, tokens, 4, device="meta"),
            "img_ids": torch.zeros(load.batch, side * side, 4, device="meta"),
        }
    inputs |= {"timestep": level, "encoder_hidden_states": context, "return_dict": False}
    return lambda: denoiser(**inputs)[0]


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta", dtype=torch.bfloat16)


class _Autocast(TorchFunctionMode):
    """CUDA's autocast to bfloat16 and its fused attention, for tensors that are nowhere."""

    _HALF = (functional.linear, functional.conv2d, torch.matmul, torch.bmm, torch.baddbmm)
    _SINGLE = (functional.group_norm, functional.layer_norm)

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0.0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            query, key, value = args[:3] if len(args) > 2 else (
                kwargs["query"], kwargs["key"], kwargs["value"]
            )  # fmt: skip
            query, key, value = (t.to(torch.bfloat16) for t in (query, key, value))
            work = 2.0 * query.numel() * key.shape[-2] * 2
            # Forwards two products; backwards four, and the first again.
            self.flops += work * (3.5 if torch.is_grad_enabled() and query.requires_grad else 1)
            attend: Any = _Fused.apply
            return attend(query, key, value)
        if func in self._HALF or func in self._SINGLE:
            dtype = torch.bfloat16 if func in self._HALF else torch.float32
            args = tuple(_cast(a, dtype) for a in args)
            kwargs = {k: _cast(v, dtype) for k, v in kwargs.items()}
        return func(*args, **kwargs)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    floating = isinstance(value, Tensor) and value.is_floating_point()
    return value.to(dtype) if floating else value


class _Fused(torch.autograd.Function):
    """Attention that keeps its inputs, its output and a number for each row."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        rows = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, rows)
        return out

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(t) for t in ctx.saved_tensors[:3])


@contextmanager
def on_meta(architecture: str, dtype: torch.dtype = torch.bfloat16) -> Iterator[dict[str, Any]]:
    """The components by name, without weights and in `dtype`; nothing of them is kept after."""
    parts = ARCHITECTURES[architecture].parts
    # nn.Module's own `to`: diffusers' warns of layers kept in float32, of which there are none.
    yield {name: nn.Module.to(part.on_meta(), dtype=dtype).eval() for name, part in parts.items()}
