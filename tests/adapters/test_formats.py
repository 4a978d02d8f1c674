"""Anybody's files are read for what they are, and ours are read by everybody."""

from __future__ import annotations

import json
import pickle
import struct
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders import lora_conversion_utils as theirs
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils import convert_state_dict_to_diffusers, convert_unet_state_dict_to_peft
from peft import PeftModel, get_peft_model, get_peft_model_state_dict
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from personalization.adapters import formats
from personalization.adapters.adapter import Adapter, Description
from personalization.adapters.adapter_deltas import WORD, deltas_of, match_modules
from personalization.adapters.formats import family, kohya, names
from personalization.adapters.module_keys import ModuleKey
from personalization.adapters.weight_deltas import DoRADelta
from personalization.bases.unet import UNetBase
from personalization.errors import AdapterError
from personalization.files import read_header
from personalization.sampling.generate import draw_each
from personalization.sampling.settings import Settings
from personalization.stacking.application import applied
from personalization.stacking.stack import Slot, Stack
from tests.support import random_adapters, tiny

METHODS = ("lora", "loha", "lokr", "dora")
TARGETS = (*random_adapters.ATTENTION, *random_adapters.CONVOLUTIONS)
PROMPT = "a photo of dog"


@pytest.fixture(scope="module")
def base() -> UNetBase:
    return tiny.base()


@pytest.fixture(scope="module")
def many() -> dict[str, Adapter]:
    """One of each method, with convolutions, and alpha unlike rank."""
    core = {"use_effective_conv2d": True, "targets": tuple(t for t in TARGETS if t != "proj_in")}
    more = {"lora": {"targets": TARGETS}, "dora": {"targets": TARGETS}}
    return {
        method: random_adapters.make(method, seed=i, **more.get(method, core))
        for i, method in enumerate(METHODS)
    }


def ours(base: UNetBase, adapter: Adapter, prompt: str = PROMPT) -> Image.Image:
    with applied(base, Stack((Slot(adapter),))):
        return draw_each(base, [prompt], [3], Settings(steps=2))[0]


def drawn(pipe: StableDiffusionPipeline, prompt: str = PROMPT) -> Image.Image:
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        prompt=[prompt],
        negative_prompt=[""],
        generator=[torch.Generator().manual_seed(3)],
        num_inference_steps=2,
        guidance_scale=tiny.spec().sampling.guidance,
        width=32,
        height=32,
    ).images[0]


def distance(a: Image.Image, b: Image.Image) -> int:
    """The largest difference of any pixel, of 255."""
    return int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max())


def target(tmp_path: Path, format: str) -> Path:
    return tmp_path / ("folder" if format == "peft" else f"{format}.safetensors")


# What the app writes, in the hands of others


@pytest.mark.parametrize("format", formats.FORMATS)
@pytest.mark.parametrize("method", METHODS)
def test_round_trip_keeps_the_delta(
    tmp_path: Path, base: UNetBase, many: dict[str, Adapter], method: str, format: Any
) -> None:
    path = target(tmp_path, format)
    written = formats.export(many[method], path, format)
    assert all(file.is_file() for file in written)
    again = formats.read(path)
    before, after = match_modules(base.modules, many[method]), match_modules(base.modules, again)
    assert before.keys() == after.keys()
    for weight, (place, change) in before.items():
        expected = change.delta(weight)
        error = (after[weight][1].delta(weight) - expected).norm()
        assert error < 1e-5 * expected.norm(), place
    if format != "peft":
        assert again.description.trigger == "sks dog"


@pytest.mark.parametrize("method", METHODS)
def test_a_file_through_all_formats_keeps_the_delta(
    tmp_path: Path, many: dict[str, Adapter], method: str
) -> None:
    adapter = many[method]
    for format in ("kohya", "peft", "kohya", "diffusers", "peft"):
        path = target(tmp_path, format)
        formats.export(adapter, path, format)
        adapter = formats.read(path)
    expected = formats.read(formats.export(many[method], tmp_path / "once.safetensors")[0])
    assert formats.difference(expected, adapter) < 1e-5


