"""How well every image of a bank explains every tile, and the noise of a pixel in vacuum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn.blas import product
from gdn.likelihood import FLOOR, Array, TileData


def pixel_sigma(dose: NDArray[np.float64] | float, data: TileData) -> NDArray[np.float64]:
    """Standard deviation of y / dose at the vacuum level, for a `dose` in electrons per binned
    pixel."""
    dose = np.asarray(dose, dtype=np.float64)
    return np.asarray(data.law.deviation(dose) / dose)


@dataclass(frozen=True)
class BankPart:
    """Some bank images x (n, h, w), any precision; flattened (n, h w) float32, and log x, made when
    first asked for."""

    raw: NDArray[np.floating[Any]]

    @cached_property
    def images(self) -> Array:
        """x."""
        return np.asarray(self.raw, dtype=np.float32).reshape(len(self.raw), -1)

    @cached_property
    def positive(self) -> Array:
        """max(x, FLOOR)."""
        x = np.array(self.raw, dtype=np.float32).reshape(len(self.raw), -1)
        return np.maximum(x, np.float32(FLOOR), out=x)

    @cached_property
    def log(self) -> Array:
        """log max(x, FLOOR)."""
        return np.log(self.positive)


def bank_scores(part: BankPart, data: TileData, dose: float, chunk: int = 256) -> Array:
    """-log p of every tile under every bank image (tiles, n), up to a constant of the tile.

    Tiles are taken `chunk` at a time. For Poisson and Gaussian noise the dose of each pair is
    profiled out in closed form: NLL = -Y.log X + (sum Y) log(sum X), and -(Y.X)^2 / (2 beta |X|^2).
    For shifted Poisson noise `dose` (electrons per binned pixel) is used for all.
    """
    x = part.images if data.law.gaussian else part.positive
    if data.law.gaussian:
        terms, level = x, x * x
    else:
        terms, level = part.log if data.law.beta == 0 else np.log(dose * x + data.law.beta), x
    out = np.empty((len(data.counts), len(x)), np.float32)
    for first in range(0, len(out), chunk):
        w = data.weights[first : first + chunk].reshape(-1, x.shape[1])
        y = data.counts[first : first + chunk].reshape(w.shape) * w
        # Most tiles lie inside the frame: their weights are all one, and so is the product with
        # them.
        sums = (
            product(w, level) if (w == 0).any() else np.broadcast_to(level.sum(1), (len(w), len(x)))
        )
        score: NDArray[np.floating]
        if data.law.gaussian:
            score = -(np.maximum(product(y, terms), 0) ** 2) / (
                2 * data.law.beta * np.maximum(sums, 1e-12)
            )
        elif data.law.beta == 0:
            score = -product(y, terms) + y.sum(1, keepdims=True) * np.log(
                sums / np.maximum(w.sum(1, keepdims=True), 1)
            )
        else:
            score = dose * sums - product(y + data.law.beta * w, terms)
        out[first : first + chunk] = score
    return out
