"""What was observed: the tiles' counts and their noise law, Poisson, shifted Poisson and Gaussian in one.

The mean of a binned pixel is mu = scale * x + shift with x = G(z), vacuum 1; its variance is
alpha * mu + beta. That covers Poisson (alpha 1, beta 0), Poisson-Gaussian (alpha 1, beta > 0) and
Gaussian noise (alpha 0). For alpha = 1 a Poisson law of y + beta with mean mu + beta stands for
Poisson-Gaussian noise: it has the right mean and variance (Snyder et al. 1993). Values in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

FLOOR = 1e-3  # smallest mean that enters a logarithm


@dataclass(frozen=True)
class TileData:
    """Observed tiles and their observation model.

    `counts` and `weights` (n, h, w) float32: electrons per binned pixel, and 1 where observed, 0 where
    not. `alpha` and `beta` are the variance's slope and its value at mean zero, of one binned pixel. The arrays cannot be
    written through it: an engine that holds them on a device relies on that.
    """

    counts: Array
    weights: Array
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        for name in ("counts", "weights"):
            array = getattr(self, name).view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def take(self, index: NDArray[np.int64]) -> TileData:
        """The tiles of `index`, in that order."""
        return TileData(self.counts[index], self.weights[index], self.alpha, self.beta)


def negative_log_likelihood(mu: Array, data: TileData) -> NDArray[np.float64]:
    """-log p(y | mu) per tile (n,) for `mu` (n, h, w), without terms that do not depend on mu."""
    if data.alpha == 0:
        terms = (mu - data.counts) ** 2 / (2 * data.beta)
    else:
        shifted = np.maximum(mu + data.beta, FLOOR)
        terms = mu - (data.counts + data.beta) * np.log(shifted)
    return np.asarray((data.weights * terms).sum((1, 2), dtype=np.float64))


def mean_derivative(mu: Array, data: TileData) -> Array:
    """d(-log p) / d(mu) (n, h, w): weight * (mu - y) / variance."""
    return np.asarray((mu - data.counts) * information(mu, data), dtype=np.float32)


def information(mu: Array, data: TileData) -> Array:
    """Fisher information of each pixel's mean (n, h, w): weight / variance."""
    variance = np.maximum(data.alpha * mu + data.beta, 1e-6)
    return np.asarray(data.weights / variance, dtype=np.float32)
