"""Pieces of the networks: residual blocks, and the ways in which a latent enters a generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gdn.generator.chains import cut, halves


def widths(patch: int, coarse: int, base: int, cap: int) -> list[int]:
    """Channels of the stages from the coarsest map up to patch/2. They double towards the coarsest
    map, up to `cap`."""
    stages = int(math.log2(patch // coarse))
    return [min(base * 2**i, cap) for i in range(stages)][::-1]


class Residual(nn.Module):
    """x + conv(relu(bn(conv(relu(bn(x)))))), 3x3, at constant width (He et al. 2016b,
    fig. 4e)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        y: Tensor = self.layers(x)
        return x + y


class GridStem(nn.Module):
    """Latents on a grid of cells: (n, c g g) -> (n, width, g, g). The same weights work for a grid
    of any size."""

    def __init__(self, latent: int, width: int, coarse: int) -> None:
        super().__init__()
        if latent % coarse**2:
            raise ValueError(f"a grid of latents needs a multiple of {coarse**2}, got {latent}")
        self.shape = (latent // coarse**2, coarse, coarse)
        self.conv = nn.Conv2d(self.shape[0], width, 3, 1, 1, bias=False)

    def forward(self, z: Tensor) -> Tensor:
        """The coarsest map (n, width, coarse, coarse) of latents (n, d)."""
        y: Tensor = self.conv(z.view(-1, *self.shape))
        return y


class MappingStem(nn.Module):
    """Two hidden layers before the coarsest map, because the phase of a lattice is not linear in
    its wave vector."""

    def __init__(self, latent: int, width: int, coarse: int, hidden: int = 384) -> None:
        super().__init__()
        self.shape = (width, coarse, coarse)
        self.mapping = nn.Sequential(
            nn.Linear(latent, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, coarse**2 * width),
        )

    def forward(self, z: Tensor) -> Tensor:
        """The coarsest map (n, width, coarse, coarse) of latents (n, d)."""
        y: Tensor = self.mapping(z)
        return y.view(-1, *self.shape)


class LinearStem(nn.Module):
    """DCGAN's first layer: a transposed convolution from 1x1 to the coarsest map."""

    def __init__(self, latent: int, width: int, coarse: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(latent, width, coarse, 1, 0, bias=False)

    def forward(self, z: Tensor) -> Tensor:
        """The coarsest map (n, width, coarse, coarse) of latents (n, d)."""
        y: Tensor = self.conv(z[:, :, None, None])
        return y


class StyleBlock(nn.Module):
    """Scale and shift of every channel from the latent (FiLM, Perez et al. 2018), for one stage."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.affine = nn.Sequential(nn.Linear(latent, 128), nn.ReLU(), nn.Linear(128, 2 * width))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """The map `x`, scaled and shifted by the latents `z` (n, d)."""
        scale, shift = halves(self.affine(z)[:, :, None, None])
        y: Tensor = x * (1 + 0.3 * scale) + 0.3 * shift
        return y


class PlaneWaves(nn.Module):
    """Plane waves whose wave vectors and phases come from the latent. They are multiplied by the
    map to which they are added (docs/method.md, "The problem", "Plane waves").

    `waves` are pairs cos, sin of 2 pi k.r + phase, with r in px from the patch's centre. At the
    start |k| is below the map's Nyquist frequency (`reach` cycles per px of the full patch); later
    it is free.
    """

    def __init__(
        self, latent: int, width: int, waves: int, pixel: int, reach: float = 0.12
    ) -> None:
        super().__init__()
        self.waves, self.pixel, self.reach = waves, pixel, reach
        self.parameters_of = nn.Sequential(
            nn.Linear(latent, 256), nn.ReLU(), nn.Linear(256, 3 * waves)
        )
        self.gate = nn.Conv2d(width, 2 * waves, 1)
        self.mix = nn.Conv2d(2 * waves, width, 1, bias=False)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """The map `x` with the waves of the latents `z` (n, d)."""
        k, phase = cut(self.parameters_of(z)[:, :, None, None], [2 * self.waves, self.waves])
        n = x.shape[2]
        axis = (torch.arange(n, device=x.device, dtype=torch.float32) - (n - 1) / 2) * self.pixel
        ky, kx = (self.reach * part for part in halves(k.float()))
        angle = 2 * math.pi * (ky * axis[:, None] + kx * axis[None, :]) + phase.float()
        waves = torch.cat([angle.cos(), angle.sin()], 1).to(x.dtype)
        y: Tensor = self.mix(self.gate(x) * waves)
        return x + y


class Rung(nn.Module):
    """Latents of a finer grid, added to the map there: (n, c s s) -> (n, width, s, s). At the start
    they add nothing.

    `place` (start, stop) is their range in the flat latent.
    """

    def __init__(self, start: int, channels: int, size: int, width: int) -> None:
        super().__init__()
        self.shape = (channels, size, size)
        self.place = (start, start + channels * size**2)
        self.conv = nn.Conv2d(channels, width, 3, 1, 1, bias=False)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """The map `x` with the rung's part of the latents `z` (n, d) added."""
        y: Tensor = self.conv(z[:, self.place[0] : self.place[1]].reshape(-1, *self.shape))
        return x + y


STEMS = {"linear": LinearStem, "mlp": MappingStem, "grid": GridStem}
