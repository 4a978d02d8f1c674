"""From an adapter's tensors to what each weight of a base changes by.

    tensors -> Change (LowRank | Hadamard | Kronecker, Decomposed around any; Whole) -> delta(W0)

A change is small, but for a full fine-tune's; its delta has the shape of the weight. Every change
is linear in its strength: a weight w asks for W0 + w * delta, also for DoRA, so that weight zero is
the base.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from personalization.adapters.adapter import Adapter
from personalization.errors import AdapterError, RecipeError

# A key with "lora" in it and no component before it: `load_lora_weights` takes files in which
# every key says "lora", and passes over those of no component.
WORD = "lora_word."

FULL = "full"  # the method of files that hold parameters as they became, not adapters
MAGNITUDE = "lora_magnitude_vector"
SUFFIXES = (
    "lora_A.weight",
    "lora_B.weight",
    MAGNITUDE,
    *(f"hada_{name}" for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
    *(f"lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")),
)


class ModuleKey(NamedTuple):
    """A weight of a base: the pipeline component, and the module's path in it.

    Of a parameter that is no weight the path names it too ("mid_block.attentions.0.proj_in.bias").
    """

    component: str
    path: str

    def __str__(self) -> str:
        return f"{self.component}.{self.path}"


class WeightDelta(Protocol):
    """What one module's weight changes by."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> tuple[int, int]:
        """(out, in * kernel) of the weights that it fits; (0, 0) where its factors disagree."""
        ...

    def delta(self, weight: Tensor) -> Tensor:
        """weight: the pristine W0. Returns what to add, of its shape, in float32 or finer."""
        ...


@dataclass(frozen=True)
class LoRADelta:
    """scale * B A (LoRA, Hu et al. 2021, arXiv 2106.09685); a convolution's A has its kernel.

    down: (rank, in[, kh, kw]); up: (out, rank[, 1, 1]).
    """

    down: Tensor
    up: Tensor
    scale: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        agree = self.up.flatten(1).shape[1] == self.rank
        return (self.up.shape[0], self.down[0].numel()) if agree else (0, 0)

    def delta(self, weight: Tensor) -> Tensor:
        down, up = _fine(weight, self.down), _fine(weight, self.up)
        return (up.flatten(1) @ down.flatten(1)).mul_(self.scale).reshape(weight.shape)


@dataclass(frozen=True)
class LoHaDelta:
    """scale * (A1 B1) o (A2 B2) (LoHa, Hyeon-Woo et al. 2021, arXiv 2108.06098).

    w1_a, w2_a: (out, rank); w1_b, w2_b: (rank, in * kh * kw). With the cores t1, t2 of a
    convolution, (rank, rank, kh, kw): w_a is (rank, out) and w_b (rank, in).
    """

    w1_a: Tensor
    w1_b: Tensor
    w2_a: Tensor
    w2_b: Tensor
    t1: Tensor | None
    t2: Tensor | None
    scale: float

    @property
    def rank(self) -> int:
        return self.w1_b.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        first, second = (
            _assembled_size([t for t in factors if t is not None])
            for factors in ((self.w1_a, self.w1_b, self.t1), (self.w2_a, self.w2_b, self.t2))
        )
        return first if first == second else (0, 0)

    def delta(self, weight: Tensor) -> Tensor:
        first = assembled(_fine_all(weight, (self.w1_a, self.w1_b, self.t1)))
        second = assembled(_fine_all(weight, (self.w2_a, self.w2_b, self.t2)))
        return (first * second).mul_(self.scale).reshape(weight.shape)


@dataclass(frozen=True)
class LoKrDelta:
    """scale * W1 (x) W2 (LoKr, Yeh et al. 2023, arXiv 2309.14859), either factor itself a product.

    w1, w2: a matrix (w2 of a convolution has its kernel), or a pair of factors, or, for w2, a
    pair and a core (rank, rank, kh, kw).
    """

    w1: tuple[Tensor, ...]
    w2: tuple[Tensor, ...]
    rank: int
    scale: float

    @property
    def size(self) -> tuple[int, int]:
        (out1, in1), (out2, in2) = (_assembled_size(f) for f in (self.w1, self.w2))
        return out1 * out2, in1 * in2

    def delta(self, weight: Tensor) -> Tensor:
        w1, w2 = (assembled(_fine_all(weight, factors)) for factors in (self.w1, self.w2))
        w1 = w1.reshape(*w1.shape, *[1] * (w2.dim() - w1.dim()))
        return torch.kron(w1, w2.contiguous()).mul_(self.scale).reshape(weight.shape)


