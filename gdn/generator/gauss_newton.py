"""A Gauss-Newton step in one graph: one forward pass, then for each iteration one pass back and one
in both directions.

The arithmetic is that of `gdn.search.objective` (Martens 2010). There each product with the
Jacobian is a graph of its own, with a forward pass to the same point. Here that pass is made once,
and no image leaves the device.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gdn.generator.folded import FoldedGenerator
from gdn.models.graphs import STEP_ITERATIONS

INPUTS = ("z", "nuisance", "y", "w", "alpha", "beta", "damping", "prior")


class GaussNewton(nn.Module):
    """(z, nuisance, y, w, alpha, beta, damping, prior) -> (direction, curvature).

    `z` (n, d), `nuisance` (n, 4) log dose, log contrast and two slopes, `y` and `w` (n, 1, h, w)
    counts and weights, variance alpha mu + beta, `damping` nats added to the curvature of every
    latent, `prior` (n, 4) the nuisances' precision. `direction` (n, d + 4): the step; `curvature`
    (n,): twice the decrease in nats that the quadratic model promises of it. All single precision,
    whatever the generator's: sums over a tile's pixels exceed what half can hold.
    """

    plane: Tensor

    def __init__(
        self, generator: FoldedGenerator, patch: int, iterations: int = STEP_ITERATIONS
    ) -> None:
        super().__init__()
        self.generator, self.iterations = generator, iterations
        axis = torch.linspace(-1, 1, patch)
        self.register_buffer(
            "plane", torch.stack(torch.meshgrid(axis, axis, indexing="ij")), persistent=False
        )

    def forward(  # noqa: PLR0913  # the ONNX graph's inputs
        self,
        z: Tensor,
        nuisance: Tensor,
        y: Tensor,
        w: Tensor,
        alpha: Tensor,
        beta: Tensor,
        damping: Tensor,
        prior: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The step and its curvature."""
        tangent = _Tangent(self, z, nuisance)
        weight = w / torch.clamp(alpha * tangent.mu + beta, min=1e-6)
        pulled = tangent.back((tangent.mu - y) * weight)
        # Of the objective, not the likelihood alone: the latents' prior has precision one, which is
        # not damped.
        residual = -pulled - torch.cat([z, nuisance * prior], 1)
        precision = torch.cat([torch.ones_like(z) + damping, prior], 1)
        own = torch.stack([(weight * d * d).sum((1, 2, 3)) for d in tangent.derivatives], 1)
        diagonal = precision + torch.cat([torch.zeros_like(z), own], 1)
        scaled = residual / diagonal
        search, strength = scaled, _dot(residual, scaled)
        direction, image = torch.zeros_like(residual), torch.zeros_like(residual)
        for _ in range(self.iterations):
            curved = tangent.back(weight * tangent.push(search)) + precision * search
            length = strength / torch.clamp(_dot(search, curved), min=1e-12)
            direction, image = direction + length * search, image + length * curved
            residual = residual - length * curved
            scaled = residual / diagonal
            before, strength = strength, _dot(residual, scaled)
            search = scaled + strength / torch.clamp(before, min=1e-12) * search
        return direction, _dot(direction, image)[:, 0]


class _Tangent:
    """The linear model of the mean mu (n, 1, h, w) around a point, in both directions."""

    def __init__(self, step: GaussNewton, z: Tensor, nuisance: Tensor) -> None:
        self.generator, self.latent = step.generator, z.shape[1]
        self.dtype = next(step.generator.parameters()).dtype
        self.at = step.generator.chain.trace(z.to(self.dtype))
        x = step.generator.vacuum + step.generator.intensity_scale * self.at.y.to(z.dtype)
        dose, contrast = (torch.exp(nuisance[:, i]).reshape(-1, 1, 1, 1) for i in (0, 1))
        v, u = step.plane[0], step.plane[1]
        slopes = nuisance[:, 2].reshape(-1, 1, 1, 1) * v + nuisance[:, 3].reshape(-1, 1, 1, 1) * u
        self.scale = dose * contrast
        self.mu = self.scale * x + dose * (1 - contrast + slopes)
        self.derivatives = (self.mu, self.scale * (x - 1), dose * v, dose * u)

    def push(self, t: Tensor) -> Tensor:
        """J t (n, 1, h, w) for t (n, d + 4)."""
        chain, factor = self.generator.chain, self.scale * self.generator.intensity_scale
        moved = factor * _bounded(
            t[:, : self.latent], lambda part: chain.push(self.at, part), self.dtype
        )
        for i, derivative in enumerate(self.derivatives):
            moved = moved + t[:, self.latent + i].reshape(-1, 1, 1, 1) * derivative
        return moved

    def back(self, g: Tensor) -> Tensor:
        """J^T g (n, d + 4)."""
        chain, factor = self.generator.chain, self.scale * self.generator.intensity_scale
        dz = _bounded(factor * g, lambda part: chain.back(self.at, part), self.dtype)
        return torch.cat(
            [dz, torch.stack([(g * d).sum((1, 2, 3)) for d in self.derivatives], 1)], 1
        )


def _bounded(t: Tensor, product: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Tensor:
    """A linear product of `t`. In half precision `t` is first divided by its largest entry, so that
    neither strong nor weak gradients leave the range of half precision."""
    if dtype == t.dtype:
        return product(t)
    size = torch.clamp(torch.amax(t.abs().flatten(1), 1), min=1e-30)
    bounded = product((t / size.reshape(-1, *[1] * (t.ndim - 1))).to(dtype)).to(t.dtype)
    return bounded * size.reshape(-1, *[1] * (bounded.ndim - 1))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Products of rows (n, 1)."""
    return (a * b).sum(1, keepdim=True)
