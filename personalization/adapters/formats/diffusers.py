"""diffusers: what `load_lora_weights` and `load_textual_inversion` read, header included.

LoRA and DoRA are written as they are. LoHa and LoKr, for which the pipelines have no loader, are
written as the LoRA that changes the very same weights by the very same amount: a Hadamard product
of two products of rank r is one of rank r * r, and a Kronecker product has the rank of its factors
multiplied.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from personalization.adapters.adapter import Adapter, Description
from personalization.adapters.adapter_deltas import (
    MAGNITUDE,
    TEXTUAL_INVERSION,
    WORD,
    deltas_of,
)
from personalization.adapters.formats import canonical, layers, peft_config, textual_inversion
from personalization.adapters.formats.source import SUFFIX, Source, json_object
from personalization.adapters.low_rank_factors import as_factors
from personalization.adapters.module_keys import ModuleKey
from personalization.adapters.weight_deltas import (
    DifferenceDelta,
    DoRADelta,
    LoRADelta,
    WeightDelta,
    without_magnitude,
)
from personalization.errors import AdapterError

HEADER = "lora_adapter_metadata"


def detect(source: Source) -> bool:
    """Whatever has names with dots is read as diffusers' files are."""
    return bool(source.shapes)


def read(source: Source, description: Description) -> Adapter:
    """A LoRA's file, by the configuration in its header where it has one."""
    configs: dict[str, dict[str, Any]] = {}
    for key, value in json_object(source.metadata.get(HEADER, "{}")).items():
        component, _, setting = key.partition(".")
        configs.setdefault(component, {})[setting] = value
    otherwise = canonical.alpha_is_rank(description, is_own=source.own is not None)
    adapter = canonical.assembled(source, description, peft_config.scales_of(configs, otherwise))
    if source.own is None:
        peft_config.check(configs, adapter, source.path.name)
    return adapter


def write(adapter: Adapter, path: Path) -> list[Path]:
    """The LoRA, and beside it the word that was learned with it, which their loaders want apart."""
    if adapter.description.method == TEXTUAL_INVERSION:
        return textual_inversion.write(adapter, path)
    plain = to_diffusers(adapter)
    return [
        plain.save(path, metadata(plain)),
        *write_word(adapter, path.with_suffix(f".word{SUFFIX}")),
    ]


def write_word(adapter: Adapter, path: Path) -> list[Path]:
    """The file of the word that a LoRA has with it; none without one."""
    rows = {n.removeprefix(WORD): t for n, t in adapter.tensors.items() if n.startswith(WORD)}
    if not rows:
        return []
    word = adapter.described(method=TEXTUAL_INVERSION, rank=0, alpha=0.0)
    return [Adapter(word.description, rows).save(path)]


def metadata(adapter: Adapter) -> dict[str, str]:
    """What diffusers wants in the header so that alpha travels with the file; {} for words.

    These are the fields of PEFT's configuration that say how to apply the file, and no others:
    `LoraConfig` refuses fields of a newer PEFT than the reader's.
    """
    if adapter.description.method not in ("lora", "dora"):
        return {}
    components: dict[str, dict[str, WeightDelta]] = {}
    for key, delta in deltas_of(adapter).items():
        # Without "text_model", the ending fits transformers 4 and 5 alike.
        path = key.path.removeprefix("text_model.")
        components.setdefault(key.component, {})[path] = delta
    header = {
        f"{component}.{key}": value
        for component, deltas in components.items()
        for key, value in peft_config.lora_config(deltas, adapter.description.alpha).items()
    }
    return {HEADER: json.dumps(header, sort_keys=True)}


def to_diffusers(adapter: Adapter) -> Adapter:
    """An adapter that diffusers' pipelines load, with the same delta.

    Raises `AdapterError` for what they cannot say: a DoRA with a magnitude for each input, DoRA
    around LoHa or LoKr or in some layers only, differences of biases and norms, and LoHa or LoKr
    on what may be a convolution or may be none.
    """
    deltas = deltas_of(adapter)
    _check_speakable(deltas)
    family = adapter.description.family
    plain = all(isinstance(without_magnitude(delta), LoRADelta) for delta in deltas.values())
    tensors = {name: rows for name, rows in adapter.tensors.items() if name.startswith(WORD)}
    for key, delta in deltas.items():
        tensors |= _tensors(key, delta, family, keep_scale=plain)
    if plain:
        method = "dora" if any(isinstance(d, DoRADelta) for d in deltas.values()) else "lora"
        return Adapter(replace(adapter.description, method=method), tensors)
    ranks = Counter(t.shape[0] for n, t in tensors.items() if n.endswith("lora_A.weight"))
    rank = ranks.most_common(1)[0][0]
    return Adapter(replace(adapter.description, method="lora", rank=rank, alpha=0.0), tensors)


def _tensors(
    key: ModuleKey, delta: WeightDelta, family: str, *, keep_scale: bool
) -> dict[str, Tensor]:
    """One module's tensors. With `keep_scale` they are the adapter's own, whose alpha applies."""
    inner = without_magnitude(delta)
    down, up = (inner.down, inner.up) if keep_scale else as_factors(inner)
    down, up = _shaped(key, down, up, family, may_be_flat=keep_scale)
    tensors = {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up}
    if isinstance(delta, DoRADelta):
        ones = [1] * (down.dim() - 2)  # PEFT keeps a convolution's as (1, out, 1, 1)
        shape = (1, -1, *ones) if ones else (-1,)
        is_text = key.component.startswith("text_encoder")
        name = f"{key}.{MAGNITUDE}.weight" if is_text else f"{key}.{MAGNITUDE}"
        tensors[name] = delta.magnitude.reshape(shape)
    return tensors


def _shaped(
    key: ModuleKey, down: Tensor, up: Tensor, family: str, *, may_be_flat: bool
) -> tuple[Tensor, Tensor]:
    """The factors with the kernel of their layer, which a strict loader asks for."""
    kernel = layers.kernel(key, family)
    if kernel is None and down.dim() == 2 and key.component == "unet" and not may_be_flat:
        raise _unspeakable(key)
    if not kernel and kernel is not None and down.dim() > 2:
        return down.flatten(1), up.flatten(1)
    if kernel and down.dim() == 2 and down.shape[1] % math.prod(kernel):
        raise _unspeakable(key)
    if kernel and down.dim() == 2:
        return down.reshape(len(down), -1, *kernel), up.reshape(*up.shape, 1, 1)
    return down, up


def _check_speakable(deltas: Mapping[ModuleKey, WeightDelta]) -> None:
    magnitudes: dict[str, set[bool]] = {}
    for key, delta in deltas.items():
        by_input = isinstance(delta, DoRADelta) and delta.magnitude.dim() == 2
        around = isinstance(delta, DoRADelta) and not isinstance(delta.inner, LoRADelta)
        if by_input or around or isinstance(delta, DifferenceDelta):
            raise _unspeakable(key)
        magnitudes.setdefault(key.component, set()).add(isinstance(delta, DoRADelta))
        if len(magnitudes[key.component]) > 1:
            raise AdapterError(
                f"This adapter is a DoRA in some layers of the {key.component} only, which neither "
                "diffusers nor PEFT can hold: export for kohya instead.",
                field="format",
            )


def _unspeakable(key: ModuleKey) -> AdapterError:
    return AdapterError(
        f"diffusers cannot hold what this adapter does to {key}: export for kohya instead.",
        field="format",
    )
