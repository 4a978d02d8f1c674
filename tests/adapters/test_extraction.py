"""A full fine-tune stacks, and gives up a LoRA that is as near to it as one of its rank can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from personalization.adapters import extraction, formats
from personalization.adapters.adapter import Adapter, Description
from personalization.adapters.adapter_deltas import match_modules
from personalization.adapters.module_keys import check_targets
from personalization.bases.unet import UNetBase
from personalization.errors import AdapterError, RecipeError, StackError
from personalization.sampling.generate import draw_each
from personalization.sampling.settings import Settings
from personalization.stacking.application import applied
from personalization.stacking.bake import merged
from personalization.stacking.interference import overlap
from personalization.stacking.stack import Slot, Stack
from tests.support import random_adapters, tiny

PROMPT = "a photo of sks dog"


@pytest.fixture(scope="module")
def base() -> UNetBase:
    return tiny.base()


@pytest.fixture(scope="module")
def full() -> Adapter:
    """Every parameter of the denoiser and the text encoder, moved a little."""
    pipe, noise = tiny.pipeline(), torch.Generator().manual_seed(1)
    tensors = {
        f"{name}.{key}": p.detach() + 0.05 * torch.randn(p.shape, generator=noise)
        for name in ("unet", "text_encoder")
        for key, p in getattr(pipe, name).named_parameters()
    }
    return Adapter(
        Description("full", "tiny", placeholder_token="sks", class_noun="dog", title="sks dog"),
        tensors,
    )


def parameters(base: UNetBase) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": p.detach().clone()
        for name, module in base.modules.items()
        for key, p in module.named_parameters()
    }


def picture(base: UNetBase) -> np.ndarray:
    return np.asarray(draw_each(base, [PROMPT], [3], Settings(steps=2))[0], dtype=float)


def test_at_one_the_base_is_the_fine_tune_and_at_a_half_it_is_half_way(base, full):
    before = parameters(base)
    for weight in (1.0, 0.5):
        with applied(base, Stack((Slot(full, weight),))):
            for name, now in parameters(base).items():
                expected = torch.lerp(before[name], full.tensors[name], weight)
                assert torch.allclose(now, expected, atol=1e-6), name
    after = parameters(base)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_beside_a_lora_both_changes_add_up(base, full):
    lora = random_adapters.make("lora")
    ours = match_modules(base.modules, lora)
    with applied(base, Stack((Slot(full, 0.7), Slot(lora, -0.5)))):
        now = {p: p.detach().clone() for p in ours}
    weights = {f"{place}.weight".replace("text_model.", ""): p for p, (place, _) in ours.items()}
    for name, parameter in weights.items():
        expected = parameter + 0.7 * (full.tensors[name] - parameter)
        expected = expected - 0.5 * ours[parameter][1].delta(parameter)
        assert torch.allclose(now[parameter], expected, atol=1e-5), name


def test_an_untouched_pipeline_with_the_files_parameters_draws_the_same(tmp_path, base, full):
    file = formats.read(full.save(tmp_path / "full.safetensors"))
    assert formats.contents(tmp_path / "full.safetensors").text_encoder
    pipe = tiny.pipeline()
    for name in ("unet", "text_encoder"):
        own = {k.removeprefix(f"{name}."): t for k, t in file.tensors.items() if k.startswith(name)}
        getattr(pipe, name).load_state_dict(own)
    plain = UNetBase(tiny.spec(), pipe, torch.device("cpu"))
    with applied(base, Stack((Slot(file),))):
        assert np.abs(picture(base) - picture(plain)).max() <= 1


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (6, 6), (4, 3, 3, 3)])
@pytest.mark.parametrize("rank", [1, 3, 64])
def test_a_cut_is_the_truncated_svd_of_plain_float64_matrices(shape, rank):
    matrix = np.random.default_rng(0).normal(size=shape).reshape(shape[0], -1)
    up, down = extraction.cut(torch.from_numpy(matrix), rank)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    expected = (left[:, :rank] * values[:rank]) @ right[:rank]
    assert np.abs((up @ down).numpy() - expected).max() < 1e-12
    assert up.shape[1] == min(rank, len(values))


def test_the_residuals_are_those_of_plain_float64_matrices(base, full):
    rank = 4
    made = extraction.extract(base, full, rank)
    layers = {
        f"{name}.{path}"
        for name, module in base.modules.items()
        for path, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    }
    by_place = {str(layer.place).replace("text_model.", ""): layer for layer in made.layers}
    assert by_place.keys() == layers
    lost = whole = 0.0
    for name, before in parameters(base).items():
        delta = (full.tensors[name].double() - before.double()).numpy()
        values = delta.ravel()[None]
        place = name.removesuffix(".weight")
        if place in layers:
            values = np.linalg.svd(delta.reshape(len(delta), -1), compute_uv=False)
            cut = np.linalg.norm(values[rank:]) / np.linalg.norm(values)
            assert by_place[place].residual == pytest.approx(cut, rel=1e-5)
            lost += np.sum(values[rank:] ** 2)
        else:
            lost += np.sum(values**2)
        whole += np.sum(values**2)
    assert made.residual == pytest.approx((lost / whole) ** 0.5, rel=1e-5)
    assert made.adapter.description.recipe["extracted"]["residual"] == round(made.residual, 4)


def test_at_full_rank_only_biases_and_their_like_are_lost(base, full):
    made = extraction.extract(base, full, 256)
    assert max(layer.residual for layer in made.layers) < 1e-6
    assert made.residual == pytest.approx(made.beside / made.change)
    found = match_modules(base.modules, made.adapter)
    theirs = match_modules(base.modules, full)
    for parameter, (place, change) in found.items():
        expected = theirs[parameter][1].delta(parameter)
        assert (change.delta(parameter) - expected).norm() < 1e-5 * expected.norm(), place


def test_a_fine_tune_that_moved_in_few_directions_is_extracted_whole(base):
    lora = random_adapters.make("lora", text=False, rank=3)
    trained = {
        f"{place}.weight": (parameter + change.delta(parameter)).detach()
        for parameter, (place, change) in match_modules(base.modules, lora).items()
    }
    full = Adapter(Description("full", "tiny", placeholder_token="sks", class_noun="dog"), trained)
    made = extraction.extract(base, full, 8)
    assert made.residual < 1e-5
    assert made.adapter.description.strength == 1.0


def test_an_untouched_pipeline_draws_with_the_extracted_file_as_the_stack_does(
    tmp_path: Path, base, full
):
    made = extraction.extract(base, full, 2).adapter
    (path,) = formats.export(made, tmp_path / "extracted.safetensors")
    pipe = tiny.pipeline()
    pipe.load_lora_weights(path.parent, weight_name=path.name)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    plain = UNetBase(tiny.spec(), pipe, torch.device("cpu"))
    alone = picture(base)
    with applied(base, Stack((Slot(made),))):
        ours = picture(base)
    assert np.abs(ours - picture(plain)).max() <= 1
    assert np.abs(ours - alone).max() > 8


def test_what_cannot_be_done_with_a_fine_tune_is_said(base, full, tmp_path):
    lora = random_adapters.make("lora")
    for rank in (0, 257):
        with pytest.raises(RecipeError, match="between 1 and 256"):
            extraction.extract(base, full, rank)
    with pytest.raises(AdapterError, match="already"):
        extraction.extract(base, lora, 4)
    same = {f"unet.{n}": p.detach() for n, p in base.denoiser.named_parameters()}
    with pytest.raises(AdapterError, match="nothing to extract"):
        extraction.extract(base, Adapter(full.description, same), 4)
    with pytest.raises(StackError, match="extract it as a LoRA"):
        Stack((Slot(full), Slot(lora)), combine="orthogonal").check(base.spec)
    with pytest.raises(StackError, match="extract it as a LoRA"):
        merged(base, Stack((Slot(full), Slot(lora))))
    with pytest.raises(AdapterError, match="Extract it as a LoRA"):
        overlap(full, lora)
    with pytest.raises(AdapterError, match="extract it as a LoRA"):
        formats.export(full, tmp_path / "full.safetensors")


def test_target_modules_that_no_layer_ends_in_are_named(base):
    check_targets(base.modules, ("to_q", "ff.net.2", "conv_in"))
    for wrong in ("q", "to_qq", "norm1", "q_proj"):  # the last is the text encoder's
        with pytest.raises(RecipeError, match=f"“{wrong}”"):
            check_targets(base.modules, ("to_q", wrong))
