"""Repositories of a base's real architecture with weights of noise, in diffusers' layout.

Whole, or with the widths kept and fewer layers: for what is measured, and not looked at.
"""

from __future__ import annotations

import gc
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from personalization.bases.architectures import ARCHITECTURES, Part
from personalization.bases.catalog import BaseSpec
from tests.support import clip_vocabulary, tiny
from tests.support.hub_server import Repository

KINDS: dict[str, Any] = {
    "sd15": diffusers.StableDiffusionPipeline,
    "sd21": diffusers.StableDiffusionPipeline,
    "sdxl": diffusers.StableDiffusionXLPipeline,
    "bk-sdm-tiny": diffusers.StableDiffusionPipeline,
    "bk-sdm-small": diffusers.StableDiffusionPipeline,
    "sd35-medium": diffusers.StableDiffusion3Pipeline,
    "flux2-klein": diffusers.Flux2KleinPipeline,
    "z-image": diffusers.ZImagePipeline,
}
# Which layers are left, by component.
_UNET = {"unet": {"layers_per_block": 1}}
REDUCED: dict[str, dict[str, dict[str, Any]]] = {
    **dict.fromkeys(("sd15", "sd21"), _UNET),
    "sdxl": {"unet": {"transformer_layers_per_block": (1, 1, 2), "layers_per_block": 1}},
    "sd35-medium": {
        "transformer": {"num_layers": 6, "dual_attention_layers": (0, 1, 2)},
        "text_encoder_3": {"num_layers": 4},
    },
    # Of Qwen3 the pipeline reads the 27th layer.
    "flux2-klein": {
        "transformer": {"num_layers": 1, "num_single_layers": 4},
        "text_encoder": {"num_hidden_layers": 28},
    },
    "z-image": {
        "transformer": {"n_layers": 4, "n_refiner_layers": 1},
        "text_encoder": {"num_hidden_layers": 4},
    },
}


class Served(Mapping[str, bytes]):
    """A folder's files by their paths, read as they are sent."""

    def __init__(self, folder: Path):
        self.paths = {
            str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()
        }

    def __getitem__(self, name: str) -> Any:
        with self.paths[name].open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


def module_of_noise(described: Any, dtype: torch.dtype) -> Any:
    """A component at full size, small random weights, so that nothing overflows."""
    module = described.on_meta().to(dtype).to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.normal_(0, 0.02)
        for name, tensor in module.named_buffers():
            if name.endswith("running_var"):
                tensor.fill_(1.0)
    if hasattr(module, "tie_weights"):
        module.tie_weights()
    for inner in module.modules():
        if hasattr(inner, "position_ids"):
            inner.position_ids = torch.arange(inner.position_ids.shape[-1])[None]
    return module


def reduced(spec: BaseSpec) -> BaseSpec:
    """The base with fewer layers, under an architecture of its own."""
    whole = ARCHITECTURES[spec.architecture]
    fewer = REDUCED.get(spec.name, {})
    name = f"{spec.architecture}-reduced"
    ARCHITECTURES[name] = replace(
        whole,
        parts={
            part: Part(described.kind, {**described.config, **fewer.get(part, {})})
            for part, described in whole.parts.items()
        },
    )
    return replace(spec, architecture=name)


def tokenizer_for(described: Part) -> Any:
    """What the text encoder reads with: OpenAI's vocabulary, or letters for T5 and Qwen3."""
    if described.kind.startswith("T5"):
        return tiny.t5_words()
    if described.kind.startswith("Qwen3"):
        return tiny.qwen_words()
    words = clip_vocabulary.tokenizer()
    words.model_max_length = 77
    return words


def scheduler_for(spec: BaseSpec) -> Any:
    """Of the kind that the base comes with."""
    if spec.module == "flow":
        shifting = {"use_dynamic_shifting": True} if spec.family == "flux2" else {}
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, **shifting)
    return diffusers.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
    )


def write_base(spec: BaseSpec, folder: Path) -> None:
    """The repository, in bfloat16: half of the disk, and of the reading."""
    parts: dict[str, Any] = {}
    for name, described in ARCHITECTURES[spec.architecture].parts.items():
        parts[name] = module_of_noise(described, torch.bfloat16)
        if name.startswith("text_encoder"):
            parts[name.replace("text_encoder", "tokenizer")] = tokenizer_for(described)
    if KINDS[spec.name] is diffusers.StableDiffusionPipeline:
        parts |= {"safety_checker": None, "feature_extractor": None}
        parts["requires_safety_checker"] = False
    pipe = KINDS[spec.name](scheduler=scheduler_for(spec), **parts)
    pipe.save_pretrained(folder, safe_serialization=True)


def write_fast(spec: BaseSpec, folder: Path) -> None:
    """An LCM-LoRA of rank 64 and a small autoencoder, of noise."""
    architecture = ARCHITECTURES[spec.architecture]
    if spec.fast:
        unet = module_of_noise(architecture.parts["unet"], torch.bfloat16)
        targets = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "conv1", "conv2"]
        unet.add_adapter(LoraConfig(r=64, lora_alpha=64, target_modules=targets))
        KINDS[spec.name].save_lora_weights(
            folder / spec.fast.lora.source, unet_lora_layers=get_peft_model_state_dict(unet)
        )
    if spec.decoder:
        diffusers.AutoencoderTiny().save_pretrained(folder / spec.decoder.source)


def served_by(spec: BaseSpec, folder: Path) -> dict[str, Repository]:
    """The repositories that a visit asks for, written where they are not there yet."""
    repository = folder / spec.source
    if not (repository / "model_index.json").exists():
        write_base(spec, repository)
        write_fast(spec, folder)
    gc.collect()
    sources = [spec.source]
    sources += [spec.fast.lora.source] if spec.fast else []
    sources += [spec.decoder.source] if spec.decoder else []
    return {source: Repository(Served(folder / source), revisions=None) for source in sources}
