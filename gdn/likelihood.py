"""The likelihood of observed tiles: their counts and their noise law (Poisson, shifted Poisson or
Gaussian; docs/method.md, "Likelihood").

The mean of a binned pixel is mu = scale * x + shift with x = G(z), vacuum 1. Its variance is alpha
* mu + beta (`NoiseLaw`). This includes Poisson (alpha 1, beta 0), Poisson-Gaussian (alpha 1, beta >
0) and Gaussian noise (alpha 0). For alpha = 1 the likelihood is Poisson's law of y + beta with mean
mu + beta, which has the mean and variance of Poisson-Gaussian noise (Snyder et al. 1993). Values in
nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

FLOOR = 1e-3  # smallest mean that enters a logarithm
MOST_BELOW = 1e6  # electrons: the square of more does not fit in single precision with a sum
STRIP_PIXELS = 2**20  # of a frame at a time
LEAST_VARIANCE = 1e-6  # electrons^2
Values = TypeVar("Values", bound=Any)  # an array, or a number


@dataclass(frozen=True)
class NoiseLaw:
    """The variance of a pixel: alpha m + beta, electrons^2, for a mean of m electrons.

    alpha is 1 for counts and 0 for Gaussian noise; beta is the variance of the read noise. Every
    other kind of noise is outside the method by design (docs/method.md).

    Noise that a camera has spread over pixels has this variance in the detail that columns have.
    `spread` is the standard deviation of the Gaussian over which it was spread, px, and `coarse` by
    how much stronger the noise of the sum of very many pixels is; 0 and 1 for white noise.
    """

    alpha: float
    beta: float
    spread: float = 0.0
    coarse: float = 1.0

    @property
    def gaussian(self) -> bool:
        """Whether the variance is the same for every mean."""
        return self.alpha == 0

    def variance(self, mean: Values) -> Values:
        """Variance at `mean` (any shape), at least LEAST_VARIANCE."""
        variance: Values = np.maximum(self.alpha * mean + self.beta, LEAST_VARIANCE)
        return variance

    def deviation(self, mean: Values) -> Values:
        """Standard deviation at `mean`."""
        deviation: Values = np.sqrt(self.variance(mean))
        return deviation

    def draw(self, mean: Array, random: np.random.Generator) -> Array:
        """Draw the recorded electrons for the expected `mean` (any shape), float32. Counts are
        whole numbers."""
        if self == POISSON:
            return random.poisson(np.clip(mean, 0, 1e15)).astype(np.float32)
        noise = self.deviation(mean) * random.standard_normal(mean.shape)
        return np.asarray(mean + noise, dtype=np.float32)

    def of_sum(self, pixels: float) -> NoiseLaw:
        """The law of the sum of `pixels` pixels of this law, as a function of its own mean."""
        return replace(self, beta=self.beta * pixels, spread=self.spread / pixels**0.5)

    def of_frames(self, frames: float) -> NoiseLaw:
        """The law of a pixel of the sum of so many frames."""
        return replace(self, beta=self.beta * frames)

    def times(self, factor: float) -> NoiseLaw:
        """The law of noise with `factor` times the variance."""
        return replace(self, alpha=self.alpha * factor, beta=self.beta * factor)

    def of_part(self, share: float) -> NoiseLaw:
        """The law of the part of the counts that remains after thinning with the probability
        `share`, as a function of its own mean."""
        return replace(self, beta=self.beta * share)


POISSON = NoiseLaw(1.0, 0.0)  # counts without read noise


@dataclass(frozen=True)
class TileData:
    """Observed tiles and their observation model.

    `counts` and `weights` (n, h, w) float32: electrons per binned pixel, and 1 where observed, 0
    where not. `law` is that of one binned pixel. Once an engine has got the arrays they cannot be
    written to: it may hold them on a device.
    """

    counts: Array
    weights: Array
    law: NoiseLaw

    def take(self, index: NDArray[np.int64]) -> TileData:
        """The tiles of `index`, in that order."""
        return TileData(self.counts[index], self.weights[index], self.law)


def negative_log_likelihood(mu: Array, data: TileData) -> NDArray[np.float64]:
    """-log p(y | mu) per tile (n,) for `mu` (n, h, w), without terms that do not depend on mu.

    No count has a mean below 0. There the likelihood of the smallest mean goes on, less a square:
    the linear term alone would fall without bound, and with it the objective of a candidate whose
    contrast grows without bound.
    """
    beta = data.law.beta
    if data.law.gaussian:
        terms = (mu - data.counts) ** 2 / (2 * beta)
    else:
        mean = mu + beta
        shifted = np.maximum(mean, FLOOR)
        terms = mu - (data.counts + beta) * np.log(shifted)
        if mean.min(initial=np.inf) < FLOOR:
            below = shifted - mean
            terms = terms + below + np.minimum(below, MOST_BELOW) ** 2 / (2 * FLOOR)
    return np.asarray((data.weights * terms).sum((1, 2), dtype=np.float64))


def strips(shape: tuple[int, ...], pixels: int) -> list[slice]:
    """The rows of an image of `shape` (rows, columns), in strips of about `pixels` each."""
    rows, columns = shape
    step = max(1, pixels // columns)
    return [slice(first, min(first + step, rows)) for first in range(0, rows, step)]


def frame_negative_log_likelihoods(
    images: Sequence[Array],
    ratio: float,
    counts: Array,
    law: NoiseLaw,
    weights: Array | None = None,
) -> list[float]:
    """-log p(counts | ratio * image) of a whole frame (rows, columns) for each of `images`, without
    terms that do not depend on the image. Each pixel has a weight from 0 to 1 (None: all have 1).
    The frame is processed in strips, so a large one needs little more memory."""
    least = -np.inf if law.gaussian else FLOOR
    totals = [0.0] * len(images)
    for rows in strips(counts.shape, STRIP_PIXELS):
        observed = counts[None, rows]
        weight = np.ones_like(observed) if weights is None else weights[None, rows]
        data = TileData(observed, weight, law)
        for number, image in enumerate(images):
            mean = np.asarray(
                np.maximum(image[None, rows], least) * np.float32(ratio), dtype=np.float32
            )
            totals[number] += float(negative_log_likelihood(mean, data)[0])
    return totals


def mean_derivative(mu: Array, data: TileData) -> Array:
    """d(-log p) / d(mu) (n, h, w): weight * (mu - y) / variance."""
    return np.asarray((mu - data.counts) * information(mu, data), dtype=np.float32)


def information(mu: Array, data: TileData) -> Array:
    """Fisher information of each pixel's mean (n, h, w): weight / variance."""
    return np.asarray(data.weights / data.law.variance(mu), dtype=np.float32)
