"""What a base's work takes, from its architecture alone: no weights, no device needed.

A forward, and a step of training, are run on torch's meta device, where tensors have shapes and no
values: what autograd keeps for the way back is added up, and multiplications are counted by their
kind, as the device would do them under autocast. Attention counts as a fused kernel does it: its
weights are never kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from personalization.bases import counts
from personalization.bases.apart import before_the_card, in_a_fork
from personalization.bases.architectures import ARCHITECTURES, Architecture


@dataclass(frozen=True)
class Work:
    """Multiplications and additions, by the kernel that does them."""

    convolution: float = 0.0
    linear: float = 0.0
    attention: float = 0.0
    kernels: float = 0.0  # numbers of convolutions' weights that are read, each time counted

    @property
    def flops(self) -> float:
        """All of them."""
        return self.convolution + self.linear + self.attention

    def __mul__(self, times: float) -> Work:
        return Work(
            self.convolution * times,
            self.linear * times,
            self.attention * times,
            self.kernels * times,
        )

    def __add__(self, other: Work) -> Work:
        return Work(
            self.convolution + other.convolution,
            self.linear + other.linear,
            self.attention + other.attention,
            self.kernels + other.kernels,
        )


@dataclass(frozen=True)
class Load:
    """What a step of training has to do."""

    size: int  # pixels to a side
    batch: int
    text_trained: bool  # whether a gradient goes on to the prompt
    # Whether by gradient checkpointing, which keeps what goes into each block, and of one block at
    # a time what is in it, for the price of a second forward.
    recomputed: bool = False
    precision: torch.dtype = torch.bfloat16  # that is computed in


@dataclass(frozen=True)
class Step:
    """What a forward and a backward pass keep and compute."""

    activations: int  # bytes held between the two
    work: Work  # of both

    def __add__(self, other: Step) -> Step:
        return Step(self.activations + other.activations, self.work + other.work)

    @property
    def flops(self) -> float:
        """All that is multiplied and added."""
        return self.work.flops


def step(architecture: str, denoiser: Any, load: Load, encoders: Sequence[Any] = ()) -> Step:
    """One step of training `denoiser`, which is on the meta device, with what is trained set so.

    encoders: the text encoders that read the prompts anew, which a gradient goes back through.
    """

    def all_of_it() -> Step:
        described = ARCHITECTURES[architecture]
        answer = _there_and_back(denoiser, _forward(described, denoiser, load), load)
        for encoder in encoders:
            answer += _there_and_back(
                encoder,
                _reading(encoder, described.padded or described.context[0], load),
                replace(load, recomputed=False),
            )
        return answer

    return in_a_fork(all_of_it) if before_the_card() else all_of_it()


def _there_and_back(module: Any, forward: Callable[[], Tensor], load: Load) -> Step:
    """What a forward of the module and the way back keep and compute."""
    weights = {_storage(t) for t in (*module.parameters(), *module.buffers())}
    activations: dict[int, int] = {}  # bytes by storage

    def hold(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in weights:
            activations[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    counter = _Counter(load.precision)
    blocks = _Blocks(hold, counter)
    with _recomputed(module, blocks if load.recomputed else None), counter.counting():
        with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
            loss = forward().float().square().mean()
        held = sum(activations.values())
        torch.autograd.backward(loss)
    for parameter in module.parameters():
        parameter.grad = None
    passes = 3 if load.recomputed else 2
    kernels = Work(kernels=passes * _kernels(module))
    return Step(held + blocks.largest, counter.work + blocks.work + kernels)


def _reading(encoder: Any, tokens: int, load: Load) -> Callable[[], Tensor]:
    """A text encoder's forward on prompts in which a word is learned."""
    body = encoder.model if hasattr(encoder, "lm_head") else encoder  # it is asked for no next word
    length = min(tokens, body.config.max_position_embeddings)
    ids = torch.zeros(load.batch, length, device="meta", dtype=torch.long)

    def read() -> Tensor:
        words = encoder.get_input_embeddings()
        # The rows of a learned word are put into what the table gives.
        hook = words.register_forward_hook(lambda _module, _ids, rows: rows.requires_grad_())
        try:
            states: Tensor = body(ids).last_hidden_state
        finally:
            hook.remove()
        return states

    return read


def forward(architecture: str, size: int) -> Work:
    """The denoiser's answer for one picture, at `size` pixels to a side."""
    return _kept("forward", architecture, size) or count_forward(architecture, size)


def decoding(architecture: str, size: int) -> Work:
    """The autoencoder's picture from latents, at `size` pixels to a side."""
    return _kept("decoding", architecture, size) or count_decoding(architecture, size)


