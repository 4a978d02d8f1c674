"""Claims about building the pocket: what its parts compute, and where it goes on from."""

import shutil
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image, ImageFilter
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from personalization.bases.catalog import ASSETS
from personalization.pocket import (
    autoencoder,
    build,
    card,
    dataset,
    latents,
    pictures,
    realism,
    sampled,
    schedules,
    start,
    unet,
)
from personalization.pocket.anatomy import make_autoencoder, make_text_encoder, make_unet
from personalization.pocket.checkpoints import load_state
from personalization.pocket.muon import Muon, orthogonalised
from personalization.pocket.tokens import held_out_word_numbers, make_tokenizers
from personalization.pocket.world import full_caption

PUBLISHED = ASSETS / "pocket"


@pytest.fixture(scope="module")
def training() -> CLIPTokenizer:
    return make_tokenizers(0)[0]


@pytest.fixture(scope="module")
def work(tmp_path_factory, training) -> Path:
    folder = tmp_path_factory.mktemp("work")
    start.lay_out(folder, PUBLISHED, training, 620, 200)
    return folder


@pytest.mark.parametrize("together", [True, False])
def test_muon_makes_each_matrix_orthogonal_whatever_the_company(together):
    torch.manual_seed(0)
    stacks = [torch.randn(shape) for shape in ((2, 8, 20), (1, 20, 8), (3, 16, 16), (1, 8, 8))]
    for stack, result in zip(stacks, orthogonalised(stacks, together), strict=True):
        assert result.shape == stack.shape
        alone = orthogonalised([stack[:1]])[0]
        torch.testing.assert_close(result[:1], alone, atol=1e-4, rtol=1e-4)
        values = torch.linalg.svdvals(result)
        wide = stack.shape[1] != stack.shape[2]  # a square one may have no least singular value
        assert values.max() < 1.3
        assert not wide or values.min() > 0.6


def test_muon_takes_gradients_and_weights_of_any_memory_format():
    torch.manual_seed(0)
    weight = torch.randn(8, 4, 3, 3)
    gradient = torch.randn_like(weight)
    results = []
    for order in (torch.contiguous_format, torch.channels_last):
        moved = weight.clone(memory_format=order).requires_grad_()
        moved.grad = gradient.clone(memory_format=order)
        Muon([moved], lr=0.1, weight_decay=0.1).step()
        results.append(moved.detach())
    torch.testing.assert_close(*results)
    change = results[0] - weight * (1 - 0.1 * 0.1)
    assert change.square().mean().sqrt().item() == pytest.approx(0.2 * 0.1, rel=0.3)


def data_of(folder: Path, count: int, size: int) -> unet.UnetData:
    """Latents of noise, and captions of ones."""
    pictures = latents.TrainingSet(make_autoencoder(), folder, count)
    pictures.latents = torch.randn(count, 2, 4, size, size).half()
    pictures.captions[:] = 1
    pictures.count = count
    return unet.UnetData(pictures, empty=torch.zeros(32, dtype=torch.long), scale=1.0)


def test_a_batch_is_a_function_of_its_number(tmp_path):
    data = data_of(tmp_path, 20, 8)
    plan = unet.UnetPlan(steps=10, half_steps=3, batch=400, seed=5)
    one, same, other = (unet.batch_at(step, plan, data) for step in (4, 4, 6))
    assert torch.equal(one.latents, same.latents)
    assert torch.equal(one.noise, same.noise)
    assert not torch.equal(one.noise, other.noise)
    assert one.latents.is_contiguous(memory_format=torch.channels_last)
    dropped = (one.captions == 0).all(dim=1)
    assert 0.05 < dropped.float().mean() < 0.17
    assert one.captions[~dropped].eq(1).all()
    assert 0 <= one.timesteps.min() <= one.timesteps.max() < 1000
    assert unet.batch_at(2, plan, data).latents.shape == (400, 4, 4, 4)


def test_the_rate_holds_and_falls_by_steps_as_by_the_clock():
    steps, clock = schedules.course(30, 100, None), schedules.course(30, 100, 50.0)
    assert steps.progress(75) == 0.75
    clock = replace(clock, began=time.monotonic() - 37.5)
    assert clock.progress(31) == pytest.approx(0.75, abs=0.01)
    assert [schedules.hold_then_fall(p, 0.5) for p in (0, 0.5, 0.75, 1.1)] == [1, 1, 0.5, 0]


