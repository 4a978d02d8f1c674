"""What is offered for another program is opened by that program's own reader, not by ours alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from personalization.adapters import formats
from personalization.adapters.adapter import Adapter, Description
from personalization.adapters.adapter_deltas import match_modules
from personalization.bases.unet import UNetBase
from personalization.errors import AdapterError
from tests.support import tiny

BLOCK = "mid_block.attentions.0.transformer_blocks.0"
LINEAR, CONVOLUTION = f"{BLOCK}.attn2.to_k", "mid_block.resnets.0.conv1"
POINTWISE = "mid_block.attentions.0.proj_in"  # a convolution of 1 x 1
Parts = dict[str, Tensor]
Make = Callable[[str, Tensor], Parts]


@pytest.fixture(scope="module")
def base() -> UNetBase:
    return tiny.base()


def random(*shape: int) -> Tensor:
    return 0.3 * torch.randn(*shape)


def flat(path: str) -> str:
    return "lora_unet_" + path.replace(".", "_")


def lora(path: str, weight: Tensor) -> Parts:
    ones = [1] * (weight.dim() - 2)
    return {
        f"{flat(path)}.lora_down.weight": random(4, *weight.shape[1:]),
        f"{flat(path)}.lora_up.weight": random(weight.shape[0], 4, *ones),
        f"{flat(path)}.alpha": torch.tensor(2.0),
    }


def dora(path: str, weight: Tensor) -> Parts:
    ones = [1] * (weight.dim() - 2)
    scale = torch.rand(weight.shape[0], 1, *ones) + 0.5
    return lora(path, weight) | {f"{flat(path)}.dora_scale": scale}


def loha(path: str, weight: Tensor) -> Parts:
    out, into = weight.flatten(1).shape
    factors = {"w1_a": (out, 2), "w1_b": (2, into), "w2_a": (out, 2), "w2_b": (2, into)}
    return {f"{flat(path)}.hada_{name}": random(*shape) for name, shape in factors.items()}


def lokr(path: str, weight: Tensor) -> Parts:
    out, into = weight.shape[:2]
    return {
        f"{flat(path)}.lokr_w1": random(4, 4),
        f"{flat(path)}.lokr_w2": random(out // 4, into // 4, *weight.shape[2:]),
        f"{flat(path)}.alpha": torch.tensor(9.0),
    }


def lokr_apart(path: str, weight: Tensor) -> Parts:
    """Its second factor is a product of rank 1, as for larger layers."""
    out, into = weight.shape[:2]
    kernel = weight[0, 0].numel()
    return {
        f"{flat(path)}.lokr_w1": random(2, 2),
        f"{flat(path)}.lokr_w2_a": random(out // 2, 1),
        f"{flat(path)}.lokr_w2_b": random(1, into // 2 * kernel),
        f"{flat(path)}.alpha": torch.tensor(3.0),
    }


ONE = {"lora": lora, "dora": dora, "loha": loha, "lokr": lokr, "lokr apart": lokr_apart}
FILES: dict[str, dict[str, Make]] = {
    **{name: {LINEAR: make, CONVOLUTION: make} for name, make in ONE.items()},
    "dora of a pointwise convolution": {POINTWISE: dora, LINEAR: dora},
    "LoRA, then LoKr": {LINEAR: lora, CONVOLUTION: lokr},
    "LoKr, then LoRA": {"down_blocks.0.resnets.0.conv1": lokr, LINEAR: lora},
    "LoHa and LoRA": {CONVOLUTION: loha, LINEAR: lora},
    "LoKr whole and apart": {LINEAR: lokr, CONVOLUTION: lokr_apart},
}


@pytest.fixture(params=FILES)
def adapter(request: pytest.FixtureRequest, tmp_path: Path, base: UNetBase) -> Adapter:
    """A file of LyCORIS', read for the tiny base."""
    torch.manual_seed(17)
    tensors: Parts = {}
    for path, make in FILES[request.param].items():
        tensors |= make(path, base.denoiser.get_parameter(f"{path}.weight"))
    save_file(tensors, tmp_path / "theirs.safetensors")
    return formats.read(tmp_path / "theirs.safetensors", base)


def assert_same(base: UNetBase, adapter: Adapter, theirs: nn.Module) -> None:
    """Every weight of `theirs` is the base's with the adapter, relatively within 1e-5."""
    found = {name.replace(".base_layer", ""): p for name, p in theirs.named_parameters()}
    deltas = {p: d.delta(p) for p, (_, d) in match_modules(base.modules, adapter).items()}
    assert deltas
    for name, parameter in base.denoiser.named_parameters():
        change = found[name] - parameter
        wanted = deltas.get(parameter, torch.zeros_like(parameter))
        assert (change - wanted).norm() <= 1e-5 * wanted.norm() + 1e-6, name


