"""Imaging conditions of any microscope, drawn at random: what a general restorer is trained on.
Lengths in Å. The ranges are in docs/simulation.md, "Any crystal"."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gdn.simulation.renderer import Cuts, Lens, turning_room

MARGIN_ANGSTROM = 3.0  # next to a cell's edge the periodic neighbour shows


@dataclass(frozen=True)
class Draws:
    """Random numbers on one device from one generator."""

    device: str
    generator: torch.Generator

    @staticmethod
    def seeded(seed: int, device: str) -> Draws:
        """The draws of `seed`."""
        return Draws(device, torch.Generator(device).manual_seed(seed))

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in [low, high)."""
        return low + (high - low) * torch.rand(*shape, device=self.device, generator=self.generator)

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in the logarithm."""
        return torch.exp(self.uniform(math.log(low), math.log(high), *shape))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal."""
        return torch.randn(*shape, device=self.device, generator=self.generator)

    def chance(self, share: float, *shape: int) -> Tensor:
        """True with the probability `share`."""
        return self.uniform(0, 1, *shape) < share

    def integers(self, count: int, *shape: int) -> Tensor:
        """Uniform int64 in [0, count)."""
        return torch.randint(count, shape, device=self.device, generator=self.generator)

    def choice(self, values: list[float], *shape: int) -> Tensor:
        """One of `values`, all equally likely."""
        return torch.tensor(values, device=self.device)[self.integers(len(values), *shape)]


def any_lens(draws: Draws, wavelength: Tensor) -> Lens:
    """Random lenses for beams of `wavelength` (n,). Five in six have a corrector, the others are
    near Scherzer's focus (Scherzer 1949)."""
    n = len(wavelength)
    corrected = draws.chance(5 / 6, n)
    spherical = torch.where(corrected, draws.uniform(-2e5, 1e5, n), draws.uniform(0.5e7, 1.3e7, n))
    scherzer = (spherical.clamp_min(0) * wavelength).sqrt() * draws.uniform(0.7, 2.0, n)
    defocus = torch.where(corrected, draws.uniform(-200, 220, n), scherzer)
    spread = torch.where(corrected, draws.uniform(10, 60, n), draws.uniform(30, 90, n))
    return Lens(
        wavelength=wavelength,
        defocus=defocus,
        spherical=spherical,
        astigmatism=12 * draws.normal(n).abs(),
        astigmatism_azimuth=draws.uniform(0, math.pi, n),
        coma=300 * draws.normal(n).abs(),
        coma_azimuth=draws.uniform(0, 2 * math.pi, n),
        trefoil=300 * draws.normal(n).abs(),
        trefoil_azimuth=draws.uniform(0, 2 * math.pi, n),
        focal_spread=spread,
        source=draws.uniform(2e-5, 3e-4, n),
        blur=draws.uniform(0.05, 0.6, n),
        camera=torch.where(
            draws.chance(0.5, n), draws.uniform(0, 0.3, n), torch.zeros(n, device=draws.device)
        ),
    )


def random_cuts(draws: Draws, images: Tensor, patch: int, pixel: Tensor, cell: float) -> Cuts:
    """Random places, turns and reflections of patches with `pixel` (n,) Å, in the cells numbered
    `images` (n,), clear of their edges."""
    n = len(images)
    half = patch * pixel / 2
    room = turning_room(half, cell - 2 * MARGIN_ANGSTROM)
    angle = math.pi / 2 * draws.integers(4, n) + draws.uniform(-1, 1, n) * room
    reach = half * (angle.cos().abs() + angle.sin().abs())
    free = (cell / 2 - MARGIN_ANGSTROM - reach).clamp_min(0)
    centre = cell / 2 + draws.uniform(-1, 1, n, 2) * free[:, None]
    return Cuts(
        image=images, centre=centre, angle=angle, flip=draws.choice([-1.0, 1.0], n), pixel=pixel
    )
