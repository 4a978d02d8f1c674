"""PEFT's configuration: how strong an adapter is, and how its training began.

It lies beside PEFT's weights, and in the header of diffusers' files, where each setting has its
component before it.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from personalization.adapters.adapter import Adapter
from personalization.adapters.adapter_deltas import deltas_of
from personalization.adapters.formats.canonical import Scales
from personalization.adapters.module_keys import ModuleKey
from personalization.adapters.weight_deltas import DoRADelta, WeightDelta
from personalization.errors import AdapterError

CONFIG = "adapter_config.json"
_KINDS = ("LORA", "LOHA", "LOKR")
# Trainings that begin by taking something from the base's own weights: on the plain base, what is
# in the file is another adapter.
_CHANGED_BASES = ("pissa", "olora", "corda", "loftq", "lora_ga")
# Settings under which the same tensors change the weights otherwise.
_OTHERWISE = ("fan_in_fan_out", "layer_replication", "use_qalora", "alora_invocation_tokens")


def read(weights: Path) -> dict[str, Any]:
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
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{path.name} is no JSON ({error}).", field="adapter") from error
    if not isinstance(config, dict):
        raise AdapterError(f"{path.name} holds no configuration.", field="adapter")
    return config


def scales_of(configs: Mapping[str, Mapping[str, Any]], otherwise: Scales) -> Scales:
    """What the configurations say, by component; of a component without one, `otherwise`."""

    def scales(key: ModuleKey, rank: int) -> tuple[float, int]:
        config = configs.get(key.component)
        if config is None:
            return otherwise(key, rank)
        rank = rank or rank_of(config, key.path)
        return alpha_of(config, key.path, rank), rank

    return scales


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


def check(configs: Mapping[str, Mapping[str, Any]], adapter: Adapter, file: str) -> None:
    """Raise `AdapterError` where the tensors alone are another adapter than PEFT would load."""
    for config in configs.values():
        kind = str(config.get("peft_type") or _KINDS[0])
        if kind not in _KINDS:
            raise AdapterError(
                f"{file} is PEFT's {kind}, and LoRA, LoHa and LoKr are read here.", field="adapter"
            )
        start = str(config.get("init_lora_weights", "")).lower()
        if start.startswith(_CHANGED_BASES):
            raise AdapterError(
                f"{file} was trained from {start}, which takes a part out of the base's own "
                "weights: on the plain base it is another adapter. Ask for it converted to a LoRA "
                "(PEFT: save_pretrained with path_initial_model_for_weight_conversion).",
                field="adapter",
            )
        for setting in _OTHERWISE:
            if config.get(setting):
                raise AdapterError(
                    f"{file} sets {setting}, which is not understood here: without it the same "
                    "tensors are another adapter.",
                    field="adapter",
                )
    for key, delta in deltas_of(adapter).items():
        use_dora = configs.get(key.component, {}).get("use_dora")
        if use_dora is not None and bool(use_dora) != isinstance(delta, DoRADelta):
            raise AdapterError(
                f"{file} says use_dora = {bool(use_dora)}, and its tensors for {key} say "
                "otherwise: what PEFT would make of it depends on the base. Ask for a whole file.",
                field="adapter",
            )


def lora_config(deltas: Mapping[str, WeightDelta], alpha: float) -> dict[str, Any]:
    """PEFT's LoraConfig for modules of those changes, by path; an alpha of 0 is each one's rank."""
    ranks = {path: delta.rank for path, delta in deltas.items()}
    alphas = {path: alpha or float(rank) for path, rank in ranks.items()}
    use_dora = any(isinstance(delta, DoRADelta) for delta in deltas.values())
    return strengths(ranks, alphas) | {"use_dora": use_dora}


def strengths(ranks: Mapping[str, int], alphas: Mapping[str, float]) -> dict[str, Any]:
    """The configuration's settings for modules of those ranks and alphas, by path."""
    usual_rank = Counter(ranks.values()).most_common(1)[0][0]
    usual_alpha = Counter(alphas.values()).most_common(1)[0][0]
    return {
        "r": usual_rank,
        "lora_alpha": usual_alpha,
        "target_modules": sorted(ranks),
        "rank_pattern": {path: rank for path, rank in ranks.items() if rank != usual_rank},
        "alpha_pattern": {path: alpha for path, alpha in alphas.items() if alpha != usual_alpha},
    }


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
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise AdapterError(
            f"The configuration's {names[0]} is no number ({error}).", field="adapter"
        ) from error
    if not math.isfinite(number) or not number:
        raise AdapterError(
            f"The configuration's {names[0]} is {number:g}, which is no strength.", field="adapter"
        )
    return number
