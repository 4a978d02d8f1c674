"""What a weight of a base is called: its component of the pipeline, and its path in that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import nn

from personalization.errors import RecipeError


class ModuleKey(NamedTuple):
    """A weight of a base: the pipeline component, and the module's path in it.

    Of a parameter that is no weight the path names it too ("mid_block.attentions.0.proj_in.bias").
    """

    component: str
    path: str

    def __str__(self) -> str:
        return f"{self.component}.{self.path}"


def parameters_by_key(modules: Mapping[str, nn.Module]) -> dict[ModuleKey, nn.Parameter]:
    """Every parameter of a base, by the place that adapter files name.

    A text encoder's are found with and without the level that transformers 5 dropped.
    """
    found = {}
    for component, module in modules.items():
        for name, parameter in module.named_parameters():
            # While a method is trained, PEFT's layers stand around the base's own.
            path = name.removesuffix(".weight").replace(".base_layer", "")
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
