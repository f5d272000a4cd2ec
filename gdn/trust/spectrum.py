"""The spectrum of a frame's counts: strongest coefficients and mean powers by spatial frequency.

It needs no search, so that its classifier can be taught on thousands of rendered frames, wrong
pixel sizes and strange lattices among them (`gdn/evaluation/spectrum_law.py`).
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gdn.search.tiles import Binned

Values = NDArray[np.float64]

EDGES = np.linspace(0.1, 0.9, 41)  # 1/Å: rings as wide as one coefficient of a 50 Å frame
STRONGEST = 4
BACKGROUND_ANGSTROM = 3.2  # what varies more slowly is not lattice


def frequencies(shape: tuple[int, int], sampling_angstrom: float) -> Values:
    """The spatial frequency, 1/Å, of each coefficient (rows, columns // 2 + 1) of NumPy's `rfft2`
    of an image of `shape` (rows, columns)."""
    rows, columns = shape
    down = np.fft.fftfreq(rows, sampling_angstrom)
    across = np.fft.rfftfreq(columns, sampling_angstrom)
    return np.asarray(np.hypot(down[:, None], across[None]))


def measure_rings(binned: Binned, sampling_angstrom: float) -> Values:
    """Features of a frame's spectrum (2 rings + 2,): of each ring the logarithm of its strongest
    and of its mean power, in units of the noise's; the logarithm of the noise divided by the level;
    the logarithm of the field's side in Å. `sampling_angstrom` is that of a binned pixel."""
    counts, valid = binned.counts.astype(np.float64), binned.valid
    level = max(binned.level, 1e-3)
    if valid is not None:
        counts = level + valid * (counts - level)
    sigma = binned.law.deviation(level)
    rows, columns = counts.shape
    taper = np.outer(tapered_cosine(rows), tapered_cosine(columns))
    white = (
        (counts - gaussian_filter(counts, BACKGROUND_ANGSTROM / sampling_angstrom)) / sigma * taper
    )
    # What was not recorded has no noise, and adds none to the power.
    norm = (taper**2).sum() if valid is None else (taper**2 * valid).sum()
    power = np.abs(np.fft.rfft2(white)) ** 2 / max(float(norm), 1e-12)
    radius = frequencies((rows, columns), sampling_angstrom)
    ring = np.digitize(radius.ravel(), EDGES) - 1
    inside = (ring >= 0) & (ring < len(EDGES) - 1)
    ring, flat = ring[inside], power.ravel()[inside]
    rings = np.zeros((2, len(EDGES) - 1))
    order = np.lexsort((-flat, ring))
    ring, flat = ring[order], flat[order]
    starts = np.searchsorted(ring, np.arange(len(EDGES)))
    for k, (first, end) in enumerate(itertools.pairwise(starts)):
        if end > first:
            # Of n exponential variables the largest is about log n: taken off, so that the field's
            # size does not show.
            rings[0, k] = np.log(
                flat[first : first + STRONGEST].mean() / (1 + np.log(end - first)) + 1e-3
            )
            rings[1, k] = np.log(flat[first:end].mean() + 1e-3)
    noise_and_size = [np.log(sigma / level), 0.5 * np.log(rows * columns * sampling_angstrom**2)]
    return np.concatenate([*rings, noise_and_size])


def tapered_cosine(length: int) -> Values:
    """A window (length,) of one that falls as a cosine to zero over its first and last quarter
    (Tukey's with parameter 0.5: Harris 1978). scipy's is the same, but takes a second to import."""
    place = np.arange(length) / max(length - 1, 1)
    return np.asarray(0.5 * (1 - np.cos(np.pi * np.clip(4 * np.minimum(place, 1 - place), 0, 1))))
