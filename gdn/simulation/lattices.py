"""Exit waves and scattering maps of crystals that belong to no particular specimen, a batch at a
time on any device.

Two-dimensional lattices of columns are drawn at random (spacing 1.6 to 9 Å, one to four columns a
cell). They fill regions of the field: slabs, half planes with steps and wedges, particles, grains
beside or over each other, with strain, vacancies, rough surfaces and amorphous films. For HRTEM
they are phase objects, or columns along which electrons channel; the phase of a column's scattered
amplitude then turns with the thickness (the 1s-state model, Van Dyck & Op de Beeck 1996). For STEM
the columns scatter incoherently. No other multiple scattering is included;
`gdn.simulation.multislice` includes it. Lengths in Å.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gdn.simulation.conditions import Draws
from gdn.simulation.imaging import WAVE_BAND
from gdn.simulation.multislice import band_size, crop
from gdn.simulation.renderer import over_pixels

CELL = 64.0
GRID = 320  # px: 0.2 Å
REGIONS, BASIS = 3, 4
NOTHING, FULL, HALF, PARTICLE = range(4)
# What lies in a field, front to back: a particle on a support twice, a grain boundary, and so on.
LAYOUTS = [
    (HALF, PARTICLE, NOTHING),
    (HALF, PARTICLE, NOTHING),
    (HALF, PARTICLE, PARTICLE),
    (FULL, NOTHING, NOTHING),
    (FULL, NOTHING, NOTHING),
    (HALF, NOTHING, NOTHING),
    (FULL, HALF, NOTHING),
    (PARTICLE, NOTHING, NOTHING),
    (FULL, PARTICLE, NOTHING),
    (HALF, HALF, NOTHING),
]


@dataclass(frozen=True, kw_only=True)
class LatticeColumns:
    """Columns of n projected lattices.

    - `vectors` (n, 2, 2): lattice vectors, one per row, Å.
    - `places` (n, BASIS, 2): fractional positions of the columns of a cell.
    - `weights`, `widths` (n, BASIS): strength, and standard deviation in Å, of each column.
    - `area` (n,): of a cell, Å^2.
    """

    vectors: Tensor
    places: Tensor
    weights: Tensor
    widths: Tensor
    area: Tensor


def _row(values: Tensor) -> Tensor:
    return values[:, None]


class RandomLattices:
    """Draws `batch` fields at a time from a generator of random numbers."""

    def __init__(self, draws: Draws, batch: int) -> None:
        self.draws, self.batch, device = draws, batch, draws.device
        k = torch.fft.fftfreq(GRID, CELL / GRID, device=device)
        self._k2 = (
            k[:, None] ** 2 + torch.fft.rfftfreq(GRID, CELL / GRID, device=device)[None, :] ** 2
        )
        x = torch.arange(GRID, device=device) * (CELL / GRID) - CELL / 2
        self._y, self._x = x[:, None], x[None, :]
        reach = int(CELL * 0.75 / 1.6) + 2
        i = torch.arange(-reach, reach + 1, device=device, dtype=torch.float32)
        self._cells = torch.stack(torch.meshgrid(i, i, indexing="ij"), -1).reshape(-1, 2)

    def _smooth_noise(self, width: Tensor) -> Tensor:
        """Noise (n, GRID, GRID) of unit deviation, cut off at about `width` (n,) 1/Å."""
        white = torch.fft.rfft2(self.draws.normal(self.batch, GRID, GRID))
        noise: Tensor = torch.fft.irfft2(
            white * torch.exp(-self._k2 / (2 * over_pixels(width) ** 2)), s=(GRID, GRID)
        )
        return noise / noise.std((1, 2), keepdim=True)

    def _half_plane(self) -> tuple[Tensor, Tensor]:
        """A support with a stepped edge, and its thickness, a wedge in three of five."""
        d, n = self.draws, self.batch
        turn, edge = d.uniform(0, 2 * math.pi, n), d.uniform(-18, 20, n)
        c, s = over_pixels(turn.cos()), over_pixels(turn.sin())
        depth, along = c * self._x + s * self._y, c * self._y - s * self._x
        for _ in range(2):
            depth = depth - over_pixels(d.choice([0.0, 0.0, 1.6, 3.0], n)) * (
                along > over_pixels(d.uniform(-25, 25, n))
            )
        wedge = ((over_pixels(edge) - depth) / over_pixels(d.log_uniform(2, 55, n))).clamp(0.15, 1)
        return depth < over_pixels(edge), torch.where(
            over_pixels(d.chance(0.6, n)), wedge, torch.ones_like(wedge)
        )

    def _particle(self) -> tuple[Tensor, Tensor]:
        """A polygon of four to eight facets, and its thickness, a dome in three of five."""
        d, n = self.draws, self.batch
        x, y = (
            self._x - over_pixels(d.uniform(-14, 14, n)),
            self._y - over_pixels(d.uniform(-14, 14, n)),
        )
        radius, turn, facets = (
            d.log_uniform(5, 26, n),
            d.uniform(0, 2 * math.pi, n),
            d.choice([4.0, 5.0, 6.0, 8.0], n),
        )
        inside = torch.ones(n, GRID, GRID, dtype=torch.bool, device=d.device)
        for j in range(8):
            angle = turn + 2 * math.pi * j / facets + 0.1 * d.normal(n)
            height = over_pixels(angle.cos()) * x + over_pixels(angle.sin()) * y
            inside &= (height < over_pixels(radius * d.uniform(0.75, 1.1, n))) | over_pixels(
                facets <= j
            )
        dome = (1 - (x**2 + y**2) / (1.3 * over_pixels(radius)) ** 2).clamp(0.05, 1).sqrt()
        return inside, torch.where(over_pixels(d.chance(0.6, n)), dome, torch.ones_like(dome))

    def _region(self, kind: Tensor) -> tuple[Tensor, Tensor]:
        """Where a crystal of `kind` (n,) is, bool, and its relative thickness, both (n, GRID,
        GRID)."""
        d, n = self.draws, self.batch
        half, wedge = self._half_plane()
        particle, dome = self._particle()
        tilted = (
            1
            + 0.3 * (over_pixels(d.normal(n)) * self._x + over_pixels(d.normal(n)) * self._y) / CELL
        )
        kind = over_pixels(kind)
        inside = torch.where(
            kind == FULL, torch.ones_like(half), torch.where(kind == HALF, half, particle)
        ) & (kind != NOTHING)
        return inside, torch.where(
            kind == FULL, tilted.clamp(0.05, 2), torch.where(kind == HALF, wedge, dome)
        )

    def _lattice(self) -> LatticeColumns:
        """Square, hexagonal, rectangular (also with the ratio of a diagonal) or oblique cells."""
        d, n = self.draws, self.batch
        a, kind = d.log_uniform(1.6, 5.5, n), d.integers(5, n)
        ones = torch.ones(n, device=d.device)
        ratios = torch.stack(
            [
                ones,
                ones,
                d.uniform(1, 2.2, n),
                math.sqrt(2) * d.uniform(0.95, 1.05, n),
                d.uniform(1, 1.8, n),
            ],
            1,
        )
        right = ones * math.pi / 2
        angles = torch.stack(
            [right, ones * math.pi / 3, right, right, d.uniform(math.radians(50), math.pi / 2, n)],
            1,
        )
        ratio, gamma = (table.gather(1, kind[:, None])[:, 0] for table in (ratios, angles))
        b, turn = (a * ratio).clamp(max=9), d.uniform(0, 2 * math.pi, n)
        first = torch.stack([a * turn.cos(), a * turn.sin()], 1)
        second = torch.stack([b * (turn + gamma).cos(), b * (turn + gamma).sin()], 1)
        area = a * b * gamma.sin()
        count = torch.minimum(
            d.choice([1.0, 1.0, 2.0, 2.0, 3.0, 4.0], n), (area / 2.2).floor().clamp(min=1)
        )
        count = torch.where(area > 14, count.clamp(min=2), count)
        places = d.uniform(0, 1, n, BASIS, 2)
        places[:, 0] = 0
        special = d.choice([0.5, 0.5, 0.25], n)[:, None].expand(n, 2) * torch.stack(
            [ones, d.choice([1.0, 1.0, 0.0], n)], 1
        )
        places[:, 1] = torch.where(d.chance(0.75, n)[:, None], special, places[:, 1])
        used = torch.arange(BASIS, device=d.device) < count[:, None]
        weights = d.uniform(0.1, 1, n, BASIS)
        weights[:, 0] = 1
        widths = d.uniform(0.22, 0.55, n)[:, None] * d.uniform(0.85, 1.2, n, BASIS)
        return LatticeColumns(
            vectors=torch.stack([first, second], 1),
            places=places,
            weights=weights * used,
            widths=widths,
            area=area,
        )

    def _spectrum(self, lattice: LatticeColumns, inside: Tensor, thickness: Tensor) -> Tensor:
        """Spectrum (n, GRID, GRID / 2 + 1) of the columns of `lattice` where `inside`. The strength
        of a column is the crystal's thickness there."""
        d, n = self.draws, self.batch
        displaced, vacant = d.choice([0.0, 0.03, 0.08], n), d.choice([0.0, 0.01, 0.05], n)
        rough, uneven = d.choice([0.0, 0.1, 0.3], n), d.choice([0.0, 0.1, 0.3], n)
        strained = d.uniform(0, 0.25, n) * d.chance(0.4, n)
        fields = [
            over_pixels(strained) * self._smooth_noise(d.uniform(0.01, 0.03, n)) for _ in range(2)
        ]
        total = torch.zeros(n, GRID, GRID // 2 + 1, dtype=torch.complex64, device=d.device)
        for m in range(BASIS):
            place = torch.einsum("pk,nkd->npd", self._cells, lattice.vectors)
            place = (
                place + torch.einsum("nk,nkd->nd", lattice.places[:, m], lattice.vectors)[:, None]
            )
            here = (place.abs() < CELL / 2 - 0.5).all(-1)
            pixel = ((place + CELL / 2) * (GRID / CELL)).long().clamp(0, GRID - 1)
            flat = pixel[..., 1] * GRID + pixel[..., 0]
            near = (pixel + d.integers(19, *pixel.shape) - 9).clamp(0, GRID - 1)
            surface = ~inside.flatten(1).gather(1, near[..., 1] * GRID + near[..., 0])
            kept = (
                here
                & inside.flatten(1).gather(1, flat)
                & (d.uniform(0, 1, *here.shape) > _row(vacant))
            )
            kept &= ~(surface & (d.uniform(0, 1, *here.shape) < _row(rough)))
            weight = (
                kept
                * _row(lattice.weights[:, m] * lattice.area.sqrt())
                * thickness.flatten(1).gather(1, flat)
            )
            weight = weight * (1 + _row(uneven) * d.normal(*here.shape)).clamp(min=0.1)
            shift = torch.stack([f.flatten(1).gather(1, flat) for f in fields], -1)
            place = place + shift + over_pixels(displaced) * d.normal(*place.shape)
            damping = torch.exp(-2 * math.pi**2 * over_pixels(lattice.widths[:, m]) ** 2 * self._k2)
            total += torch.fft.rfft2(self._points(place, weight)) * damping
        return total

    def _points(self, place: Tensor, weight: Tensor) -> Tensor:
        """Points (n, p, 2) distributed bilinearly over the grid (n, GRID, GRID)."""
        n = len(place)
        f = (place + CELL / 2) * (GRID / CELL)
        low = f.floor()
        part, low = f - low, low.long()
        grid = torch.zeros(n, GRID * GRID, device=place.device)
        for dx in (0, 1):
            for dy in (0, 1):
                share = (part[..., 0] if dx else 1 - part[..., 0]) * (
                    part[..., 1] if dy else 1 - part[..., 1]
                )
                index = (low[..., 1] + dy) % GRID * GRID + (low[..., 0] + dx) % GRID
                grid.scatter_add_(1, index, weight * share)
        return grid.reshape(n, GRID, GRID) * (GRID / CELL) ** 2 / 8

    def potential(self) -> Tensor:
        """Projected potentials (n, GRID, GRID), float32, with a peak of about one."""
        d, n = self.draws, self.batch
        kinds = torch.tensor(LAYOUTS, device=d.device)[d.integers(len(LAYOUTS), n)]
        columns = torch.zeros(n, GRID, GRID // 2 + 1, dtype=torch.complex64, device=d.device)
        film = torch.zeros(n, GRID, GRID, device=d.device)
        taken = torch.zeros(n, GRID, GRID, dtype=torch.bool, device=d.device)
        for j in reversed(
            range(REGIONS)
        ):  # the last lies in front, over the others or in their place
            inside, thickness = self._region(kinds[:, j])
            inside = inside & (over_pixels(d.chance(0.3, n)) | ~taken)
            taken = taken | inside
            amorphous = d.chance(0.08, n)
            strength = d.uniform(0.3, 1.2, n) * ~amorphous
            columns += self._spectrum(self._lattice(), inside, thickness * over_pixels(strength))
            inner = torch.where(amorphous, d.uniform(0.2, 0.6, n), d.uniform(0, 0.15, n))
            film += inside * thickness * over_pixels(inner)
        glass = self._smooth_noise(d.uniform(0.25, 0.6, n)) * over_pixels(
            d.uniform(0.01, 0.12, n) * d.chance(0.4, n)
        )
        film += glass * torch.where(
            over_pixels(d.chance(0.5, n)), torch.ones_like(film), (film > 0).float()
        )
        total: Tensor = torch.fft.irfft2(columns, s=(GRID, GRID)) + film
        top = total.flatten(1)[:, ::16].abs().quantile(0.995, dim=1) + 1e-6
        return total / over_pixels(top)

    def waves(self, potential: Tensor) -> Tensor:
        """Exit waves (n, m, m), complex64 spectra as `multislice.exit_wave` makes them, of
        projected `potential`."""
        d, n = self.draws, self.batch
        phase = potential * over_pixels(d.log_uniform(0.1, 2.5, n))
        absorbed = over_pixels(d.uniform(0, 0.3, n)) * phase
        weak = torch.polar(torch.exp(-absorbed.clamp(-3, 3)), phase)
        # Channelling: the amplitude that a column scatters turns with thickness while its width
        # stays.
        turned = phase.clamp_min(0) * over_pixels(d.uniform(0.8, 2.5, n))
        channelled = 1 + (torch.polar(torch.exp(-absorbed.clamp(0, 3)), turned) - 1) * over_pixels(
            d.uniform(0.4, 1.0, n)
        )
        wave = torch.where(over_pixels(d.chance(0.35, n)), channelled, weak)
        m = band_size(WAVE_BAND, CELL)
        return crop(torch.fft.fft2(wave), m) * (m / GRID) ** 2

    def scattering(self, potential: Tensor) -> Tensor:
        """Maps (n, 2, m, m), complex64 spectra as `multislice.scattering_maps` makes them: dark and
        bright field."""
        d, n = self.draws, self.batch
        dark = potential.clamp_min(0) ** over_pixels(d.uniform(0.8, 1.6, n))
        m = band_size(WAVE_BAND, CELL)
        return (
            crop(torch.fft.fft2(torch.stack([dark, potential.clamp_min(0)], 1)), m)
            * (m / GRID) ** 2
        )
