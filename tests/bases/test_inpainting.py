"""Bases whose UNet sees a mask and what lies around it beside the latents: nine channels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline, UNet2DConditionModel
from PIL import Image

from personalization.bases import loading, unet
from personalization.data.concept import Concept
from personalization.errors import BaseError
from personalization.training.start import start
from tests.support import tiny


def test_an_inpainting_unet_of_nine_channels_fills_in_and_does_nothing_else(tmp_path: Path) -> None:
    parts = tiny.family_pipeline("sd15").components
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts["unet"] = UNet2DConditionModel.from_config(parts["unet"].config, in_channels=9)
    untouched = StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    untouched.save_pretrained(tmp_path)
    found = loading.recognised(str(tmp_path))
    assert (found.family, found.tasks) == ("sd1", ("inpaint",))
    small = replace(found, architecture="pocket", size=32)
    base = unet.load(small, torch.device("cpu"))
    photo, mask = tiny.photos(1)[0], Image.new("L", (32, 32))
    mask.paste(255, (8, 8, 24, 24))
    asked: dict[str, Any] = {
        "prompt": "a dog", "image": photo.image.resize((32, 32)), "mask_image": mask, "width": 32,
        "height": 32, "strength": 0.9, "num_inference_steps": 4, "output_type": "np",
    }  # fmt: skip
    drawn = [
        pipe(**asked, generator=torch.Generator().manual_seed(1)).images[0]
        for pipe in (untouched, base.pipeline("inpaint"))
    ]
    assert np.abs(drawn[0] - drawn[1]).max() < 1e-4
    with pytest.raises(BaseError, match="fills in a part of a picture"):
        base.pipeline("text")
    concept = Concept("object", "sks", "dog", (photo,))
    with pytest.raises(BaseError, match="fills in a part of a picture"):
        start(tmp_path / "run", base, concept, found.recipes["subject"])
