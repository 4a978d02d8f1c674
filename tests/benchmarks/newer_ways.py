"""Ways to combine adapters that the package does not have, for a table beside those that it has.

K-LoRA (Ouyang et al. 2025, arXiv 2502.18461) takes, layer by layer and step by step, a subject's
change or a style's. CMLoRA (Zou et al. 2025, arXiv 2502.04923) averages what the denoiser says with
each adapter, as LoRA Composite does, with one of them in turn counting more, and has the others say
again what their inner blocks said before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from personalization.bases.base import Base
from personalization.stacking import merged_weights
from personalization.stacking.application import answering, weights
from personalization.stacking.merged_weights import Values
from personalization.stacking.stack import Slot, Stack

ALPHA, BETA = 1.5, 0.5  # of K-LoRA's scale over time, as its authors have them
LATE = 0.6  # of the steps, after which CMLoRA's adapter of the lowest frequencies may count more


@contextmanager
def klora(base: Base, slots: Sequence[Slot]) -> Iterator[None]:
    """A subject and a style: the text encoders with their sum, the denoiser with one at a time."""
    stack = Stack(tuple(slots))
    subject, style = merged_weights.per_step_variants(
        base, merged_weights.layers(base, stack), stack
    )
    deltas = [{p: (v - p).float() for p, v in each.items()} for each in (subject, style)]
    size = [sum(float(d.abs().sum()) for d in each.values()) for each in deltas]
    k = math.prod(slot.adapter.description.rank for slot in slots)
    made: dict[float, Values] = {}

    def at(passed: float) -> Values:
        found = {**style, **subject}
        for p in subject.keys() & style.keys():
            if not chosen_subject(deltas[0][p], deltas[1][p], size[0] / size[1], passed, k):
                found[p] = style[p]
        return found

    forward = base.denoiser.forward

    def choosing(sample: Tensor, timestep: Any, *args: Any, **more: Any) -> Any:
        passed = 1 - float(torch.as_tensor(timestep).max()) / 1000
        if passed not in made:
            made[passed] = at(passed)
        with weights(made[passed]):
            return forward(sample, timestep, *args, **more)

    with _text_summed(base, stack), answering(base.denoiser, choosing):
        yield


def chosen_subject(subject: Tensor, style: Tensor, gamma: float, passed: float, k: int) -> bool:
    """K-LoRA's choice for a layer: whether the subject's change is taken, else the style's.

    subject, style: the two changes; gamma: the sum of all |subject| over that of all |style|;
    passed: the share of the steps that is over, 0 to 1; k: the product of both ranks.
    """
    strongest = [delta.abs().flatten().topk(min(k, delta.numel())).values.sum()
                 for delta in (subject, style)]  # fmt: skip
    scale = ALPHA * passed + BETA
    return bool(strongest[0] / gamma > strongest[1] * scale)


@contextmanager
def cmlora(base: Base, slots: Sequence[Slot], steps: int) -> Iterator[None]:
    """Any number of adapters: the text encoders with their sum, the denoiser with each.

    At every second or third step the next adapter has its turn: it is asked anew and counts
    n - 0.5 times as much as another, until the next. Those with the higher frequencies are first.
    """
    stack = Stack(tuple(slots))
    variants = merged_weights.per_step_variants(base, merged_weights.layers(base, stack), stack)
    with (
        _text_summed(base, stack),
        answering(base.denoiser, _Turns(base.denoiser, variants, steps)),
    ):
        yield


class _Turns:
    """The denoiser's call with each variant of its weights, one of them in its turn."""

    def __init__(self, denoiser: Any, variants: Sequence[Values], steps: int) -> None:
        self.forward, self.variants, self.steps = denoiser.forward, variants, steps
        self.blocks = [*denoiser.down_blocks[1:], denoiser.mid_block, *denoiser.up_blocks[:-1]]
        self.refreshed = refreshed(steps)
        self.last = -math.inf

    def __call__(self, sample: Tensor, timestep: Any, *args: Any, **more: Any) -> tuple[Tensor]:
        now = float(torch.as_tensor(timestep).max())
        if now > self.last:  # a new picture
            self.step, self.turns = 0, 0
            self.memories: list[dict[nn.Module, Any]] = [{} for _ in self.variants]
            self.order = list(range(len(self.variants)))
        self.last = now
        if self.step in self.refreshed:
            self.memories[self.dominant()].clear()
        said = []
        for variant, memory in zip(self.variants, self.memories, strict=True):
            with weights(variant), _remembering(self.blocks, memory):
                said.append(self.forward(sample, timestep, *args, **more)[0])
        if not self.step:
            self.order.sort(key=lambda i: -high_frequencies(said[i]))
        mean = _weighed(said, self.dominant())
        self.step += 1
        self.turns += self.step in self.refreshed
        return (mean,)

    def dominant(self) -> int:
        """Whose turn it is: of three and more, the first or the last waits, by how late it is."""
        late = self.step > LATE * self.steps
        order = self.order
        if len(order) > 2:
            order = order[1:] if late else order[:-1]
        return order[self.turns % len(order)]


def refreshed(steps: int) -> set[int]:
    """The steps at which an adapter is asked anew: every second, and every third in the middle."""
    early, late = int(0.375 * steps), int(0.875 * steps)
    return {*range(0, early, 2), *range(early, late, 3), *range(late, steps, 2)}


def high_frequencies(said: Tensor) -> float:
    """The share of the amplitude above half of the highest frequency: (n, c, h, w) latents."""
    amplitude = torch.fft.fft2(said.float()).abs().mean((0, 1))
    y, x = (torch.fft.fftfreq(side, device=said.device).abs() for side in amplitude.shape)
    high = torch.maximum(y[:, None], x[None]) > 0.25
    return float(amplitude[high].sum() / amplitude.sum())


def _weighed(said: Sequence[Tensor], dominant: int) -> Tensor:
    """Their mean, in which one counts n - 0.5 times as much as another."""
    count = len(said)
    counts = [count - 0.5 if i == dominant else 1.0 for i in range(count)]
    return sum(
        (c * each for c, each in zip(counts, said, strict=True)), torch.zeros_like(said[0])
    ) / sum(counts)


@contextmanager
def _text_summed(base: Base, stack: Stack) -> Iterator[None]:
    text = [layer for layer in merged_weights.layers(base, stack) if layer.is_text]
    with base.lock, weights(merged_weights.values(base, text, stack)):
        yield


@contextmanager
def _remembering(blocks: Sequence[nn.Module], memory: dict[nn.Module, Any]) -> Iterator[None]:
    """Each block says what `memory` holds of it, or what it says goes there (DeepCache)."""
    with ExitStack() as undo:
        for block in blocks:
            undo.enter_context(answering(block, partial(_from, memory, block, block.forward)))
        yield


def _from(
    memory: dict[nn.Module, Any],
    block: nn.Module,
    forward: Callable[..., Any],
    *args: Any,
    **more: Any,
) -> Any:
    if block not in memory:
        memory[block] = forward(*args, **more)
    return memory[block]
