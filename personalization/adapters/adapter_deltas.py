"""From an adapter's tensors to what each weight of a base changes by.

adapter -> deltas_of -> {ModuleKey: WeightDelta}    match_modules -> the same by parameter
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from personalization.adapters.adapter import Adapter
from personalization.adapters.low_rank_factors import check_size
from personalization.adapters.module_keys import ModuleKey, parameters_by_key
from personalization.adapters.weight_deltas import (
    DifferenceDelta,
    DoRADelta,
    FullDelta,
    LoHaDelta,
    LoKrDelta,
    LoRADelta,
    WeightDelta,
    without_magnitude,
)
from personalization.data.concept import check_name_of_word
from personalization.errors import AdapterError, ConceptError

# A key with "lora" in it and no component before it: `load_lora_weights` takes files in which
# every key says "lora", and passes over those of no component.
WORD = "lora_word."
TEXTUAL_INVERSION = "textual_inversion"  # the method of files that hold a word and nothing else

FULL = "full"  # the method of files that hold parameters as they became, not adapters
MAGNITUDE = "lora_magnitude_vector"
DIFFERENCE = "diff"  # W - W0 as it is
SUFFIXES = (
    "lora_A.weight",
    "lora_B.weight",
    MAGNITUDE,
    *(f"hada_{name}" for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
    *(f"lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")),
    DIFFERENCE,
)
# Layers that stand for several, whose outputs they have one after the other.
FUSED = {
    "to_qkv": ("to_q", "to_k", "to_v"),
    "to_added_qkv": ("add_q_proj", "add_k_proj", "add_v_proj"),
}
_RESERVED = ("clip_l", "clip_g", "emb_params", "emp_params", "string_to_param", "*")
_ENCODERS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}


def split_name(name: str) -> tuple[ModuleKey, str]:
    """From "unet.down_blocks.0.to_q.lora_A.weight" to (ModuleKey, "lora_A.weight").

    transformers wants ".weight" behind a text encoder's magnitude; here it is the same part.
    Raises `AdapterError` on a name that ends as no known method's tensors do.
    """
    name = name.removesuffix(".weight") if name.endswith(f"{MAGNITUDE}.weight") else name
    for suffix in SUFFIXES:
        if name.endswith(f".{suffix}"):
            component, _, path = name.removesuffix(f".{suffix}").partition(".")
            return ModuleKey(component, path), suffix
    raise AdapterError(
        f"The adapter holds “{name}”, which is none of LoRA, LoHa, LoKr or DoRA: "
        "it cannot be applied whole, and is not applied in part.",
        field="adapter",
    )


def learned_rows(adapter: Adapter) -> dict[str, Tensor]:
    """The rows of the adapter's learned word by text encoder, (vectors, width) each; or none.

    Raises `AdapterError` where there are two for one text encoder: an adapter has one word.
    """
    alone = adapter.description.method == TEXTUAL_INVERSION
    rows: dict[str, Tensor] = {}
    for name, tensor in adapter.tensors.items():
        if alone or name.startswith(WORD):
            encoder = _ENCODERS.get(name.removeprefix(WORD), "text_encoder")
            if encoder in rows:
                raise AdapterError(
                    f"The adapter holds two learned words for its {encoder}, and one has room.",
                    field="adapter",
                )
            rows[encoder] = tensor.reshape(-1, tensor.shape[-1])
    return rows


def with_word(adapter: Adapter, placeholder_token: str) -> Adapter:
    """The same adapter, whose learned word is called `placeholder_token`.

    A stranger's adapter without a learned word says in its description alone what calls it. Raises
    `ConceptError` for what is no name of a word, and for an adapter of the app's that was taught
    on a word of the base's: it answers to that one and to no other.
    """
    check_name_of_word(placeholder_token)
    name = adapter.description.placeholder_token
    if placeholder_token in _RESERVED:
        raise ConceptError(
            f"“{placeholder_token}” is what files call the rows of any word. Choose another name.",
            field="placeholder_token",
        )
    if adapter.description.recipe and not learned_rows(adapter):
        raise ConceptError(
            f"“{name}” is a word of the base’s own, on which this adapter was taught: it answers "
            "to no other. Its title can be changed; a word that is learned as well, too.",
            field="placeholder_token",
        )
    new_names = {name: placeholder_token, f"{WORD}{name}": f"{WORD}{placeholder_token}"}
    tensors = {new_names.get(key, key): tensor for key, tensor in adapter.tensors.items()}
    return Adapter(replace(adapter.description, placeholder_token=placeholder_token), tensors)


def deltas_of(adapter: Adapter) -> dict[ModuleKey, WeightDelta]:
    """What the adapter does to each weight, by the key that the file names it by.

    The scale of a module is the adapter's alpha over the module's own rank; an alpha of 0 stands
    for the rank itself. Raises `AdapterError` on tensors that are of no known method, that lack
    their counterpart, or that claim a layer larger than any.
    """
    if adapter.description.method == TEXTUAL_INVERSION:
        return {}
    if adapter.description.method == FULL:
        return {_parameter(name): FullDelta(tensor) for name, tensor in adapter.tensors.items()}
    parts: dict[ModuleKey, dict[str, Tensor]] = {}
    for name, tensor in adapter.tensors.items():
        if not name.startswith(WORD):
            key, suffix = split_name(name)
            parts.setdefault(key, {})[suffix] = tensor
    alpha, rank = adapter.description.alpha, adapter.description.rank
    deltas: dict[ModuleKey, WeightDelta] = {}
    for key, tensors in parts.items():
        deltas |= _unfused(key, _delta(key, tensors, alpha, rank))
    return deltas


def layers_of(key: ModuleKey) -> tuple[ModuleKey, ...]:
    """The layers that one stands for: of FLUX.2's `to_qkv` three, of any other itself."""
    stem = key.path.removesuffix(".bias")
    block, _, name = stem.rpartition(".")
    ending = key.path.removeprefix(stem)
    layers = FUSED.get(name, (name,))
    return tuple(ModuleKey(key.component, f"{block}.{x}{ending}".lstrip(".")) for x in layers)


