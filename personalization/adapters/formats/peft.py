"""PEFT: a folder for each component, with `adapter_model.safetensors` and `adapter_config.json`.

`PeftModel.from_pretrained(unet, folder / "unet")` loads what is written here; alpha is in the
configuration and nowhere else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save as save_tensors
from torch import Tensor

from personalization.adapters.adapter import Adapter, Description
from personalization.adapters.adapter_deltas import (
    TEXTUAL_INVERSION,
    WORD,
    deltas_of,
    split_name,
)
from personalization.adapters.formats import canonical, diffusers, names, peft_config
from personalization.adapters.formats.source import PEFT_PREFIX, PEFT_WEIGHTS, SUFFIX, Source
from personalization.adapters.module_keys import ModuleKey
from personalization.adapters.weight_deltas import (
    LoHaDelta,
    LoKrDelta,
    WeightDelta,
)
from personalization.errors import AdapterError
from personalization.files import write_atomically

if TYPE_CHECKING:  # PEFT takes seconds to import, and only writing needs it
    from peft import PeftConfig


def detect(source: Source) -> bool:
    """Whether PEFT wrote it: the prefix of its names, in a file that lies as PEFT lays it."""
    if source.own is not None:
        return False
    return any(
        (file.name == PEFT_WEIGHTS or file.with_name(peft_config.CONFIG).is_file())
        and any(name.startswith(PEFT_PREFIX) for name in header.shapes)
        for file, header in source.headers.items()
    )


def read(source: Source, description: Description) -> Adapter:
    """The folders' adapter, by their configurations."""
    configs: dict[str, dict[str, Any]] = {}
    for file, header in source.headers.items():
        config, inside = peft_config.read(file), Source(file, {file: header})
        for key, _ in names.parsed(inside.shapes, file.name).values():
            configs[key.component] = config
    otherwise = canonical.alpha_is_rank(description, is_own=False)
    adapter = canonical.assembled(source, description, peft_config.scales_of(configs, otherwise))
    peft_config.check(configs, adapter, source.path.name)
    return adapter


def write(adapter: Adapter, path: Path) -> list[Path]:
    """Write the folders, a file and a configuration each; returns the files.

    The text encoder's modules are named as transformers 5 names them. What PEFT cannot build of
    one method is written as a LoRA. Raises `AdapterError` for a learned word alone, and for what
    neither PEFT nor diffusers have.
    """
    if adapter.description.method == TEXTUAL_INVERSION:
        raise AdapterError(
            "PEFT has no file for a learned word: export for diffusers instead.", field="format"
        )
    config = _hadamard(adapter) or _kronecker(adapter)
    if config is None:
        adapter = diffusers.to_diffusers(adapter)
        config = _lora(adapter)
    tensors: dict[str, dict[str, Tensor]] = {}
    for name, tensor in adapter.tensors.items():
        if not name.startswith(WORD):
            key, part = split_name(name)
            spelled = f"{PEFT_PREFIX}{_path(key, adapter)}.{part}"
            tensors.setdefault(key.component, {})[spelled] = tensor.contiguous()
    written = []
    path.mkdir(parents=True, exist_ok=True)
    for component, by_name in tensors.items():
        settings = config[component].to_dict()
        for name, content in (
            (PEFT_WEIGHTS, save_tensors(by_name, metadata={"format": "pt"})),
            (peft_config.CONFIG, json.dumps(settings, indent=2, sort_keys=True, default=sorted)),
        ):
            written.append(write_atomically(path / component / name, content))
    return [*written, *diffusers.write_word(adapter, path / f"word{SUFFIX}")]


def _path(key: ModuleKey, adapter: Adapter) -> str:
    # transformers 5 dropped a level of CLIP, but not of the one with a projection, as SD 3 has.
    dropped = key.component == "text_encoder" and adapter.description.family != "sd3"
    return key.path.removeprefix("text_model.") if dropped else key.path


def _components(adapter: Adapter) -> dict[str, dict[str, WeightDelta]]:
    """The changes by component and by the path that PEFT's file names."""
    components: dict[str, dict[str, WeightDelta]] = {}
    for key, delta in deltas_of(adapter).items():
        components.setdefault(key.component, {})[_path(key, adapter)] = delta
    return components


def _lora(adapter: Adapter) -> dict[str, PeftConfig]:
    from peft import LoraConfig

    alpha = adapter.description.alpha
    return {
        component: LoraConfig(**peft_config.lora_config(deltas, alpha), inference_mode=True)
        for component, deltas in _components(adapter).items()
    }


