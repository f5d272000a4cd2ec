"""A crystal as a scan records it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, map_coordinates

Image = NDArray[np.float64]


def crystal(rows: int = 320, columns: int = 300, mean: float = 30.0) -> Image:
    """Bright columns, about 14 px apart, on a lattice that is not along the rows."""
    y, x = np.mgrid[:rows, :columns].astype(float)
    waves = np.cos(0.42 * x + 0.17 * y) + np.cos(0.43 * y - 0.19 * x)
    return np.asarray(mean * np.exp(0.7 * (waves - 0.6)))


def swaying(image: Image, rms: float, rng: np.random.Generator) -> Image:
    """Displacements of an image's pixels along rows, px: of each row its own, smooth along it."""
    moved = gaussian_filter1d(rng.standard_normal(image.shape), 30.0, axis=1, mode="wrap")
    return np.asarray(moved * rms / moved.std())


def displaced(image: Image, moved: Image) -> Image:
    """The image with its rows displaced along themselves."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(float)
    return np.asarray(map_coordinates(image, [y, x - moved], order=3, mode="nearest"))