def match_modules(
    modules: Mapping[str, nn.Module], adapter: Adapter, name: str = "The adapter"
) -> dict[nn.Parameter, tuple[ModuleKey, WeightDelta]]:
    """Every change of the adapter, by the parameter of the base that it is for.

    Raises `AdapterError`, with how many modules fit and why the first does not, unless all do.
    """
    matched: dict[nn.Parameter, tuple[ModuleKey, WeightDelta]] = {}
    misfits: list[str] = []
    deltas, parameters = deltas_of(adapter), parameters_by_key(modules)
    for key, delta in deltas.items():
        parameter = parameters.get(key)
        if parameter is None:
            misfits.append(f"it has no {key}")
        elif parameter in matched:
            misfits.append(f"{key} is there twice")
        elif not _fits(delta, parameter):
            misfits.append(f"{key} has another shape, {' × '.join(map(str, parameter.shape))}")
        else:
            matched[parameter] = (key, delta)
    if misfits:
        raise AdapterError(
            f"{name} does not fit this base: {len(matched)} of its {len(deltas)} modules match "
            f"({misfits[0]}). Choose the base that it was made for.",
            field="adapter",
        )
    return matched


def _parameter(name: str) -> ModuleKey:
    """From "unet.conv_in.weight" to the key of the module, from "...bias" to its own."""
    component, _, path = name.partition(".")
    return ModuleKey(component, path.removesuffix(".weight"))


def _unfused(key: ModuleKey, delta: WeightDelta) -> dict[ModuleKey, WeightDelta]:
    """The change of a layer that stands for several, as that of each."""
    layers = layers_of(key)
    if len(layers) == 1:
        return {key: delta}
    return {layer: _share(delta, i, len(layers)) for i, layer in enumerate(layers)}


def _share(delta: WeightDelta, index: int, count: int) -> WeightDelta:
    """The rows of a change that the `index`-th of `count` layers has, all of one size."""
    if isinstance(delta, DoRADelta) and delta.magnitude.dim() != 2:
        inner = without_magnitude(_share(delta.inner, index, count))
        return DoRADelta(inner, delta.magnitude.flatten().chunk(count)[index])
    if isinstance(delta, LoKrDelta):
        rows = delta.size[0] // count
        return replace(delta, rows=(rows * index, rows * (index + 1)))
    if isinstance(delta, LoRADelta):
        return replace(delta, up=delta.up.chunk(count)[index])
    if isinstance(delta, LoHaDelta) and delta.t1 is None:
        w1_a, w2_a = (factor.chunk(count)[index] for factor in (delta.w1_a, delta.w2_a))
        return replace(delta, w1_a=w1_a, w2_a=w2_a)
    if isinstance(delta, DifferenceDelta):
        return DifferenceDelta(delta.difference.chunk(count)[index])
    raise AdapterError(
        "The adapter weighs the inputs of a layer that stands for three: it cannot be parted.",
        field="adapter",
    )


