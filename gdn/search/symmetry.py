"""The eight symmetries of the square: exact ones of the imaging, so one generator explains a tile
eight ways.

Symmetry s turns by s % 4 quarter turns and, from 4 on, mirrors the columns afterwards.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdn.likelihood import Array, TileData

SYMMETRIES = 8


def turn(images: Array, symmetry: NDArray[np.int64]) -> Array:
    """Each of `images` (n, h, h) under its `symmetry` (n,)."""
    out = np.empty_like(images)
    for s in np.unique(symmetry):
        index = symmetry == s
        turned = np.rot90(images[index], s % 4, axes=(1, 2))
        out[index] = turned[:, :, ::-1] if s >= 4 else turned
    return out


def turn_back(images: Array, symmetry: NDArray[np.int64]) -> Array:
    """The inverse of `turn`; a mirrored symmetry is its own inverse."""
    return turn(images, np.where(symmetry >= 4, symmetry, -symmetry % 4))


def turn_tiles(data: TileData, symmetry: NDArray[np.int64]) -> TileData:
    """The observed tiles as a generator sees them that explains them under `symmetry`."""
    return TileData(turn(data.counts, symmetry), turn(data.weights, symmetry), data.law)
