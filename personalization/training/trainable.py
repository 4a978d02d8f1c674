"""What a method trains, and its optimizer: both go into a checkpoint, and come back from one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from personalization.methods import Method
from personalization.recipe import Recipe
from personalization.training import processes

_MOMENTS = ("exp_avg", "exp_avg_sq")  # as AdamW calls them


class Trainable:
    """Parameters by name, and AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101) on them."""

    def __init__(self, method: Method, recipe: Recipe, device: torch.device):
        self.recipe = recipe
        self.method = method
        self.parameters: dict[str, nn.Parameter] = {}
        groups: list[dict[str, Any]] = []
        for group in method.groups():
            self.parameters |= group.parameters
            groups.append({"params": list(group.parameters.values()), "lr": group.learning_rate})
        self.rates = [group["lr"] for group in groups]
        self.optimizer = torch.optim.AdamW(
            groups, weight_decay=recipe.weight_decay, fused=device.type != "mps"
        )

    def descend(self, loss: Tensor, step: int) -> None:
        """One step of the optimizer, `step` steps having been done."""
        factor = self.recipe.learning_rate_factor(step)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        # In this thread alone: autograd's own for a GPU are made at a process's first backward, and
        # a forked worker has none where that was its parent's, on a CPU.
        with torch.autograd.set_multithreading_enabled(False):
            torch.autograd.backward(loss)
        processes.add_gradients(self.parameters.values())
        nn.utils.clip_grad_norm_(self.parameters.values(), self.recipe.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step()

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint, on the CPU."""
        tensors = {}
        for name, parameter in self.parameters.items():
            # Empty where no gradient has come yet, as for a layer whose output nobody reads.
            state = self.optimizer.state.get(parameter, {})
            tensors[f"parameter/{name}"] = parameter.detach().cpu().contiguous()
            for key in _MOMENTS:
                moment = state[key] if key in state else torch.zeros_like(parameter)
                tensors[f"{key}/{name}"] = moment.detach().cpu().contiguous()
        return tensors

    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """As `tensors` had them, after `step` steps."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"parameter/{name}"])
                # In the parameter's own memory layout: fused AdamW pairs elements by address.
                self.optimizer.state[parameter] = {
                    key: torch.empty_like(parameter).copy_(tensors[f"{key}/{name}"])
                    for key in _MOMENTS
                } | {"step": torch.tensor(float(step), device=_step_device(parameter))}


def _step_device(parameter: nn.Parameter) -> torch.device:
    """Fused AdamW keeps its counter beside the parameter."""
    return parameter.device if parameter.is_cuda else torch.device("cpu")