@pytest.mark.parametrize(
    ("format", "method"), [*(("diffusers", method) for method in METHODS), ("kohya", "lora")]
)
def test_an_untouched_pipeline_draws_the_same_picture_from_the_exported_file(
    tmp_path: Path, base: UNetBase, many: dict[str, Adapter], method: str, format: Any
) -> None:
    [path] = formats.export(many[method], target(tmp_path, format), format)
    pipe = tiny.pipeline()
    untouched = drawn(pipe)
    pipe.load_lora_weights(path)
    expected = ours(base, many[method])
    assert distance(expected, untouched) > 20
    assert distance(drawn(pipe), expected) <= 1


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_the_apps_own_file_is_loaded_by_an_untouched_pipeline(
    tmp_path: Path, base: UNetBase, method: str
) -> None:
    adapter = random_adapters.make(method, rank=3, alpha=5.0, text=method == "lora")
    path = adapter.save(tmp_path / "own.safetensors", formats.diffusers_metadata(adapter))
    pipe = tiny.pipeline()
    pipe.load_lora_weights(path)
    assert distance(drawn(pipe), ours(base, adapter)) <= 1


@pytest.mark.parametrize("method", METHODS)
def test_peft_loads_the_exported_folders(
    tmp_path: Path, base: UNetBase, many: dict[str, Adapter], method: str
) -> None:
    formats.export(many[method], tmp_path, "peft")
    pipe = tiny.pipeline()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = {
            name: PeftModel.from_pretrained(getattr(pipe, name), tmp_path / name).merge_and_unload()
            for name in ("unet", "text_encoder")
        }
    with applied(base, Stack((Slot(many[method]),))):
        for name, module in merged.items():
            for key, parameter in base.modules[name].named_parameters():
                assert torch.allclose(module.get_parameter(key), parameter, atol=1e-5), key


@pytest.mark.parametrize("vectors", [1, 3])
def test_an_untouched_pipeline_reads_the_word(tmp_path: Path, base: UNetBase, vectors: int) -> None:
    word = random_adapters.word("<mug>", vectors)
    [path] = formats.export(word, tmp_path / "word.safetensors")
    pipe = tiny.pipeline()
    pipe.load_textual_inversion(path)
    prompt = "a photo of <mug> on the beach"
    assert distance(drawn(pipe, prompt), ours(base, word, prompt)) <= 1
    assert formats.difference(word, formats.read(path)) == 0


def test_a_lora_with_a_word_keeps_both_and_a_pipeline_loads_each(
    tmp_path: Path, base: UNetBase
) -> None:
    lora, word = random_adapters.make(), random_adapters.word("<mug>", 2)
    tensors = lora.tensors | {f"{WORD}<mug>": word.tensors["<mug>"]}
    both = Adapter(replace(lora.description, placeholder_token="<mug>"), tensors)
    prompt = "a photo of <mug> dog"
    expected = ours(base, both, prompt)
    assert distance(expected, ours(base, lora, prompt)) > 0
    file, beside = formats.export(both, tmp_path / "both.safetensors")
    pipe = tiny.pipeline()
    pipe.load_lora_weights(file)
    pipe.load_textual_inversion(beside)
    assert distance(drawn(pipe, prompt), expected) <= 1
    [bundle] = formats.export(both, tmp_path / "kohya.safetensors", "kohya")
    assert "bundle_emb.<mug>.string_to_param.*" in load_file(bundle)
    for path in (file, bundle):
        assert formats.difference(both, formats.read(path)) < 1e-5
        assert formats.contents(path).vectors == 2
        assert distance(ours(base, formats.read(path), prompt), expected) <= 1
    _, _, *word_alone = formats.export(both, tmp_path / "folder", "peft")
    assert any(path.name == "word.safetensors" for path in word_alone)


# What others write, in ours


def save_lora(pipe: StableDiffusionPipeline, folder: Path, *, old: bool, metadata: bool) -> Path:
    """As diffusers' training scripts do."""
    layers = {
        name: get_peft_model_state_dict(getattr(pipe, name)) for name in ("unet", "text_encoder")
    }
    if old:
        layers = {name: convert_state_dict_to_diffusers(found) for name, found in layers.items()}
    modules = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=layers["unet"],
        text_encoder_lora_layers=layers["text_encoder"],
        **(_collate_lora_metadata(modules) if metadata else {}),
    )
    return folder / "pytorch_lora_weights.safetensors"


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("metadata", [False, True])
def test_a_file_of_diffusers_training_scripts_is_read_as_diffusers_reads_it(
    tmp_path: Path, base: UNetBase, old: bool, metadata: bool
) -> None:
    trained = tiny.pipeline()
    random_adapters.inject(trained, rank=4, alpha=6.0)
    path = save_lora(trained, tmp_path, old=old, metadata=metadata)
    adapter = formats.read(path, base)
    assert adapter.description == Description(
        "lora", "tiny", rank=4, alpha=6.0 if metadata else 4.0, title="pytorch_lora_weights"
    )
    pipe = tiny.pipeline()
    pipe.load_lora_weights(path)
    assert distance(drawn(pipe), ours(base, adapter)) <= 1


