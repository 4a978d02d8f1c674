"""The DreamBooth fine-tune (Ruiz et al. 2022, arXiv 2208.12242): every weight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from personalization.bases.base import Base
from personalization.errors import RecipeError
from personalization.methods.method import Export, ParameterGroup, Size, numbers
from personalization.recipe import Full


class FullMethod:
    """The denoiser's own weights and, if asked, the text encoders'."""

    uses_class_noun = True

    def __init__(self, base: Base, method: Full):
        self.method = method
        self.trains_text = method.text_encoder
        encoders = {encoder.name for encoder in base.text_encoders}
        if method.text_encoder and not base.spec.text_targets:
            raise RecipeError(
                f"The text encoder of {base.spec.title} is not trained: switch it off.",
                field="text_encoder",
            )
        self._trained = {
            name: module
            for name, module in base.modules.items()
            if name not in encoders or method.text_encoder
        }
        self._encoders = encoders
        self._originals: dict[str, Tensor] = {}
        for name, module in self._trained.items():
            for key, parameter in module.named_parameters():
                self._originals[f"{name}.{key}"] = parameter.data
                # A copy of its own, in float32: steps this small are lost in half precision.
                parameter.data = parameter.data.float().clone()
                parameter.requires_grad_(True)

    def groups(self) -> list[ParameterGroup]:
        """One for each component, all of its weights."""
        return [
            ParameterGroup(
                {f"{name}.{key}": parameter for key, parameter in module.named_parameters()},
                self.method.text_learning_rate
                if name in self._encoders
                else self.method.learning_rate,
            )
            for name, module in self._trained.items()
        ]

    def size(self) -> Size:
        """Written in half precision."""
        trained = numbers(self.groups())
        return Size(trained, layers=0, file=2 * trained)

    @contextmanager
    def adapters_disabled(self) -> Iterator[None]:
        """Raises `RecipeError`: there is none."""
        raise RecipeError("A full fine-tune has no adapter to switch off.", field="prior")
        yield

    def after_step(self) -> None:
        """Nothing is to be done."""

    def export(self) -> Export:
        """Every trained weight by its component and name, in half precision."""
        tensors = {
            name: parameter.detach().half().cpu()
            for group in self.groups()
            for name, parameter in group.parameters.items()
        }
        return Export(tensors, "full")

    def remove(self) -> None:
        """Put the original weights back."""
        for group in self.groups():
            for name, parameter in group.parameters.items():
                parameter.grad = None
                parameter.requires_grad_(False)
                parameter.data = self._originals[name]
