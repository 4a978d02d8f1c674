"""The vocabulary of OpenAI's CLIP, which Stable Diffusion reads with, and a tiny base that has it.

From the data file of the package open_clip_torch; nothing of its code is used.
"""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tests.support import tiny

SIZE = 49_408


def tokenizer() -> CLIPTokenizer:
    package = find_spec("open_clip")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(file.read_bytes()).decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : SIZE - 2 * len(tiny.BYTES) - 1]]
    pieces = [*tiny.BYTES, *(f"{byte}</w>" for byte in tiny.BYTES), *map("".join, merges)]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    assert len(vocabulary) == SIZE
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=24)


def pipeline() -> StableDiffusionPipeline:
    """`tiny.pipeline`, with a text encoder that reads every word as CLIP does."""
    pipe = tiny.pipeline()
    config = pipe.text_encoder.config.to_dict() | {"vocab_size": SIZE}
    ends = {"bos_token_id": SIZE - 2, "eos_token_id": SIZE - 1, "pad_token_id": SIZE - 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = CLIPTextModel(CLIPTextConfig(**config | ends))
    pipe.register_modules(text_encoder=encoder.eval(), tokenizer=tokenizer())
    return pipe