def test_attention_processors_of_early_diffusers_are_read(tmp_path: Path) -> None:
    path = "down_blocks.1.attentions.0.transformer_blocks.0.attn1"
    file = tmp_path / "old.safetensors"
    tensors = {}
    for which in ("q", "out"):
        tensors[f"{path}.processor.to_{which}_lora.down.weight"] = torch.randn(4, 32)
        tensors[f"{path}.processor.to_{which}_lora.up.weight"] = torch.randn(32, 4)
    save_file(tensors, file)
    assert set(deltas_of(formats.read(file))) == {
        ModuleKey("unet", f"{path}.to_q"),
        ModuleKey("unet", f"{path}.to_out.0"),
    }


@pytest.mark.parametrize("rslora", [False, True])
def test_a_folder_of_peft_with_patterns_is_read_as_peft_merges_it(
    tmp_path: Path, base: UNetBase, rslora: bool
) -> None:
    config = random_adapters.config("lora", ["to_q", "to_k", "conv1"], 4, 6.0, use_rslora=rslora)
    config.rank_pattern = {"to_k": 2, "mid_block.resnets.0.conv1": 6}
    config.alpha_pattern = {"attn2.to_q": 1.0}
    model = get_peft_model(tiny.pipeline().unet, config)
    model.save_pretrained(tmp_path / "unet")
    adapter = formats.read(tmp_path / "unet", base)
    assert formats.difference(adapter, formats.read(tmp_path, base)) == 0
    merged = model.merge_and_unload()
    with applied(base, Stack((Slot(adapter),))):
        for key, parameter in base.denoiser.named_parameters():
            assert torch.allclose(merged.get_parameter(key), parameter, atol=1e-5), key


def test_unequal_alphas_and_ranks_of_a_kohya_file_keep_their_scales(
    tmp_path: Path, base: UNetBase
) -> None:
    lora = random_adapters.make(targets=("to_q", "conv1"))
    _, expected = kohya_file(tmp_path / "k.safetensors", lora, unequal=True)
    for place, change in deltas_of(formats.read(tmp_path / "k.safetensors", base)).items():
        delta = change.delta(torch.zeros(change.size))
        assert (delta - expected[place]).norm() < 1e-5 * expected[place].norm()


def kohya_file(path: Path, lora: Adapter, *, unequal: bool) -> tuple[Path, dict[ModuleKey, Tensor]]:
    """Written here by hand, as sd-scripts' LoRANetwork would; with each module's delta."""
    tensors, deltas = {}, {}
    for i, (place, change) in enumerate(deltas_of(lora).items()):
        prefix = {"unet": "lora_unet", "text_encoder": "lora_te"}[place.component]
        name = f"{prefix}_{place.path}".replace(".", "_")
        rank = 1 + i % 4 if unequal else 4
        alpha = float(1 + i % 3) if unequal else 6.0
        up, down = change.up[:, :rank], change.down[:rank]  # type: ignore[attr-defined]
        tensors[f"{name}.lora_up.weight"] = up.contiguous()
        tensors[f"{name}.lora_down.weight"] = down.contiguous()
        if i % 5 or not unequal:
            tensors[f"{name}.alpha"] = torch.tensor(alpha)
        else:
            alpha = rank  # sd-scripts takes the rank where there is none
        deltas[place] = alpha / rank * up.flatten(1) @ down.flatten(1)
    save_file(tensors, path, {"ss_network_alpha": "6.0", "ss_network_dim": "4"})
    return path, deltas


def test_an_exported_kohya_file_has_the_names_and_alphas_of_sd_scripts(
    tmp_path: Path,
) -> None:
    lora = random_adapters.make()  # rank 4, alpha 6
    by_hand, _ = kohya_file(tmp_path / "hand.safetensors", lora, unequal=False)
    [path] = formats.export(lora, tmp_path / "ours.safetensors", "kohya")
    expected, found = load_file(by_hand), load_file(path)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    header = read_header(path).metadata
    assert header["ss_network_dim"] == "4"
    assert header["ss_network_alpha"] == "6.0"
    assert header["ss_network_module"] == "networks.lora"


