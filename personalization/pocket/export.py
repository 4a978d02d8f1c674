"""The trained parts as a folder that diffusers loads, fp16, no file above ten megabytes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

from .anatomy import make_scheduler, make_text_encoder
from .tokens import held_out_word_numbers

MAX_SHARD = "9MB"


def without_held_out_words(model: CLIPTextModel, published: CLIPTokenizer) -> CLIPTextModel:
    """The same text encoder with the embedding matrix cut after the published vocabulary."""
    cut = make_text_encoder(len(published), published.bos_token_id, published.eos_token_id)
    state = model.state_dict()
    for name, tensor in state.items():
        if name.endswith("token_embedding.weight"):
            state[name] = tensor[: len(published)]
    cut.load_state_dict(state)
    return cut


def loads_as_float32(config: Path) -> None:
    """transformers loads in the dtype that the config names; the pipeline needs one dtype."""
    content = json.loads(config.read_text())
    content["dtype"] = "float32"
    config.write_text(json.dumps(content, indent=2) + "\n")


def swap_in(finished: Path, target: Path) -> None:
    """Put a finished folder where another may lie."""
    old = target.with_name(target.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.rename(target, old)
    os.rename(finished, target)
    shutil.rmtree(old, ignore_errors=True)


def export(
    target: Path,
    autoencoder: AutoencoderKL,
    text: CLIPTextModel,
    tokenizers: tuple[CLIPTokenizer, CLIPTokenizer],
    unet: UNet2DConditionModel,
) -> None:
    """Write the pipeline folder, with `held_out_words.safetensors` ({word: (1, 192)}).

    What tells of other weights, the card and the report, does not stay.
    """
    training, published = tokenizers
    folder = target.with_name(target.name + ".part")
    shutil.rmtree(folder, ignore_errors=True)
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=without_held_out_words(text, published),
        tokenizer=published,
        unet=unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (autoencoder, pipeline.text_encoder, unet):
        part.half()
    pipeline.save_pretrained(folder, max_shard_size=MAX_SHARD)
    loads_as_float32(folder / "text_encoder" / "config.json")
    table = text.get_input_embeddings().weight.detach()
    words = {
        w: table[n : n + 1].float().clone() for w, n in held_out_word_numbers(training).items()
    }
    save_file(words, folder / "held_out_words.safetensors")
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)
    target.parent.mkdir(parents=True, exist_ok=True)
    swap_in(folder, target)
