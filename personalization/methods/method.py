"""The Protocol that the loop speaks."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate, by name."""

    parameters: dict[str, nn.Parameter]
    learning_rate: float


@dataclass(frozen=True)
class Export:
    """What goes into the adapter's file: tensors by their file names, and what they are."""

    tensors: dict[str, Tensor]
    method: str
    rank: int = 0
    alpha: float = 0.0


@dataclass(frozen=True)
class Size:
    """What a method comes to on a base, before anything is learned."""

    trained: int  # numbers
    layers: int  # modules that an adapter changes; 0 for the others
    file: int  # bytes of what `export` gives, written


class Method(Protocol):
    """A way to teach, installed in a base."""

    trains_text: bool  # whether prompts must be encoded anew at every step
    uses_class_noun: bool  # whether prompts name the class beside the token

    def groups(self) -> list[ParameterGroup]:
        """What is trained. Names are unique over all groups and the same in every process."""
        ...

    def size(self) -> Size:
        """How much is trained, and how large its file will be."""
        ...

    def adapters_disabled(self) -> AbstractContextManager[None]:
        """While it lasts, the base answers as if nothing had been installed."""
        ...

    def after_step(self) -> None:
        """Called when the optimizer has stepped."""
        ...

    def export(self) -> Export:
        """What was learned, as files name it."""
        ...

    def remove(self) -> None:
        """Take everything out: the base is as it was, bit for bit."""
        ...


def numbers(groups: list[ParameterGroup]) -> int:
    """How many are trained."""
    return sum(p.numel() for group in groups for p in group.parameters.values())
