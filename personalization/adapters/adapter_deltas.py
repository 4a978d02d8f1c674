"""From an adapter's tensors to what each weight of a base changes by.

adapter -> deltas_of -> {ModuleKey: WeightDelta}    match_modules -> the same by parameter
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from personalization.adapters.adapter import Adapter
from personalization.adapters.module_keys import ModuleKey, parameters_by_key
from personalization.adapters.weight_deltas import (
    DoRADelta,
    FullDelta,
    LoHaDelta,
    LoKrDelta,
    LoRADelta,
    WeightDelta,
)
from personalization.errors import AdapterError

# A key with "lora" in it and no component before it: `load_lora_weights` takes files in which
# every key says "lora", and passes over those of no component.
WORD = "lora_word."

FULL = "full"  # the method of files that hold parameters as they became, not adapters
MAGNITUDE = "lora_magnitude_vector"
SUFFIXES = (
    "lora_A.weight",
    "lora_B.weight",
    MAGNITUDE,
    *(f"hada_{name}" for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
    *(f"lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")),
)


def split_name(name: str) -> tuple[ModuleKey, str]:
    """From "unet.down_blocks.0.to_q.lora_A.weight" to (ModuleKey, "lora_A.weight").

    transformers wants ".weight" behind a text encoder's magnitude; here it is the same part.
    Raises `AdapterError` on a name that ends as no known method's tensors do.
    """
    name = name.removesuffix(".weight") if name.endswith(f"{MAGNITUDE}.weight") else name
    for suffix in SUFFIXES:
        if name.endswith(f".{suffix}"):
            component, _, path = name.removesuffix(f".{suffix}").partition(".")
            return ModuleKey(component, path), suffix
    raise AdapterError(
        f"The adapter holds “{name}”, which is none of LoRA, LoHa, LoKr or DoRA: "
        "it cannot be applied whole, and is not applied in part.",
        field="adapter",
    )


def learned_rows(adapter: Adapter) -> dict[str, Tensor]:
    """The rows of the adapter's learned word by text encoder, (vectors, width) each; or none."""
    whole = adapter.description.method == "textual_inversion"
    rows = {
        name.removeprefix(WORD): tensor
        for name, tensor in adapter.tensors.items()
        if whole or name.startswith(WORD)
    }
    encoders = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
    return {
        encoders.get(name, "text_encoder"): tensor.reshape(-1, tensor.shape[-1])
        for name, tensor in rows.items()
    }


def deltas_of(adapter: Adapter) -> dict[ModuleKey, WeightDelta]:
    """What the adapter does to each weight, by its place as the file names it.

    The scale of a module is the adapter's alpha over the module's own rank; an alpha of 0 stands
    for the rank itself. Raises `AdapterError` on tensors that are of no known method, or that lack
    their counterpart.
    """
    if adapter.description.method == "textual_inversion":
        return {}
    if adapter.description.method == FULL:
        return {_parameter(name): FullDelta(tensor) for name, tensor in adapter.tensors.items()}
    by_key: dict[ModuleKey, dict[str, Tensor]] = {}
    for name, tensor in adapter.tensors.items():
        if not name.startswith(WORD):
            key, suffix = split_name(name)
            by_key.setdefault(key, {})[suffix] = tensor
    alpha, rank = adapter.description.alpha, adapter.description.rank
    return {key: _change(key, parts, alpha, rank) for key, parts in by_key.items()}


def _parameter(name: str) -> ModuleKey:
    """From "unet.conv_in.weight" to the place of the module, from "...bias" to its own."""
    component, _, path = name.partition(".")
    return ModuleKey(component, path.removesuffix(".weight"))


def _change(key: ModuleKey, parts: Mapping[str, Tensor], alpha: float, rank: int) -> WeightDelta:
    parts = dict(parts)
    magnitude = parts.pop(MAGNITUDE, None)
    try:
        change = _plain_change(parts, alpha, rank)
    except (KeyError, IndexError) as error:
        raise AdapterError(
            f"The adapter is incomplete: {key} lacks a counterpart to "
            f"{', '.join(sorted(parts)) or 'its magnitude'}. Download it again.",
            field="adapter",
        ) from error
    return change if magnitude is None else DoRADelta(change, magnitude)


def _plain_change(parts: Mapping[str, Tensor], alpha: float, rank: int) -> WeightDelta:
    def scale(own_rank: int) -> float:
        return alpha / own_rank if alpha else 1.0

    if "lora_A.weight" in parts or "lora_B.weight" in parts:
        down, up = parts["lora_A.weight"], parts["lora_B.weight"]
        return LoRADelta(down, up, scale(down.shape[0]))
    if any(name.startswith("hada_") for name in parts):
        return LoHaDelta(
            parts["hada_w1_a"],
            parts["hada_w1_b"],
            parts["hada_w2_a"],
            parts["hada_w2_b"],
            t1=parts.get("hada_t1"),
            t2=parts.get("hada_t2"),
            scale=scale(parts["hada_w1_b"].shape[0]),
        )
    first, second = _kronecker_factor(parts, "w1"), _kronecker_factor(parts, "w2")
    # Factors that are whole matrices do not show the rank: the description knows it.
    own_rank = next((f[1].shape[0] for f in (second, first) if len(f) > 1), rank or 1)
    return LoKrDelta(first, second, own_rank, scale(own_rank))


def _kronecker_factor(parts: Mapping[str, Tensor], name: str) -> tuple[Tensor, ...]:
    if f"lokr_{name}" in parts:
        return (parts[f"lokr_{name}"],)
    pair = parts[f"lokr_{name}_a"], parts[f"lokr_{name}_b"]
    core = parts.get("lokr_t2") if name == "w2" else None
    return pair if core is None else (*pair, core)


def _fits(change: WeightDelta, weight: Tensor) -> bool:
    try:
        return change.size == (weight.shape[0], weight[0].numel())
    except IndexError:  # a factor that is no matrix
        return False


def match_modules(
    modules: Mapping[str, nn.Module], adapter: Adapter, name: str = "The adapter"
) -> dict[nn.Parameter, tuple[ModuleKey, WeightDelta]]:
    """Every change of the adapter, by the parameter of the base that it is for.

    Raises `AdapterError`, with how many modules fit, unless all of them do: one that the base
    lacks, or whose weight has another shape, means that the adapter is for another base.
    """
    found: dict[nn.Parameter, tuple[ModuleKey, WeightDelta]] = {}
    misfits: list[ModuleKey] = []
    every, theirs = deltas_of(adapter), parameters_by_key(modules)
    for key, change in every.items():
        weight = theirs.get(key)
        if weight is None or weight in found or not _fits(change, weight):
            misfits.append(key)
        else:
            found[weight] = (key, change)
    if misfits:
        family = adapter.description.family or "another family"
        raise AdapterError(
            f"{name} does not fit this base: {len(found)} of its {len(every)} modules match "
            f"({misfits[0]} does not). It was made for {family}: choose a base of that family.",
            field="adapter",
        )
    return found