def encoding(architecture: str, size: int) -> Work:
    """A photo's latents by the autoencoder."""
    return _kept("encoding", architecture, size) or count_encoding(architecture, size)


def work_key(what: str, architecture: str, size: int) -> str:
    """Under which it is kept in `counts`."""
    return f"{what} {architecture} {size}px"


def _kept(what: str, architecture: str, size: int) -> Work | None:
    row = counts.kept(work_key(what, architecture, size))
    return Work(**row) if row else None


@lru_cache(maxsize=64)
def count_forward(architecture: str, size: int) -> Work:
    """See `forward`."""
    described = ARCHITECTURES[architecture]
    denoiser = described.parts[described.denoiser].on_meta()
    nn.Module.to(
        denoiser, dtype=torch.bfloat16
    )  # diffusers' own warns of layers that are not there
    return _counted(denoiser, _forward(described, denoiser, Load(size, 1, text_trained=False)))


@lru_cache(maxsize=64)
def count_decoding(architecture: str, size: int) -> Work:
    """See `decoding`."""
    described = ARCHITECTURES[architecture]
    vae: Any = nn.Module.to(described.parts["vae"].on_meta(), dtype=torch.bfloat16)
    channels = vae.config.latent_channels
    side = size // 2 ** (len(vae.config.block_out_channels) - 1)
    return _counted(vae.decoder, lambda: vae.decoder(_empty(1, channels, side, side)))


@lru_cache(maxsize=64)
def count_encoding(architecture: str, size: int) -> Work:
    """See `encoding`."""
    described = ARCHITECTURES[architecture]
    vae: Any = nn.Module.to(described.parts["vae"].on_meta(), dtype=torch.bfloat16)
    return _counted(vae.encoder, lambda: vae.encoder(_empty(1, 3, size, size)))


def _counted(module: nn.Module, run: Callable[[], Any]) -> Work:
    """What `run` takes of the module, which is on the meta device, without a way back."""
    counter = _Counter(torch.bfloat16)
    with torch.no_grad(), counter.counting():
        run()
    return counter.work + Work(kernels=_kernels(module))


def _kernels(module: nn.Module) -> int:
    """Numbers in its convolutions' weights."""
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Conv2d))


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


class _Counter:
    """Counts what is multiplied while it is told to."""

    def __init__(self, dtype: torch.dtype):
        self._flops, self._autocast = FlopCounterMode(display=False), _Autocast(dtype)

    @contextmanager
    def counting(self) -> Iterator[None]:
        with self._flops, self._autocast:
            yield

    @property
    def work(self) -> Work:
        """So far."""
        counts = self._flops.get_flop_counts().get("Global", {})
        convolution = sum(n for kind, n in counts.items() if "convolution" in str(kind))
        linear = sum(counts.values()) - convolution
        return Work(convolution, linear, self._autocast.flops)


class _Blocks:
    """In the place of diffusers' gradient checkpointing: what it would keep, and compute again."""

    def __init__(self, keep: Callable[[Tensor], Tensor], counter: _Counter):
        self.keep, self.counter = keep, counter
        self.largest = 0  # bytes inside one block
        self.work = Work()

    def __call__(self, block: Callable[..., Any], *inputs: Any) -> Any:
        inside: dict[int, int] = {}

        def hold(tensor: Tensor) -> Tensor:
            inside[_storage(tensor)] = tensor.untyped_storage().nbytes()
            return tensor

        for value in inputs:
            if isinstance(value, Tensor):
                self.keep(value)
        before = self.counter.work
        with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
            answer = block(*inputs)
        self.work += self.counter.work + before * -1
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
    elif "context_refiner" in dict(denoiser.named_children()):  # which takes lists
        frames, states = list(noisy.unsqueeze(2).unbind()), list(context.unbind())
        return lambda: torch.stack(denoiser(frames, level, states, return_dict=False)[0])
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
    """Autocast to `dtype` and a fused attention, for tensors that are nowhere."""

    _HALF = (functional.linear, functional.conv2d, torch.matmul, torch.bmm, torch.baddbmm)
    _SINGLE = (functional.group_norm, functional.layer_norm)

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.flops = 0.0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            query, key, value = args[:3] if len(args) > 2 else (
                kwargs["query"], kwargs["key"], kwargs["value"]
            )  # fmt: skip
            query, key, value = (t.to(self.dtype) for t in (query, key, value))
            work = 2.0 * query.numel() * key.shape[-2] * 2
            # Forwards two products; backwards four, and the first again.
            self.flops += work * (3.5 if torch.is_grad_enabled() and query.requires_grad else 1)
            attend: Any = _Fused.apply
            return attend(query, key, value)
        if func in self._HALF or func in self._SINGLE:
            dtype = self.dtype if func in self._HALF else torch.float32
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
