"""A stack applied to a base, and taken off again.

Inside `applied`, each touched weight is W0 + what the adapters add up to, computed anew from W0;
outside, W0 is back. W0 is never written to: a parameter is pointed at another tensor for a while,
so nothing drifts, however often a stack is applied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from personalization.adapters.adapter_deltas import learned_rows, match_modules
from personalization.adapters.weight_deltas import LoRADelta
from personalization.bases.base import Base, TextEncoder
from personalization.bases.learned_embedding import ExtendedEmbedding, extended_tokenizer
from personalization.errors import AdapterError
from personalization.stacking import merged_weights
from personalization.stacking.merged_weights import Values
from personalization.stacking.stack import IN_TIME, Slot, Stack


@contextmanager
def applied(base: Base, stack: Stack) -> Iterator[None]:
    """While it lasts, the base draws with the stack; afterwards it is as it was, bit for bit.

    The base's lock is held throughout, so that others wait with what they ask for. "switch" and
    "composite" (Zhong et al. 2024, arXiv 2402.16843) change the denoiser alone from step to step;
    text encoders, which speak once before the first step, get the plain sum.

    Raises `StackError`, `AdapterError` or `ConceptError` before anything is touched.
    """
    with base.lock, ExitStack() as undo:
        stack.check(base.spec)
        if (
            stack.has_regions
        ):  # `sampling.regional` gives each its weights, while a picture is drawn
            undo.enter_context(_learned_embeddings(base, stack))
            yield
            return
        layers = merged_weights.layers(base, stack)
        variants: list[Values] = []
        if stack.combine in IN_TIME:
            variants = merged_weights.per_step_variants(base, layers, stack)
            layers = [layer for layer in layers if layer.is_text]
        undo.enter_context(_learned_embeddings(base, stack))
        undo.enter_context(weights(merged_weights.values(base, layers, stack)))
        if variants:
            over_time = _switched if stack.combine == "switch" else _averaged
            undo.enter_context(over_time(base.denoiser, variants))
        yield


@contextmanager
def weights(values: Values) -> Iterator[None]:
    """While it lasts, each parameter has its value."""
    originals = {parameter: parameter.data for parameter in values}
    try:
        for parameter, value in values.items():
            parameter.data = value
        yield
    finally:
        for parameter, original in originals.items():
            parameter.data = original


def varies_in_a_batch(stack: Stack) -> bool:
    """Whether it is a sum of plain LoRAs, so that each picture of a batch may have its weights."""
    return (
        stack.combine == "sum"
        and not stack.has_regions
        and all(
            slot.adapter.description.method == "lora"
            and slot.text_weight is None
            and not learned_rows(slot.adapter)
            for slot in stack.slots
        )
    )


@contextmanager
def applied_each(base: Base, stacks: Sequence[Stack]) -> Iterator[None]:
    """Picture i of a batch is drawn with `stacks[i]`; see `varies_in_a_batch`.

    All have the same adapters. Each adapted layer adds w_i * up(down(x)) to its output for picture
    i. With guidance the batch comes twice over, and the weights with it.
    """
    with applied(base, Stack(())), ExitStack() as undo:
        owners = {
            layer.weight: layer
            for module in base.modules.values()
            for layer in module.modules()
            if isinstance(layer, nn.Linear | nn.Conv2d)
        }
        for number, slot in enumerate(stacks[0].slots):
            slots = [stack.slots[number] for stack in stacks]
            matches = match_modules(base.modules, slot.adapter, slot.name)
            for weight, (place, change) in matches.items():
                assert isinstance(change, LoRADelta)
                scales = change.scale * torch.tensor([s.weight_at(place) for s in slots])
                hook = LoRAHook(change, scales, like=weight)
                undo.callback(owners[weight].register_forward_hook(hook).remove)
        yield


class LoRAHook:
    """A forward hook: what a LoRA adds to a layer's output, scaled picture by picture.

    scales: (pictures,), or one for all; `like` says the dtype and the device.
    """

    def __init__(self, change: LoRADelta, scales: Tensor, like: Tensor):
        self.down, self.up, self.scales = (t.to(like) for t in (change.down, change.up, scales))

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """The layer's output with the LoRA's."""
        (x, *_) = inputs
        scales = self.scales.repeat(len(x) // len(self.scales))
        scales = scales.reshape(-1, *[1] * (output.dim() - 1))
        if isinstance(layer, nn.Conv2d):
            down = functional.conv2d(x, self.down, None, layer.stride, layer.padding)
            return output + scales * functional.conv2d(
                down, self.up.reshape(*self.up.shape[:2], 1, 1)
            )
        return output + scales * functional.linear(functional.linear(x, self.down), self.up)


@contextmanager
def _learned_embeddings(base: Base, stack: Stack) -> Iterator[None]:
    """While it lasts, the text encoders read the words that the stack's adapters have learned."""
    with ExitStack() as undo:
        for slot in stack.active:
            rows = learned_rows(slot.adapter)
            for encoder in base.text_encoders:
                if encoder.name in rows:
                    undo.enter_context(_learned_embedding(encoder, slot, rows[encoder.name]))
        yield


