"""The torch multislice against abTEM: how far images of their exit waves differ, and how long each
takes.

    OMP_NUM_THREADS=1 python benchmarks/multislice.py --seconds 360

One row a structure, alternately of `random_specimen` and of `random_structure`, cut to
`--thickness` Å. An error is the rms difference of two images over the second one's standard
deviation, at 5 nm of defocus and 0.4 Å a pixel; the torch multislice runs on its own grid of 768
px. abTEM deposits atoms bilinearly and divides by sin(k)/k, where the deposit's transform is
(sin(pi k)/(pi k))^2 on each axis (k in cycles a pixel): an error that falls with the square of the
pixel and is still seen at 1536 px. "exact deposit" is abTEM at 1536 px with the deposit's own
transform in that place.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gdn.simulation import exit_waves as simulation
from gdn.simulation.imaging import WAVE_BAND, Optics, Wave, oversampled
from gdn.simulation.multislice import Beam, exit_wave
from gdn.simulation.specimens import random_specimen
from gdn.simulation.structures import Structure, random_structure

Image = NDArray[np.float32]
OPTICS, PIXEL_ANGSTROM, PIXELS = Optics(defocus_nm=5), 0.4, 160


def cut_to(structure: Structure, thickness_angstrom: float) -> Structure:
    """The atoms of `structure` up to z = `thickness_angstrom`, in a cell of that thickness, if it
    is thicker."""
    if structure.cell[2] <= thickness_angstrom:
        return structure
    kept = structure.positions[:, 2] < thickness_angstrom
    cell = np.array([*structure.cell[:2], thickness_angstrom])
    return Structure(structure.numbers[kept], structure.positions[kept], cell, structure.parameters)


def image_of(spectrum: NDArray[np.complex64], cell_angstrom: float) -> Image:
    """The whole cell (160, 160) at `OPTICS`."""
    wave = Wave(
        spectrum=spectrum,
        cell_angstrom=cell_angstrom,
        columns=np.zeros((0, 2), np.float32),
        weights=np.zeros(0, np.float32),
        record={},
    )
    return oversampled(wave, OPTICS, PIXELS, PIXEL_ANGSTROM)


def torch_image(structure: Structure, grid: int = 768) -> Image:
    """Image of the torch multislice's wave."""
    wave = exit_wave(
        structure, Beam(grid=grid, thermal_angstrom=simulation.THERMAL_ANGSTROM), WAVE_BAND
    )
    return image_of(wave.numpy(), float(structure.cell[0]))


def _bilinear_transform(
    gpts: tuple[int, int], sampling: tuple[float, float], device: str = "cpu"
) -> NDArray[np.float32]:
    """Transform of a bilinear deposit: sinc^2 on each axis, times the pixel's area as abTEM has
    it."""
    y, x = (np.sinc(np.fft.fftfreq(n)) ** 2 for n in gpts)
    return np.asarray(y[:, None] * x[None] * sampling[0] * sampling[1], np.float32)


@contextmanager
def abtem_settings(grid: int, exact_deposit: bool) -> Iterator[None]:
    """abTEM on `grid` px, with the exact transform of its deposit if asked for."""
    from abtem import integrals

    kept: tuple[int, Any] = simulation.GRID, integrals.sinc
    simulation.GRID = grid
    if exact_deposit:
        integrals.sinc = _bilinear_transform
    try:
        yield
    finally:
        simulation.GRID, integrals.sinc = kept


def abtem_image(structure: Structure, grid: int, exact_deposit: bool = False) -> Image:
    """Image of abTEM's wave."""
    with abtem_settings(grid, exact_deposit):
        return image_of(
            simulation.exit_wave(structure, multislice=simulation.ABTEM).spectrum,
            float(structure.cell[0]),
        )


def contrast_error(image: Image, reference: Image) -> float:
    """Rms difference over the reference's standard deviation."""
    return float(np.sqrt(np.mean((image - reference) ** 2)) / reference.std())


def timed(make: Callable[[], Image]) -> tuple[Image, float]:
    """An image and the seconds that it took."""
    begun = time.perf_counter()
    return make(), time.perf_counter() - begun


def structures(count: int, thickness_angstrom: float) -> Iterator[tuple[str, Structure]]:
    """Name and structure, of training seeds; fields with fewer than 100 atoms are left out."""
    made = seed = 0
    while made < count:
        general = made % 2 == 0
        structure = cut_to(
            (random_specimen if general else random_structure)(10 * seed + 5), thickness_angstrom
        )
        seed += 1
        if len(structure.numbers) >= 100:
            made += 1
            p = structure.parameters
            yield (
                f"{p['kind']}, {' + '.join(p['crystals'])}" if general else f"{p['kind']}, Pt/CeO2",
                structure,
            )


def main() -> None:
    """Print the table, row by row, and its means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--structures", type=int, default=20)
    parser.add_argument(
        "--thickness", type=float, default=20.0, help="Å to which structures are cut"
    )
    parser.add_argument(
        "--seconds", type=float, default=np.inf, help="no structure is begun after these"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    begun, rows = time.monotonic(), []
    warm = cut_to(random_structure(5), 4.0)
    torch_image(warm), abtem_image(warm, 768)  # imports, FFT plans, compiled loops
    print(
        "| specimen | atoms | abTEM 768, % | abTEM 1536, % | 1536, exact deposit, % "
        "| torch, s | abTEM 768, s | 1536, s |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for name, structure in structures(options.structures, options.thickness):
        if time.monotonic() - begun > options.seconds:
            break
        ours, torch_s = timed(partial(torch_image, structure))
        coarse, coarse_s = timed(partial(abtem_image, structure, 768))
        fine, fine_s = timed(partial(abtem_image, structure, 1536))
        exact = abtem_image(structure, 1536, exact_deposit=True)
        errors = [100 * contrast_error(ours, image) for image in (coarse, fine, exact)]
        rows.append([len(structure.numbers), *errors, torch_s, coarse_s, fine_s])
        print(row_text(name, rows[-1]), flush=True)
    print(row_text(f"mean of {len(rows)}", list(np.mean(rows, 0))))
    print(row_text("largest", list(np.max(rows, 0))))


def row_text(name: str, row: list[float]) -> str:
    """A line of the table."""
    atoms, *errors = row[:4]
    return (
        f"| {name} | {atoms:.0f} | "
        + " | ".join(f"{e:.2f}" for e in errors)
        + " | "
        + " | ".join(f"{s:.1f}" for s in row[4:])
        + " |"
    )


if __name__ == "__main__":
    main()
