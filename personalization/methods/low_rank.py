"""LoRA (Hu et al. 2021, arXiv 2106.09685), LoHa, LoKr and DoRA, by PEFT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.utils import recurse_remove_peft_layers
from peft import (
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    PeftConfig,
    get_peft_model_state_dict,
    inject_adapter_in_model,
)
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from personalization.adapters.adapter_deltas import WORD
from personalization.bases.base import Base
from personalization.data.concept import Concept
from personalization.errors import PersonalizationError, RecipeError
from personalization.methods.method import Export, ParameterGroup, Size, numbers
from personalization.methods.textual_inversion import TextualInversionMethod
from personalization.recipe import LowRank

ADAPTER = "default"
HEADER = 24_000  # bytes of a file that are no numbers, on the pocket
# One parameter of each adapted module, by its name's end.
_FIRST = (
    f"lora_A.{ADAPTER}.weight",
    f"hada_w1_a.{ADAPTER}",
    f"lokr_w1.{ADAPTER}",
    f"lokr_w1_a.{ADAPTER}",
)


class LowRankMethod:
    """Low-rank layers on the denoiser and, if asked, on the text encoders and for a word."""

    uses_class_noun = True

    def __init__(self, base: Base, concept: Concept | None, method: LowRank, seed: int):
        self.method = method
        self.trains_text = method.text_encoder or method.learned_embedding is not None
        self._word: TextualInversionMethod | None = None
        self._adapted: dict[str, nn.Module] = {}
        if method.text_encoder and not base.spec.text_targets:
            raise RecipeError(
                f"The text encoder of {base.spec.title} takes no adapter: switch it off.",
                field="text_encoder",
            )
        encoders = {encoder.name for encoder in base.text_encoders}
        try:
            for name, module in base.modules.items():
                if name not in encoders:
                    self._adapt(name, module, method.targets or base.spec.targets, seed)
                elif method.text_encoder:
                    self._adapt(name, module, base.spec.text_targets, seed)
            if method.learned_embedding:
                # After PEFT, which freezes whatever it finds beside its own layers.
                self._word = TextualInversionMethod(base, concept, method.learned_embedding, seed)
        except PersonalizationError:
            self.remove()
            raise

    def _adapt(self, name: str, module: nn.Module, targets: tuple[str, ...], seed: int) -> None:
        self._adapted[name] = module
        try:
            # PEFT initialises from the global generator.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                inject_adapter_in_model(_config(self.method, targets), module, ADAPTER)
        except ValueError as error:
            raise RecipeError(
                f"Nothing in the base's {name} is called {', '.join(targets)}: "
                "choose other target modules.",
                field="targets",
            ) from error
        for parameter in module.parameters():
            if parameter.requires_grad:
                # Steps this small are lost in half precision.
                parameter.data = parameter.data.float()

    def groups(self) -> list[ParameterGroup]:
        """One for each component, and the word's."""
        groups = []
        words = self._word.groups() if self._word else []
        rows = {id(row) for group in words for row in group.parameters.values()}
        for name, module in self._adapted.items():
            rate = self.method.learning_rate
            if name.startswith("text_encoder"):
                rate = self.method.text_learning_rate
            trained = {
                f"{name}.{key}": parameter
                for key, parameter in module.named_parameters()
                if parameter.requires_grad and id(parameter) not in rows
            }
            groups.append(ParameterGroup(trained, rate))
        return groups + words

    def size(self) -> Size:
        """Written in single precision."""
        groups = self.groups()
        trained = numbers(groups)
        layers = sum(name.endswith(_FIRST) for group in groups for name in group.parameters)
        return Size(trained, layers, HEADER + 4 * trained)

    @contextmanager
    def adapters_disabled(self) -> Iterator[None]:
        """PEFT's layers pass through; a word stays, for prompts without it do not see it."""
        layers = [layer for module in self._adapted.values() for layer in _layers(module)]
        for layer in layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in layers:
                layer.enable_adapters(True)

    def after_step(self) -> None:
        """Nothing is to be done."""

    def export(self) -> Export:
        """As PEFT names them, after the component."""
        tensors = {}
        for name, module in self._adapted.items():
            # transformers 5 dropped a level of CLIP without projection that adapter files keep.
            dropped = name.startswith("text_encoder") and not hasattr(module, "text_model")
            inner = ".text_model" if dropped else ""
            for key, tensor in get_peft_model_state_dict(module, adapter_name=ADAPTER).items():
                tensors[f"{name}{inner}.{key}"] = tensor.detach().float().cpu()
        if self._word:
            tensors |= {f"{WORD}{k}": v for k, v in self._word.export().tensors.items()}
        return Export(tensors, self.method.kind, self.method.rank, self.method.alpha)

    def remove(self) -> None:
        """Take PEFT's layers out, and the word."""
        for module in self._adapted.values():
            recurse_remove_peft_layers(module)
            if hasattr(module, "peft_config"):
                del module.peft_config
            module.requires_grad_(False)
        if self._word:
            self._word.remove()


def _config(method: LowRank, targets: tuple[str, ...]) -> PeftConfig:
    common = {"r": method.rank, "target_modules": list(targets)}
    match method.kind:
        case "loha":
            return LoHaConfig(alpha=method.alpha, **common)
        case "lokr":
            return LoKrConfig(alpha=method.alpha, **common)
        case "lora" | "dora":
            return LoraConfig(lora_alpha=method.alpha, use_dora=method.kind == "dora", **common)


def _layers(module: nn.Module) -> list[BaseTunerLayer]:
    return [layer for layer in module.modules() if isinstance(layer, BaseTunerLayer)]