def test_the_average_reaches_over_the_same_share_of_any_training():
    for total in (1_000, 10_000):
        keep = schedules.averaging(total // 2, 0.5, 0.05)
        assert 1 / (1 - keep) == pytest.approx(0.05 * total)


@pytest.mark.slow
def test_training_by_the_clock_ends_and_goes_on_from_its_checkpoint(tmp_path, training):
    torch.manual_seed(0)
    data = data_of(tmp_path, 8, 8)
    text = make_text_encoder(len(training), training.bos_token_id, training.eos_token_id)
    plan = unet.UnetPlan(steps=0, half_steps=0, batch=2, seconds=1.0, warmup=1)
    before = make_unet()
    average = unet.train(tmp_path, deepcopy(before), text, data, plan)
    trained = make_unet()
    steps = load_state(tmp_path / "unet.pt", {"average": trained})
    assert steps >= 1
    states = (average.state_dict(), trained.state_dict(), before.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True)
    )
    assert not all(map(torch.equal, states[1].values(), states[2].values()))
    more = replace(plan, seconds=None, finish=1)
    unet.train(tmp_path, make_unet(), text, data, more)
    assert load_state(tmp_path / "unet.pt", {"average": trained}) == steps + 1


def test_pictures_are_taken_in_while_they_are_drawn(tmp_path, training, monkeypatch):
    monkeypatch.setattr(dataset, "CHUNK", 4)
    monkeypatch.setattr(latents, "CHUNK", 4)
    folder = tmp_path / "pictures"
    folder.mkdir()
    training.save_pretrained(tmp_path / "tokenizer")
    found = latents.TrainingSet(make_autoencoder().eval(), tmp_path, 6)
    assert not found.grow()
    for index, count in ((0, 4), (1, 6)):
        dataset.draw_chunk(dataset.Chunk(folder, index, 0, tmp_path / "tokenizer"))
        assert found.grow()
        assert len(found) == count
    assert not found.grow()
    assert np.array_equal(np.load(dataset.picture_path(folder, 1))[0], pictures.drawn(0, [4])[0])
    table = dataset.caption_table(training, 0, range(6))
    assert np.array_equal(found.captions.numpy(), table)
    again = latents.TrainingSet(
        make_autoencoder().eval(), tmp_path, 6
    )  # reads what the first wrote
    again.grow()
    assert torch.equal(again.latents[:4], found.latents[:4])


def test_it_goes_on_from_the_published_weights(work, training):
    autoencoder, model = make_autoencoder(), make_unet()
    text = make_text_encoder(len(training), training.bos_token_id, training.eos_token_id)
    assert load_state(work / "autoencoder.pt", {"model": autoencoder}) == 620
    assert load_state(work / "text.pt", {"model": text}) == 200
    assert load_state(work / "unet.pt", {"average": model, "text_average": text}) == 0
    given = AutoencoderKL.from_pretrained(PUBLISHED, subfolder="vae").float()
    for name, tensor in given.state_dict().items():
        assert torch.equal(tensor, autoencoder.state_dict()[name])
    given = UNet2DConditionModel.from_pretrained(PUBLISHED, subfolder="unet").float()
    for name, tensor in given.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


