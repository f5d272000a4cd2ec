"""Clean patches of any crystal in any imaging mode, made on the training device: random lattices,
and multislice of real structures (docs/simulation.md, "Any crystal")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gdn.simulation.conditions import Draws, any_lens, random_cuts
from gdn.simulation.imaging import WAVE_BAND
from gdn.simulation.lattices import CELL, RandomLattices
from gdn.simulation.multislice import Beam, band_size, exit_wave, scattering_maps
from gdn.simulation.renderer import (
    intensity_spectra,
    patches,
    pixel_averaged,
    spectra_of,
    stem_image,
)
from gdn.simulation.scattering import wavelength_angstrom
from gdn.simulation.specimens import random_specimen
from gdn.simulation.structures import Structure
from gdn.simulation.wide_scenes import wide_structure

PIXEL_ANGSTROM = (0.25, 0.45)  # of a restorer's patch: whole-number binning comes to about 0.35
SHARES = (0.62, 0.82)  # cumulated: HRTEM, annular dark field, the rest bright field
ENERGIES_EV = (300e3, 300e3, 200e3, 80e3)


def any_structure(seed: int) -> Structure:
    """The specimen of `seed`: one in six Pt on CeO2, the others any crystal."""
    ours = np.random.default_rng([seed, 0xA6]).uniform() < 1 / 6
    return wide_structure(seed) if ours else random_specimen(seed)


class WavePool:
    """Exit waves and scattering maps of up to `size` structures on one device. When it is full, new
    ones replace the oldest."""

    def __init__(self, size: int, device: str, grid: int = 640, maps: bool = True) -> None:
        m = band_size(WAVE_BAND, CELL)
        self.waves = torch.zeros(size, m, m, dtype=torch.complex64, device=device)
        self.maps = torch.zeros(size if maps else 0, 2, m, m, dtype=torch.complex64, device=device)
        self.wavelength = torch.zeros(size, device=device)
        self.count, self.device, self.grid = 0, device, grid

    @property
    def filled(self) -> int:
        """Number of places that are taken."""
        return min(self.count, len(self.waves))

    def add(self, structure: Structure, energy_ev: float, absorption: float = 0.0) -> None:
        """Compute exit wave and scattering maps of one more structure."""
        at = self.count % len(self.waves)
        thermal = round(float(structure.parameters.get("thermal_angstrom", 0.08)) / 0.02) * 0.02
        beam = Beam(
            energy_ev=energy_ev, grid=self.grid, thermal_angstrom=thermal, absorption=absorption
        )
        self.waves[at] = exit_wave(structure, beam, WAVE_BAND, self.device)
        if len(self.maps):
            self.maps[at] = scattering_maps(structure, thermal, WAVE_BAND, self.device)
        self.wavelength[at] = wavelength_angstrom(energy_ev)
        self.count += 1

    def add_randomly(
        self,
        structure: Structure,
        rng: np.random.Generator,
        energies_ev: tuple[float, ...] = ENERGIES_EV,
    ) -> None:
        """Add one more structure, at one of `energies_ev`, with absorption in half of the cases."""
        self.add(
            structure,
            float(rng.choice(energies_ev)),
            float(rng.choice([0.0, rng.uniform(0, 0.08)])),
        )


@dataclass(kw_only=True)
class AnyCrystal:
    """A source of clean patches. Half of the images show random lattices. Half show structures of
    the pool, once it contains any.

    - `draws`: of all random numbers.
    - `batch`: images that are made at a time.
    - `patch`: side of a patch, px.
    - `per_image`: patches that are cut from each image.
    - `pool`: structures and their waves (None: random lattices alone).
    - `pixel_angstrom`: the pixel size lies between these two, uniform in the logarithm.
    - `energies_ev`: the beam of a random lattice has one of these.
    """

    draws: Draws
    batch: int
    patch: int
    per_image: int = 2
    pool: WavePool | None = None
    pixel_angstrom: tuple[float, float] = PIXEL_ANGSTROM
    energies_ev: tuple[float, ...] = ENERGIES_EV

    def __post_init__(self) -> None:
        self._lattices = RandomLattices(self.draws, self.batch)
        self._wavelengths = [wavelength_angstrom(energy) for energy in self.energies_ev]

    @torch.no_grad()
    def draw(self) -> Tensor:
        """(batch * per_image, 1, patch, patch) float32, mean 1, not negative."""
        d, n = self.draws, self.batch
        if self.pool is not None and self.pool.filled and bool(d.chance(0.5, 1)):
            index = d.integers(self.pool.filled, n)
            waves, maps, wavelength = (
                self.pool.waves[index],
                self.pool.maps[index],
                self.pool.wavelength[index],
            )
        else:
            potential = self._lattices.potential()
            waves, maps = self._lattices.waves(potential), self._lattices.scattering(potential)
            wavelength = d.choice(self._wavelengths, n)
        # A batch is sorted by mode, so that each image is formed in one way only.
        counts = [int(s * n) for s in SHARES]
        hrtem = intensity_spectra(waves[: counts[0]], any_lens(d, wavelength[: counts[0]]), CELL)
        dark = self.dark_field(maps[counts[0] : counts[1], 0])
        bright = self.bright_field(maps[counts[1] :, 1])
        return self._cut(torch.cat([hrtem, dark, bright]))

    def _seen(self, maps: Tensor) -> Tensor:
        """The image of `maps` (n, m, m) by a random probe, scaled to about unit peak: (n, g, g)."""
        d, n = self.draws, len(maps)
        tail = d.uniform(0, 0.4, n) * d.chance(0.5, n)
        seen = stem_image(maps, d.uniform(0.2, 0.65, n), tail, CELL)
        top = seen.flatten(1)[:, ::16].quantile(0.998, dim=1)
        return seen / (top[:, None, None] + 1e-12)

    def dark_field(self, maps: Tensor) -> Tensor:
        """Spectra (n, m, m) of annular dark-field images of scattering maps (n, m, m)."""
        d, n = self.draws, len(maps)
        seen = self._seen(maps) ** d.uniform(0.8, 1.3, n)[:, None, None]
        return spectra_of(d.log_uniform(0.01, 1, n)[:, None, None] + seen, CELL)

    def bright_field(self, maps: Tensor) -> Tensor:
        """Spectra (n, m, m) of annular bright-field images of scattering maps (n, m, m)."""
        d, n = self.draws, len(maps)
        thick = d.log_uniform(0.2, 2.5, n)[:, None, None]
        dip = (1 - torch.exp(-thick * self._seen(maps))) / (1 - torch.exp(-thick))
        return spectra_of(1 - d.uniform(0.1, 0.75, n)[:, None, None] * dip, CELL)

    def _cut(self, spectra: Tensor) -> Tensor:
        d, n = self.draws, len(spectra)
        pixel = d.log_uniform(*self.pixel_angstrom, n)
        images = torch.arange(n, device=d.device).repeat(self.per_image)
        cuts = random_cuts(d, images, self.patch, pixel.repeat(self.per_image), CELL)
        cut = patches(pixel_averaged(spectra, pixel, CELL), cuts, self.patch, CELL).clamp_min(1e-3)
        cut = cut / cut.mean((1, 2), keepdim=True)
        good = torch.isfinite(cut).flatten(1).all(1) & (cut.flatten(1).std(1) > 1e-4)
        return torch.where(good[:, None, None], cut, torch.ones_like(cut))[:, None]