def _hadamard(adapter: Adapter) -> dict[str, PeftConfig] | None:
    """The configurations of a LoHa; None where PEFT would build its layers otherwise."""
    from peft import LoHaConfig

    configs: dict[str, PeftConfig] = {}
    for component, deltas in _components(adapter).items():
        cores = {path: d.t1 is not None for path, d in deltas.items() if isinstance(d, LoHaDelta)}
        effective = any(cores.values())
        if len(cores) < len(deltas) or not _uniform(cores, effective):
            return None
        settings = _settings(deltas, adapter.description.alpha)
        configs[component] = LoHaConfig(**settings, use_effective_conv2d=effective)
    return configs


def _kronecker(adapter: Adapter) -> dict[str, PeftConfig] | None:
    """The configurations of a LoKr; None where PEFT would build its layers otherwise."""
    from peft import LoKrConfig

    configs: dict[str, PeftConfig] = {}
    for component, deltas in _components(adapter).items():
        kroneckers = {path: d for path, d in deltas.items() if isinstance(d, LoKrDelta)}
        cores = {path: len(d.w2) == 3 for path, d in kroneckers.items() if len(d.w2) > 1}
        effective = any(cores.values())
        both = any(len(d.w1) > 1 for d in kroneckers.values())
        factor = _decompose_factor(kroneckers.values())
        unlike = [d for d in kroneckers.values() if not _built_alike(d, both=both)]
        if len(kroneckers) < len(deltas) or not _uniform(cores, effective):
            return None
        if unlike or factor is None:
            return None
        settings = _settings(kroneckers, adapter.description.alpha)
        configs[component] = LoKrConfig(
            **settings,
            use_effective_conv2d=effective,
            decompose_both=both,
            decompose_factor=factor,
        )
    return configs


def _settings(deltas: Mapping[str, WeightDelta], alpha: float) -> dict[str, Any]:
    """What LoHa's and LoKr's configurations share."""
    ranks = {path: _rank(delta) for path, delta in deltas.items()}
    alphas = {
        path: (alpha or float(delta.rank)) * ranks[path] / delta.rank
        for path, delta in deltas.items()
    }
    settings = peft_config.strengths(ranks, alphas)
    return settings | {"alpha": settings.pop("lora_alpha"), "inference_mode": True}


def _rank(delta: WeightDelta) -> int:
    """The rank in the configuration: PEFT takes whole factors from one that they are too small for.

    With an alpha that is as much larger, the scale is the same.
    """
    if not isinstance(delta, LoKrDelta) or len(delta.w2) > 1:
        return delta.rank
    return max(delta.rank, math.ceil(max(delta.w2[0].shape[:2]) / 2))


def _built_alike(delta: LoKrDelta, *, both: bool) -> bool:
    """Whether PEFT takes the factors apart that are apart here, and no others."""
    rank = _rank(delta)
    first, second = _sides(delta.w1), _sides(delta.w2)
    w1_apart, w2_apart = both and rank < max(first) / 2, rank < max(second) / 2
    is_share = delta.rows is not None  # of a layer that PEFT's model does not have
    return not is_share and w1_apart == (len(delta.w1) > 1) and w2_apart == (len(delta.w2) > 1)


def _sides(factors: tuple[Tensor, ...]) -> tuple[int, int]:
    """(out, in) of a factor, without its kernel."""
    if len(factors) == 1:
        return factors[0].shape[0], factors[0].shape[1]
    if len(factors) == 3:
        return factors[0].shape[1], factors[1].shape[1]
    return factors[0].shape[0], factors[1].shape[1]


def _uniform(cores: Mapping[str, bool], effective: bool) -> bool:
    """Whether every larger convolution has a core, or none has."""
    convolutions = {
        path: core
        for path, core in cores.items()
        if path.rpartition(".")[2].startswith("conv") and not path.endswith("conv_shortcut")
    }
    others = [core for path, core in cores.items() if path not in convolutions]
    return all(core == effective for core in convolutions.values()) and not any(others)


def _decompose_factor(deltas: Any) -> int | None:
    """The setting under which PEFT cuts every weight as this adapter does; None without one."""
    from peft.tuners.lokr.layer import factorization

    sizes: list[tuple[int, int]] = []
    for delta in deltas:
        out, into = _sides(delta.w1)
        whole_out, whole_into = delta.size
        sizes += [(whole_out, out), (whole_into // _kernel(delta), into)]
    for factor in (-1, *sorted({first for _, first in sizes})):
        if all(factorization(size, factor)[0] == first for size, first in sizes):
            return int(factor)
    return None


def _kernel(delta: LoKrDelta) -> int:
    last = delta.w2[-1]
    return int(last[0, 0].numel()) if last.dim() == 4 else 1