@dataclass(frozen=True)
class DoRADelta:
    """m * V / |V| - W0 with V = W0 + inner (DoRA, Liu et al. 2024, arXiv 2402.09353).

    magnitude: one value for each output, as PEFT and LyCORIS write it now; a matrix (1, in) is one
    for each input, as LyCORIS once did.
    """

    inner: WeightDelta
    magnitude: Tensor

    @property
    def rank(self) -> int:
        return self.inner.rank

    @property
    def size(self) -> tuple[int, int]:
        out, into = self.inner.size
        agree = self._by_input or self.magnitude.numel() == out
        return (out, into) if agree else (0, 0)

    @property
    def _by_input(self) -> bool:
        return self.magnitude.dim() == 2 and self.magnitude.shape[0] == 1

    def delta(self, weight: Tensor) -> Tensor:
        directed = _fine(weight, weight) + self.inner.delta(weight)
        magnitude = _fine(weight, self.magnitude)
        axis = 1 if self._by_input else 0
        others = [i for i in range(weight.dim()) if i != axis]
        shape = [-1 if i == axis else 1 for i in range(weight.dim())]
        norm = torch.linalg.vector_norm(directed, dim=others, keepdim=True)
        return directed * (magnitude.reshape(shape) / norm) - weight


@dataclass(frozen=True)
class FullDelta:
    """W - W0: the parameter W that a full fine-tune has in place of the base's."""

    trained: Tensor

    @property
    def rank(self) -> int:
        return min(self.size)

    @property
    def size(self) -> tuple[int, int]:
        return self.trained.shape[0], self.trained[0].numel()

    def delta(self, weight: Tensor) -> Tensor:
        return _fine(weight, self.trained).reshape(weight.shape) - weight


def without_magnitude(change: WeightDelta) -> Any:
    """The change without its magnitude: LowRank, Hadamard or Kronecker."""
    return change.inner if isinstance(change, DoRADelta) else change


def split_name(name: str) -> tuple[ModuleKey, str]:
    """From "unet.down_blocks.0.to_q.lora_A.weight" to (Place, "lora_A.weight").

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
    """The rows of the adapter's learned word by text encoder, (vectors, width) each; or none."""
    whole = adapter.description.method == "textual_inversion"
    rows = {
        name.removeprefix(WORD): tensor
        for name, tensor in adapter.tensors.items()
        if whole or name.startswith(WORD)
    }
    encoders = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
    return {
        encoders.get(name, "text_encoder"): tensor.reshape(-1, tensor.shape[-1])
        for name, tensor in rows.items()
    }


def deltas_of(adapter: Adapter) -> dict[ModuleKey, WeightDelta]:
    """What the adapter does to each weight, by its place as the file names it.

    The scale of a module is the adapter's alpha over the module's own rank; an alpha of 0 stands
    for the rank itself. Raises `AdapterError` on tensors that are of no known method, or that lack
    their counterpart.
    """
    if adapter.description.method == "textual_inversion":
        return {}
    if adapter.description.method == FULL:
        return {_parameter(name): FullDelta(tensor) for name, tensor in adapter.tensors.items()}
    by_place: dict[ModuleKey, dict[str, Tensor]] = {}
    for name, tensor in adapter.tensors.items():
        if not name.startswith(WORD):
            place, suffix = split_name(name)
            by_place.setdefault(place, {})[suffix] = tensor
    alpha, rank = adapter.description.alpha, adapter.description.rank
    return {place: _change(place, parts, alpha, rank) for place, parts in by_place.items()}


def _parameter(name: str) -> ModuleKey:
    """From "unet.conv_in.weight" to the place of the module, from "...bias" to its own."""
    component, _, path = name.partition(".")
    return ModuleKey(component, path.removesuffix(".weight"))