# Names in the files of sd-scripts for SDXL, whose UNet is Stability's.
SDXL = {
    "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q": (
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    ),
    "lora_unet_input_blocks_8_1_transformer_blocks_9_ff_net_0_proj": (
        "unet.down_blocks.2.attentions.1.transformer_blocks.9.ff.net.0.proj"
    ),
    "lora_unet_middle_block_1_transformer_blocks_3_attn2_to_out_0": (
        "unet.mid_block.attentions.0.transformer_blocks.3.attn2.to_out.0"
    ),
    "lora_unet_output_blocks_5_1_proj_out": "unet.up_blocks.1.attentions.2.proj_out",
    "lora_unet_input_blocks_1_0_in_layers_2": "unet.down_blocks.0.resnets.0.conv1",
    "lora_unet_input_blocks_4_0_skip_connection": "unet.down_blocks.1.resnets.0.conv_shortcut",
    "lora_unet_input_blocks_3_0_op": "unet.down_blocks.0.downsamplers.0.conv",
    "lora_unet_middle_block_2_out_layers_3": "unet.mid_block.resnets.1.conv2",
    "lora_unet_output_blocks_2_2_conv": "unet.up_blocks.0.upsamplers.0.conv",
    "lora_unet_output_blocks_8_0_emb_layers_1": "unet.up_blocks.2.resnets.2.time_emb_proj",
    "lora_unet_time_embed_2": "unet.time_embedding.linear_2",
    "lora_unet_label_emb_0_0": "unet.add_embedding.linear_1",
    "lora_unet_input_blocks_0_0": "unet.conv_in",
    "lora_unet_out_2": "unet.conv_out",
    "lora_te1_text_model_encoder_layers_0_mlp_fc1": (
        "text_encoder.text_model.encoder.layers.0.mlp.fc1"
    ),
    "lora_te2_text_model_encoder_layers_31_self_attn_k_proj": (
        "text_encoder_2.text_model.encoder.layers.31.self_attn.k_proj"
    ),
}


@pytest.mark.parametrize("flat", SDXL)
def test_names_of_sdxl_are_those_of_sd_scripts(flat: str) -> None:
    component, _, path = SDXL[flat].partition(".")
    assert names.parse(f"{flat}.lora_up.weight") == (ModuleKey(component, path), "lora_B.weight")
    assert kohya.flat_name(ModuleKey(component, path), "sdxl") == flat


@pytest.fixture(scope="module")
def sdxl_unet() -> UNet2DConditionModel:
    """SDXL's blocks with few channels."""
    with torch.device("meta"):
        return UNet2DConditionModel(
            block_out_channels=(32, 64, 96),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            cross_attention_dim=2048,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=64,
            use_linear_projection=True,
        )


def places_of(module: torch.nn.Module, component: str) -> list[ModuleKey]:
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return [
        ModuleKey(component, name) for name, m in module.named_modules() if isinstance(m, kinds)
    ]


def test_every_module_has_one_name_in_kohyas_format_and_comes_back(
    sdxl_unet: UNet2DConditionModel,
) -> None:
    pipe = tiny.pipeline()
    for kind, places in (
        ("sdxl", places_of(sdxl_unet, "unet")),
        ("sd1", places_of(pipe.unet, "unet")),
        (
            "sd1",
            [
                ModuleKey("text_encoder", f"text_model.{p.path}")
                for p in places_of(pipe.text_encoder, "")
            ],
        ),
    ):
        flat = {kohya.flat_name(place, kind): place for place in places}
        assert len(flat) == len(places)
        for name, place in flat.items():
            assert names.parse(f"{name}.alpha") == (place, "alpha")


def test_diffusers_maps_our_sdxl_names_back_to_the_same_modules(
    sdxl_unet: UNet2DConditionModel,
) -> None:
    places = [p for p in places_of(sdxl_unet, "unet") if "attentions" in p.path]
    state = {}
    for place in places:
        flat = kohya.flat_name(place, "sdxl")
        state |= {f"{flat}.{way}.weight": torch.zeros(1) for way in ("lora_down", "lora_up")}
    mapped = theirs._maybe_map_sgm_blocks_to_diffusers(state, sdxl_unet.config)
    found, _ = theirs._convert_non_diffusers_lora_to_diffusers(mapped)
    again = {names.parse(name)[0] for name in convert_unet_state_dict_to_peft(found)}
    assert again == set(places)


