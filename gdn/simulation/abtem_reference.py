"""abTEM's multislice (Madsen & Susi 2021), with which gdn's own is compared. GPL; an optional
extra, imported only when it is used."""

from __future__ import annotations

from typing import Any

import abtem
import ase
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from gdn.simulation.imaging import WAVE_BAND, ComplexArray, band_crop
from gdn.simulation.structures import Structure


def _smear(
    potential: NDArray[np.float32], cell: float, grid: int, thermal: float
) -> NDArray[np.float32]:
    """Debye-Waller factor exp(-2 pi^2 u^2 k^2) on each slice (n, grid, grid), in place."""
    k = np.fft.fftfreq(grid, cell / grid)
    factor = np.exp(-2 * (np.pi * thermal) ** 2 * (k[:, None] ** 2 + k[None, : grid // 2 + 1] ** 2))
    factor = factor.astype(np.float32)
    for i in range(len(potential)):
        potential[i] = scipy.fft.irfft2(scipy.fft.rfft2(potential[i]) * factor, s=(grid, grid))
    return potential


def abtem_spectrum(
    structure: Structure,
    energy_kv: float,
    grid: int,
    slice_angstrom: float,
    thermal_angstrom: float,
) -> ComplexArray:
    """Spectrum (n, n) of the exit wave of a plane wave of `energy_kv`, as
    `gdn.simulation.imaging.Wave` has it, on `grid` px."""
    n = 2 * int(WAVE_BAND * structure.cell[0]) + 1
    # abTEM's axis 0 is x; gdn's is y: exchange them on the way in, so that arrays are [y, x].
    atoms = ase.Atoms(
        numbers=structure.numbers,
        positions=structure.positions[:, [1, 0, 2]],
        cell=structure.cell,
        pbc=True,
    )
    options: dict[str, Any] = {"scheduler": "single-threaded", "progress_bar": False}
    potential: Any = abtem.Potential(
        atoms, gpts=(grid, grid), slice_thickness=slice_angstrom, parametrization="lobato"
    )
    slices = potential.build().compute(**options)
    slices._array = _smear(np.array(slices.array), float(structure.cell[0]), grid, thermal_angstrom)
    plane: Any = abtem.PlaneWave(energy=1e3 * energy_kv, gpts=(grid, grid))
    wave = plane.multislice(slices).compute(**options)
    spectrum = band_crop(scipy.fft.fft2(np.asarray(wave.array)), n) * (n / grid) ** 2
    k = np.fft.fftfreq(n, structure.cell[0] / n)
    spectrum[np.hypot(k[:, None], k[None, :]) > WAVE_BAND] = 0
    return np.asarray(spectrum, dtype=np.complex64)