def _change(place: ModuleKey, parts: Mapping[str, Tensor], alpha: float, rank: int) -> WeightDelta:
    parts = dict(parts)
    magnitude = parts.pop(MAGNITUDE, None)
    try:
        change = _plain_change(parts, alpha, rank)
    except (KeyError, IndexError) as error:
        raise AdapterError(
            f"The adapter is incomplete: {place} lacks a counterpart to "
            f"{', '.join(sorted(parts)) or 'its magnitude'}. Download it again.",
            field="adapter",
        ) from error
    return change if magnitude is None else DoRADelta(change, magnitude)


def _plain_change(parts: Mapping[str, Tensor], alpha: float, rank: int) -> WeightDelta:
    def scale(own_rank: int) -> float:
        return alpha / own_rank if alpha else 1.0

    if "lora_A.weight" in parts or "lora_B.weight" in parts:
        down, up = parts["lora_A.weight"], parts["lora_B.weight"]
        return LoRADelta(down, up, scale(down.shape[0]))
    if any(name.startswith("hada_") for name in parts):
        return LoHaDelta(
            parts["hada_w1_a"],
            parts["hada_w1_b"],
            parts["hada_w2_a"],
            parts["hada_w2_b"],
            t1=parts.get("hada_t1"),
            t2=parts.get("hada_t2"),
            scale=scale(parts["hada_w1_b"].shape[0]),
        )
    first, second = _kronecker_factor(parts, "w1"), _kronecker_factor(parts, "w2")
    # Factors that are whole matrices do not show the rank: the description knows it.
    own_rank = next((f[1].shape[0] for f in (second, first) if len(f) > 1), rank or 1)
    return LoKrDelta(first, second, own_rank, scale(own_rank))


def _kronecker_factor(parts: Mapping[str, Tensor], name: str) -> tuple[Tensor, ...]:
    if f"lokr_{name}" in parts:
        return (parts[f"lokr_{name}"],)
    pair = parts[f"lokr_{name}_a"], parts[f"lokr_{name}_b"]
    core = parts.get("lokr_t2") if name == "w2" else None
    return pair if core is None else (*pair, core)


def _fine(weight: Tensor, tensor: Tensor) -> Tensor:
    """`tensor` on the weight's device, in float32, or in float64 where the weight is."""
    dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
    return tensor.to(weight.device, dtype)


def _fine_all(weight: Tensor, tensors: Iterable[Tensor | None]) -> tuple[Tensor, ...]:
    return tuple(_fine(weight, tensor) for tensor in tensors if tensor is not None)


def assembled(factors: Sequence[Tensor]) -> Tensor:
    """One factor as it is, two multiplied, or two around a core (rank, rank, kh, kw)."""
    if len(factors) < 3:
        return factors[0] @ factors[1] if len(factors) == 2 else factors[0]
    a, b, core = factors
    return torch.einsum("rskl,ro,si->oikl", core, a, b)


def _assembled_size(factors: Sequence[Tensor]) -> tuple[int, int]:
    if len(factors) == 1:
        return factors[0].shape[0], factors[0][0].numel()
    a, b, *core = factors
    if not core:
        return (a.shape[0], b.shape[1]) if a.shape[1:] == b.shape[:1] else (0, 0)
    agree = core[0].shape[:2] == (a.shape[0], b.shape[0])
    return (a.shape[1], b.shape[1] * core[0][0, 0].numel()) if agree else (0, 0)


