"""Encoders and a report that several files look at."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from personalization.bases.encoders import (
    ENCODERS,
    ClipEncoder,
)
from personalization.evaluation.report import Report
from tests.support import tiny
from tests.support.known import (
    Model,
    report_of,
)


@pytest.fixture(scope="session")
def pocket_encoder() -> ClipEncoder:
    return ClipEncoder(ENCODERS["pocket"].clip)


@pytest.fixture(scope="session")
def good() -> Report:
    return report_of(Model())


def judge_folder(path) -> str:
    """A CLIP of random weights with its processor, as a folder."""
    tokenizer = tiny.tokenizer()
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = CLIPConfig(
        text_config=size
        | {
            "num_attention_heads": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 24,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
        },
        vision_config=size | {"num_attention_heads": 2, "image_size": 32, "patch_size": 8},
        projection_dim=12,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    square = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=square).save_pretrained(path)
    return str(path)


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> str:
    return judge_folder(tmp_path_factory.mktemp("encoder"))
