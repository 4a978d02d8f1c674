"""Muon: momentum whose matrices are made orthogonal before they are applied.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; update size as in Moonlight
(Liu et al. 2025, arXiv:2502.16982), so that learning rates are those of AdamW. The Newton-Schulz
iteration runs on the small Gram matrix: for a 256 x 2304 kernel that is a third of the work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from . import parallel

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonalised(matrices: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrices, roughly: singular values land in 0.7 to 1.2.

    matrices: (n, rows, columns). With G = X X^T, one Newton-Schulz step is X <- P X for
    P = a I + b G + c G^2, and then G <- P G P; so only the product of the P has to meet X.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-12)
    gram = x @ x.mT
    identity = torch.eye(x.shape[1], device=x.device, dtype=x.dtype)
    product = identity
    for iteration in range(ITERATIONS):
        step = a * identity + b * gram + c * (gram @ gram)
        product = step @ product if iteration else step
        if iteration < ITERATIONS - 1:
            gram = step @ gram @ step
    x = product @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """For weights of two dimensions or more; a convolution is the matrix (out, in * h * w)."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - torch's
        """Apply the gradients once."""
        for group in self.param_groups:
            updates: list[tuple[Tensor, Tensor]] = []
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"]
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                update = weight.grad.lerp(momentum, group["momentum"])
                updates.append((weight, update.flatten(1).contiguous()))
            self._orthogonalise([update for _, update in updates])
            for weight, update in updates:
                size = 0.2 * max(update.shape) ** 0.5 * group["lr"]
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update.view(weight.shape), alpha=-size)

    @staticmethod
    def _orthogonalise(updates: list[Tensor]) -> None:
        """In place; several processes share the work and hand one another the results."""
        by_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for number, update in enumerate(sorted(updates, key=lambda u: u.numel())):
            if number % parallel.world() == parallel.rank():
                by_shape[tuple(update.shape)].append(update)
            else:
                update.zero_()
        for same in by_shape.values():
            for update, result in zip(same, orthogonalised(torch.stack(same)), strict=True):
                update.copy_(result)
        parallel.summed(updates)


def optimizers(
    module: nn.Module, lr: float, weight_decay: float = 0.0
) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for vectors, embeddings, the first and the last layer."""
    edges = ("conv_in", "conv_out", "embedding", "quant_conv")
    named = [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]
    matrices = [w for n, w in named if w.ndim >= 2 and not any(edge in n for edge in edges)]
    chosen = {id(weight) for weight in matrices}
    rest = [weight for _, weight in named if id(weight) not in chosen]
    return [
        Muon(matrices, lr=lr, weight_decay=weight_decay),
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True),
    ]
