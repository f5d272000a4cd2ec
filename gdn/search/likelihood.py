"""The likelihood of observed tiles: Poisson, shifted Poisson (Poisson-Gaussian) and Gaussian in one law.

The mean of a binned pixel is mu = scale * x + shift with x = G(z), its variance alpha * mu + beta.
For alpha = 1 a Poisson law of y + beta with mean mu + beta stands for Poisson-Gaussian noise: it
has the right mean and variance (Snyder et al. 1993). All logarithms are natural, values in nats.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import Array, TileData

FLOOR = 1e-3  # smallest mean that enters a logarithm


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
    variance = np.maximum(data.alpha * mu + data.beta, 1e-6)
    return np.asarray(data.weights * (mu - data.counts) / variance, dtype=np.float32)


def pixel_sigma(dose: NDArray[np.float64] | float, data: TileData) -> NDArray[np.float64]:
    """Standard deviation of y / dose at the vacuum level, for a `dose` in electrons per binned pixel."""
    dose = np.asarray(dose, dtype=np.float64)
    return np.asarray(np.sqrt(np.maximum(data.alpha * dose + data.beta, 1e-12)) / dose)


def bank_scores(images: Array, data: TileData, dose: float) -> Array:
    """-log p of every tile under every bank image (tiles, n), up to a constant of the tile.

    `images` (n, h, w) with vacuum 1. For Poisson and Gaussian noise the dose of each pair is profiled
    out in closed form: NLL = -Y.log X + (sum Y) log(sum X), and -(Y.X)^2 / (2 beta |X|^2). For shifted
    Poisson noise `dose` (electrons per binned pixel) is used for all.
    """
    t, n = len(data.counts), len(images)
    x = images.reshape(n, -1)
    w = data.weights.reshape(t, -1)
    y = data.counts.reshape(t, -1) * w
    if data.alpha == 0:
        overlap = np.maximum(y @ x.T, 0)
        return np.asarray(-(overlap**2) / (2 * data.beta * np.maximum(w @ (x * x).T, 1e-12)), dtype=np.float32)
    x = np.maximum(x, FLOOR)
    if data.beta == 0:
        total = y.sum(1, dtype=np.float64)
        return np.asarray(-(y @ np.log(x).T) + total[:, None] * np.log(w @ x.T), dtype=np.float32)
    shifted = y + data.beta * w
    return np.asarray(dose * (w @ x.T) - shifted @ np.log(dose * x + data.beta).T, dtype=np.float32)