def test_lycoris_files_are_read_with_their_own_ways(tmp_path: Path) -> None:
    """Whole Kronecker factors have scale 1 whatever alpha says; magnitudes may be of the inputs;
    a convolution's LoRA may have a core."""
    name, conv = "lora_unet_mid_block_attentions_0_proj_in", "lora_unet_mid_block_resnets_0_conv1"
    w1, w2 = torch.randn(2, 4), torch.randn(8, 8)
    file = tmp_path / "lokr.safetensors"
    save_file(
        {f"{name}.lokr_w1": w1, f"{name}.lokr_w2": w2, f"{name}.alpha": torch.tensor(9.0)}, file
    )
    [change] = deltas_of(formats.read(file)).values()
    assert torch.allclose(change.delta(torch.zeros(16, 32)), torch.kron(w1, w2))

    up, down, core = torch.randn(6, 3, 1, 1), torch.randn(3, 5, 1, 1), torch.randn(3, 3, 3, 3)
    file = tmp_path / "locon.safetensors"
    tensors = {"lora_up.weight": up, "lora_down.weight": down, "lora_mid.weight": core}
    save_file({f"{conv}.{k}": v for k, v in tensors.items()}, file)
    [change] = deltas_of(formats.read(file)).values()
    x = torch.randn(1, 5, 7, 7)
    expected = torch.conv2d(torch.conv2d(torch.conv2d(x, down), core, padding=1), up)
    delta = change.delta(torch.zeros(6, 5, 3, 3))
    assert torch.allclose(torch.conv2d(x, delta, padding=1), expected, atol=1e-4)

    weight, a, b = torch.randn(6, 4), torch.randn(2, 4), torch.randn(6, 2)
    for shape, axis in (((6, 1), 1), ((1, 4), 0)):
        scale = torch.rand(shape) + 0.5
        tensors = {"lora_up.weight": b, "lora_down.weight": a, "dora_scale": scale}
        file = tmp_path / f"dora-{axis}.safetensors"
        save_file({f"{name}.{k}": v for k, v in tensors.items()}, file)
        read = formats.read(file)
        [change] = deltas_of(read).values()
        v = weight + b @ a
        expected = v * scale / v.norm(dim=axis, keepdim=True)
        assert isinstance(change, DoRADelta)
        assert torch.allclose(weight + change.delta(weight), expected, atol=1e-5)
        [again] = formats.export(read, tmp_path / "again.safetensors", "kohya")
        assert load_file(again)[f"{name}.dora_scale"].shape == shape
    with pytest.raises(AdapterError, match="diffusers cannot hold"):
        formats.export(read, tmp_path / "no.safetensors", "diffusers")


def test_words_of_others_are_read(tmp_path: Path) -> None:
    rows = torch.randn(2, 768)
    for tensors, placeholder_token, kind in (
        ({"<cat-toy>": rows}, "<cat-toy>", "sd1"),
        ({"<cat-toy>": rows[0]}, "<cat-toy>", "sd1"),
        ({"emb_params": rows}, "my-style-2", "sd1"),
        ({"clip_l": rows, "clip_g": torch.randn(2, 1280)}, "my-style-2", "sdxl"),
        ({"emb_params": torch.randn(2, 1024)}, "my-style-2", "sd2"),
    ):
        path = tmp_path / "my style (2).safetensors"
        save_file(tensors, path)
        adapter = formats.read(path)
        vectors = next(iter(tensors.values())).reshape(-1, 768).shape[0] if kind == "sd1" else 2
        assert adapter.description == Description(
            "textual_inversion",
            kind,
            placeholder_token=placeholder_token,
            rank=vectors,
            title="my style (2)",
        )
        [again] = formats.export(adapter, tmp_path / "kohya.safetensors", "kohya")
        assert formats.difference(adapter, formats.read(again)) == 0
    assert set(load_file(again)) == {"emb_params"}


# What a header tells