@pytest.mark.slow
def test_a_sitting_of_the_decoder_alone_moves_nothing_else(tmp_path, training, monkeypatch):
    work, out = tmp_path / "work", tmp_path / "pocket"
    shutil.copytree(PUBLISHED, out)
    for module in (dataset, sampled):
        monkeypatch.setattr(module, "CHUNK", 4)
    monkeypatch.setattr(autoencoder, "TEXTURES", 2)
    training.save_pretrained(work / "tokenizer")
    (work / "pictures").mkdir()
    dataset.draw_chunk(dataset.Chunk(work / "pictures", 0, 0, work / "tokenizer"))
    told = "--continue-from-assets --only decoder export --pictures 4 --decoder-steps 1"
    told += " --decoder-sampled 4"
    places = ["--work", str(work), "--out", str(out), "--device", "cpu"]
    monkeypatch.setattr("sys.argv", ["build", *told.split(), *places])
    build.main()

    again = np.load(sampled.path_of(work / "sampled", 0))
    with torch.no_grad():
        vae = AutoencoderKL.from_pretrained(PUBLISHED, subfolder="vae")
        drawn = autoencoder.to_tensor(pictures.drawn(0, range(4)))
        clean = vae.encode(drawn).latent_dist.mean.numpy()
    apart = np.abs(again - clean).mean() / clean.std()
    assert 0.01 < apart < 0.25  # wrong as sampled ones are, and still of that drawing
    assert len(card.sittings_in(out)) == len(card.sittings_in(PUBLISHED)) + 1
    for part in ("unet", "text_encoder"):
        for file in (PUBLISHED / part).glob("*.safetensors"):
            assert (out / part / file.name).read_bytes() == file.read_bytes()
    before, after = (AutoencoderKL.from_pretrained(p, subfolder="vae") for p in (PUBLISHED, out))
    assert after.config.scaling_factor == before.config.scaling_factor
    learned = before.state_dict()
    moved = {n for n, weight in after.state_dict().items() if not torch.equal(weight, learned[n])}
    assert moved
    assert all(name.startswith(("decoder.", "post_quant_conv.")) for name in moved)


def test_the_words_that_were_taken_out_are_back_while_it_trains(work, training):
    text = make_text_encoder(len(training), training.bos_token_id, training.eos_token_id)
    load_state(work / "text.pt", {"model": text})
    table = text.get_input_embeddings().weight
    for word, row in load_file(PUBLISHED / "held_out_words.safetensors").items():
        assert torch.equal(table[held_out_word_numbers(training)[word]], row[0])


def test_what_the_work_folder_has_stays(work, training):
    before = {path: path.read_bytes() for path in work.iterdir()}
    start.lay_out(work, PUBLISHED, training, 1, 1)
    assert {path: path.read_bytes() for path in work.iterdir()} == before


def test_the_distance_of_sets_is_that_of_their_normals():
    rng = np.random.default_rng(0)
    some = rng.normal(size=(4000, 3))
    assert realism.frechet(some, some) == pytest.approx(0, abs=1e-9)
    assert realism.frechet(some, some + np.array([2, 0, 0])) == pytest.approx(4)
    wider = realism.frechet(some, (some - some.mean(axis=0)) * 2 + some.mean(axis=0))
    assert wider == pytest.approx(np.trace(np.cov(some, rowvar=False)))


def test_a_blurred_picture_has_weaker_outlines():
    sharp = pictures.drawn(0, range(3))
    soft = np.stack(
        [np.asarray(Image.fromarray(i).filter(ImageFilter.GaussianBlur(1))) for i in sharp]
    )
    assert realism.outline_energy(soft) < 0.6 * realism.outline_energy(sharp)


def test_a_variant_is_another_drawing_of_the_same_caption():
    scenes = [pictures.scene_at(0, number) for number in range(20)]
    others = realism.variants(scenes, 0)
    assert [full_caption(s) for s in scenes] == [full_caption(s) for s in others]
    assert all(
        replace(a, individual=b.individual) != b for a, b in zip(scenes, others, strict=True)
    )


def test_the_card_tells_of_each_sitting_and_what_came_of_it(tmp_path):
    first = card.Sitting(
        name="first",
        date="2026-11-21",
        command="build",
        machine="two CPU cores",
        time="an hour",
        pictures=500,
        samples=1_000,
        autoencoder="620 steps",
        figures={"kind right, pocket": 0.25},
    )
    (tmp_path / "report.json").write_text(
        '{"kind right, pocket": 0.5, "kind right, real drawings": 1}'
    )
    card.write(tmp_path, [first, replace(first, name="second", samples=500, figures={})])
    text = (tmp_path / "README.md").read_text()
    assert "1,500 samples in all" in text
    assert "| class as the caption says | 0.250 | 0.500 | 1.000 |" in text
    assert card.sittings_in(tmp_path)[1].figures["kind right, pocket"] == 0.5
