"""The generator for evaluation: batch norm is folded in, and products with its Jacobian are written
by hand.

`torch.autograd` cannot be exported to ONNX; these few operations and their transposes can. Tests
check everything against autograd in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gdn.generator.chains import Ladder


class FoldedGenerator(nn.Module):
    """z (n, d) -> x (n, channels, patch, patch), x = vacuum + intensity_scale * tanh(...)."""

    def __init__(self, chain: Ladder, intensity_scale: float, vacuum: float) -> None:
        super().__init__()
        self.chain, self.intensity_scale, self.vacuum = chain, intensity_scale, vacuum

    def forward(self, z: Tensor) -> Tensor:
        y: Tensor = self.chain(z)
        return self.vacuum + self.intensity_scale * y


def weighted_residual(mu: Tensor, y: Tensor, w: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """w (mu - y) / (alpha mu + beta): the derivative of the negative log-likelihood by mu, for
    Poisson, shifted Poisson and Gaussian noise (docs/method.md, "Likelihood")."""
    return w * (mu - y) / torch.clamp(alpha * mu + beta, min=1e-6)


class PullBack(nn.Module):
    """(z, y, w, scale, shift, factor, alpha, beta) -> (x, dz), dz = J^T (factor * residual).

    The residual is that of mu = scale x + shift (`weighted_residual`); `factor` is dmu/dx: `scale`
    for the gradient, 1 for the pull-back of `shift` itself (scale 0, y 0, beta 1).
    """

    def __init__(self, generator: FoldedGenerator) -> None:
        super().__init__()
        self.generator = generator

    def forward(  # noqa: PLR0913  # the ONNX graph's inputs
        self,
        z: Tensor,
        y: Tensor,
        w: Tensor,
        scale: Tensor,
        shift: Tensor,
        factor: Tensor,
        alpha: Tensor,
        beta: Tensor,
    ) -> tuple[Tensor, Tensor]:
        g = self.generator
        at = g.chain.trace(z)
        x = g.vacuum + g.intensity_scale * at.y
        mu = scale.reshape(-1, 1, 1, 1) * x + shift
        residual = weighted_residual(mu, y, w, alpha, beta)
        dz = g.chain.back(at, residual * factor.reshape(-1, 1, 1, 1) * g.intensity_scale)
        return x, dz


class PushForward(nn.Module):
    """(z, t) -> J t: tangents t (n, k, d) of the latents to (n k, channels, patch, patch)."""

    def __init__(self, generator: FoldedGenerator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        chain = self.generator.chain
        return self.generator.intensity_scale * chain.push(
            chain.trace(z), t.reshape(-1, t.shape[2])
        )
