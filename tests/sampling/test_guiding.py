"""A reference picture, a structure map: what diffusers draws with them, and nothing left after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw
from transformers import AutoImageProcessor, CLIPVisionModelWithProjection

from personalization import bases
from personalization.bases.catalog import ASSETS, CATALOG
from personalization.errors import PersonalizationError, RecipeError
from personalization.sampling.generate import draw
from personalization.sampling.guides import Guides, Reference, Structure
from personalization.sampling.settings import Settings, Start
from personalization.sampling.sweep import Axis, Sweep, sweep
from personalization.stacking.stack import Stack
from tests.support import tiny

ASKED = Settings("a photo of a dog on the beach", seed=5, steps=3)


@pytest.fixture(scope="module")
def base():
    return bases.load(CATALOG["pocket"])


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.open(ASSETS / "examples" / "crowned-dog" / "0.png").convert("RGB")


@pytest.fixture(scope="module")
def circle() -> Image.Image:
    picture = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(picture).ellipse((30, 30, 100, 100), fill="black")
    return picture


def pixels(picture) -> np.ndarray:
    return np.asarray(picture.image, np.int16)


def test_a_reference_draws_what_an_untouched_pipeline_draws_with_the_same_file(base, photo) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(ASSETS / "pocket", safety_checker=None)
    pipe = pipe.to(dtype=torch.float32)
    pipe.load_ip_adapter(
        str(ASSETS / "pocket-reference"),
        subfolder="",
        weight_name="ip-adapter.safetensors",
        image_encoder_folder=None,
    )
    pipe.set_ip_adapter_scale(0.7)
    pipe.unet.to(torch.float32)
    judge = ASSETS / "pocket-judge"
    encoder = CLIPVisionModelWithProjection.from_pretrained(judge).float()
    seen = AutoImageProcessor.from_pretrained(judge)(photo, return_tensors="pt")["pixel_values"]
    both = torch.cat([torch.zeros_like(seen), seen])  # what it is without a picture comes first
    with torch.inference_mode():
        states = encoder(both, output_hidden_states=True).hidden_states[-2]
    expected = pipe(
        ASKED.prompt,
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(5),
        ip_adapter_image_embeds=[states[:, None]],
    ).images[0]
    drawn = draw(base, ASKED, guides=Guides(Reference((photo,), 0.7)))[0]
    assert np.abs(pixels(drawn) - np.asarray(expected, np.int16)).max() <= 2


def test_the_base_is_as_it_was_afterwards(base, photo, circle) -> None:
    before = draw(base, ASKED)[0]
    processors = dict(base.denoiser.attn_processors)
    guided = draw(base, ASKED, guides=Guides(Reference((photo,)), Structure(circle)))[0]
    after = draw(base, ASKED)[0]
    assert (pixels(before) == pixels(after)).all()
    assert np.abs(pixels(before) - pixels(guided)).mean() > 3
    assert base.denoiser.attn_processors == processors
    assert base.denoiser.encoder_hid_proj is None
    assert "forward" not in base.denoiser.__dict__


@pytest.mark.parametrize("guides", [(0.0, 0.0), (0.0, None), (None, 0.0)])
def test_a_weight_of_nothing_is_no_guide(base, photo, circle, guides) -> None:
    reference, structure = guides
    drawn = draw(
        base,
        ASKED,
        guides=Guides(
            None if reference is None else Reference((photo,), reference),
            None if structure is None else Structure(circle, weight=structure),
        ),
    )[0]
    assert (pixels(drawn) == pixels(draw(base, ASKED)[0])).all()


def test_a_structure_holds_until_its_step(base, circle) -> None:
    def drawn(until: float) -> np.ndarray:
        return pixels(draw(base, ASKED, guides=Guides(structure=Structure(circle, until=until)))[0])

    assert (drawn(0.0) == pixels(draw(base, ASKED)[0])).all()
    assert (drawn(0.4) != drawn(1.0)).any()


def test_each_reach_is_another_picture(base, photo) -> None:
    drawn = [
        pixels(draw(base, ASKED, guides=Guides(Reference((photo,), 1.0, reach)))[0])
        for reach in ("all", "style", "layout")
    ]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert np.abs(drawn[one] - drawn[other]).mean() > 0.5


@pytest.mark.parametrize("task", ["image", "inpaint"])
def test_other_tasks_are_guided_too(base, photo, circle, task) -> None:
    settings = replace(ASKED, task=task, strength=1.0, steps=3)
    start = Start(circle, Image.new("L", circle.size, 255) if task == "inpaint" else None)
    plain = draw(base, settings, start=start)[0]
    guided = draw(base, settings, start=start, guides=Guides(Reference((photo,))))[0]
    assert np.abs(pixels(plain) - pixels(guided)).mean() > 1


def test_two_references_are_looked_at_together(base, photo, circle) -> None:
    one, two = (
        draw(base, ASKED, guides=Guides(Reference(pictures)))[0]
        for pictures in ((photo,), (photo, circle))
    )
    assert np.abs(pixels(one) - pixels(two)).mean() > 0.5


def test_a_sweep_is_guided_and_its_records_say_so(base, photo) -> None:
    guides = Guides(Reference((photo,), keys=("abc",)))
    axis = Axis("guidance", (1.0, 4.0))
    grid = sweep(base, Sweep(Stack(()), ASKED, axis, guides=guides))
    for picture, guidance in zip(grid.pictures[0], axis.values, strict=True):
        alone = draw(base, replace(ASKED, guidance=guidance), guides=guides)[0]
        assert np.abs(pixels(picture) - pixels(alone)).max() <= 2
        assert picture.record.reference.pictures == ("abc",)
        assert picture.record == alone.record


@pytest.mark.parametrize(
    ("guides", "said"),
    [
        (Guides(Reference(())), "0 reference pictures"),
        (Guides(Reference((Image.new("RGB", (8, 8)),) * 5)), "5 reference pictures"),
        (Guides(Reference((Image.new("RGB", (8, 8)),), 9.0)), "reference weight is 9"),
        (Guides(Reference((Image.new("RGB", (8, 8)),), float("nan"))), "reference weight is nan"),
        (Guides(Reference((Image.new("RGB", (8, 8)),), 1.0, "face")), "not “face”"),  # type: ignore[arg-type]
        (Guides(structure=Structure(Image.new("RGB", (8, 8)), until=2.0)), "until is 2"),
        (Guides(structure=Structure(Image.new("RGB", (8, 8)), "pose")), "not “pose”"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_said(base, guides, said) -> None:
    with pytest.raises(RecipeError, match=said):
        draw(base, ASKED, guides=guides)


def test_a_family_without_an_encoder_says_so(photo) -> None:
    flow = tiny.family_base("flux2-klein")
    with pytest.raises(PersonalizationError, match="nothing here that reads a reference picture"):
        draw(flow, ASKED, guides=Guides(Reference((photo,))))
    with pytest.raises(PersonalizationError, match="nothing here that follows a map of edges"):
        draw(flow, ASKED, guides=Guides(structure=Structure(photo)))
