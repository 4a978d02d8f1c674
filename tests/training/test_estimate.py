"""What is said of memory, work and files before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from personalization import bases
from personalization.adapters.adapter import embedded_description
from personalization.adapters.formats import kohya, names
from personalization.adapters.module_keys import ModuleKey
from personalization.bases import CATALOG, loading, memory, speed, work
from personalization.bases import counts as kept
from personalization.bases.architectures import ARCHITECTURES
from personalization.bases.catalog import ASSETS, Sampling
from personalization.errors import BaseError, RecipeError
from personalization.files import read_header
from personalization.recipe import Full, LearnedEmbedding, LowRank, Prior, Recipe
from personalization.sampling.pace import picture
from personalization.training.estimate import (
    Estimate,
    estimate,
    fitting,
    outlook,
    outlook_on,
    smaller_crops,
    step_key,
    what_counts,
)
from tests import counts
from tests.support import tiny

GIB = memory.GIB
CPU = torch.device("cpu")

# Published: the models' cards and the sizes of their files.
PARAMETERS = {
    "sd15": {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480},
    "sd21": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    "sdxl": {
        "unet": 2_567_463_684,
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
    },
    # The transformer's file of 4.94 GB holds, in half precision, 226 million positions besides.
    "sd35-medium": {
        "transformer": 2_243_171_520,
        "vae": 83_819_683,
        "text_encoder": 123_650_304,
        "text_encoder_2": 694_659_840,
        "text_encoder_3": 4_762_310_656,
    },
    "flux2-klein": {
        "transformer": 3_875_544_576,
        "vae": 84_046_115,
        "text_encoder": 4_022_468_096,
    },
    "z-image": {  # "6.15B" on its model card
        "transformer": 6_154_908_736,
        "vae": 83_819_683,
        "text_encoder": 4_022_468_096,
    },
}

# Rank 4 on the default targets: layers, and numbers in the adapter.
# SD 1.5: 16 blocks of two attentions of four layers, a file of 3.2 MB, known since diffusers 0.11.
# SDXL: 70 blocks; pytorch_lora_weights.safetensors of 23.2 MB. SD 3.5 medium: 24 blocks of eight
# layers of 1536, of which the last has no to_add_out. klein: 5 blocks of four layers of 3072, and
# 20 of two, 3072 to 27648 and 12288 to 3072. Z-Image: 30 blocks and four refiners of four layers.
ADAPTED = {
    "sd15": (128, 797_184),
    "sd21": (128, 829_952),
    "sdxl": (560, 5_806_080),
    "sd35-medium": (191, 191 * 4 * 2 * 1536),
    "flux2-klein": (60, 4 * (20 * 2 * 3072 + 20 * (3072 + 27_648 + 12_288 + 3072))),
    "z-image": (136, 136 * 4 * 2 * 3840),
}


@cache
def denoiser(name: str) -> nn.Module:
    described = ARCHITECTURES[name]
    return described.parts[described.denoiser].on_meta()


@pytest.mark.parametrize("name", PARAMETERS)
def test_architectures_have_the_published_numbers_of_parameters(name: str) -> None:
    for component, count in PARAMETERS[name].items():
        part = ARCHITECTURES[name].parts[component]
        module = denoiser(name) if component in ("unet", "transformer") else part.on_meta()
        assert sum(p.numel() for p in module.parameters()) == count, component
    assert ARCHITECTURES[name].parts.keys() == PARAMETERS[name].keys()


@pytest.mark.parametrize("name", ADAPTED)
@pytest.mark.filterwarnings("ignore")
def test_a_lora_adapts_the_layers_that_the_field_knows(name: str) -> None:
    module = ARCHITECTURES[name].parts[ARCHITECTURES[name].denoiser].on_meta()
    targets = list(CATALOG[name].targets)
    with torch.device("meta"):
        inject_adapter_in_model(LoraConfig(r=4, lora_alpha=4, target_modules=targets), module)
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
    layers = {n.partition(".lora_")[0] for n in trained}
    assert (len(layers), sum(p.numel() for p in trained.values())) == ADAPTED[name]
    if name in ("sd15", "sd21", "sdxl"):
        family = CATALOG[name].family
        for path in layers:
            flat = kohya.flat_name(ModuleKey("unet", path), family)
            assert names.parse(f"{flat}.alpha") == (ModuleKey("unet", path), "alpha")
            if family == "sdxl":
                assert flat.startswith(
                    (
                        "lora_unet_input_blocks_",
                        "lora_unet_middle_block_",
                        "lora_unet_output_blocks_",
                    )
                )


def test_kohyas_names_of_known_files() -> None:
    block = "transformer_blocks.0.attn1.to_q"
    known = {
        ("sd1", "unet", f"down_blocks.0.attentions.0.{block}"): (
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
        ),
        ("sdxl", "unet", f"down_blocks.1.attentions.0.{block}"): (
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
        ),
        ("sdxl", "unet", f"up_blocks.0.attentions.2.{block}"): (
            "lora_unet_output_blocks_2_1_transformer_blocks_0_attn1_to_q"
        ),
        ("sd1", "text_encoder", "text_model.encoder.layers.3.self_attn.q_proj"): (
            "lora_te_text_model_encoder_layers_3_self_attn_q_proj"
        ),
        ("sdxl", "text_encoder_2", "text_model.encoder.layers.3.self_attn.q_proj"): (
            "lora_te2_text_model_encoder_layers_3_self_attn_q_proj"
        ),
    }
    for (family, component, path), flat in known.items():
        assert kohya.flat_name(ModuleKey(component, path), family) == flat


def lora() -> Recipe:
    return Recipe(LowRank("lora", rank=4, alpha=4), steps=1)


AGAIN: dict[str, Any] = {"gradient_checkpointing": True}


@cache
def of_sd15(method: str) -> Estimate:
    recipes: dict[str, Any] = {"lora": lora(), "full": Recipe(Full(), steps=1)}
    return estimate(CATALOG["sd15"], recipes[method])


def test_the_small_unets_have_the_published_numbers_of_parameters() -> None:
    # The paper's table: 482.35 and 323.38 million.
    for name, count in (("bk-sdm-small", 482_346_884), ("bk-sdm-tiny", 323_384_964)):
        assert sum(p.numel() for p in denoiser(name).parameters()) == count


@pytest.mark.slow
def test_work_is_what_the_field_counts() -> None:
    # One LoRA step of SD 1.5 at 512 px, counted apart: 1.80 TFLOP, 1.8 ms at the H200's peak.
    said = of_sd15("lora")
    assert abs(said.flops / 1.80e12 - 1) < 0.03
    assert (said.layers, said.trained, said.file) == (128, 797_184, 24_000 + 4 * 797_184)
    many = replace(lora(), batch_size=64)  # so many that the card is busy
    seconds = estimate(CATALOG["sd15"], many).seconds("NVIDIA H200")
    assert seconds is not None
    assert 64 * 1.8e-3 < seconds < 64 * 1.8e-3 / 0.08
    assert said.seconds("An abacus") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "kind", "prior", "measured"),
    [
        # Seconds a step on one H200, by tests.benchmarks.gpu: a CPU's dispatch is most of them.
        ("sd15", "lora", Prior("adapter_off"), 0.230),
        ("sd15", "lora", Prior("images"), 0.174),
        ("sd15", "lokr", Prior("adapter_off"), 0.227),
        ("sd15", "dora", Prior("adapter_off"), 0.257),
        ("sdxl", "lora", Prior("adapter_off"), 0.643),
    ],
)
def test_seconds_on_a_gpu_are_met_within_a_quarter(
    base: str, kind: Any, prior: Prior, measured: float
) -> None:
    recipe = CATALOG[base].scripts["subject"]
    assert isinstance(recipe.method, LowRank)
    recipe = replace(recipe, method=replace(recipe.method, kind=kind), prior=prior)
    assert estimate(CATALOG[base], recipe).seconds("NVIDIA H200") == pytest.approx(
        measured, rel=0.25
    )


def test_photos_in_their_own_shape_beside_class_images_are_dispatched_twice() -> None:
    square = replace(lora(), prior=Prior("images"))
    shaped, alone = (each.changed(framing="shape") for each in (square, lora()))
    spec = CATALOG["bk-sdm-tiny"]
    once, twice = estimate(spec, square), estimate(spec, shaped)
    assert twice.dispatch == 2 * once.dispatch
    assert twice.work == once.work
    assert estimate(spec, alone).dispatch == estimate(spec, lora()).dispatch


def test_a_full_fine_tune_takes_twenty_bytes_a_number_and_a_lora_next_to_none() -> None:
    small, whole = of_sd15("lora"), of_sd15("full")
    assert whole.trained == PARAMETERS["sd15"]["unet"]
    assert whole.masters + whole.gradients + whole.optimizer == 16 * whole.trained
    assert small.masters + small.gradients + small.optimizer == 16 * 797_184
    assert small.weights == whole.weights == memory.weights("sd15")
    # Backwards through every weight costs another forward; and their half-precision copies stay.
    assert 1.3 < whole.flops / small.flops < 1.5
    assert whole.activations - small.activations > 2 * 0.95 * whole.trained
    # PEFT's README, everything in float32: full 27.5 GB, LoRA 15.5 GB. In bfloat16 less.
    assert 2 * GIB < small.memory < 15.5e9
    assert 14 * GIB < whole.memory < 27.5e9


@pytest.mark.filterwarnings("ignore")
def test_activations_are_what_autograd_keeps() -> None:
    # A layer and its adapter, by hand: the frozen weight keeps nothing of x; A keeps x and B keeps
    # A x, in bfloat16, as B's own cast is, which A x asks for; the square keeps the float32 result.
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            with torch.device("meta"):
                self.to_q = nn.Linear(32, 64, dtype=torch.bfloat16).requires_grad_(False)

        def forward(self, sample: Any, **_: Any) -> tuple[Any]:
            return (self.to_q(sample),)

    layer = Layer()
    with torch.device("meta"):
        inject_adapter_in_model(LoraConfig(r=4, target_modules=["to_q"]), layer)
    kept = work.step("sd15", layer, work.Load(32 * 8, 1, text_trained=False)).activations
    rows = 4 * 32  # a batch of one, four channels of 32 x 32
    assert kept == rows * (2 * 32 + 2 * 4 + 4 * 64) + 2 * 4 * 64

    # A text encoder that reads the prompts anew, of seven tokens: the square keeps the rows, that
    # of the loss what comes of it in float32.
    class Encoder(nn.Module):
        config = SimpleNamespace(max_position_embeddings=7)

        def __init__(self) -> None:
            super().__init__()
            with torch.device("meta"):
                self.table = nn.Embedding(50, 16, dtype=torch.bfloat16).requires_grad_(False)

        def get_input_embeddings(self) -> nn.Module:
            return self.table

        def forward(self, ids: torch.Tensor) -> Any:
            return SimpleNamespace(last_hidden_state=self.table(ids).square())

    both = work.step("sd15", layer, work.Load(32 * 8, 1, text_trained=False), [Encoder()])
    assert both.activations == kept + 7 * 16 * (2 + 4)


def test_a_word_counts_the_text_encoder_that_reads_it() -> None:
    # 36 layers of Qwen3, whose weights are frozen: of 512 tokens each keeps three of the 9,728 wide
    # layer's in bfloat16, and of its norms, heads and attention about as much again.
    spec = CATALOG["z-image"]
    word = estimate(spec, spec.recipes["word"])
    single = what_counts(spec, spec.recipes["word"])
    with work.on_meta(spec.architecture) as parts:
        load = work.Load(single.resolution, single.batch_size, text_trained=True)
        parts["transformer"].requires_grad_(False)
        alone = work.step(spec.architecture, parts["transformer"], load)
    least = 36 * 512 * 9728 * 3 * 2
    assert least < word.activations - alone.activations < 2.5 * least


def test_too_little_memory_is_said_before_loading_with_what_would_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "computes_half", lambda: False)
    needed = memory.weights("sdxl", torch.float32)
    assert 12 * GIB < needed < 14 * GIB
    memory.check(CATALOG["sdxl"], CPU, free=needed)
    with pytest.raises(BaseError) as caught:
        memory.check(CATALOG["sdxl"], CPU, free=int(5 * GIB))
    said = str(caught.value)
    assert "Stable Diffusion XL 1.0 takes 12.9 GiB before it draws, and 5.0 GiB are free" in said
    assert "What fits: Pocket, a Stable Diffusion in miniature, Stable Diffusion 1.5" in said
    assert "FLUX" not in said
    memory.check(CATALOG["pocket"], CPU, free=2**26)


def test_a_recipe_that_does_not_fit_is_refused_with_what_would() -> None:
    of_sd15("lora").check(free=int(8 * GIB))
    with pytest.raises(RecipeError, match=r"about 1\d\.\d GiB, and 8\.0 GiB are free. Take a LoRA"):
        of_sd15("full").check(free=int(8 * GIB))


def test_gradient_checkpointing_trades_a_forward_for_the_activations() -> None:
    plain, again = of_sd15("lora"), estimate(CATALOG["sd15"], replace(lora(), **AGAIN))
    assert again.activations < 0.5 * plain.activations
    assert 1.3 < again.flops / plain.flops < 1.6
    assert (again.weights, again.trained, again.file) == (plain.weights, plain.trained, plain.file)


def test_a_recipe_is_made_to_fit_where_that_is_possible() -> None:
    spec, plain = CATALOG["sd15"], of_sd15("lora")
    assert fitting(spec, lora(), plain.memory) == lora()
    assert fitting(spec, lora(), None) == lora()
    assert fitting(spec, lora(), plain.memory - 1) == replace(lora(), **AGAIN)
    with pytest.raises(RecipeError, match="gradient checkpointing, or a smaller base"):
        fitting(spec, lora(), GIB)
    least = estimate(spec, replace(lora(), resolution=256, **AGAIN)).memory
    with pytest.raises(RecipeError, match=r"Take photos of 256 px\."):
        fitting(spec, lora(), least)


def test_a_run_on_the_pocket_is_told_beforehand_by_what_was_measured() -> None:
    base = tiny.base()
    word = replace(lora(), method=LearnedEmbedding(vectors=2), steps=100)
    told = outlook(base, word)
    assert told.seconds == pytest.approx(6 + 0.05 * 100)
    assert told.memory == estimate(base.spec, word, torch.float32).memory
    # Of its own classes 24 pictures come with it.
    for images, drawn in ((16, 0), (24, 0), (32, 8)):
        recipe = replace(lora(), steps=10, prior=Prior("images", images=images))
        assert outlook(base, recipe).seconds == pytest.approx(6 + 0.06 * 10 * 2 + 0.4 * drawn)


def test_the_architecture_of_the_pocket_is_that_of_its_files() -> None:
    base: Any = bases.load("pocket", CPU)
    for name, part in ARCHITECTURES["pocket"].parts.items():
        module = base.vae if name == "vae" else base.modules[name]
        shapes = {key: tensor.shape for key, tensor in module.state_dict().items()}
        assert {key: t.shape for key, t in part.on_meta().state_dict().items()} == shapes
    hidden = base.encode_prompts(["a dog"]).tensors["encoder_hidden_states"]
    assert hidden.shape[1:] == ARCHITECTURES["pocket"].context
    latents = base.encode_images(torch.zeros(1, 3, base.spec.size, base.spec.size)).mean
    channels, pixels = ARCHITECTURES["pocket"].latents
    assert latents.shape[1:] == (channels, *(base.spec.size // pixels,) * 2)


@pytest.mark.parametrize("name", ["crowned-dog", "neon"])
def test_a_file_is_as_large_as_was_said(name: str) -> None:
    path = ASSETS / "adapters" / f"{name}.safetensors"
    made = embedded_description(read_header(path))
    assert made is not None
    settings = {key: value for key, value in made.recipe.items() if key != "steps done"}
    told = estimate(CATALOG["pocket"], Recipe.from_json(json.dumps(settings))).file
    assert told == pytest.approx(path.stat().st_size, rel=0.1)


def test_estimating_leaves_a_method_with_a_word_beside_it_counted() -> None:
    spec, plain = CATALOG["pocket"], lora()
    pivotal = replace(
        plain, method=replace(plain.method, learned_embedding=LearnedEmbedding(vectors=3))
    )
    assert estimate(spec, pivotal).trained == estimate(spec, plain).trained + 3 * 192
    assert estimate(spec, pivotal).layers == estimate(spec, plain).layers


def test_the_machine_says_what_is_free() -> None:
    free = memory.available(CPU)
    assert free is None or free > 0


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    speed.of_this_machine.cache_clear()
    yield tmp_path
    speed.of_this_machine.cache_clear()


def test_a_cpu_is_measured_once_and_kept_in_a_file(own_cache: Path) -> None:
    measured = speed.of_this_machine(torch.float32)
    (file,) = own_cache.rglob("*.json")
    assert all(figure > 0 for figure in json.loads(file.read_text()).values())
    speed.of_this_machine.cache_clear()
    assert speed.of_this_machine(torch.float32) == measured
    file.write_text("{")  # damaged: measured anew, and whole again
    speed.of_this_machine.cache_clear()
    assert speed.of_this_machine(torch.float32).linear > 0
    assert json.loads(file.read_text())


COUNTINGS = dict(row for spec in counts.specs() for row in counts.of_base(spec))
OWN = {f" {spec.architecture} {spec.size}px" for spec in CATALOG.values()}


def test_all_that_the_page_says_of_a_base_is_counted_already() -> None:
    for key in COUNTINGS:
        assert kept.kept(key), f"{key} is not there: python -m tests.counts"
    for spec in CATALOG.values():
        for purpose in ("word", "subject"):
            for precision in counts.precisions(spec):
                single = what_counts(spec, spec.recipes[purpose])
                assert step_key(spec, single, precision) in COUNTINGS


@pytest.mark.parametrize("key", [key for key in COUNTINGS if " pocket" in key])
def test_what_was_counted_of_the_pocket_is_what_is_counted_now(key: str) -> None:
    assert kept.kept(key) == counts.whole(COUNTINGS[key]())


@pytest.mark.slow
@pytest.mark.parametrize(
    "key",
    [
        key
        for key in COUNTINGS
        if (key.startswith(("forward", "decoding")) and any(key.endswith(own) for own in OWN))
        or key.startswith("step bk-sdm-tiny bfloat16 256px")
    ],
)
def test_what_was_counted_once_is_what_is_counted_now(key: str) -> None:
    again = counts.whole(COUNTINGS[key]())
    assert kept.kept(key) == {name: pytest.approx(value, rel=1e-4) for name, value in again.items()}


def test_without_what_was_counted_the_same_is_said_and_later(monkeypatch, tmp_path: Path) -> None:
    spec = CATALOG["pocket"]
    told = estimate(spec, spec.recipes["word"]), memory.weights("pocket")
    monkeypatch.setattr(kept, "PATH", tmp_path / "none.json")
    kept._rows.cache_clear()
    try:
        assert (estimate(spec, spec.recipes["word"]), memory.weights("pocket")) == told
    finally:
        kept._rows.cache_clear()


def test_what_a_kernel_takes_is_added_up() -> None:
    known = speed.Speed(convolution=2e9, linear=1e9, attention=4e9, kernels=1e9)
    each = work.Work(convolution=2e9, linear=2e9, attention=4e9, kernels=5e8)
    assert known.seconds(each) == pytest.approx(speed.REST * (1 + 2 + 1 + 0.5))
    assert known.seconds(each * 3) == pytest.approx(3 * known.seconds(each))


def test_half_precision_on_a_cpu_is_for_those_that_have_the_instructions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    for line, there in (
        ("flags\t\t: fpu avx512f avx512_bf16 sha_ni", True),
        ("flags\t\t: fpu avx2 amx_tile amx_bf16", True),
        ("Features\t: fp asimd bf16", True),
        ("flags\t\t: fpu avx512f avx2 f16c amx_tile", False),
        ("processor\t: 0", False),
    ):
        cpuinfo.write_text(f"{line}\n")
        loading.computes_half.cache_clear()
        assert loading.computes_half(cpuinfo) == there
    assert not loading.computes_half(tmp_path / "none")
    loading.computes_half.cache_clear()
    for there, kept_in in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(loading, "computes_half", lambda there=there: there)
        assert loading.precision(CATALOG["sd15"], CPU) == kept_in
        assert loading.precision(CATALOG["pocket"], CPU) == torch.float32, "small anyway"


@pytest.mark.slow
def test_a_step_on_a_cpu_is_told_for_every_size_of_photos(own_cache: Path) -> None:
    spec, recipe = CATALOG["bk-sdm-tiny"], replace(lora(), steps=100)
    whole, *smaller = (
        outlook_on(spec, each, CPU) for each in [recipe, *smaller_crops(spec, recipe)]
    )
    assert len(smaller) == 2
    seconds = [said.step or 0.0 for said in (whole, *smaller)]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[-1] > 0
    memories = [said.memory or 0 for said in (whole, *smaller)]
    assert memories == sorted(memories, reverse=True)
    # Half precision is half of the weights, where the CPU has it.
    kept = loading.precision(spec, CPU)
    assert estimate(spec, recipe, kept).weights == memory.weights("bk-sdm-tiny", kept)
    assert (picture(spec, CPU, spec.sampling) or 0) > (picture(spec, CPU, Sampling(4, 1.0)) or 0)
