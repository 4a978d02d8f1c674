"""A reference picture, a structure map: what diffusers draws with them, and nothing left after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
)
from PIL import Image, ImageDraw
from transformers import (
    AutoImageProcessor,
    CLIPVisionModelWithProjection,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTImageProcessor,
    pipeline,
)

from personalization import bases
from personalization.bases import guide_loading
from personalization.bases.catalog import ASSETS, CATALOG, Checkpoint
from personalization.bases.guides import STRUCTURES, StructureSpec
from personalization.errors import PersonalizationError, RecipeError
from personalization.sampling.generate import draw
from personalization.sampling.guides import Guides, Reference, Structure
from personalization.sampling.guiding import guided, map_of, usable
from personalization.sampling.settings import Settings, Start
from personalization.sampling.sweep import Axis, Sweep, sweep
from personalization.stacking.stack import Stack
from tests.support import controlnet, tiny

OWN = {"sd15": {"requires_safety_checker": False}, "sdxl": {"add_watermarker": False}}
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
        (Guides(structure=Structure(Image.new("RGB", (8, 8)), "smell")), "not “smell”"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_said(base, guides, said) -> None:
    with pytest.raises(RecipeError, match=said):
        draw(base, ASKED, guides=guides)


def test_a_family_without_an_encoder_says_so(photo) -> None:
    flow = tiny.family_base("sd35-medium")
    with pytest.raises(PersonalizationError, match="nothing here that reads a reference picture"):
        draw(flow, ASKED, guides=Guides(Reference((photo,))))
    with pytest.raises(PersonalizationError, match="nothing here that follows a map of edges"):
        draw(flow, ASKED, guides=Guides(structure=Structure(photo)))


def test_a_map_of_another_shape_is_refused_and_a_picture_is_cropped(base, circle) -> None:
    wide = circle.resize((256, 128))
    with pytest.raises(PersonalizationError, match="256 × 128 pixels, and what is drawn 128 × 128"):
        draw(base, ASKED, guides=Guides(structure=Structure(wide, is_map=True)))
    draw(base, replace(ASKED, steps=1), guides=Guides(structure=Structure(wide)))


@pytest.mark.parametrize("kind", ["pose", "lineart"])
def test_what_cannot_be_had_is_left_out_with_a_sentence(base, photo, circle, kind) -> None:
    guides = Guides(Reference((photo,)), Structure(circle, kind))
    found, missing = usable(base, guides, (128, 128))
    assert found == Guides(Reference((photo,)))
    assert len(missing) == 1
    assert f"follows a map of {kind}" in missing[0]
    assert draw(base, replace(ASKED, steps=1), guides=found)


def test_what_a_machine_cannot_fetch_is_left_out(monkeypatch, circle) -> None:
    plain = tiny.family_base("sd15")
    nowhere = StructureSpec(Checkpoint("/nowhere/at-all", None, ""))
    monkeypatch.setitem(STRUCTURES, ("sd1", "edges"), (nowhere,))
    found, missing = usable(plain, Guides(structure=Structure(circle)), (32, 32))
    assert found == Guides()
    assert "/nowhere/at-all" in missing[0]


def test_a_setting_out_of_range_is_no_matter_of_what_can_be_had(base, photo) -> None:
    with pytest.raises(RecipeError, match="reference weight is 9"):
        usable(base, Guides(Reference((photo,), 9.0)), (128, 128))


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
@pytest.mark.parametrize("until", [1.0, 0.5])
def test_a_controlnet_draws_what_its_own_pipeline_draws(
    name, until, circle, tmp_path, monkeypatch
) -> None:
    base = tiny.family_base(name, seed=3)
    net, spec = controlnet.saved(base, tmp_path)
    monkeypatch.setitem(STRUCTURES, (CATALOG[name].family, "edges"), (spec,))
    kind = {"sd15": StableDiffusionControlNetPipeline, "sdxl": StableDiffusionXLControlNetPipeline}
    pipe = kind[name](**base.pipeline("text").components, controlnet=net, **OWN[name])
    pipe.set_progress_bar_config(disable=True)
    edges = map_of(base, Structure(circle), (32, 32))
    asked = {
        "prompt": "a dog", "num_inference_steps": 4, "guidance_scale": 4.0, "output_type": "np",
        "width": 32, "height": 32,
    }  # fmt: skip
    drawn = {}
    for which, pipe_of, more in (
        ("theirs", pipe, {"image": edges, "controlnet_conditioning_scale": 0.7,
                          "control_guidance_end": until}),
        ("ours", base.pipeline("text"), {}),
        ("without", base.pipeline("text"), {}),
    ):  # fmt: skip
        guides = Guides(structure=Structure(circle, weight=0.7, until=until))
        chosen = guides if which == "ours" else Guides()
        with torch.inference_mode(), guided(base, chosen, guidance=4.0):
            generator = torch.Generator().manual_seed(5)
            drawn[which] = pipe_of(**asked, **more, generator=generator).images[0]
    assert np.abs(drawn["ours"] - drawn["theirs"]).max() < 1e-4
    assert np.abs(drawn["ours"] - drawn["without"]).max() > 1e-2


@pytest.mark.parametrize("count", [1, 4])
def test_klein_looks_at_pictures_as_its_own_pipeline_does(photo, circle, count) -> None:
    base = tiny.family_base("flux2-klein", seed=3)
    pictures = [each.resize((80, 64)) for each in (photo, circle, photo.rotate(90), circle)][:count]
    asked = {
        "num_inference_steps": 3, "guidance_scale": 4.0, "output_type": "np", "width": 32,
        "height": 32,
    }  # fmt: skip
    words = {"prompt": ["a dog"], "negative_prompt": [""]}
    pipe = base.pipeline("text")
    drawn = {}
    for which, more in (("theirs", {"image": pictures}), ("ours", {}), ("without", {})):
        chosen = Guides(Reference(tuple(pictures))) if which == "ours" else Guides()
        generator = [torch.Generator().manual_seed(5)]
        with torch.inference_mode(), guided(base, chosen, guidance=4.0):
            drawn[which] = pipe(**words, **asked, **more, generator=generator).images[0]
    assert np.abs(drawn["ours"] - drawn["theirs"]).max() < 1e-4
    assert np.abs(drawn["ours"] - drawn["without"]).max() > 1e-3


def test_klein_takes_a_reference_whole(photo) -> None:
    base = tiny.family_base("flux2-klein")
    found, missing = usable(base, Guides(Reference((photo,), 0.5)), (32, 32))
    assert found == Guides()
    assert "looks at a reference whole" in missing[0]


def test_depth_of_a_picture_is_found_by_a_model_and_not_asked_of_a_map(
    base, circle, tmp_path, monkeypatch
) -> None:
    tiny_backbone = Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, mlp_ratio=2, image_size=28,
        patch_size=14, out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=tiny_backbone, reassemble_hidden_size=16, patch_size=14,
        neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, head_hidden_size=4,
    )  # fmt: skip
    DepthAnythingForDepthEstimation(config).save_pretrained(tmp_path)
    DPTImageProcessor(size={"height": 28, "width": 28}).save_pretrained(tmp_path)
    monkeypatch.setattr(guide_loading, "DEPTH_MODEL", Checkpoint(str(tmp_path), None, ""))
    found = map_of(base, Structure(circle, "depth"), (128, 128))
    estimator = pipeline("depth-estimation", str(tmp_path), device="cpu")
    expected = estimator(circle.convert("RGB"))["depth"]
    assert np.array_equal(np.asarray(found), np.asarray(expected))
    brought = map_of(base, Structure(circle, "depth", is_map=True), (128, 128))
    assert np.array_equal(np.asarray(brought), np.asarray(circle))


def test_without_the_depth_model_a_sentence_says_what_helps(base, circle, monkeypatch) -> None:
    monkeypatch.setattr(guide_loading, "DEPTH_MODEL", Checkpoint("/nowhere/depth", None, ""))
    base.cache.get(("guide", "depth"), dict, lambda _: 0).clear()
    _, missing = usable(base, Guides(structure=Structure(circle, "depth")), (128, 128))
    assert "bring the map itself, white where it is near" in missing[0]
    found, missing = usable(
        base, Guides(structure=Structure(circle, "depth", is_map=True)), (128, 128)
    )
    assert missing == []
    drawn = draw(base, ASKED, guides=found)[0]
    assert np.abs(pixels(drawn) - pixels(draw(base, ASKED)[0])).mean() > 1
    assert drawn.record.structure.kind == "depth"


def test_what_is_drawn_without_the_prompt_sees_no_map_on_the_pocket(base, circle) -> None:
    """So that guidance, which goes away from it, goes towards the map."""
    latents = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    asked = {"encoder_hidden_states": torch.zeros(2, 32, 192), "return_dict": False}
    said = {}
    for name, guides in (("plain", Guides()), ("map", Guides(structure=Structure(circle)))):
        for guidance in (4.0, 1.0):
            with torch.inference_mode(), guided(base, guides, guidance=guidance):
                (said[name, guidance],) = base.denoiser(latents, 500, **asked)
    same = [torch.equal(said["plain", g][0], said["map", g][0]) for g in (4.0, 1.0)]
    assert same == [True, False]
    assert not torch.allclose(said["plain", 4.0][1], said["map", 4.0][1])
