"""Movies of bright columns, whose every frame is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gdn.frames.noise import NoiseModel
from gdn.frames.resampling import Grids, grids_for
from gdn.likelihood import Array
from gdn.movies.frames import MovieFrames

COUNTS = NoiseModel(kind="poisson")
Places = NDArray[np.float64]  # (columns, 2), Å along rows and columns
WIDTH = 0.5  # Å, deviation of a column's Gaussian


def crystal(seed: int, reach: float, spacing: float = 2.4, jitter: float = 0.3) -> Places:
    """Columns near the points of a square lattice, -reach to reach Å; a part of them is missing, so
    that no shift of the lattice is like none."""
    rng = np.random.default_rng([seed, 0xC0])
    along = np.arange(-reach, reach, spacing)
    places = np.stack(np.meshgrid(along, along, indexing="ij"), -1).reshape(-1, 2)
    places = places + rng.normal(0, jitter, places.shape)
    return np.asarray(places[rng.random(len(places)) < 0.8])


def expected(
    places: Places, side: int, pixel: float, shift: Places | tuple[float, float], bright: float = 1
) -> Array:
    """The image (side, side) of columns moved by `shift` Å; 1 between them. The middle of the image
    is the origin."""
    at = (np.arange(side) - (side - 1) / 2) * pixel
    here = places + np.asarray(shift)
    rows, columns = (np.exp(-((at - here[:, axis, None]) ** 2) / (2 * WIDTH**2)) for axis in (0, 1))
    return np.asarray(1 + bright * rows.T @ columns, dtype=np.float32)


def counted(image: Array, dose: float, *seed: int) -> Array:
    """Electrons counted on an image."""
    return np.random.default_rng([*seed, 0x40]).poisson(dose * image).astype(np.float32)


def movie_of(
    stack: list[Array], pixel: float, target: float | None = None, seed: int = 0
) -> MovieFrames:
    """Frames of counts as the other stages have them."""
    shape = (stack[0].shape[0], stack[0].shape[1])
    grids = Grids(shape, shape, pixel) if target is None else grids_for(shape, pixel, target)
    return MovieFrames(
        read=lambda index: stack[index], count=len(stack), grids=grids, seed=seed, noise=COUNTS
    )


def smoothed(counts: Array) -> Array:
    """The stub of a restorer: a Gaussian filter."""
    return np.asarray(gaussian_filter(counts, 1.0), dtype=np.float32)
