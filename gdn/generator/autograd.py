"""Graphs of a generator whose derivatives are not written by hand: torch finds them. For
experiments only.

The same inputs and outputs as `gdn.generator.folded`, at two to three times the time; nothing here
exports.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gdn.generator.folded import weighted_residual


class Images(nn.Module):
    """z (n, d) -> x (n, channels, patch, patch), x = vacuum + intensity_scale * generator(z)."""

    def __init__(self, generator: nn.Module, intensity_scale: float, vacuum: float) -> None:
        super().__init__()
        self.generator, self.intensity_scale, self.vacuum = (
            generator.requires_grad_(False),
            intensity_scale,
            vacuum,
        )

    def forward(self, z: Tensor) -> Tensor:
        """Images of latents."""
        y: Tensor = self.generator(z)
        return self.vacuum + self.intensity_scale * y


class AutogradPullBack(nn.Module):
    """See `gdn.generator.folded.PullBack`."""

    def __init__(self, images: Images) -> None:
        super().__init__()
        self.images = images

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
        """x and J^T (factor * residual)."""
        with torch.enable_grad():
            latents = z.detach().requires_grad_(True)
            x = self.images(latents)
            mu = scale.reshape(-1, 1, 1, 1) * x.detach() + shift
            residual = weighted_residual(mu, y, w, alpha, beta)
            (dz,) = torch.autograd.grad(x, latents, residual * factor.reshape(-1, 1, 1, 1))
        return x.detach(), dz


class AutogradPushForward(nn.Module):
    """See `gdn.generator.folded.PushForward`; J t as the derivative of t . J^T v in v, one pass for
    each tangent."""

    def __init__(self, images: Images) -> None:
        super().__init__()
        self.images = images

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        """J t (n k, channels, patch, patch)."""
        with torch.enable_grad():
            latents = z.detach().requires_grad_(True)
            x = self.images(latents)
            v = torch.zeros_like(x, requires_grad=True)
            (pulled,) = torch.autograd.grad(x, latents, v, create_graph=True)
            columns = [
                torch.autograd.grad(pulled, v, t[:, k], retain_graph=True)[0]
                for k in range(t.shape[1])
            ]
        return torch.stack(columns, 1).flatten(0, 1)
