"""Exit waves by multislice in torch on any device (Cowley & Moodie 1957; Kirkland 2010, chapter 6).

Atoms are put on the grid by cubic B-splines, whose transform is divided out. The points of each
element are convolved with its projected potential. Thermal motion damps the potential (Debye-Waller
factor).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from gdn.simulation.scattering import (
    interaction_parameter,
    projected_potential,
    wavelength_angstrom,
)
from gdn.simulation.structures import Structure

BAND_LIMIT = (
    2 / 3
)  # of the grid's Nyquist frequency: products of band-limited arrays then alias only beyond it
ELEMENT_STRENGTHS = (
    1.7,
    0.8,
)  # powers of the atomic number with which dark and bright field of a STEM scatter


@dataclass(frozen=True, kw_only=True)
class Beam:
    """Settings of the multislice.

    - `energy_ev`: of the electrons.
    - `grid`: px along each side of the cell.
    - `slice_angstrom`: thickness of a slice.
    - `thermal_angstrom`: rms displacement of an atom along one axis.
    - `absorption`: the imaginary part of the potential, as a share.
    """

    energy_ev: float = 300e3
    grid: int = 768
    slice_angstrom: float = 2.0
    thermal_angstrom: float = 0.08
    absorption: float = 0.0


@cache
def _k_squared(grid: int, cell: float, device: str) -> Tensor:
    """(grid, grid // 2 + 1) float64."""
    k = torch.fft.fftfreq(grid, cell / grid, dtype=torch.float64, device=device)
    half = torch.fft.rfftfreq(grid, cell / grid, dtype=torch.float64, device=device)
    squares: Tensor = k[:, None] ** 2 + half[None, :] ** 2
    return squares


@cache
def _spline_transform(grid: int, device: str) -> Tensor:
    """(grid, grid // 2 + 1) Fourier transform of the cubic B-spline on both axes, sinc^4 each."""
    ky, kx = torch.fft.fftfreq(grid, device=device), torch.fft.rfftfreq(grid, device=device)
    return torch.sinc(ky)[:, None] ** 4 * torch.sinc(kx)[None, :] ** 4


@cache
def _potential(number: int, grid: int, cell: float, thermal: float, device: str) -> Tensor:
    """Transform of one atom's projected potential on the half plane, per pixel, V Å, with its
    Debye-Waller factor (docs/simulation.md, "Waves without abTEM")."""
    k2 = _k_squared(grid, cell, device)
    damping = torch.exp(-2 * (np.pi * thermal) ** 2 * k2)
    potential = (
        torch.as_tensor(projected_potential(number, k2.cpu().numpy()), device=device) * damping
    )
    return (potential / _spline_transform(grid, device) * (grid / cell) ** 2).float()


def splat(places: Tensor, layer: Tensor, weights: Tensor, layers: int, grid: int) -> Tensor:
    """Points on grids (layers, grid, grid) by periodic cubic B-splines.

    `places` (n, 2) float32 in px (row, column), `layer` (n,) int64, `weights` (n,) float32.
    """
    low = places.floor()
    part = places - low
    t = torch.stack([part, 1 - part])  # (2, n, 2)
    edge, inner = t**3 / 6, 2 / 3 - t**2 + t**3 / 2
    spline = torch.stack([edge[1], inner[0], inner[1], edge[0]])  # at -1, 0, 1, 2 px: (4, n, 2)
    offsets = torch.arange(-1, 3, device=places.device)
    rows = (low[:, 0].long()[None] + offsets[:, None]) % grid
    columns = (low[:, 1].long()[None] + offsets[:, None]) % grid
    index = (layer[None, None] * grid + rows[:, None]) * grid + columns[None]  # (4, 4, n)
    share = spline[:, None, :, 0] * spline[None, :, :, 1] * weights
    flat = torch.zeros(layers * grid * grid, device=places.device)
    return flat.index_add_(0, index.flatten(), share.flatten()).reshape(layers, grid, grid)


def slices(structure: Structure, beam: Beam, device: str) -> Tensor:
    """Projected potentials (slices, grid, grid), float32, V Å; axis 0 of a slice is y, axis 1 is
    x."""
    cell, thickness = float(structure.cell[0]), float(structure.cell[2])
    count = max(1, int(np.ceil(thickness / beam.slice_angstrom - 1e-9)))
    layer = np.clip((structure.positions[:, 2] / thickness * count).astype(np.int64), 0, count - 1)
    spectrum = torch.zeros(
        count, beam.grid, beam.grid // 2 + 1, dtype=torch.complex64, device=device
    )
    for number in np.unique(structure.numbers):
        chosen = structure.numbers == number
        places = torch.as_tensor(
            structure.positions[chosen][:, [1, 0]] * (beam.grid / cell),
            dtype=torch.float32,
            device=device,
        )
        points = splat(
            places,
            torch.as_tensor(layer[chosen], device=device),
            places.new_ones(len(places)),
            count,
            beam.grid,
        )
        spectrum += torch.fft.rfft2(points) * _potential(
            int(number), beam.grid, cell, beam.thermal_angstrom, device
        )
    potentials: Tensor = torch.fft.irfft2(spectrum, s=(beam.grid, beam.grid))
    return potentials


@cache
def _aperture(grid: int, device: str) -> Tensor:
    k = torch.fft.fftfreq(grid, device=device)
    return (torch.hypot(k[:, None], k[None, :]) < BAND_LIMIT / 2).float()


@cache
def _propagator(grid: int, cell: float, distance: float, wavelength: float, device: str) -> Tensor:
    """Fresnel propagator over `distance` Å, band-limited (Kirkland 2010, eq. 6.65)."""
    k = torch.fft.fftfreq(grid, cell / grid, dtype=torch.float64, device=device)
    phase = -np.pi * wavelength * distance * (k[:, None] ** 2 + k[None, :] ** 2)
    return (torch.polar(torch.ones_like(phase), phase) * _aperture(grid, device)).to(
        torch.complex64
    )


@torch.no_grad()
def exit_wave(structure: Structure, beam: Beam, band: float, device: str = "cpu") -> Tensor:
    """Exit wave of a plane wave of unit amplitude: spectrum (n, n) complex64 in FFT order, |k| <=
    `band` 1/Å.

    n = 2 floor(band * cell) + 1 and the spectrum's sum over n^2 is the wave at the cell's corner,
    as in `gdn.simulation.imaging.Wave`. Raises ValueError for an element beyond Bi.
    """
    cell, grid = float(structure.cell[0]), beam.grid
    n = band_size(band, cell)
    if not len(structure.numbers):
        empty = torch.zeros(n, n, dtype=torch.complex64, device=device)
        empty[0, 0] = n**2
        return empty
    potential = slices(structure, beam, device)
    phase = potential * interaction_parameter(beam.energy_ev)
    distance = float(structure.cell[2]) / len(potential)
    propagator = _propagator(grid, cell, distance, wavelength_angstrom(beam.energy_ev), device)
    aperture = _aperture(grid, device)
    wave = torch.ones(grid, grid, dtype=torch.complex64, device=device)
    for slice_phase in phase:
        transmission = torch.polar(torch.exp(-beam.absorption * slice_phase), slice_phase)
        transmission = torch.fft.ifft2(torch.fft.fft2(transmission) * aperture)
        wave = torch.fft.ifft2(torch.fft.fft2(wave * transmission) * propagator)
    spectrum = crop(torch.fft.fft2(wave), n) * (n / grid) ** 2
    k = torch.fft.fftfreq(n, cell / n, device=device)
    return spectrum * (torch.hypot(k[:, None], k[None, :]) <= band)


@torch.no_grad()
def scattering_maps(
    structure: Structure, thermal_angstrom: float, band: float, device: str = "cpu"
) -> Tensor:
    """Maps from which an incoherent STEM image is computed: spectra (2, n, n) complex64 of the
    columns. Every atom is a Gaussian of its thermal motion times its atomic number to the powers
    `ELEMENT_STRENGTHS`. [0, 0] is the mean per Å^2 times n^2."""
    cell = float(structure.cell[0])
    n = band_size(band, cell)
    grid = 4 * n
    places = torch.as_tensor(
        structure.positions[:, [1, 0]] * (grid / cell), dtype=torch.float32, device=device
    )
    numbers = torch.as_tensor(structure.numbers, dtype=torch.float32, device=device)
    layer = torch.zeros(len(places), dtype=torch.int64, device=device)
    k2 = torch.fft.fftfreq(n, cell / n, device=device) ** 2
    k2 = k2[:, None] + k2[None, :]
    damping = torch.exp(-2 * (np.pi * thermal_angstrom) ** 2 * k2) * (k2 <= band**2)
    window = crop(
        torch.fft.fft2(
            splat(
                torch.zeros(1, 2, device=device), layer.new_zeros(1), numbers.new_ones(1), 1, grid
            )[0]
        ),
        n,
    )
    maps = []
    for power in ELEMENT_STRENGTHS:
        points = splat(places, layer, numbers**power, 1, grid)[0]
        maps.append(crop(torch.fft.fft2(points), n) / window.real * damping * (n / cell) ** 2)
    return torch.stack(maps)


def band_size(band: float, cell: float) -> int:
    """Side, px, of a spectrum that holds all |k| <= `band` 1/Å of a square cell of `cell` Å."""
    return 2 * int(band * cell) + 1


def crop(spectrum: Tensor, n: int) -> Tensor:
    """Centre `n` x `n` low frequencies of (..., m, m) spectra in FFT order, or the spectra in a
    larger plane of zeros."""
    m = spectrum.shape[-1]
    half = (min(n, m) - 1) // 2
    keep = torch.cat([torch.arange(half + 1), torch.arange(-half, 0)]).to(spectrum.device)
    kept = spectrum[..., keep % m, :][..., keep % m]
    if 2 * half + 1 == n:
        return kept
    out = spectrum.new_zeros(*spectrum.shape[:-2], n, n)
    out[..., (keep % n)[:, None], (keep % n)[None, :]] = kept
    return out
