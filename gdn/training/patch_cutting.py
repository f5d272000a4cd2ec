"""Patches cut from one stored scene: from an exit wave imaged under given conditions, or from a
clean image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, spline_filter

from gdn.simulation.clean_images import is_clean_image, read_clean_image
from gdn.simulation.imaging import Optics, Wave, oversampled, read_wave

Patches = NDArray[np.float32]
LABELS = 2  # standardised defocus and thickness
_OVERSAMPLED = 320  # px over the 64 Å cell: 0.2 Å, twice finer than the images' band needs


@dataclass(frozen=True)
class Cut:
    """How patches are cut from an image: squares of `patch` px of `sampling_angstrom`, at a random
    place; with `augment` turned and mirrored at random."""

    patch: int
    sampling_angstrom: float
    augment: bool = True


def patches_of(
    path: Path, optics: Optics, rng: np.random.Generator, n: int, cut: Cut
) -> tuple[Patches, Patches]:
    """`n` patches (n, patch, patch), vacuum 1, of a stored scene, and their labels (n, 2). It is a
    wave, imaged under `optics`, or a clean image, which has been imaged already."""
    if is_clean_image(path):
        return image_patches(path, rng, n, cut), np.zeros((n, LABELS), np.float32)
    return wave_patches(path, optics, rng, n, cut)


def image_patches(path: Path, rng: np.random.Generator, n: int, cut: Cut) -> Patches:
    """`n` patches (n, patch, patch), vacuum 1, of one stored clean image."""
    clean = read_clean_image(path)
    half = cut.patch * cut.sampling_angstrom / 2
    sides = np.array(clean.image.shape) * clean.sampling_angstrom
    grid = (np.arange(cut.patch) - (cut.patch - 1) / 2) * cut.sampling_angstrom
    out = np.empty((n, cut.patch, cut.patch), np.float32)
    for i in range(n):
        angle = cut_angle(rng, half, clean.field_angstrom) if cut.augment else 0.0
        c, s = np.cos(angle), np.sin(angle)
        reach = np.minimum(half * (abs(c) + abs(s)), sides / 2)
        y0, x0 = rng.uniform(reach, sides - reach)
        y, x = grid[:, None], (rng.choice([-1.0, 1.0]) if cut.augment else 1.0) * grid[None, :]
        out[i] = clean.at(y0 + c * y - s * x, x0 + s * y + c * x, cut.sampling_angstrom)
    return out


def wave_patches(
    path: Path, optics: Optics, rng: np.random.Generator, n: int, cut: Cut
) -> tuple[Patches, Patches]:
    """`n` patches (n, patch, patch), vacuum 1, of one wave at one setting, and their labels (n,
    2)."""
    patch, sampling, augment = cut.patch, cut.sampling_angstrom, cut.augment
    wave = read_wave(path)
    image = oversampled(wave, optics, _OVERSAMPLED, sampling)
    coefficients = spline_filter(image, order=3, mode="grid-wrap", output=np.float32)
    step = wave.cell_angstrom / _OVERSAMPLED
    grid = (np.arange(patch) - (patch - 1) / 2) * sampling
    out = np.empty((n, patch, patch), np.float32)
    labels = np.empty((n, LABELS), np.float32)
    for i in range(n):
        angle = cut_angle(rng, patch * sampling / 2, wave.cell_angstrom) if augment else 0.0
        c, s = np.cos(angle), np.sin(angle)
        reach = min(patch * sampling / 2 * (abs(c) + abs(s)) + 2, wave.cell_angstrom / 2)
        y0, x0 = rng.uniform(reach, wave.cell_angstrom - reach, 2)
        flip = rng.choice([-1.0, 1.0]) if augment else 1.0
        y, x = grid[:, None], flip * grid[None, :]
        places = np.stack(np.broadcast_arrays(y0 + c * y - s * x, x0 + s * y + c * x)) / step
        out[i] = map_coordinates(coefficients, places, order=3, mode="grid-wrap", prefilter=False)
        labels[i] = _labels(wave, optics, (y0, x0), patch * sampling)
    return out, labels


def cut_angle(rng: np.random.Generator, half: float, cell: float) -> float:
    """A random angle at which a square of half-width `half` fits into the cell; beyond the cell's
    edge its periodic neighbour would be visible. Large patches are turned by multiples of 90
    degrees and a little more (docs/simulation.md, "Images on the training device")."""
    angle = rng.uniform(0, 2 * np.pi)
    if half * (abs(np.cos(angle)) + abs(np.sin(angle))) + 1 <= cell / 2:
        return float(angle)
    ratio = min(1.0, max(0.0, (cell / 2 - 1) / half / np.sqrt(2)))
    limit = max(0.0, np.arcsin(ratio) - np.pi / 4)
    return float(np.pi / 2 * rng.integers(4) + rng.uniform(-limit, limit))


def _labels(wave: Wave, optics: Optics, centre: tuple[float, float], width: float) -> Patches:
    """Standardised defocus, and the standardised logarithm of the projected atomic number per Å^2
    around the patch."""
    near = np.abs(wave.columns - np.array(centre)[::-1]).max(1) < width / 2
    mass = np.log1p(wave.weights[near].sum() / width**2)
    return np.array([(optics.defocus_nm - 10) / 6, (mass - 2.6) / 1.6], np.float32)