def as_factors(change: LoRADelta | LoHaDelta | LoKrDelta) -> tuple[Tensor, Tensor]:
    """(rank, in[, kh, kw]) and (out, rank[, 1, 1]) whose product is the change, scale included.

    Exact: the Hadamard product of two products of rank r is one of rank r * r, and a Kronecker
    product has the ranks of its factors multiplied.
    """
    if isinstance(change, LoRADelta):
        return change.down.float(), change.up.float() * change.scale
    if isinstance(change, LoHaDelta):
        up, down, kernel = _hadamard(change)
    else:
        up, down, kernel = _kronecker(change)
    down = down.reshape(-1, down.shape[1] // math.prod(kernel), *kernel)
    up = up.reshape(*up.shape, *[1] * len(kernel)) * change.scale
    return down.float().contiguous(), up.float().contiguous()


def _hadamard(change: LoHaDelta) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Row by row and column by column, the products of the factors' entries (Khatri and Rao)."""
    a, b, c, d = (t.double() for t in (change.w1_a, change.w1_b, change.w2_a, change.w2_b))
    if change.t1 is not None and change.t2 is not None:
        # The core goes to the inner factor: (rank, rank, k) x (rank, in) -> (rank, in * k)
        b = torch.einsum("rskl,si->rikl", change.t1.double(), b).flatten(1)
        d = torch.einsum("rskl,si->rikl", change.t2.double(), d).flatten(1)
        a, c = a.T, c.T
    up, down = torch.einsum("or,os->ors", a, c).flatten(1), torch.einsum("ri,si->rsi", b, d)
    kernel = change.t1.shape[2:] if change.t1 is not None else ()
    return up, down.flatten(0, 1), tuple(kernel)


def _kronecker(change: LoKrDelta) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """The singular value decomposition of a Kronecker product is that of its factors."""
    first, second = (assembled(factors).double() for factors in (change.w1, change.w2))
    (up1, down1), (up2, down2) = _halves(first), _halves(second.flatten(1))
    return _kron(up1, up2), _kron(down1, down2), tuple(second.shape[2:])


def _kron(a: Tensor, b: Tensor) -> Tensor:
    """`torch.kron` of matrices, which fails on the strides that a decomposition can have."""
    return (a[:, None, :, None] * b[None, :, None, :]).flatten(2).flatten(0, 1)


def _halves(matrix: Tensor) -> tuple[Tensor, Tensor]:
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    kept = max(1, int((values > 1e-10 * values.max()).sum()))
    root = values[:kept].sqrt()
    return left[:, :kept] * root, root[:, None] * right[:kept]


def weights(modules: Mapping[str, nn.Module]) -> dict[ModuleKey, nn.Parameter]:
    """Every parameter of a base, by the place that adapter files name.

    A text encoder's are found with and without the level that transformers 5 dropped.
    """
    found = {}
    for component, module in modules.items():
        for name, parameter in module.named_parameters():
            path = name.removesuffix(".weight")
            found[ModuleKey(component, path)] = parameter
            if component.startswith("text_encoder"):
                found.setdefault(ModuleKey(component, f"text_model.{path}"), parameter)
                found.setdefault(ModuleKey(component, path.removeprefix("text_model.")), parameter)
    return found


def check_targets(modules: Mapping[str, nn.Module], targets: Sequence[str]) -> None:
    """Raise `RecipeError` unless each of these ends the name of a layer outside the text encoders.

    PEFT passes over one that fits nothing as long as another fits.
    """
    layers = [
        name
        for component, module in modules.items()
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and not component.startswith("text_encoder")
    ]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            raise RecipeError(
                f"No layer of the base is called “{target[:40]}”. Name target modules by the ends "
                "of their names, such as to_q or ff.net.2, or leave the field empty.",
                field="targets",
            )


def _fits(change: WeightDelta, weight: Tensor) -> bool:
    try:
        return change.size == (weight.shape[0], weight[0].numel())
    except IndexError:  # a factor that is no matrix
        return False


def match_modules(
    modules: Mapping[str, nn.Module], adapter: Adapter, name: str = "The adapter"
) -> dict[nn.Parameter, tuple[ModuleKey, WeightDelta]]:
    """Every change of the adapter, by the parameter of the base that it is for.

    Raises `AdapterError`, with how many modules fit, unless all of them do: one that the base
    lacks, or whose weight has another shape, means that the adapter is for another base.
    """
    found: dict[nn.Parameter, tuple[ModuleKey, WeightDelta]] = {}
    misfits: list[ModuleKey] = []
    every, theirs = deltas_of(adapter), weights(modules)
    for place, change in every.items():
        weight = theirs.get(place)
        if weight is None or weight in found or not _fits(change, weight):
            misfits.append(place)
        else:
            found[weight] = (place, change)
    if misfits:
        family = adapter.description.family or "another family"
        raise AdapterError(
            f"{name} does not fit this base: {len(found)} of its {len(every)} modules match "
            f"({misfits[0]} does not). It was made for {family}: choose a base of that family.",
            field="adapter",
        )
    return found
