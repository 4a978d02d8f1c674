"""The names of kohya's sd-scripts and of LyCORIS, which ComfyUI, A1111 and Forge read.

A module's path is joined by underscores behind a prefix: ``lora_unet``, ``lora_te`` for the one
text encoder of SD 1.x and 2.x, ``lora_te1`` and ``lora_te2`` for the two of SDXL. For SDXL the
UNet is Stability's own, whose blocks are counted through (``input_blocks_4_1_...``); for the
others it is that of diffusers. Beside each pair of factors lies its ``alpha``.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from personalization.adapters.adapter import Adapter, Description
from personalization.adapters.adapter_deltas import (
    MAGNITUDE,
    TEXTUAL_INVERSION,
    WORD,
    deltas_of,
    split_name,
)
from personalization.adapters.formats import (
    canonical,
    diffusers,
    layers,
    names,
    original,
    textual_inversion,
)
from personalization.adapters.formats.source import Source
from personalization.adapters.module_keys import ModuleKey
from personalization.adapters.weight_deltas import (
    DifferenceDelta,
    DoRADelta,
    LoHaDelta,
    LoKrDelta,
    LoRADelta,
    WeightDelta,
    without_magnitude,
)
from personalization.errors import AdapterError

_PARTS = {
    "lora_A.weight": "lora_down.weight",
    "lora_B.weight": "lora_up.weight",
    MAGNITUDE: "dora_scale",
}
_VERSIONS = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}


def detect(source: Source) -> bool:
    """Whether a module is named with underscores."""
    return any(names.is_flat(name) for name in source.shapes)


def read(source: Source, description: Description) -> Adapter:
    """A file in which each module has its alpha, or else its rank for one."""
    scales = canonical.alpha_is_rank(description, is_own=source.own is not None)
    return canonical.assembled(source, description, scales)


def write(adapter: Adapter, path: Path) -> list[Path]:
    """The one file, a LoRA's word inside; a word alone is called as the word is."""
    if adapter.description.method == TEXTUAL_INVERSION:
        return textual_inversion.write_for_file_name(adapter, path)
    tensors, metadata = to_kohya(adapter)
    return [Adapter(adapter.description, tensors).save(path, metadata)]


def flat_name(key: ModuleKey, family: str) -> str:
    """What sd-scripts calls a module in a base of `family`. Raises `AdapterError`."""
    if key.component == "unet":
        path = original.to_unet(key.path) if family == "sdxl" else key.path
        return f"lora_unet_{path}".replace(".", "_")
    prefix = {"text_encoder": "lora_te1" if family == "sdxl" else "lora_te"}
    prefix["text_encoder_2"] = "lora_te2"
    if key.component not in prefix:
        raise AdapterError(
            f"kohya's format has no name for a {key.component}: export for diffusers instead.",
            field="format",
        )
    return f"{prefix[key.component]}_{key.path}".replace(".", "_")


def to_kohya(adapter: Adapter) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The adapter's tensors and header as sd-scripts (LoRA) or LyCORIS (the others) write them.

    A file holds one algorithm: what mixes several is written as the LoRA that does the same.
    Raises `AdapterError` for differences of biases and norms, which neither holds beside a LoRA.
    """
    deltas = deltas_of(adapter)
    algorithms = {type(without_magnitude(delta)) for delta in deltas.values()}
    if DifferenceDelta in algorithms:
        raise AdapterError(
            "This adapter changes biases or norms as well, which kohya's format has no place for: "
            "keep the file that it came in.",
            field="format",
        )
    is_dora = any(isinstance(delta, DoRADelta) for delta in deltas.values())
    if len(algorithms) > 1 or (algorithms == {LoRADelta} and not is_dora):
        adapter = diffusers.to_diffusers(
            adapter
        )  # with each layer's kernel, as sd-scripts wants it
    family, deltas = adapter.description.family, deltas_of(adapter)
    tensors = textual_inversion.bundled_for_a1111(adapter)
    for key, delta in deltas.items():
        # LyCORIS takes whole Kronecker factors as they are, whatever alpha says.
        alpha = delta.rank if _is_whole(delta) else adapter.description.alpha or delta.rank
        tensors[f"{flat_name(key, family)}.alpha"] = torch.tensor(float(alpha))
    for name, tensor in adapter.tensors.items():
        if not name.startswith(WORD):
            key, part = split_name(name)
            spelled = f"{flat_name(key, family)}.{_PARTS.get(part, part)}"
            tensors[spelled] = _as_lycoris(tensor, part, key, deltas[key], family)
    return dict(sorted(tensors.items())), _metadata(adapter)


def _as_lycoris(
    tensor: Tensor, part: str, key: ModuleKey, delta: WeightDelta, family: str
) -> Tensor:
    """A part in the shape that LyCORIS gives it."""
    if part == MAGNITUDE:  # (out, 1) or (1, in), of a convolution with two ones more
        shape = tensor.shape if tensor.dim() == 2 else (-1, 1)
        return tensor.reshape(*shape, *[1] * _kernel_dims(key, delta, family))
    if part == "lokr_w1" and _is_whole(delta):
        scale: float = without_magnitude(delta).scale
        return tensor.float() * scale
    return tensor


def _kernel_dims(key: ModuleKey, delta: WeightDelta, family: str) -> int:
    """2 for a convolution, 0 for a linear layer. Raises `AdapterError` where nothing tells."""
    inner = without_magnitude(delta)
    if isinstance(inner, LoRADelta):
        return inner.down.dim() - 2
    if isinstance(inner, LoKrDelta) and inner.w2[-1].dim() == 4:
        return 2
    if isinstance(inner, LoHaDelta) and inner.t1 is not None:
        return 2
    kernel = layers.kernel(key, family)
    if kernel is None and key.component == "unet":
        raise AdapterError(
            f"Whether {key} is a convolution is not told by this adapter, and kohya's format asks "
            "for it.",
            field="format",
        )
    return 2 if kernel else 0


def _is_whole(delta: WeightDelta) -> bool:
    inner = without_magnitude(delta)
    return isinstance(inner, LoKrDelta) and len(inner.w1) == len(inner.w2) == 1


def _metadata(adapter: Adapter) -> dict[str, str]:
    description = adapter.description
    header = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(description.rank),
        "ss_network_alpha": str(description.alpha or float(description.rank)),
        "ss_output_name": description.title or description.trigger,
        "ss_training_comment": f"trigger: {description.trigger}" if description.trigger else "",
    }
    if description.family in _VERSIONS:
        header["ss_base_model_version"] = _VERSIONS[description.family]
    deltas = deltas_of(adapter).values()
    is_dora = any(isinstance(delta, DoRADelta) for delta in deltas)
    inner = {type(without_magnitude(delta)) for delta in deltas}
    algorithm = {LoHaDelta: "loha", LoKrDelta: "lokr"}.get(next(iter(inner), LoRADelta), "lora")
    if is_dora or algorithm != "lora":
        header["ss_network_module"] = "lycoris.kohya"
        header["ss_network_args"] = json.dumps({"algo": algorithm, "dora_wd": str(is_dora)})
    return header
