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


class Method(Protocol):
    """A way to teach, installed in a base."""

    trains_text: bool  # whether prompts must be encoded anew at every step
    uses_class_noun: bool  # whether prompts name the class beside the token

    def groups(self) -> list[ParameterGroup]:
        """What is trained. Names are unique over all groups and the same in every process."""
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