def lora_header(place: str, width: int, spelling: str = "lora_A") -> dict[str, Tensor]:
    up = {"lora_A": "lora_B", "lora_down": "lora_up"}[spelling]
    return {
        f"{place}.{spelling}.weight": torch.zeros(4, width),
        f"{place}.{up}.weight": torch.zeros(320, 4),
    }


@pytest.mark.parametrize(
    ("place", "width", "spelling", "kind"),
    [
        ("unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k", 768, "lora_A", "sd1"),
        ("unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k", 1024, "lora_A", "sd2"),
        ("unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v", 2048, "lora_A", "sdxl"),
        (
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k",
            768,
            "lora_down",
            "sd1",
        ),
        ("lora_unet_middle_block_1_transformer_blocks_0_attn2_to_k", 2048, "lora_down", "sdxl"),
        ("lora_te2_text_model_encoder_layers_0_mlp_fc1", 1280, "lora_down", "sdxl"),
        ("lora_te_text_model_encoder_layers_0_self_attn_q_proj", 768, "lora_down", "sd1"),
        ("unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_k", 1280, "lora_A", ""),
        ("transformer.single_transformer_blocks.0.attn.to_q", 3072, "lora_A", "FLUX.1"),
        ("lora_unet_double_blocks_0_img_attn_qkv", 3072, "lora_down", ""),
        ("transformer.transformer_blocks.0.attn.add_q_proj", 1536, "lora_A", "sd3"),
        ("transformer.transformer_blocks.0.attn.add_q_proj", 3072, "lora_A", ""),
        ("transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj", 3072, "lora_A", "flux2"),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv", 1536, "lora_down", "sd3"),
        ("diffusion_model.layers.0.attention.qkv", 3840, "lora_A", "z-image"),
    ],
)
def test_the_family_is_told_by_names_and_widths(
    tmp_path: Path, place: str, width: int, spelling: str, kind: str
) -> None:
    path = tmp_path / "theirs.safetensors"
    save_file(lora_header(place, width, spelling), path)
    described = formats.describe(path)
    assert (described.method, described.family, described.rank) == ("lora", kind, 4)


def test_the_pocket_base_is_known_by_its_own_width(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"cross_attention_dim": 96}))
    pocket = replace(family.CATALOG["pocket"], source=str(tmp_path))
    monkeypatch.setitem(family.CATALOG, "pocket", pocket)
    place = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    assert family.guess({f"{place}.lora_A.weight": (4, 96)}) == "pocket"
    assert family.of_word({"<mug>": (1, 96)}) == "pocket"


def test_a_description_needs_no_tensor(tmp_path: Path, many: dict[str, Adapter]) -> None:
    for method, adapter in many.items():
        stripped = tmp_path / f"{method}.safetensors"
        save_file(adapter.tensors, stripped)
        content = bytearray(stripped.read_bytes())
        start = 8 + struct.unpack("<Q", content[:8])[0]
        content[start:] = b"\xff" * (len(content) - start)  # every value a NaN
        stripped.write_bytes(content)
        found = formats.contents(stripped)
        assert found.description.method == method
        assert found.modules == len(deltas_of(adapter))
        assert found.text_encoder
        assert found.vectors == 0
        with pytest.raises(AdapterError, match="values that are no numbers"):
            formats.read(stripped)


# What is refused


