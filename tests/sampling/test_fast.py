"""Drawing in a few steps: by a LoRA beside whatever is applied, held against diffusers' own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, LCMScheduler
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from personalization.bases.base import Base
from personalization.bases.catalog import Checkpoint, Fast, Sampling
from personalization.errors import BaseError, RecipeError
from personalization.methods import installed
from personalization.recipe import LowRank, Recipe
from personalization.sampling import fast, generate
from personalization.sampling.settings import Settings
from tests.support import tiny

FAST = Settings("a dog", seed=3, fast=True)


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """A LoRA of a tiny UNet in a folder, as diffusers writes LCM-LoRA's repository."""
    pipe: Any = tiny.pipeline()
    torch.manual_seed(1)
    targets = ["to_q", "to_out.0", "conv1", "linear_1"]
    pipe.unet.add_adapter(
        LoraConfig(r=4, lora_alpha=2, init_lora_weights=False, target_modules=targets)
    )
    pipe.save_lora_weights(tmp_path, unet_lora_layers=get_peft_model_state_dict(pipe.unet))
    return tmp_path


@pytest.fixture
def base(lora: Path) -> Iterator[Base]:
    made = tiny.base()
    way = Fast(Checkpoint(str(lora), None, "mit"), Sampling(4, 1.0), "LCM")
    made.spec = replace(made.spec, fast=way)
    yield made
    fast.lora.cache_clear()


def pixels(base: Base, settings: Settings) -> Any:
    return np.asarray(generate.draw(base, settings)[0].image, dtype=float)


def test_it_draws_what_diffusers_draws_with_the_lora_and_its_scheduler(
    base: Base, lora: Path
) -> None:
    pipe: Any = tiny.pipeline()
    pipe.load_lora_weights(lora)
    pipe.scheduler = LCMScheduler.from_config(
        pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False
    )
    theirs = pipe(
        "a dog",
        num_inference_steps=4,
        guidance_scale=1.0,
        height=32,
        width=32,
        generator=torch.Generator().manual_seed(3),
    ).images[0]
    ours = generate.draw(base, FAST)[0]
    assert np.abs(np.asarray(ours.image, float) - np.asarray(theirs, float)).max() <= 1
    assert (ours.record.steps, ours.record.guidance, ours.record.scheduler) == (4, 1.0, "LCM")
    # The record draws it again, and the base is as it was.
    assert (pixels(base, ours.record.settings) == np.asarray(ours.image, float)).all()
    slow = Settings("a dog", seed=3, steps=4)
    assert (pixels(base, slow) == pixels(tiny.base(), slow)).all()


def test_it_goes_with_a_method_that_is_being_trained(base: Base) -> None:
    apart = pixels(base, FAST)
    recipe = Recipe(LowRank("lora", rank=2, text_encoder=True), steps=1)
    with installed(base, tiny.concept(), recipe):
        beside = pixels(base, FAST)  # it has learned nothing yet
    assert np.abs(apart - beside).max() <= 1


def test_a_base_without_a_way_says_so() -> None:
    with pytest.raises(RecipeError, match="There is no way to draw Pocket"):
        generate.draw(tiny.base(), FAST)


def test_guidance_that_burns_is_refused(base: Base) -> None:
    with pytest.raises(RecipeError, match=r"guidance is 7.5; drawn fast it must lie"):
        generate.draw(base, replace(FAST, guidance=7.5))


def test_weights_that_are_not_there_are_told_and_leave_the_base_alone(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert base.spec.fast is not None
    nowhere = Checkpoint(str(tmp_path / "nobody"), None, "mit")
    before = pixels(base, Settings("a dog"))
    base.spec = replace(base.spec, fast=replace(base.spec.fast, lora=nowhere))
    with pytest.raises(BaseError, match="nobody"):
        generate.draw(base, FAST)
    assert not fast.is_there(base.spec)
    assert (pixels(base, Settings("a dog")) == before).all()


def test_a_draft_is_decoded_by_the_small_autoencoder_and_without_one_as_ever(
    base: Base, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    small = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        upsampling_scaling_factor=2,
    )
    small.save_pretrained(tmp_path / "small")
    # An architecture whose autoencoder is the dearer part, as all but the pocket's are.
    base.spec = replace(
        base.spec, architecture="sd15", decoder=Checkpoint(str(tmp_path / "small"), None, "mit")
    )
    kept, draft = Settings("a dog", steps=2), Settings("a dog", steps=2, draft=True)
    assert fast.decoder(base) is not None
    assert pixels(base, kept).shape == pixels(base, draft).shape
    assert (pixels(base, kept) != pixels(base, draft)).any()
    gone = tiny.base()
    gone.spec = replace(
        gone.spec, architecture="sd15", decoder=Checkpoint(str(tmp_path / "none"), None, "mit")
    )
    assert (pixels(gone, kept) == pixels(gone, draft)).all()