@contextmanager
def _learned_embedding(encoder: TextEncoder, slot: Slot, rows: Tensor) -> Iterator[None]:
    model = encoder.model
    table, tokenizer = model.get_input_embeddings(), encoder.tokenizer
    extended = extended_tokenizer(tokenizer, slot.adapter.description.placeholder_token, len(rows))
    if rows.shape[-1] != table.weight.shape[-1]:
        raise AdapterError(
            f"The word “{slot.name}” has {rows.shape[-1]} numbers to a vector, and this base "
            f"reads {table.weight.shape[-1]}: it was made for another family.",
            field="adapter",
        )
    rows = rows.to(table.weight.device, table.weight.dtype)
    if not rows.isfinite().all():
        precision = str(table.weight.dtype).removeprefix("torch.")
        raise AdapterError(
            f"The word “{slot.name}” has numbers that {precision} cannot hold: its "
            "training has failed, and it would draw black pictures. Take it out.",
            field="adapter",
        )
    try:
        encoder.tokenizer = extended
        model.set_input_embeddings(ExtendedEmbedding(table, rows, first=len(tokenizer)))
        yield
    finally:
        encoder.tokenizer = tokenizer
        model.set_input_embeddings(table)


@contextmanager
def _switched(denoiser: nn.Module, variants: Sequence[Values]) -> Iterator[None]:
    """LoRA Switch: one variant of the weights at each step, in turn.

    A step is told by its timestep: as long as that is the same, so is the variant; when it rises, a
    new picture has begun, with the first variant.
    """
    forward = denoiser.forward
    step, last = 0, -math.inf

    def switched(*args: Any, **kwargs: Any) -> Any:
        nonlocal step, last
        timestep = _timestep(args, kwargs)
        if timestep > last:
            step = 0
        elif timestep < last:
            step += 1
        last = timestep
        with weights(variants[step % len(variants)]):
            return forward(*args, **kwargs)

    with answering(denoiser, switched):
        yield


def _timestep(args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
    """That of a call of a denoiser: the UNets' pipelines give it by place, others by name."""
    timestep = kwargs["timestep"] if "timestep" in kwargs else args[1]
    return float(torch.as_tensor(timestep).max())


@contextmanager
def _averaged(denoiser: nn.Module, variants: Sequence[Values]) -> Iterator[None]:
    """LoRA Composite: the mean of what the denoiser says with each variant of the weights.

    The paper averages predictions after guidance; guidance is linear in them, so that its mean is
    the guided mean, and the pipeline's own guidance does the rest. (Rescaled guidance is not.)
    """
    forward = denoiser.forward

    def averaged(*args: Any, **kwargs: Any) -> Any:
        predictions = []
        for variant in variants:
            with weights(variant):
                predictions.append(forward(*args, **kwargs))
        mean = torch.stack([prediction[0] for prediction in predictions]).mean(0)
        first = predictions[0]
        return (mean,) if isinstance(first, tuple) else type(first)(mean)

    with answering(denoiser, averaged):
        yield


@contextmanager
def answering(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """While it lasts, `module` answers by `forward`."""
    before = module.__dict__.get("forward")  # what offloading may have put over the class's own
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        del module.__dict__["forward"]
        if before is not None:
            module.__dict__["forward"] = before
