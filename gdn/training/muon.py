"""Muon: updates of convolutions by orthogonal matrices (Jordan et al. 2024), in groups of one
shape.

The weights of each output channel are one row of a matrix. Newton-Schulz iterations bring the
gradient's momentum near the closest matrix with orthonormal rows. So directions on which many
patches agree do not outweigh the rare ones. Steps are scaled to the size of AdamW's (Liu et al.
2025), so that both share one rate.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (
    3.4445,
    -4.7750,
    2.0315,
)  # of the quintic whose iteration takes singular values to about 1
ITERATIONS = 5
ADAMW_SIZE = 0.2  # root mean square of an AdamW step, in rates


def orthogonal(matrices: Tensor) -> Tensor:
    """A matrix (n, rows, columns) of the same shape with singular values near 1 (0.7 to 1.2), by
    matrix products alone (Newton-Schulz; Jordan et al. 2024)."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + torch.baddbmm(b * gram, gram, gram, alpha=c) @ x
    oriented: Tensor = x.mT if tall else x
    return oriented


class Muon(torch.optim.Optimizer):
    """The optimiser, for weights of two dimensions or more. `rate` is like AdamW's. Weights of one
    shape form a group, with one batched product."""

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        rate: float,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
    ) -> None:
        shapes: dict[torch.Size, list[nn.Parameter]] = {}
        for weight in weights:
            shapes.setdefault(weight.shape, []).append(weight)
        defaults = {"lr": rate, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__([{"params": group} for group in shapes.values()], defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one update. Every weight has a gradient. Values that are not finite count as 0."""
        for group in self.param_groups:
            weights: list[nn.Parameter] = group["params"]
            gradient = torch.stack([w.grad.flatten(1) for w in weights if w.grad is not None])
            gradient = torch.nan_to_num(gradient, 0.0, 0.0, 0.0)
            state = self.state[weights[0]]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(gradient)
            momentum: Tensor = state["momentum"].mul_(group["momentum"]).add_(gradient)
            ahead = torch.add(gradient, momentum, alpha=group["momentum"])
            low = torch.bfloat16 if ahead.is_cuda else torch.float32
            update = orthogonal(ahead.to(low)).float() * (
                ADAMW_SIZE * max(gradient.shape[1:]) ** 0.5 * group["lr"]
            )
            tensors: list[Tensor] = list(weights)
            torch._foreach_mul_(tensors, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_sub_(
                tensors, [u.reshape(w.shape) for u, w in zip(update, weights, strict=True)]
            )
