"""Single atoms that a collaborative filter has taken away are put back where the counts, or the
counts and a restorer together, show them.

A group of blocks of which one has a defect shows what they have in common: an adatom, a vacancy or
a dopant is lost. Its image is a spot, in HRTEM a spot with rings. So the difference between the
noisy and the filtered image is compared with such shapes at every place: a Gaussian, its Laplacian
(one ring; Marr & Hildreth 1980) and the Laplacian of that (two rings), each of three widths. What
differs by so much that noise hardly ever does is put back. Where a restorer draws much of the same,
less is enough: it has seen atoms, and noise alone it hardly draws. A smaller part says nothing: at
a border of two crystals what a restorer draws differs from a lattice's waves everywhere.

Images are (rows, columns) float32, their noise has standard deviation 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import maximum_filter

from gdn.likelihood import Array

# Å: of the Gaussians without rings, with one and with two
WIDTHS_ANGSTROM = ((0.35, 0.5, 0.7), (0.35, 0.5, 0.7), (0.5, 0.7, 1.0))
OUTLYING = 5.3  # standard deviations: noise alone does so in one of some forty frames of 5 nm
OUTLYING_DRAWN = 3.7  # where a restorer draws the same
DRAWN = (0.2, 0.4)  # parts of the shape: drawing less is no evidence, drawing more is all of it
APART_ANGSTROM = 1.0  # of two shapes that are put back in one round
REACH = 4.5  # widths
ROUNDS = 8
SHRINK = 2.0  # the largest of several noisy values is too large (James & Stein 1961, n = 4)


def add_what_stands_out(
    noisy: Array, image: Array, restored: Array | None, pixel_angstrom: float
) -> Array:
    """The `image` with the shapes by which the `noisy` one differs from it, as far as noise or the
    `restored` image allow. Deterministic."""
    shapes = [shape(n, w / pixel_angstrom) for n, ws in enumerate(WIDTHS_ANGSTROM) for w in ws]
    bank = _ShapeBank(shapes, image.shape)
    image, apart = image.copy(), 2 * int(APART_ANGSTROM / pixel_angstrom) + 1
    for _ in range(ROUNDS):
        size, height, which = _most_significant(bank, noisy - image, restored, image)
        peaks = (size > 0) & (size == maximum_filter(size, apart))
        if not peaks.any():
            break
        bank.draw(image, peaks, height, which)
    return image


def shape(rings: int, width: float) -> Array:
    """A Gaussian of standard deviation `width` px, after as many Laplacians as it has `rings`, of
    unit norm: L(q) exp(-q), q = r² / (2 width²), with Laguerre's polynomial L. A square."""
    reach = int(np.ceil(REACH * width))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    q = (x * x + y * y) / (2 * width**2)
    values = (1.0, 1 - q, 1 - 2 * q + q * q / 2)[rings] * np.exp(-q)
    return np.asarray(values / np.sqrt((values**2).sum()), dtype=np.float32)


class _ShapeBank:
    """Correlates images of one size with all shapes. Of a shape at the edge, a part is beyond it:
    `strength` is the norm of the rest."""

    def __init__(self, shapes: list[Array], size: tuple[int, ...]) -> None:
        self.shapes, self.size = shapes, size
        reach = max(len(s) for s in shapes) // 2
        self._padded = [next_fast_len(n + 2 * reach, real=True) for n in size]
        ones = rfft2(np.ones(size, np.float32), self._padded)
        # Shapes are even: that their transform is real makes correlation and convolution the same.
        self._transforms = [self._centred(s) for s in shapes]
        self.strength = [
            np.sqrt(np.maximum(self._back(ones * self._centred(s * s)), 1e-3)) for s in shapes
        ]

    def _centred(self, values: Array) -> NDArray[np.float32]:
        at_origin = np.zeros(self._padded, np.float32)
        at_origin[: len(values), : len(values)] = values
        at_origin = np.roll(at_origin, (-(len(values) // 2),) * 2, (0, 1))
        return np.asarray(rfft2(at_origin).real, dtype=np.float32)

    def _back(self, transform: NDArray[np.complex64]) -> Array:
        back = irfft2(transform, self._padded)
        return np.asarray(back[: self.size[0], : self.size[1]], dtype=np.float32)

    def fits(self, image: Array) -> Iterator[Array]:
        """For each shape, at each place: of what height, in standard deviations of unit noise, it
        is in the image."""
        transform = rfft2(image, self._padded)
        for own, strength in zip(self._transforms, self.strength, strict=True):
            yield np.asarray(self._back(transform * own) / strength, dtype=np.float32)

    def draw(
        self, image: Array, peaks: NDArray[np.bool_], height: Array, which: NDArray[np.int8]
    ) -> None:
        """Add to the image, at each peak, shape `which` of that `height`."""
        for y, x in np.argwhere(peaks):
            number = int(which[y, x])
            values = self.shapes[number]
            r = len(values) // 2
            top, left = max(y - r, 0), max(x - r, 0)
            there = image[top : y + r + 1, left : x + r + 1]
            rows, columns = top - y + r, left - x + r
            part = values[rows : rows + there.shape[0], columns : columns + there.shape[1]]
            there += height[y, x] / self.strength[number][y, x] * part


def _most_significant(
    bank: _ShapeBank, excess: Array, restored: Array | None, image: Array
) -> tuple[Array, Array, NDArray[np.int8]]:
    """At each place the largest of the shapes that stand out: its significance, 0 where none does,
    its height and its number."""
    size, height = np.zeros_like(excess), np.zeros_like(excess)
    which = np.zeros(excess.shape, np.int8)
    drawn = [None] * len(bank.shapes) if restored is None else bank.fits(restored - image)
    for number, (own, part) in enumerate(zip(bank.fits(excess), drawn, strict=True)):
        significance = np.abs(own)
        better = (significance > needed(own, part)) & (significance > size)
        size[better], which[better] = significance[better], number
        height[better] = own[better] - SHRINK / own[better]
    return size, height, which


def needed(height: Array, drawn: Array | None) -> Array | np.float32:
    """The significance from which a shape of that `height` is put back, where a restorer draws that
    much of it."""
    if drawn is None:
        return np.float32(OUTLYING)
    part = drawn / np.where(height == 0, np.float32(1), height)
    return np.interp(part, DRAWN, (OUTLYING, OUTLYING_DRAWN)).astype(np.float32)
