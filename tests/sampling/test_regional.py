"""A place for each adapter: within it its weights and its prompt count, and nothing of it stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from personalization import bases
from personalization.adapters.adapter import read
from personalization.bases.catalog import ASSETS, CATALOG
from personalization.bases.guides import STRUCTURES
from personalization.errors import StackError
from personalization.sampling.generate import draw
from personalization.sampling.guides import NO_GUIDES, Guides, Structure
from personalization.sampling.picture_record import PictureRecord, read_record
from personalization.sampling.settings import Settings, Start
from personalization.sampling.sweep import Axis, Sweep, sweep
from personalization.stacking.application import applied
from personalization.stacking.bake import merged
from personalization.stacking.regions import HALVES, WHOLE, Region, named
from personalization.stacking.stack import Slot, Stack
from tests.support import controlnet, random_adapters, tiny

ASKED = Settings("on the beach", seed=5, steps=3)
LEFT, RIGHT = HALVES["left"], HALVES["right"]


@pytest.fixture(scope="module")
def base():
    return bases.load(CATALOG["pocket"])


@pytest.fixture(scope="module")
def dog():
    return read(ASSETS / "adapters" / "crowned-dog.safetensors")


@pytest.fixture(scope="module")
def neon():
    return read(ASSETS / "adapters" / "neon.safetensors")


def pixels(
    base, stack: Stack, settings: Settings = ASKED, guides: Guides = NO_GUIDES
) -> np.ndarray:
    with applied(base, stack):
        return np.asarray(draw(base, settings, stack=stack, guides=guides)[0].image, np.int16)


def two(dog, left: str = "a sks dog", right: str = "a cat") -> Stack:
    """The dog on the left; on the right the same file at a weight of almost nothing."""
    return Stack(
        (Slot(dog, region=Region(LEFT, left)), Slot(dog, 1e-6, region=Region(RIGHT, right)))
    )


def test_a_region_of_the_whole_picture_is_the_adapter_as_it_is(base, dog) -> None:
    alone = Stack((Slot(dog, 0.8),))
    everywhere = Stack((Slot(dog, 0.8, region=Region(WHOLE, "a sks dog")),))
    expected = pixels(base, alone, replace(ASKED, prompt="a sks dog on the beach"))
    assert np.abs(pixels(base, everywhere) - expected).max() <= 2


def test_what_counts_everywhere_counts_in_a_region_too(base, dog, neon) -> None:
    both = Stack((Slot(dog, 0.8, region=Region(WHOLE, "a sks dog")), Slot(neon)))
    expected = pixels(
        base, Stack((Slot(dog, 0.8), Slot(neon))), replace(ASKED, prompt="a sks dog on the beach")
    )
    assert np.abs(pixels(base, both) - expected).max() <= 2


def cells(base, stack: Stack) -> np.ndarray:
    """(h, w): the latents of one step, before a decoder spreads them; at full noise only."""
    seen = []
    hook = base.vae.post_quant_conv.register_forward_pre_hook(lambda _, given: seen.append(given))
    pixels(base, stack, replace(ASKED, steps=1))
    hook.remove()
    ((latents,),) = seen
    return latents[0].mean(0).numpy()


def test_a_place_follows_its_own_prompt_and_no_other(base, dog) -> None:
    one, other = (cells(base, two(dog, right=text)) for text in ("a cat", "a red car"))
    changed = np.abs(one - other)
    assert changed[:, :12].max() < 0.01 * changed[:, 20:].mean()


def test_what_no_region_covers_is_drawn_without_them(base, dog) -> None:
    narrow = Stack((Slot(dog, region=Region((0.0, 0.0, 0.25, 1.0), "a sks dog")),))
    strong = Stack((Slot(dog, -1.0, region=Region((0.0, 0.0, 0.25, 1.0), "a cat")),))
    changed = np.abs(cells(base, narrow) - cells(base, strong))
    assert changed[:, 13:].max() < 0.01 * changed[:, :4].mean()


def test_each_place_costs_a_pass_and_the_base_is_as_it_was(base, dog) -> None:
    before, calls = pixels(base, Stack(())), []
    hook = base.denoiser.conv_in.register_forward_hook(lambda *_: calls.append(1))
    pixels(base, two(dog))
    hook.remove()
    assert len(calls) == 2 * ASKED.steps
    assert (pixels(base, Stack(())) == before).all()
    assert "forward" not in base.denoiser.__dict__


def test_a_half_is_first_seen_in_the_middle_of_a_picture_of_its_own(base, dog) -> None:
    widths: list[int] = []
    hook = base.denoiser.conv_in.register_forward_hook(
        lambda _, given, __: widths.append(given[0].shape[-1])
    )
    pixels(base, two(dog))
    whole, part = widths[:2], widths[-2:]
    picture = Start(Image.new("RGB", (128, 128), "white"))
    with applied(base, two(dog)):
        again = replace(ASKED, task="image", strength=0.9)
        draw(base, again, stack=two(dog), start=picture)
    hook.remove()
    assert (whole, part) == ([32, 32], [24, 24])
    assert widths[6:8] == [16, 16]  # a picture that is there has it around the region already


def test_structure_is_followed_in_each_place(base, dog, tmp_path, monkeypatch) -> None:
    """A T2I-Adapter's features and a ControlNet's are cut as the latents are."""
    plan = Image.new("L", (128, 128))
    plan.paste(255, (40, 40, 88, 90))
    guides = Guides(structure=Structure(plan, is_map=True))
    whole = Stack((Slot(dog, 0.8, region=Region(WHOLE, "a sks dog")),))
    asked = replace(ASKED, prompt="a sks dog on the beach")
    alone = Stack((Slot(dog, 0.8),))
    assert (
        np.abs(pixels(base, whole, ASKED, guides) - pixels(base, alone, asked, guides)).max() <= 2
    )
    assert np.abs(pixels(base, two(dog), ASKED, guides) - pixels(base, two(dog))).mean() > 1

    small = tiny.family_base("sd15", seed=3)
    _, spec = controlnet.saved(small, tmp_path)
    monkeypatch.setitem(STRUCTURES, ("sd1", "edges"), (spec,))
    adapter = random_adapters.make().described(family="sd1")
    halves = tuple(Slot(adapter, region=Region(side, "a dog")) for side in (LEFT, RIGHT))
    asked = replace(ASKED, width=32, height=32)
    drawn = [pixels(small, Stack(halves), asked, each) for each in (guides, NO_GUIDES)]
    assert np.abs(drawn[0] - drawn[1]).max() > 1


def test_a_brushed_half_is_the_box_of_that_half(base, dog) -> None:
    masks = [Image.new("L", (256, 256)) for _ in range(2)]
    masks[0].paste(255, (0, 0, 128, 256))
    masks[1].paste(255, (128, 0, 256, 256))
    stack = two(dog)
    brushed = tuple(
        replace(slot, region=replace(slot.region, box=WHOLE, mask=mask))
        for slot, mask in zip(stack.slots, masks, strict=True)
    )
    assert (pixels(base, replace(stack, slots=brushed)) == pixels(base, stack)).all()


def test_the_record_and_a_sweep_keep_the_regions(base, dog, tmp_path) -> None:
    stack = two(dog)
    axis = Axis("prompt", ("on the beach", "in the snow"))
    grid = sweep(base, Sweep(stack, ASKED, axis))
    for picture, prompt in zip(grid.pictures[0], axis.values, strict=True):
        alone = pixels(base, stack, replace(ASKED, prompt=prompt))
        assert np.abs(np.asarray(picture.image, np.int16) - alone).max() <= 2
    record = read_record(picture.save(tmp_path / "a.png"))
    assert record == picture.record
    first = record.adapters[0].region
    assert (first.box, first.prompt) == (LEFT, "a sks dog")
    assert (
        PictureRecord.from_json('{"adapters": [{"region": {"box": [2, 1]}}]}')
        .adapters[0]
        .region.box
        == WHOLE
    )


MASK = Image.new("L", (128, 128))


@pytest.mark.parametrize(
    ("regions", "said"),
    [
        ([Region((0.5, 0, 0.5, 1))], "ends after it begins"),
        ([Region((0, 0, float("nan"), 1))], "each from 0 to 1"),
        ([Region((0, 0, 1, 1.5))], "each from 0 to 1"),
        ([Region((0, 0, 0.1, 0.1))], "less than 2% of the picture"),
        ([Region(mask=MASK)], "Nothing is brushed for"),
        ([Region(LEFT), Region((0.25, 0, 1, 1))], "lie over each other, by 50%"),
        ([Region(mask=Image.new("L", (200, 100), 255))], "brushed on 200 × 100"),
    ],
)
def test_what_cannot_be_is_said(base, dog, regions, said) -> None:
    stack = Stack(tuple(Slot(dog, region=region) for region in regions))
    with pytest.raises(StackError, match=said):
        pixels(base, stack)


def test_ways_and_bases_that_know_no_regions_say_so(base, dog) -> None:
    with pytest.raises(StackError, match="do not go together"):
        pixels(base, replace(two(dog), combine="switch"))
    with pytest.raises(StackError, match="regions, which weights know nothing of"):
        merged(base, two(dog))
    with pytest.raises(StackError, match="no region “middle”"):
        named("middle")
    flow = tiny.family_base("flux2-klein")
    plain = Slot(dog.described(family=flow.spec.family), region=Region(LEFT))
    with pytest.raises(StackError, match="draws no regions"), applied(flow, Stack((plain,))):
        draw(flow, ASKED, stack=Stack((plain,)))
