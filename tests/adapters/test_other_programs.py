"""What other programs write is read as they mean it, or refused for what is true of it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import Tensor

from personalization.adapters import formats
from personalization.adapters.adapter import Adapter, Description
from personalization.adapters.adapter_deltas import (
    deltas_of,
    learned_rows,
    match_modules,
    with_word,
)
from personalization.adapters.formats import names
from personalization.adapters.formats.description import trigger_words
from personalization.adapters.formats.family import guess
from personalization.adapters.module_keys import ModuleKey
from personalization.bases.base import Base
from personalization.bases.catalog import CATALOG
from personalization.bases.unet import UNetBase
from personalization.errors import AdapterError
from personalization.stacking.application import applied
from personalization.stacking.stack import Slot, Stack
from tests.support import tiny

TO_K = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
Parts = dict[str, Tensor]


@pytest.fixture(scope="module")
def base() -> UNetBase:
    return tiny.base()


@pytest.fixture(scope="module")
def klein() -> Base:
    return tiny.family_base("flux2-klein")


def factors(out: int, into: int, seed: int = 0, rank: int = 4) -> tuple[Tensor, Tensor]:
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(rank, into, generator=noise), torch.randn(out, rank, generator=noise)


def lora(stem: str, out: int, into: int, *, down: str = "lora_A.weight", seed: int = 0) -> Parts:
    up = down.replace("lora_A", "lora_B").replace("down", "up")
    a, b = factors(out, into, seed)
    return {f"{stem}.{down}": a, f"{stem}.{up}": b}


def weight_of(base: Base, path: str) -> Tensor:
    return base.denoiser.get_parameter(f"{path}.weight")


def saved(folder: Path, tensors: Parts, name: str = "theirs", **metadata: str) -> Path:
    path = folder / f"{name}.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata)
    return path


def changes(base: Base, adapter: Adapter) -> dict[str, Tensor]:
    """What the adapter adds to each weight of the denoiser, by path."""
    paths = {parameter: name for name, parameter in base.denoiser.named_parameters()}
    return {
        paths[parameter].removesuffix(".weight"): delta.delta(parameter)
        for parameter, (_, delta) in match_modules(base.modules, adapter).items()
    }


def near(a: Tensor, b: Tensor) -> bool:
    return bool((a.double() - b.double()).norm() < 1e-5 * b.double().norm())


# Spellings

DOTTED = {
    "PEFT's prefix behind the component": f"unet.base_model.model.{TO_K}",
    "PEFT's prefix twice": f"unet.base_model.model.base_model.model.{TO_K}",
    "ComfyUI's prefix": f"diffusion_model.{TO_K}",
    "no component": TO_K,
    "Stability's names behind the component": (
        "unet.middle_block.1.transformer_blocks.0.attn2.to_k"
    ),
    "ComfyUI's extracted LoRA": ("diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k"),
    "a checkpoint's prefix": (
        "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k"
    ),
    "LyCORIS around a UNet": "lycoris_" + TO_K.replace(".", "_"),
    "kohya": "lora_unet_" + TO_K.replace(".", "_"),
}
PARTS = (
    "lora_A.weight",
    "lora_down.weight",
    "lora.down.weight",
    "lora_A.default.weight",
    "lora_A.my-style_2.weight",
)


@pytest.mark.parametrize("stem", DOTTED.values(), ids=DOTTED)
@pytest.mark.parametrize("part", PARTS)
def test_one_module_in_every_spelling(tmp_path: Path, base: UNetBase, stem: str, part: str) -> None:
    weight = weight_of(base, TO_K)
    path = saved(tmp_path, lora(stem, *weight.shape, down=part))
    a, b = factors(*weight.shape)
    [delta] = changes(base, formats.read(path, base)).values()
    assert near(delta, b @ a)


def test_text_encoders_are_known_by_every_name_of_theirs() -> None:
    layer = "text_model.encoder.layers.1.self_attn.q_proj"
    for name, component in {
        f"clip_l.{layer}.lora_up.weight": "text_encoder",
        f"clip_g.{layer}.lora_up.weight": "text_encoder_2",
        f"text_encoders.clip_l.transformer.{layer}.lora_up.weight": "text_encoder",
        f"text_encoder.base_model.model.{layer}.lora_B.weight": "text_encoder",
        f"lora_te2_{layer.replace('.', '_')}.lora_up.weight": "text_encoder_2",
        "text_encoder.text_model.encoder.layers.1.self_attn.to_q_lora.up.weight": "text_encoder",
    }.items():
        assert names.parse(name) == (ModuleKey(component, layer), "lora_B.weight")


KLEIN = {  # Black Forest Labs' modules: diffusers', in the order of their rows
    "double_blocks.0.img_attn.qkv": [f"transformer_blocks.0.attn.to_{x}" for x in "qkv"],
    "double_blocks.0.txt_attn.qkv": [f"transformer_blocks.0.attn.add_{x}_proj" for x in "qkv"],
    "double_blocks.0.img_attn.proj": ["transformer_blocks.0.attn.to_out.0"],
    "double_blocks.0.txt_attn.proj": ["transformer_blocks.0.attn.to_add_out"],
    "double_blocks.0.img_mlp.0": ["transformer_blocks.0.ff.linear_in"],
    "double_blocks.0.txt_mlp.2": ["transformer_blocks.0.ff_context.linear_out"],
    "single_blocks.0.linear1": ["single_transformer_blocks.0.attn.to_qkv_mlp_proj"],
    "single_blocks.0.linear2": ["single_transformer_blocks.0.attn.to_out"],
    "double_stream_modulation_img.lin": ["double_stream_modulation_img.linear"],
    "final_layer.linear": ["proj_out"],
}


FUSED_BY_DIFFUSERS = {  # the layers that its pipeline makes one for a LoKr
    "double_blocks.0.img_attn.qkv": "transformer_blocks.0.attn.to_qkv",
    "double_blocks.0.txt_attn.qkv": "transformer_blocks.0.attn.to_added_qkv",
}


def klein_file(base: Base, kind: str) -> tuple[Parts, dict[str, Tensor]]:
    """A LoRA or a LoKr of `KLEIN`, and what it adds to each weight."""
    file: Parts = {}
    wanted: dict[str, Tensor] = {}
    for seed, (theirs, ours) in enumerate(KLEIN.items()):
        rows = [weight_of(base, path).shape[0] for path in ours]
        out, into = sum(rows), weight_of(base, ours[0]).shape[1]
        a, b = factors(out, into, seed)
        product = b @ a
        tensors = {"lora_A.weight": a, "lora_B.weight": b}
        if kind == "lokr":  # two rows of w1: a fused layer's thirds lie across them
            w1, w2 = torch.randn(2, 2), torch.randn(out // 2, into // 2)
            product, tensors = torch.kron(w1, w2), {"lokr_w1": w1, "lokr_w2": w2}
        if kind == "loha":
            c, d = factors(out, into, seed + 50)
            product = (b @ a) * (d @ c)
            tensors = {"hada_w1_a": b, "hada_w1_b": a, "hada_w2_a": d, "hada_w2_b": c}
        if kind == "dora":
            weight = torch.cat([weight_of(base, path) for path in ours])
            tensors["dora_scale"] = torch.rand(out, 1) + 0.5
            directed = weight + product
            product = directed * tensors["dora_scale"] / directed.norm(dim=1, keepdim=True) - weight
        file |= {f"diffusion_model.{theirs}.{part}": tensor for part, tensor in tensors.items()}
        wanted |= dict(zip(ours, product.split(rows), strict=True))
    return file, wanted


@pytest.mark.parametrize("kind", ["lora", "lokr"])
def test_klein_in_black_forest_labs_names_is_read_as_diffusers_reads_it(
    tmp_path: Path, klein: Base, kind: str
) -> None:
    file, wanted = klein_file(klein, kind)
    path = saved(tmp_path, file)
    assert formats.describe(path).family == "flux2"
    assert formats.contents(path).modules == len(wanted)
    adapter = formats.read(path, klein)
    found = changes(klein, adapter)
    assert found.keys() == wanted.keys()
    assert all(near(found[name], wanted[name]) for name in wanted)
    written = formats.export(adapter, tmp_path / "ours.safetensors")
    for source in (path, *written):
        pipe = tiny.family_pipeline("flux2-klein")
        pipe.load_lora_weights(source)
        pipe.fuse_lora()
        theirs = {n.replace(".base_layer", ""): p for n, p in pipe.transformer.named_parameters()}
        for theirs_name, ours in KLEIN.items():
            before = torch.cat([weight_of(klein, name) for name in ours])
            after = torch.cat([theirs[f"{name}.weight"] for name in ours])
            fused = FUSED_BY_DIFFUSERS.get(theirs_name, "")
            if source == path and f"{fused}.weight" in theirs:
                after = theirs[f"{fused}.weight"]
            assert near(after - before, torch.cat([wanted[name] for name in ours])), theirs_name


@pytest.mark.parametrize("kind", ["loha", "dora"])
def test_a_fused_layers_loha_and_dora_are_parted_by_their_rows(
    tmp_path: Path, klein: Base, kind: str
) -> None:
    file, wanted = klein_file(klein, kind)
    adapter = formats.read(saved(tmp_path, file), klein)
    for name, delta in changes(klein, adapter).items():
        assert near(delta, wanted[name]), name
    [written] = formats.export(adapter, tmp_path / "ours.safetensors")
    again = changes(klein, formats.read(written, klein))
    assert all(near(again[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("prefix", ["lora_unet_", "lora_transformer_", "lycoris_"])
def test_klein_with_underscores_is_the_same(tmp_path: Path, klein: Base, prefix: str) -> None:
    theirs = "single_blocks_0_linear1"
    if prefix != "lora_unet_":
        theirs = "single_transformer_blocks_0_attn_to_qkv_mlp_proj"
    ours = "single_transformer_blocks.0.attn.to_qkv_mlp_proj"
    shape = weight_of(klein, ours).shape
    tensors = lora(prefix + theirs, *shape, down="lora_down.weight")
    tensors[f"{prefix}{theirs}.alpha"] = torch.tensor(2.0)
    a, b = factors(*shape)
    assert near(changes(klein, formats.read(saved(tmp_path, tensors), klein))[ours], 0.5 * (b @ a))


def test_sd3_in_stabilitys_names_is_parted_into_query_key_and_value(tmp_path: Path) -> None:
    base = tiny.family_base("sd35-medium")
    width = weight_of(base, "transformer_blocks.0.attn.to_q").shape[1]
    stem = "lora_unet_joint_blocks_0_context_block_attn_qkv"
    tensors = lora(stem, 3 * width, width, down="lora_down.weight")
    found = changes(base, formats.read(saved(tmp_path, tensors), base))
    a, b = factors(3 * width, width)
    for name, rows in zip("qkv", (b @ a).chunk(3), strict=True):
        assert near(found[f"transformer_blocks.0.attn.add_{name}_proj"], rows)


def test_comfyuis_differences_of_norms_and_biases_are_applied(
    tmp_path: Path, base: UNetBase
) -> None:
    module = "mid_block.resnets.0"
    tensors = {
        "diffusion_model.middle_block.0.in_layers.0.diff": torch.ones(32),
        "diffusion_model.middle_block.0.in_layers.2.diff_b": torch.full((32,), 2.0),
        **lora("diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k", 32, 32),
    }
    adapter = formats.read(saved(tmp_path, tensors), base)
    before = {n: p.detach().clone() for n, p in base.denoiser.named_parameters()}
    with applied(base, Stack((Slot(adapter, 0.5),))):
        after = {n: p.detach().clone() for n, p in base.denoiser.named_parameters()}
    assert torch.allclose(after[f"{module}.norm1.weight"], before[f"{module}.norm1.weight"] + 0.5)
    assert torch.allclose(after[f"{module}.conv1.bias"], before[f"{module}.conv1.bias"] + 1)
    for format, sentence in (("diffusers", "cannot hold"), ("kohya", "biases or norms")):
        with pytest.raises(AdapterError, match=sentence):
            formats.export(adapter, tmp_path / "out.safetensors", format)


def test_onetrainers_sdxl_is_kohyas_with_dots(tmp_path: Path) -> None:
    unet = UNet2DConditionModel(
        block_out_channels=(8, 8, 16),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=4,
        norm_num_groups=4,
        cross_attention_dim=2048,
    )
    base: Any = SimpleNamespace(modules={"unet": unet}, spec=CATALOG["sdxl"], denoiser=unet)
    stem = "output_blocks.5.1.transformer_blocks.0.attn2.to_v"
    tensors = lora(f"unet.{stem}", 8, 2048, down="lora_down.weight")
    path = saved(tmp_path, tensors)
    assert formats.describe(path).family == "sdxl"
    [name] = changes(base, formats.read(path, base))
    assert name == "up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_v"


# What is not understood, is for another family, or does not fit


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("lora_unet_mid_block_proj_in.oft_blocks", "an OFT"),
        ("lora_unet_mid_block_proj_in.a1.weight", "a GLoRA"),
        ("lora_unet_mid_block_proj_in.on_input", "an (IA)³"),
        ("unet.mid_block.proj_in.weight", "a whole model"),
        ("control_model.input_hint_block.0.weight", "a ControlNet"),
        ("lora_unet_x.lora_down.weight_scale", "8 bits with scales"),
        ("something.else", "nobody's that is known here"),
    ],
)
def test_names_that_are_not_understood_are_named_with_whose_they_look_like(
    tmp_path: Path, name: str, whose: str
) -> None:
    tensors = {name: torch.zeros(2, 2, 2), "unet.a.lora_A.weight": torch.zeros(2, 2)}
    for read in (formats.describe, formats.read):
        with pytest.raises(AdapterError) as caught:
            read(saved(tmp_path, tensors))
        assert f"“{name}” of 2 in all" in str(caught.value)
        assert whose in str(caught.value)
        assert "made for" not in str(caught.value)


def test_what_does_not_fit_says_which_module_and_why(tmp_path: Path, base: UNetBase) -> None:
    for tensors, sentence in (
        (lora("unet.mid_block.nowhere", 8, 8), r"it has no unet\.mid_block\.nowhere"),
        (lora(f"unet.{TO_K}", 32, 31), r"to_k has another shape, 32 × 32"),
    ):
        with pytest.raises(AdapterError, match=f"0 of its 1 modules match .*{sentence}"):
            formats.read(saved(tmp_path, tensors), base)


FAMILIES = [
    ("LTX-Video", "diffusion_model.transformer_blocks.0.attn2.to_k", 2048, 2048),
    ("LTX-Video", "transformer.transformer_blocks.27.attn1.to_q", 2048, 2048),
    ("HunyuanDiT", "transformer.blocks.0.attn2.to_k", 1408, 1024),
    ("HunyuanDiT", "blocks.3.attn1.to_q", 1408, 1408),
    ("Wan", "diffusion_model.blocks.0.self_attn.q", 5120, 5120),
    ("Wan", "lora_unet_blocks_0_cross_attn_k", 1536, 1536),
    ("Wan", "transformer.blocks.0.attn2.to_k", 5120, 5120),
    ("z-image", "diffusion_model.layers.0.attention.to_q", 3840, 3840),
    ("z-image", "lora_unet_noise_refiner_0_attention_qkv", 11520, 3840),
    ("Lumina 2", "diffusion_model.layers.0.attention.qkv", 6912, 2304),
    ("Qwen-Image", "transformer.transformer_blocks.0.img_mlp.net.0.proj", 12288, 3072),
    ("Qwen-Image", "transformer.transformer_blocks.59.attn.add_q_proj", 3072, 3072),
    ("HunyuanVideo", "lora_unet_double_blocks_0_img_mlp_fc1", 12288, 3072),
    ("FLUX.1", "lora_unet_single_blocks_0_linear1", 21504, 3072),
    ("FLUX.1", "diffusion_model.double_blocks.0.img_mod.lin", 18432, 3072),
    ("FLUX.1", "lora_unet_double_blocks_18_img_attn_qkv", 9216, 3072),
    ("FLUX.1", "transformer.single_transformer_blocks.0.proj_mlp", 12288, 3072),
    ("flux2", "diffusion_model.single_blocks.0.linear1", 27648, 3072),
    ("flux2", "lora_unet_single_blocks_0_linear2", 3072, 12288),
    ("flux2", "base_model.model.double_blocks.0.img_mlp.0", 18432, 3072),
    ("flux2", "lycoris_transformer_blocks_0_ff_linear_in", 18432, 3072),
    ("flux2", "lora_unet_double_blocks_0_img_attn_qkv", 12288, 4096),
    ("", "lora_unet_double_blocks_0_img_attn_qkv", 9216, 3072),
    ("AuraFlow", "transformer.joint_transformer_blocks.0.attn.to_q", 3072, 3072),
    ("HiDream", "diffusion_model.double_stream_blocks.0.block.attn1.to_q", 2560, 2560),
    ("PixArt", "transformer.transformer_blocks.0.attn1.to_q", 1152, 1152),
    ("CogVideoX", "transformer.transformer_blocks.0.attn1.to_q", 3072, 3072),
    ("sd3", "lora_unet_joint_blocks_0_x_block_attn_qkv", 4608, 1536),
    ("sd3", "transformer.transformer_blocks.0.attn.add_q_proj", 1536, 1536),
    ("sdxl", "unet.input_blocks.8.1.transformer_blocks.9.attn1.to_q", 1280, 1280),
    ("sdxl", "unet.mid_block.attentions.0.transformer_blocks.9.ff.net.2", 1280, 5120),
    ("sd1", "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k", 320, 768),
    ("", "clip_l.text_model.encoder.layers.0.self_attn.q_proj", 768, 768),
    ("", "lora_te1_text_model_encoder_layers_0_self_attn_q_proj", 768, 768),
]


@pytest.mark.parametrize(("family", "stem", "out", "into"), FAMILIES)
def test_a_family_is_told_by_its_paths_and_widths(
    family: str, stem: str, out: int, into: int
) -> None:
    shapes = {f"{stem}.lora_A.weight": (4, into), f"{stem}.lora_B.weight": (out, 4)}
    assert guess(shapes) == family
    w1 = {f"{stem}.lokr_w1": (2, 2), f"{stem}.lokr_w2": (out // 2, into // 2)}
    assert guess(w1) == family


def test_a_unet_beside_a_text_encoder_tells_the_family() -> None:
    text = {f"{name}.lora_A.weight": (4, 768) for name in (
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj",
    )}  # fmt: skip
    unet = {"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": (4, 2048)}
    assert guess(text | unet) == "sdxl"
    widths = {
        f"unet.up_blocks.{i}.attn2.to_k.lora_A.weight": (4, w) for i, w in ((0, 768), (1, 2048))
    }
    assert guess(widths) == ""


def test_a_family_that_no_base_is_of_is_refused_by_its_own_name(
    tmp_path: Path, base: UNetBase
) -> None:
    path = saved(tmp_path, lora("diffusion_model.blocks.0.ffn.0", 64, 64)
                 | lora("diffusion_model.blocks.0.self_attn.q", 64, 64))  # fmt: skip
    with pytest.raises(AdapterError, match=r"made for Wan, and .* is tiny: no base here is of it"):
        formats.read(path, base)
    with pytest.raises(AdapterError, match=r"made for Wan, .* no base here is, so take it out"):
        Stack((Slot(Adapter(formats.describe(path), {})),)).check(base.spec)


# Words


def test_several_bundled_words_are_refused_by_name(tmp_path: Path) -> None:
    for vector in ("string_to_param.*", "clip_l"):
        words = {f"bundle_emb.{w}.{vector}": torch.ones(1, 32) for w in ("<ann>", "b.o.b")}
        path = saved(tmp_path, words | lora(f"unet.{TO_K}", 32, 32))
        for read in (formats.describe, formats.read):
            with pytest.raises(AdapterError, match=r"2 learned words \(<ann>, b\.o\.b\)"):
                read(path)


def test_a_bundled_word_has_all_between_the_prefix_and_the_vector(tmp_path: Path) -> None:
    for word in ("v1.5-style", "<猫>", "кот"):
        for vector in ("string_to_param.*", "clip_l", "emb_params"):
            tensors = {f"bundle_emb.{word}.{vector}": torch.ones(2, 32)}
            adapter = formats.read(saved(tmp_path, tensors | lora(f"unet.{TO_K}", 32, 32)))
            assert adapter.description.placeholder_token == word
            assert learned_rows(adapter)["text_encoder"].shape == (2, 32)


def test_output_vectors_never_take_the_place_of_a_words_rows(tmp_path: Path) -> None:
    bundled = {f"bundle_emb.<cat>.clip_l{end}": torch.ones(1, 32) for end in ("", "_out")}
    with pytest.raises(AdapterError, match="output vectors"):
        formats.read(saved(tmp_path, bundled | lora(f"unet.{TO_K}", 32, 32)))
    for file in (
        {"clip_l": torch.ones(1, 768), "clip_l_out": torch.ones(1, 768)},
        {"emp_params": torch.ones(1, 768), "emp_params_out": torch.ones(1, 768)},
    ):
        with pytest.raises(AdapterError, match="output vectors"):
            formats.read(saved(tmp_path, file))


@pytest.mark.parametrize("key", ["emb_params", "emp_params", "*", "string_to_param"])
def test_where_the_key_is_no_word_the_files_name_is(tmp_path: Path, key: str) -> None:
    for stem, word in {
        "red-mug": "red-mug",
        "中文字": "中文字",
        "Кот": "Кот",
        "sen\u0303al": "señal",
        "हिन्दी": "हिन्दी",
        "v1.5 (final)": "v1-5-final",
        "🐱": "🐱",
    }.items():
        path = saved(tmp_path, {key: torch.zeros(2, 768)}, stem)
        assert formats.describe(path).placeholder_token == word


@pytest.mark.parametrize(
    ("key", "encoder"), [("clip_l", "text_encoder"), ("clip_g", "text_encoder_2")]
)
def test_one_of_sdxls_two_is_for_the_encoder_that_it_names(
    tmp_path: Path, key: str, encoder: str
) -> None:
    adapter = formats.read(saved(tmp_path, {key: torch.ones(2, 48)}, "zz-style"))
    assert adapter.description.family in ("", "sdxl")
    assert adapter.description.placeholder_token == "zz-style"
    assert set(learned_rows(adapter)) == {encoder}
    [written] = formats.export(adapter, tmp_path / "out" / "x.safetensors", "kohya")
    assert written.name == "zz-style.safetensors"


@pytest.mark.parametrize(
    ("word", "stem"), [("<glow>", "glow"), ("my_mug", "my_mug"), ("猫", "猫"), ("a/b:c", "abc")]
)
def test_for_comfyui_and_a1111_the_words_file_is_called_as_the_word(
    tmp_path: Path, word: str, stem: str
) -> None:
    description = Description("textual_inversion", "sd1", placeholder_token=word, rank=1)
    adapter = Adapter(description, {word: torch.ones(1, 768)})
    [written] = formats.export(adapter, tmp_path / "neon-kohya.safetensors", "kohya")
    assert written.stem == stem
    assert formats.difference(adapter, formats.read(written)) == 0


def test_a_word_is_renamed_with_its_rows(tmp_path: Path) -> None:
    alone = formats.read(saved(tmp_path, {"<cat>": torch.ones(2, 32)}))
    bundle = {"bundle_emb.<cat>.string_to_param.*": torch.ones(2, 32)}
    beside = formats.read(saved(tmp_path, bundle | lora(f"unet.{TO_K}", 32, 32)))
    for adapter in (alone, beside):
        renamed = with_word(adapter, "猫")
        assert renamed.description.trigger.startswith("猫")
        assert torch.equal(learned_rows(renamed)["text_encoder"], torch.ones(2, 32))
        assert not any("<cat>" in name for name in renamed.tensors)
    [written] = formats.export(with_word(alone, "<dog>"), tmp_path / "dog.safetensors")
    assert formats.read(written).description.placeholder_token == "<dog>"


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"modelspec.trigger_phrase": "ohwx man, red hat"}, ["ohwx man", "red hat"]),
        (
            {"ss_tag_frequency": json.dumps({"10_a": {"sks": 9, "dog": 3}, "b": {"dog": 7}})},
            ["dog", "sks"],
        ),
        ({"ss_tag_frequency": "{broken"}, []),
        ({"ss_tag_frequency": json.dumps({"a": [1], "b": {"x": "y"}, "c": 3})}, []),
        ({"ss_tag_frequency": '{"a":' * 10000}, []),
        ({}, []),
    ],
)
def test_trigger_words_of_others_are_read_and_stay_in_the_description(
    tmp_path: Path, metadata: dict[str, str], words: list[str]
) -> None:
    path = saved(tmp_path, lora(f"unet.{TO_K}", 32, 32), **metadata)
    assert trigger_words(metadata) == words
    adapter = formats.read(path)
    assert adapter.description.trigger_words == words
    assert formats.describe(adapter.save(tmp_path / "own.safetensors")).trigger_words == words


# What is of another training, damaged, or too large


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora", "corda", "loftq"])
def test_an_adapter_that_began_from_a_changed_base_is_refused(tmp_path: Path, start: str) -> None:
    config = {"r": 4, "lora_alpha": 4, "init_lora_weights": start, "peft_type": "LORA"}
    folder = tmp_path / "unet"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    saved(folder, lora(f"base_model.model.{TO_K}", 32, 32), "adapter_model")
    with pytest.raises(AdapterError, match=f"trained from {start}"):
        formats.read(folder)
    header = {"lora_adapter_metadata": json.dumps({f"unet.{k}": v for k, v in config.items()})}
    with pytest.raises(AdapterError, match=f"trained from {start}"):
        formats.read(saved(tmp_path, lora(f"unet.{TO_K}", 32, 32), **header))


@pytest.mark.parametrize("start", [True, "gaussian", "orthogonal"])
def test_an_adapter_that_began_from_the_plain_base_is_read_as_peft_reads_it(
    tmp_path: Path, base: UNetBase, start: Any
) -> None:
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["to_q"], init_lora_weights=start)
    model = get_peft_model(tiny.pipeline().unet, config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter)
    model.save_pretrained(tmp_path / "unet")
    merged = dict(model.merge_and_unload().named_parameters())
    for name, delta in changes(base, formats.read(tmp_path / "unet", base)).items():
        assert near(delta, merged[f"{name}.weight"] - weight_of(base, name)), name


@pytest.mark.parametrize(
    ("setting", "value"), [("fan_in_fan_out", True), ("use_dora", True), ("peft_type", "BOFT")]
)
def test_a_configuration_under_which_the_tensors_mean_something_else_is_refused(
    tmp_path: Path, setting: str, value: Any
) -> None:
    header = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 4, f"unet.{setting}": value})}
    with pytest.raises(AdapterError, match=setting if setting != "peft_type" else "PEFT's BOFT"):
        formats.read(saved(tmp_path, lora(f"unet.{TO_K}", 32, 32), **header))


STEM = f"unet.{TO_K}"
LORA = lora(STEM, 32, 32)
LOKR = {f"{STEM}.lokr_w1": torch.ones(4, 4), f"{STEM}.lokr_w2": torch.ones(8, 8)}
EMPTY = {f"{STEM}.lora_A.weight": torch.zeros(0, 32), f"{STEM}.lora_B.weight": torch.zeros(32, 0)}
BROKEN: dict[str, tuple[Parts, str]] = {
    "rank 0": (EMPTY, "its rank there is 0"),
    "two adapters": (LORA | lora(STEM, 32, 32, down="lora_A.style.weight"), "two adapters in one"),
    "two algorithms in one layer": (LORA | LOKR, "in two ways at once"),
    "a word beside a LoRA": (LORA | {"emb_params": torch.ones(1, 32)}, "not understood"),
    "whole numbers": ({n: t.to(torch.int8) for n, t in LORA.items()}, "holds int8 values"),
    "an alpha of several": (LORA | {f"{STEM}.alpha": torch.ones(2)}, "do not go together"),
    "a core alone": ({f"{STEM}.lora_mid.weight": torch.ones(2, 2, 3, 3)}, "do not go together"),
    "a scale alone": ({f"{STEM}.dora_scale": torch.ones(32, 1)}, "lacks a counterpart"),
    "an alpha alone": ({f"{STEM}.alpha": torch.tensor(1.0)}, "nothing that it scales"),
    "complex numbers": ({n: t.to(torch.complex64) for n, t in LORA.items()}, "complex64 values"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_cannot_be_applied_is_refused_in_a_sentence(
    tmp_path: Path, base: UNetBase, what: str
) -> None:
    tensors, sentence = BROKEN[what]
    with pytest.raises(AdapterError, match=sentence):
        formats.read(saved(tmp_path, tensors), base)


@pytest.mark.parametrize("alpha", ["²", "nan", "-inf", "", "None", "1e400", "٣"])
def test_an_alpha_in_the_header_that_is_no_number_is_nothing(tmp_path: Path, alpha: str) -> None:
    path = saved(tmp_path, lora(STEM, 32, 32), ss_network_alpha=alpha)
    assert formats.describe(path).alpha in (0.0, 3.0)
    assert formats.read(path).description.rank == 4


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16])
def test_small_floats_are_read_as_what_they_hold(
    tmp_path: Path, base: UNetBase, dtype: torch.dtype
) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in lora(STEM, 32, 32).items()}
    tensors[f"{STEM}.alpha"] = torch.tensor(2.0).to(dtype)
    adapter = formats.read(saved(tmp_path, tensors), base)
    a, b = (tensors[f"{STEM}.{part}.weight"].double() for part in ("lora_A", "lora_B"))
    assert near(changes(base, adapter)[TO_K], 0.5 * (b @ a))
    for format in formats.FORMATS:
        path = tmp_path / ("folder" if format == "peft" else f"{format}.safetensors")
        assert formats.export(adapter, path, format)


def test_small_files_that_claim_a_huge_layer_are_refused_before_it_is_laid_out(
    tmp_path: Path,
) -> None:
    long, wide = torch.ones(100_000, 1), torch.ones(1, 100_000)
    core, many = torch.ones(1, 50_000, 1, 1), torch.ones(50_000, 1)
    row, middle = torch.ones(1, 20_000), torch.ones(50_000, 1, 1, 1)
    for tensors in (
        {"lora_A.weight": wide, "lora_B.weight": long},
        {"lokr_w1": torch.ones(400, 400), "lokr_w2": torch.ones(400, 400)},
        {"hada_w1_a": long, "hada_w1_b": wide, "hada_w2_a": long, "hada_w2_b": wide},
        {"lora_A.weight": row, "lora_B.weight": torch.ones(8, 50_000), "lora_mid.weight": middle},
        {"lokr_w1": torch.ones(1, 1), "lokr_w2_a": wide, "lokr_w2_b": many, "lokr_t2": core},
    ):
        file = {f"unet.conv_in.{part}": tensor for part, tensor in tensors.items()}
        with pytest.raises(AdapterError, match="are the most that any base's has"):
            deltas_of(formats.read(saved(tmp_path, {n: t.clone() for n, t in file.items()})))
