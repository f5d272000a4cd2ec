"""The frames of `cost.py`: a Pt particle on CeO2, drawn as columns, mirrored to any size, with
Poisson noise at the study's dose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gdn.evaluation.noise_suite import STUDY_VACUUM

SAMPLING = 0.0612  # Å/px, of the study
SCENE = 1200  # px a side of the scene that is mirrored to larger frames
COLUMN_ANGSTROM = 0.5  # standard deviation of a column

Image = NDArray[np.float32]


def columns(cell: tuple[float, float], degrees: float, reach: float) -> NDArray[np.float64]:
    """Columns (n, 2), x and y Å, of a centred rectangular lattice around the origin."""
    steps = np.arange(-int(reach / min(cell)) - 1, int(reach / min(cell)) + 2)
    corner = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    places = np.concatenate([corner, corner + 0.5]) * cell
    turn = np.deg2rad(degrees)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.asarray(places @ matrix.T)


def scene(seed: int) -> Image:
    """A clean frame (1200, 1200), vacuum 1: a particle of Pt [110] on CeO2 [110], dark columns."""
    rng = np.random.default_rng(seed)
    width = SCENE * SAMPLING
    support = columns((3.826, 5.411), rng.uniform(-3, 3), width)
    support = support[support[:, 1] > 5]
    particle = columns((2.775, 3.924), rng.uniform(-20, 20), 20)
    particle = particle[(np.hypot(*particle.T) < 15) & (particle[:, 1] < 8)] - (0, 4)
    image = np.zeros((SCENE, SCENE))
    for places, depth in ((support, 0.25), (particle, 0.35)):
        places = places + rng.normal(0, 0.04, places.shape) + width / 2
        x, y = np.rint(places / SAMPLING).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < SCENE) & (y < SCENE)
        np.add.at(image, (y[inside], x[inside]), depth * rng.uniform(0.8, 1.2, inside.sum()))
    sigma = COLUMN_ANGSTROM / SAMPLING
    image = gaussian_filter(image, sigma) * (2 * np.pi * sigma**2)
    return np.asarray((1 - image).clip(0.05), np.float32)


def sized(clean: Image, side: int) -> Image:
    """The scene cut, or mirrored, to a square of `side` px."""
    if side > SCENE:
        return np.asarray(np.pad(clean, (0, side - SCENE), mode="symmetric"))
    start = (SCENE - side) // 2
    return clean[start : start + side, start : start + side]


def counts(clean: Image, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A frame of electrons at the study's dose, drawn row by row: the noise of a large frame takes
    no more memory than the frame."""
    frame = np.empty(clean.shape, np.uint8)
    for row, line in zip(frame, clean, strict=True):
        row[:] = rng.poisson(line * np.float32(STUDY_VACUUM))
    return frame


def write_stack(path: Path, frames: int, side: int, seed: int) -> None:
    """A TIFF of one frame or a stack, each frame with noise of its own."""
    clean, rng = sized(scene(seed), side), np.random.default_rng(seed)
    tifffile.imwrite(
        path,
        (counts(clean, rng) for _ in range(frames)),
        shape=(frames, side, side) if frames > 1 else (side, side),
        dtype=np.uint8,
        imagej=True,
        resolution=(10 / SAMPLING, 10 / SAMPLING),
        metadata={"unit": "nm", "axes": "TYX" if frames > 1 else "YX"},
    )