def test_an_untouched_pipeline_loads_what_is_offered_for_diffusers(
    tmp_path: Path, base: UNetBase, adapter: Adapter
) -> None:
    [path] = formats.export(adapter, tmp_path / "ours.safetensors")
    pipe = tiny.pipeline()
    pipe.load_lora_weights(path)
    pipe.fuse_lora()
    assert_same(base, adapter, pipe.unet)


def test_peft_loads_what_is_offered_for_peft(
    tmp_path: Path, base: UNetBase, adapter: Adapter
) -> None:
    formats.export(adapter, tmp_path / "peft", "peft")
    model = PeftModel.from_pretrained(tiny.pipeline().unet, tmp_path / "peft" / "unet")
    assert_same(base, adapter, model.merge_and_unload())


def test_what_is_offered_for_kohya_has_one_algorithm_in_its_shapes(
    tmp_path: Path, base: UNetBase, adapter: Adapter
) -> None:
    [path] = formats.export(adapter, tmp_path / "ours.safetensors", "kohya")
    tensors = load_file(path)
    kinds = {
        {"lora": "lora", "hada": "loha", "lokr": "lokr"}[part[:4]]
        for name in tensors
        if (part := name.partition(".")[2])[:4] in ("lora", "hada", "lokr")
    }
    assert len(kinds) == 1
    modules = {
        flat(name).removesuffix("_weight"): p for name, p in base.denoiser.named_parameters()
    }
    magnitudes = False
    for name, tensor in tensors.items():
        module, _, part = name.partition(".")
        if part == "dora_scale":  # LyCORIS' wd_on_output: an output each, and ones
            magnitudes, weight = True, modules[module]
            assert tensor.shape == (len(weight), *[1] * (weight.dim() - 1))
        if part == "alpha":
            assert tensor.shape == ()
    with safe_open(path, "pt") as file:
        header = file.metadata()
    plain = kinds == {"lora"} and not magnitudes
    assert header["ss_network_module"] == ("networks.lora" if plain else "lycoris.kohya")
    if not plain:
        assert json.loads(header["ss_network_args"])["algo"] in kinds
    assert formats.difference(adapter, formats.read(path)) < 1e-5


def test_a_copy_in_the_library_is_the_same(tmp_path: Path, adapter: Adapter) -> None:
    metadata = formats.diffusers_metadata(adapter)
    again = formats.read(adapter.save(tmp_path / "copy.safetensors", metadata))
    assert formats.difference(adapter, again) < 1e-6
    assert again.description.title == adapter.description.title


def test_flat_factors_get_the_kernel_of_their_layer_where_the_family_tells(tmp_path: Path) -> None:
    """SD 1.x has a convolution of 1 x 1 where SDXL has a linear layer, of the same numbers."""
    flat_factors = {"lora_A.weight": random(4, 320), "lora_B.weight": random(320, 4)}
    for family, ones in (("sd1", (1, 1)), ("sdxl", ())):
        key = "unet.down_blocks.1.attentions.0.proj_in"
        for dims in ((), (1, 1)):
            tensors = {f"{key}.{n}": t.reshape(*t.shape, *dims) for n, t in flat_factors.items()}
            adapter = Adapter(Description("lora", family, rank=4, alpha=4.0), tensors)
            for format, ending in (("diffusers", "lora_A.weight"), ("kohya", "lora_down.weight")):
                [path] = formats.export(adapter, tmp_path / f"{format}.safetensors", format)
                [shape] = [t.shape for n, t in load_file(path).items() if n.endswith(ending)]
                assert shape == (4, 320, *ones)


def test_a_dora_in_some_layers_is_offered_where_it_can_be_held(
    tmp_path: Path, base: UNetBase
) -> None:
    tensors = dora(LINEAR, base.denoiser.get_parameter(f"{LINEAR}.weight"))
    tensors |= lora(CONVOLUTION, base.denoiser.get_parameter(f"{CONVOLUTION}.weight"))
    save_file(tensors, tmp_path / "some.safetensors")
    adapter = formats.read(tmp_path / "some.safetensors", base)
    for format in ("diffusers", "peft"):
        with pytest.raises(AdapterError, match="a DoRA in some layers of the unet only"):
            formats.export(adapter, tmp_path / format, format)
    [path] = formats.export(adapter, tmp_path / "kohya.safetensors", "kohya")
    assert formats.difference(adapter, formats.read(path)) < 1e-5
