"""Where a patch lies: small shifts, rotation and scale of a generated image, with derivatives.

The image is resampled by cubic convolution (Keys 1981, a = -1/2), edges continued; its transpose pulls
cotangents back. `pose` is (n, 4): shift_y, shift_x in px, rotation in rad, log of the scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdn.likelihood import FLOOR, Array, TileData


def _kernel(t: Array) -> tuple[Array, Array]:
    """Weights of the four taps -1, 0, 1, 2 at fraction t (4, ...), and their derivatives in t."""
    weights = [(-t + 2 * t**2 - t**3) / 2, (2 - 5 * t**2 + 3 * t**3) / 2, (t + 4 * t**2 - 3 * t**3) / 2, (t**3 - t**2) / 2]
    slopes = [(-1 + 4 * t - 3 * t**2) / 2, (-10 * t + 9 * t**2) / 2, (1 + 8 * t - 9 * t**2) / 2, (3 * t**2 - 2 * t) / 2]
    return np.stack(weights), np.stack(slopes)


@dataclass(frozen=True)
class Warp:
    """Resampling of patches (n, h, w) at one pose each; built once, applied in both directions."""

    shape: tuple[int, int, int]
    centred: Array  # (2, n, h w) place of each pixel relative to the shifted centre, in the source
    rows: NDArray[np.int64]  # (4, n, h w)
    columns: NDArray[np.int64]
    row_weights: Array
    column_weights: Array
    row_slopes: Array
    column_slopes: Array

    @staticmethod
    def at(pose: Array, height: int, width: int) -> Warp:
        """The warp of `pose` (n, 4) for patches of `height` x `width`."""
        y, x = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
        c, s = np.cos(pose[:, 2:3]) * np.exp(pose[:, 3:]), np.sin(pose[:, 2:3]) * np.exp(pose[:, 3:])
        centred = np.stack([c * y.ravel() - s * x.ravel(), s * y.ravel() + c * x.ravel()]).astype(np.float32)
        pieces = []
        for axis, size in ((0, height), (1, width)):
            place = centred[axis] + pose[:, axis : axis + 1] + np.float32((size - 1) / 2)
            low = np.floor(place)
            weights, slopes = _kernel((place - low).astype(np.float32))
            taps = np.clip(low.astype(np.int64) + np.arange(-1, 3)[:, None, None], 0, size - 1)
            pieces.append((taps, weights, slopes))
        (rows, wy, dy), (columns, wx, dx) = pieces
        return Warp((len(pose), height, width), centred, rows, columns, wy, wx, dy, dx)

    def _gather(self, x: Array, wy: Array, wx: Array) -> Array:
        flat = x.reshape(len(x), -1)
        out = np.zeros(flat.shape, np.float32)
        for a in range(4):
            along = np.zeros(flat.shape, np.float32)
            for b in range(4):
                along += wx[b] * np.take_along_axis(flat, self.rows[a] * self.shape[2] + self.columns[b], 1)
            out += wy[a] * along
        return out.reshape(self.shape)

    def forward(self, x: Array) -> Array:
        """The resampled patches."""
        return self._gather(x, self.row_weights, self.column_weights)

    def derivatives(self, x: Array) -> Array:
        """d(resampled) / d(pose) (n, 4, h, w)."""
        by_row = self._gather(x, self.row_slopes, self.column_weights)
        by_column = self._gather(x, self.row_weights, self.column_slopes)
        v, u = (c.reshape(self.shape) for c in self.centred)
        return np.stack([by_row, by_column, by_column * v - by_row * u, by_row * v + by_column * u], 1)

    def transpose(self, g: Array) -> Array:
        """The pull-back of a cotangent g (n, h, w) of the resampled patches."""
        n, size = self.shape[0], self.shape[1] * self.shape[2]
        out = np.zeros(n * size)
        flat, base = g.reshape(n, -1), size * np.arange(n)[:, None]
        for a in range(4):
            for b in range(4):
                index = base + self.rows[a] * self.shape[2] + self.columns[b]
                out += np.bincount(index.ravel(), (self.row_weights[a] * self.column_weights[b] * flat).ravel(), n * size)
        return out.reshape(self.shape).astype(np.float32)


def best_shifts(images: Array, data: TileData, reach: int) -> Array:
    """Whole-pixel shifts (n, 2), at most `reach` px along each axis, under which each of `images` (n, h, w,
    vacuum 1) best explains its tile: by FFT correlation of the counts with log x (Poisson) or x.

    The correlation wraps around: what enters at an edge within `reach` is wrong there.
    """
    log = np.log(np.maximum(images, FLOOR)) if not data.law.gaussian else images - images.mean((1, 2), keepdims=True)
    counts = data.counts * data.weights
    spectrum = np.fft.rfft2(counts - counts.mean((1, 2), keepdims=True))
    score = np.fft.irfft2(np.conj(spectrum) * np.fft.rfft2(log), s=images.shape[1:])
    steps = np.arange(-reach, reach + 1)
    near = score[:, steps[:, None], steps[None, :]].reshape(len(images), -1)
    best = near.argmax(1)
    return np.stack([steps[best // len(steps)], steps[best % len(steps)]], 1).astype(np.float32)