def test_what_is_no_adapter_is_refused_by_name_and_reason(tmp_path: Path, base: UNetBase) -> None:
    lora = random_adapters.cut(random_adapters.make(), 2)
    whole = lora.save(tmp_path / "whole.safetensors").read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    one, two = list(lora.tensors)[:2]
    nan = lora.tensors | {one: torch.full_like(lora.tensors[one], float("nan"))}
    files: dict[str, tuple[bytes | dict[str, Tensor], str]] = {
        "empty": (b"", "not a whole safetensors file"),
        "cut": (whole[:-9], "cut short or padded"),
        "longer": (struct.pack("<Q", length + 10**6) + whole[8:], "not a whole safetensors file"),
        "pickled": (pickle.dumps({"state_dict": 1}), "is a pickle, whatever its name says"),
        "nan": (nan, "values that are no numbers"),
        "nothing": ({}, "it is empty"),
        "checkpoint": (
            {"unet.conv_in.weight": torch.zeros(2, 2), "unet.conv_in.bias": torch.zeros(2)},
            "They look like a whole model",
        ),
        "half": ({one: lora.tensors[one]}, "lacks a counterpart"),
        "oft": (
            {"lora_unet_mid_block_proj_in.oft_blocks": torch.zeros(2, 2, 2)},
            "They look like an OFT",
        ),
        "nowhere": (
            {
                "unet.nowhere.lora_A.weight": lora.tensors[one],
                "unet.nowhere.lora_B.weight": lora.tensors[two],
            },
            "0 of its 1 modules match",
        ),
    }
    for stem, (content, sentence) in files.items():
        path = tmp_path / f"{stem}.safetensors"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            save_file(content, path)
        with pytest.raises(AdapterError, match=sentence):
            deltas_of(formats.read(path, base))
    alone = tmp_path / "adapter_model.safetensors"
    save_file({f"base_model.model.{one.removeprefix('unet.')}": lora.tensors[one]}, alone)
    with pytest.raises(AdapterError, match=r"lies without its adapter_config\.json"):
        formats.read(alone)
    (tmp_path / "bare").mkdir()
    with pytest.raises(AdapterError, match="it is no adapter of PEFT's"):
        formats.describe(tmp_path / "bare")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"unet.lora_alpha": 0}, "is 0, which is no strength"),
        ({"unet.lora_alpha": float("nan")}, "is nan, which is no strength"),
        ({"unet.lora_alpha": "much"}, "is no number"),
        ({"unet.lora_alpha": 1, "unet.alpha_pattern": {"(a+)+$": 2}}, "only names of modules"),
        ({"unet.lora_alpha": 1, "unet.alpha_pattern": [1]}, "is no number"),
    ],
)
def test_a_configuration_that_is_no_strength_is_refused(
    tmp_path: Path, settings: dict[str, Any], sentence: str
) -> None:
    lora = random_adapters.cut(random_adapters.make(text=False), 1)
    path = tmp_path / "theirs.safetensors"
    save_file(lora.tensors, path, {"lora_adapter_metadata": json.dumps(settings)})
    with pytest.raises(AdapterError, match=sentence):
        formats.read(path)


def test_tensors_that_do_not_go_together_are_refused(tmp_path: Path, base: UNetBase) -> None:
    lora = random_adapters.cut(random_adapters.make(text=False), 1)
    (down, a), (up, b) = lora.tensors.items()
    path = tmp_path / "theirs.safetensors"
    for tensors, sentence in (
        ({down: a[:2], up: b}, "do not go together"),
        ({down: a[0], up: b}, "do not go together"),
        ({down: a, up: b, down.replace("lora_A.weight", "alpha"): a}, "do not go together"),
        ({down: a, up: b, down.replace("lora_A", "lora_mid"): a}, "do not go together"),
    ):
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, path)
        with pytest.raises(AdapterError, match=sentence):
            formats.read(path, base)


def test_a_file_for_another_family_is_told_before_its_tensors_are_read(
    tmp_path: Path, base: UNetBase
) -> None:
    path = tmp_path / "flux.safetensors"
    save_file(lora_header("transformer.single_transformer_blocks.0.attn.to_q", 3072), path)
    adapter = formats.read(path)
    assert formats.contents(path).modules == 1
    with pytest.raises(AdapterError, match=r"was made for FLUX\.1, and Pocket"):
        Stack((Slot(adapter),)).check(base.spec)
    with pytest.raises(
        AdapterError, match=r"made for FLUX\.1, and Pocket.* is tiny: no base here is of it"
    ):
        formats.read(path, base)
    save_file(lora_header("lora_unet_double_blocks_18_img_attn_qkv", 3072, "lora_down"), path)
    with pytest.raises(AdapterError, match=r"was made for FLUX.1"):
        formats.read(path, base)


def test_what_a_format_cannot_hold_is_said(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="PEFT has no file for a learned word"):
        formats.export(random_adapters.word(), tmp_path, "peft")
    flat = random_adapters.make("loha", targets=("proj_in",))  # linear in some bases, in others not
    with pytest.raises(AdapterError, match="export for kohya instead"):
        formats.export(flat, tmp_path / "loha.safetensors", "diffusers")
    path = tmp_path / "flux.safetensors"
    save_file(lora_header("transformer.single_transformer_blocks.0.attn.to_q", 3072), path)
    with pytest.raises(AdapterError, match="no name for a transformer"):
        formats.export(formats.read(path), tmp_path / "kohya.safetensors", "kohya")
