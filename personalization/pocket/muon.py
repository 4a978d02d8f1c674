"""Muon: momentum whose matrices are made orthogonal before they are applied.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; update size as in Moonlight
(Liu et al. 2025, arXiv:2502.16982), so that learning rates are those of AdamW. The Newton-Schulz
iteration runs on the small Gram matrix: for a 256 x 2304 kernel that is a third of the work. On a
GPU, where a step takes the time of its many small kernels, all Gram matrices of one size go through
it together, whatever the shapes they come from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from . import parallel

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def polynomial(gram: Tensor) -> Tensor:
    """The matrices P with P X nearly orthogonal, from the Gram matrices X X^T: (n, rows, rows).

    One Newton-Schulz step is X <- Q X for Q = a I + b G + c G^2, and then G <- Q G Q; so only the
    product of the Q has to meet X. X must be of norm 1 or less.
    """
    a, b, c = COEFFICIENTS
    identity = torch.eye(gram.shape[1], device=gram.device, dtype=gram.dtype)
    product = identity
    for iteration in range(ITERATIONS):
        step = a * identity + b * gram + c * (gram @ gram)
        product = step @ product if iteration else step
        if iteration < ITERATIONS - 1:
            gram = step @ gram @ step
    return product


def orthogonalised(stacks: Sequence[Tensor], together: bool = True) -> list[Tensor]:
    """The nearest (semi-)orthogonal matrices, roughly: singular values land in 0.7 to 1.2.

    stacks: of shape (n, rows, columns) each, any n, rows and columns. together: Gram matrices of
    one size at once, else stack by stack.
    """
    wide = [stack.mT if stack.shape[1] > stack.shape[2] else stack for stack in stacks]
    wide = [x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-12) for x in wide]
    by_size: dict[int, list[int]] = defaultdict(list)
    for number, x in enumerate(wide):
        by_size[x.shape[1] if together else -number].append(number)
    done: list[Tensor] = [*stacks]
    for numbers in by_size.values():
        products = polynomial(torch.cat([wide[n] @ wide[n].mT for n in numbers]))
        for n, product in zip(
            numbers, products.split([len(wide[n]) for n in numbers]), strict=True
        ):
            result = product @ wide[n]
            done[n] = result.mT if stacks[n].shape[1] > stacks[n].shape[2] else result
    return done


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
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            for weight in weights:
                if "momentum" not in self.state[weight]:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
            gradients = [weight.grad for weight in weights]
            momenta = [self.state[weight]["momentum"] for weight in weights]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
            updates = [update.flatten(1).contiguous() for update in ahead]
            self._orthogonalise(updates)
            sizes = [0.2 * max(update.shape) ** 0.5 * group["lr"] for update in updates]
            torch._foreach_mul_(updates, sizes)
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            shaped = [u.view_as(weight) for u, weight in zip(updates, weights, strict=True)]
            torch._foreach_sub_(weights, shaped)

    @staticmethod
    def _orthogonalise(updates: list[Tensor]) -> None:
        """In place; several processes share the work and hand one another the results."""
        by_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for number, update in enumerate(sorted(updates, key=lambda u: u.numel())):
            if number % parallel.world() == parallel.rank():
                by_shape[tuple(update.shape)].append(update)
            else:
                update.zero_()
        stacks = [torch.stack(same) for same in by_shape.values()]
        # A CPU's caches hold few matrices at a time.
        results = orthogonalised(stacks, together=updates[0].is_cuda)
        for same, stack in zip(by_shape.values(), results, strict=True):
            torch._foreach_copy_(same, list(stack.unbind()))
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