def _delta(key: ModuleKey, tensors: Mapping[str, Tensor], alpha: float, rank: int) -> WeightDelta:
    """The change of one module. Raises `AdapterError` where its tensors are not those of one."""
    parts = dict(tensors)
    magnitude = parts.pop(MAGNITUDE, None)
    try:
        delta = _plain_delta(parts, alpha, rank)
        _check_numbers(delta)
    except (KeyError, IndexError) as error:
        raise AdapterError(
            f"The adapter is incomplete: {key} lacks a counterpart to "
            f"{', '.join(sorted(tensors))}. Ask who made it for the whole file.",
            field="adapter",
        ) from error
    if parts:
        raise AdapterError(
            f"The adapter changes {key} in two ways at once ({', '.join(sorted(tensors))}), "
            "and one layer has room for one.",
            field="adapter",
        )
    whole = delta if magnitude is None else DoRADelta(delta, magnitude)
    if not all(whole.size):
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in sorted(tensors.items()))
        raise AdapterError(
            f"The tensors for {key} do not go together ({shapes}): they are not those of one "
            "adapter. Ask who made it for the whole file.",
            field="adapter",
        )
    return whole


def _plain_delta(parts: dict[str, Tensor], alpha: float, rank: int) -> WeightDelta:
    """Takes from `parts` what belongs to the change; what is left is of another."""

    def scale(own_rank: int) -> float:
        return alpha / own_rank if alpha else 1.0

    if "lora_A.weight" in parts or "lora_B.weight" in parts:
        down, up = parts.pop("lora_A.weight"), parts.pop("lora_B.weight")
        return LoRADelta(down, up, scale(down.shape[0]))
    if DIFFERENCE in parts:
        return DifferenceDelta(parts.pop(DIFFERENCE))
    if any(name.startswith("hada_") for name in parts):
        w1_a, w1_b, w2_a, w2_b = (parts.pop(f"hada_{x}") for x in ("w1_a", "w1_b", "w2_a", "w2_b"))
        t1, t2 = parts.pop("hada_t1", None), parts.pop("hada_t2", None)
        return LoHaDelta(w1_a, w1_b, w2_a, w2_b, t1, t2, scale(w1_b.shape[0]))
    first, second = _kronecker_factor(parts, "w1"), _kronecker_factor(parts, "w2")
    # Factors that are whole matrices do not show the rank: the description knows it.
    own_rank = next((f[1].shape[0] for f in (second, first) if len(f) > 1), rank or 1)
    return LoKrDelta(first, second, own_rank, scale(own_rank))


def _kronecker_factor(parts: dict[str, Tensor], name: str) -> tuple[Tensor, ...]:
    if f"lokr_{name}" in parts:
        return (parts.pop(f"lokr_{name}"),)
    pair = parts.pop(f"lokr_{name}_a"), parts.pop(f"lokr_{name}_b")
    core = parts.pop("lokr_t2", None) if name == "w2" else None
    return pair if core is None else (*pair, core)


def _check_numbers(delta: WeightDelta) -> None:
    """Raise `AdapterError` where a few small factors claim a layer that no memory holds."""
    out, into = delta.size
    check_size(out * into)
    cores: list[tuple[Tensor, Tensor]] = []
    if isinstance(delta, LoHaDelta):
        cores = [
            (c, a) for c, a in ((delta.t1, delta.w1_a), (delta.t2, delta.w2_a)) if c is not None
        ]
    if isinstance(delta, LoKrDelta) and len(delta.w2) > 2:
        cores = [(delta.w2[2], delta.w2[0])]
    for core, outer in cores:
        check_size(core[0].numel() * outer.shape[-1])


def _fits(delta: WeightDelta, weight: Tensor) -> bool:
    try:
        return delta.size == (weight.shape[0], weight[0].numel())
    except IndexError:  # a factor that is no matrix
        return False
