"""diffusers: what `load_lora_weights` and `load_textual_inversion` read, header included.

LoRA and DoRA are written as they are. LoHa and LoKr, for which the pipelines have no loader, are
written as the LoRA that changes the very same weights by the very same amount: a Hadamard product
of two products of rank r is one of rank r * r, and a Kronecker product has the rank of its factors
multiplied.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

from personalization.adapters.adapter import Adapter
from personalization.adapters.adapter_deltas import MAGNITUDE, WORD, deltas_of
from personalization.adapters.low_rank_factors import as_factors
from personalization.adapters.module_keys import ModuleKey
from personalization.adapters.weight_deltas import DoRADelta, LoRADelta, without_magnitude
from personalization.errors import AdapterError

HEADER = "lora_adapter_metadata"


def metadata(adapter: Adapter) -> dict[str, str]:
    """What diffusers wants in the header so that alpha travels with the file; {} for words.

    These are the fields of PEFT's configuration that say how to apply the file, and no others:
    `LoraConfig` refuses fields of a newer PEFT than the reader's.
    """
    description = adapter.description
    if description.method not in ("lora", "dora"):
        return {}
    ranks: dict[str, dict[str, int]] = {}
    for place, change in deltas_of(adapter).items():
        # Without "text_model", the ending fits transformers 4 and 5 alike.
        path = place.path.removeprefix("text_model.")
        ranks.setdefault(place.component, {})[path] = change.rank
    header = {
        f"{component}.{key}": value
        for component, by_path in ranks.items()
        for key, value in lora_config(by_path, adapter).items()
    }
    return {HEADER: json.dumps(header, sort_keys=True)}


def lora_config(ranks: dict[str, int], adapter: Adapter) -> dict[str, Any]:
    """PEFT's LoraConfig for modules of those ranks, by path."""
    usual = Counter(ranks.values()).most_common(1)[0][0]
    pattern = {path: rank for path, rank in ranks.items() if rank != usual}
    alpha, alphas = adapter.description.alpha, {}
    if not alpha:  # stands for each module's own rank
        alpha, alphas = float(usual), {path: float(rank) for path, rank in pattern.items()}
    return {
        "r": usual,
        "lora_alpha": alpha,
        "target_modules": sorted(ranks),
        "rank_pattern": pattern,
        "alpha_pattern": alphas,
        "use_dora": adapter.description.method == "dora",
    }


def to_diffusers(adapter: Adapter) -> Adapter:
    """An adapter that diffusers' pipelines load, with the same delta.

    Raises `AdapterError` for what they cannot say: a DoRA with a magnitude for each input, DoRA
    around LoHa or LoKr, and LoHa or LoKr on what may be a convolution or may be none.
    """
    every = deltas_of(adapter)
    foreign = adapter.description.method not in ("textual_inversion", "lora", "dora")
    for place, change in every.items():
        by_input = isinstance(change, DoRADelta) and change.magnitude.dim() == 2
        around = isinstance(change, DoRADelta) and not isinstance(change.inner, LoRADelta)
        if by_input or around:
            raise _unspeakable(place)
    if not foreign:
        tensors = {
            f"{name}.weight" if _is_text_magnitude(name) else name: tensor
            for name, tensor in adapter.tensors.items()
        }
        return Adapter(adapter.description, tensors)
    tensors = {n: t for n, t in adapter.tensors.items() if n.startswith(WORD)}
    for place, change in every.items():
        down, up = as_factors(without_magnitude(change))
        if down.dim() == 2 and (kernel := _kernel(place, adapter.description.family)):
            down = down.reshape(len(down), -1, *kernel)
            up = up.reshape(*up.shape, 1, 1)
        tensors |= {f"{place}.lora_A.weight": down, f"{place}.lora_B.weight": up}
    ranks = Counter(t.shape[0] for n, t in tensors.items() if n.endswith("lora_A.weight"))
    rank = ranks.most_common(1)[0][0]
    return Adapter(replace(adapter.description, method="lora", rank=rank, alpha=0.0), tensors)


def _is_text_magnitude(name: str) -> bool:
    return name.startswith("text_encoder") and name.endswith(MAGNITUDE)


def _kernel(place: ModuleKey, family: str) -> tuple[int, ...]:
    """The kernel of a UNet's module, () for a linear one: flat factors do not show it."""
    last = place.path.rpartition(".")[2]
    if place.component != "unet" or not last.startswith(("conv", "proj_")):
        return ()
    if last.startswith("conv"):
        return (1, 1) if last == "conv_shortcut" else (3, 3)
    if family not in ("sd1", "sd2", "sdxl"):
        raise _unspeakable(place)
    return (1, 1) if family == "sd1" else ()  # use_linear_projection


def _unspeakable(place: ModuleKey) -> AdapterError:
    return AdapterError(
        f"diffusers cannot hold what this adapter does to {place}: export for kohya instead.",
        field="format",
    )
