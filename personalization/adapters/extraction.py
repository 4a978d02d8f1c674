"""A full fine-tune made into a LoRA: of each layer's change, the directions that matter most.

    extract(base, fine_tune, rank) -> Extracted, with what was lost on the way

The best that a LoRA of a rank can do is the singular value decomposition of W - W0, cut at that
rank (Eckart and Young 1936); kohya's extract_lora_from_models.py does the same. What is cut off is
not hidden: it is stated by layer and over all, with what no LoRA can hold beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from personalization.adapters.adapter import Adapter
from personalization.adapters.adapter_deltas import FULL, match_modules
from personalization.adapters.module_keys import ModuleKey
from personalization.bases.base import Base
from personalization.errors import AdapterError, RecipeError

MAX_RANK = 256
_NONE = 1e-12  # of the largest singular value: a direction below it is rounding


@dataclass(frozen=True)
class Layer:
    """What became of one layer: the Frobenius norms of its change, and of what was cut off."""

    place: ModuleKey
    change: float
    lost: float

    @property
    def residual(self) -> float:
        """The lost part, 0 to 1."""
        return self.lost / self.change if self.change else 0.0


@dataclass(frozen=True)
class Extracted:
    """The LoRA, and how far it is from the fine-tune."""

    adapter: Adapter
    layers: tuple[Layer, ...]  # those whose weights a LoRA holds
    beside: float  # norm of what it cannot hold: biases, norms, embeddings

    @property
    def change(self) -> float:
        """The Frobenius norm of everything that the fine-tune changed."""
        return math.hypot(self.beside, *(layer.change for layer in self.layers))

    @property
    def residual(self) -> float:
        """The norm of what is not in the LoRA, as a part of the whole, 0 to 1."""
        lost = math.hypot(self.beside, *(layer.lost for layer in self.layers))
        return lost / self.change if self.change else 0.0


def extract(base: Base, fine_tune: Adapter, rank: int) -> Extracted:
    """The LoRA of `rank` whose change of `base` is nearest to the fine-tune's, layer by layer.

    Linear layers and convolutions are cut; a layer whose change has a smaller rank keeps that one.
    The singular values are halved between both factors. Raises `RecipeError` for a rank out of
    range, `AdapterError` for what is no full fine-tune, is one of another base or changes nothing.
    """
    if fine_tune.description.method != FULL:
        raise AdapterError("This is no full fine-tune: it is an adapter already.", field="adapter")
    if not 1 <= rank <= MAX_RANK:
        raise RecipeError(f"rank is {rank}; it must lie between 1 and {MAX_RANK}.", field="rank")
    name = fine_tune.description.title or "The fine-tune"
    holders = _weights_of_layers(base)
    tensors: dict[str, Tensor] = {}
    layers: list[Layer] = []
    beside = 0.0
    with base.lock, torch.no_grad():
        for parameter, (key, change) in match_modules(base.modules, fine_tune, name).items():
            place = _in_files(base, key)
            delta = _double(change.delta(parameter))
            size = float(delta.norm())
            if parameter not in holders:
                beside = math.hypot(beside, size)
            elif size:
                up, down = cut(delta.flatten(1), rank)
                lost = float((delta.flatten(1) - up @ down).norm())
                layers.append(Layer(place, size, lost))
                ones, kernel = [1] * (parameter.dim() - 2), parameter.shape[1:]
                tensors[f"{place}.lora_A.weight"] = down.float().cpu().reshape(-1, *kernel)
                tensors[f"{place}.lora_B.weight"] = up.float().cpu().reshape(*up.shape, *ones)
    if not tensors:
        raise AdapterError(
            "The fine-tune has changed none of this base's layers: there is nothing to extract.",
            field="adapter",
        )
    return _described(fine_tune, tensors, layers, beside, rank)


def _described(
    fine_tune: Adapter,
    tensors: dict[str, Tensor],
    layers: list[Layer],
    beside: float,
    rank: int,
) -> Extracted:
    """The LoRA with what it says of itself: where it comes from, and what was lost."""
    source = fine_tune.description
    title = f"{source.title or source.trigger}, rank {rank}"
    # An alpha of 0 stands for each layer's own rank: the factors hold the whole scale.
    described = replace(source, method="lora", rank=rank, alpha=0.0, title=title, report={})
    extracted = Extracted(Adapter(described, tensors), tuple(layers), beside)
    origin = {"rank": rank, "residual": round(extracted.residual, 4), "from": fine_tune.sha256}
    recipe = {**source.recipe, "extracted": origin}
    return replace(extracted, adapter=extracted.adapter.described(recipe=recipe))


def cut(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """up (out, r) and down (r, in) whose product is the nearest to (out, in) of r <= `rank`.

    By the eigenvectors of the smaller Gram matrix, which of a convolution's 1280 x 11520 is a
    ninth of the work of a decomposition of the whole. In float64, where squaring costs no digit
    that the weights have.
    """
    out, into = matrix.shape
    if out > into:
        down, up = cut(matrix.T, rank)
        return up.T, down.T
    squares, vectors = torch.linalg.eigh(matrix @ matrix.T)  # in rising order
    largest = reversed(range(max(0, out - rank), out))
    directions = [i for i in largest if squares[i] > _NONE * squares[-1]]
    left = vectors[:, directions]
    root = squares[directions].sqrt().sqrt()
    return left * root, (left.T @ matrix) / root[:, None]


def _in_files(base: Base, place: ModuleKey) -> ModuleKey:
    """As adapter files name it, with the level of CLIP that transformers 5 dropped."""
    is_text = place.component.startswith("text_encoder")
    dropped = is_text and not hasattr(base.modules[place.component], "text_model")
    if not dropped or place.path.startswith("text_model."):
        return place
    return ModuleKey(place.component, f"text_model.{place.path}")


def _weights_of_layers(base: Base) -> set[Tensor]:
    return {
        layer.weight
        for module in base.modules.values()
        for layer in module.modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    }


def _double(tensor: Tensor) -> Tensor:
    """In float64, which Apple's GPUs do not have."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()
