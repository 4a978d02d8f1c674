"""PEFT: a folder for each component, with `adapter_model.safetensors` and `adapter_config.json`.

`PeftModel.from_pretrained(unet, folder / "unet")` loads what is written here; alpha is in the
configuration and nowhere else.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save as save_tensors
from torch import Tensor

from personalization.adapters.adapter import Adapter
from personalization.adapters.adapter_deltas import WORD, deltas_of, split_name
from personalization.adapters.formats import diffusers
from personalization.adapters.module_keys import ModuleKey
from personalization.adapters.weight_deltas import DoRADelta, LoKrDelta, without_magnitude
from personalization.errors import AdapterError
from personalization.files import write_atomically

if TYPE_CHECKING:  # PEFT takes seconds to import, and only writing needs it
    from peft import PeftConfig

PREFIX = "base_model.model."
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def folders(path: Path) -> list[Path]:
    """The PEFT folders at `path`: itself, or those of its components."""
    return [f for f in (path, *sorted(path.iterdir())) if (f / WEIGHTS).is_file()]


def read_config(weights: Path) -> dict[str, Any]:
    """The configuration beside a file of PEFT's. Raises `AdapterError` where it is missing."""
    path = weights.with_name(CONFIG)
    try:
        config = json.loads(path.read_text())
    except OSError as error:
        raise AdapterError(
            f"{weights.name} is PEFT's and lies without its {CONFIG}, which says how strong it is. "
            "Give the folder with both.",
            field="adapter",
        ) from error
    except ValueError as error:
        raise AdapterError(f"{path.name} is no JSON ({error}).", field="adapter") from error
    if not isinstance(config, dict):
        raise AdapterError(f"{path.name} holds no configuration.", field="adapter")
    return config


def alpha_of(config: Mapping[str, Any], path: str, rank: int) -> float:
    """The alpha that gives a module of `rank` its scale alpha / rank.

    config: as PEFT's `to_dict` writes it. With `use_rslora`, PEFT divides by the root of the rank.
    Raises `AdapterError` for an alpha that is no strength.
    """
    alpha = _number(config, path, ("lora_alpha", "alpha"), "alpha_pattern", rank)
    return alpha * (rank**0.5 if config.get("use_rslora") else 1.0)


def rank_of(config: Mapping[str, Any], path: str) -> int:
    """The rank that the configuration gives a module."""
    return max(1, int(_number(config, path, ("r",), "rank_pattern", 1)))


def _number(
    config: Mapping[str, Any], path: str, names: tuple[str, ...], pattern: str, otherwise: float
) -> float:
    """The pattern's value for the ending of `path` that it names, else that of the first name.

    PEFT takes the pattern's keys for regular expressions; what is written there in practice are
    names, and a stranger's expression is not run.
    """
    value = next((config[name] for name in names if name in config), otherwise)
    try:
        for key, special in (config.get(pattern) or {}).items():
            ending = key.removeprefix("^")
            if not re.fullmatch(r"[\w.]+", ending):
                raise AdapterError(
                    f"The configuration's {pattern} has the expression “{key[:40]}”, "
                    "and only names of modules are understood there.",
                    field="adapter",
                )
            if f".{path}".endswith(f".{ending}"):
                value = special
                break
        number = float(value)
    except (TypeError, ValueError, AttributeError) as error:
        raise AdapterError(
            f"The configuration's {names[0]} is no number ({error}).", field="adapter"
        ) from error
    if not math.isfinite(number) or not number:
        raise AdapterError(
            f"The configuration's {names[0]} is {number:g}, which is no strength.", field="adapter"
        )
    return number


def write(adapter: Adapter, folder: Path) -> list[Path]:
    """Write the folders, a file and a configuration each; returns the files.

    The text encoder's modules are named as transformers 5 names them. Raises `AdapterError` for a
    learned word and for DoRA around anything but LoRA, which PEFT does not have.
    """
    if adapter.description.method == "textual_inversion":
        raise AdapterError(
            "PEFT has no file for a learned word: export for diffusers instead.", field="format"
        )
    every = deltas_of(adapter)
    if any(isinstance(c, DoRADelta) for c in every.values()):
        adapter = diffusers.to_diffusers(adapter)
    components: dict[str, dict[str, Tensor]] = {}
    for name, tensor in adapter.tensors.items():
        if not name.startswith(WORD):
            place, part = split_name(name)
            spelled = f"{PREFIX}{_path(place, adapter)}.{part}"
            components.setdefault(place.component, {})[spelled] = tensor.contiguous()
    written = []
    for component, tensors in components.items():
        ranks = {_path(p, adapter): c.rank for p, c in every.items() if p.component == component}
        config = _config(adapter, component, ranks).to_dict()
        for name, content in (
            (WEIGHTS, save_tensors(tensors, metadata={"format": "pt"})),
            (CONFIG, json.dumps(config, indent=2, sort_keys=True, default=sorted)),
        ):
            written.append(write_atomically(folder / component / name, content))
    return written


def _path(place: ModuleKey, adapter: Adapter) -> str:
    # transformers 5 dropped a level of CLIP, but not of the one with a projection, as SD 3 has.
    dropped = place.component == "text_encoder" and adapter.description.family != "sd3"
    return place.path.removeprefix("text_model.") if dropped else place.path


def _config(adapter: Adapter, component: str, ranks: dict[str, int]) -> PeftConfig:
    from peft import LoHaConfig, LoKrConfig, LoraConfig

    common = diffusers.lora_config(ranks, adapter)
    method = adapter.description.method
    if method in ("lora", "dora"):
        return LoraConfig(**common, inference_mode=True)
    del common["use_dora"]
    common["alpha"] = common.pop("lora_alpha")
    names = [n for n in adapter.tensors if n.startswith(f"{component}.")]
    effective = any(n.endswith(("hada_t1", "lokr_t2")) for n in names)
    if method == "loha":
        return LoHaConfig(**common, use_effective_conv2d=effective, inference_mode=True)
    inner = [
        without_magnitude(c) for p, c in deltas_of(adapter).items() if p.component == component
    ]
    return LoKrConfig(
        **common,
        use_effective_conv2d=effective,
        decompose_both=any(n.endswith("lokr_w1_a") for n in names),
        decompose_factor=_factor(inner),
        inference_mode=True,
    )


def _factor(changes: list[LoKrDelta]) -> int:
    """The setting under which PEFT cuts every weight into factors as this adapter has."""
    from peft.tuners.lokr.layer import factorization

    sizes = []
    for change in changes:
        first = change.w1[0].shape[0], change.w1[-1].shape[1]
        out, into = change.size
        sizes += [(out, first[0]), (into // _kernel(change), first[1])]
    for factor in (-1, *sorted({first for _, first in sizes})):
        if all(factorization(size, factor)[0] == first for size, first in sizes):
            return factor
    raise AdapterError(
        "This LoKr cuts its weights as PEFT cannot: export for kohya instead.", field="format"
    )


def _kernel(change: LoKrDelta) -> int:
    last = change.w2[-1]
    return last[0, 0].numel() if last.dim() == 4 else 1
