"""Numbers that tell a tile the generator explains from one it does not.

The deviance of Poisson counts, 2 sum(y log(y / mu) - y + mu), has neither mean n nor variance 2 n
where a pixel holds few electrons; its exact moments are summed once per mean (McCullagh & Nelder
1989, ch. 2; for other noise laws Pearson's chi-squared with the fourth moment of the law). The
spectra of the whitened counts and of the whitened residual, the latents' energy |z|^2 / 2 and the
disagreement of restarts say what the deviance alone cannot at low dose.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy
from scipy.stats import poisson

from gdn.frames.tiling import cut
from gdn.likelihood import Array
from gdn.search.binned import Binned
from gdn.search.estimate import Estimate

Values = NDArray[np.float64]

EXACT_BELOW = 200.0  # mean counts; beyond, the deviance is chi-squared to 1 / (6 mean)
# 1/Å: from the particle's outline over the lattice spacings to where these images end.
BANDS = (0.02, 0.1, 0.2, *np.round(np.arange(0.24, 0.72, 0.04), 2), 0.8, 1.0)
WIDE = (0.02, 0.2, 0.4, 0.6, 1.0)
TILE_PIXELS = 2**20  # of tiles whose features are made at a time
PEAKS = 6  # strongest coefficients of a band


@lru_cache(maxsize=1)
def _exact_moments() -> tuple[Values, Values, Values]:
    """log mean, and mean and variance of one pixel's deviance there."""
    log_mean = np.linspace(np.log(1e-4), np.log(EXACT_BELOW), 160)
    first, second = np.empty_like(log_mean), np.empty_like(log_mean)
    for i, mean in enumerate(np.exp(log_mean)):
        y = np.arange(0, int(mean + 12 * np.sqrt(mean) + 30))
        deviance = 2 * (xlogy(y, y / mean) - y + mean)
        probability = poisson.pmf(y, mean)
        first[i] = probability @ deviance
        second[i] = probability @ deviance**2 - first[i] ** 2
    return log_mean, first, second


def deviance_moments(mean: Values) -> tuple[Values, Values]:
    """Mean and variance of a Poisson pixel's deviance for its `mean` counts, any shape."""
    log_mean, first, second = _exact_moments()
    at = np.log(np.maximum(mean, 1e-4))
    large = mean > EXACT_BELOW
    expected = np.where(large, 1 + 1 / (6 * np.maximum(mean, 1)), np.interp(at, log_mean, first))
    return expected, np.where(
        large, 2 + 4 / (3 * np.maximum(mean, 1)), np.interp(at, log_mean, second)
    )


def misfit(mu: Array, counts: Array, binned: Binned) -> tuple[Values, Values]:
    """Each pixel's deviance of `counts` under `mu`, less its mean, and its variance; any shape.
    Poisson-Gaussian and Gaussian noise: squared residual over variance, whose variance is 2 + mu /
    sigma^4."""
    mean, y = np.maximum(mu.astype(np.float64), 1e-4), counts.astype(np.float64)
    if binned.law.poisson:
        expected, variance = deviance_moments(mean)
        y = np.maximum(y, 0)
        return 2 * (xlogy(y, y / mean) - y + mean) - expected, variance
    sigma = binned.law.variance(mean)
    return (y - mu) ** 2 / sigma - 1, 2 + binned.law.alpha * mean / sigma**2


def names() -> list[str]:
    """Names of the columns of `tile_features`."""
    signal = [f"signal {low:g}-{high:g}/Å" for low, high in itertools.pairwise(BANDS)]
    residual = [f"residual {low:g}-{high:g}/Å" for low, high in itertools.pairwise(WIDE)]
    return ["deviance", "energy", "restarts", "added", "filter", *signal, *residual]


def tile_features(found: Estimate, sampling_angstrom: float) -> Values:
    """Features (tiles, n) of every tile of an estimate, in the order of `names`;
    `sampling_angstrom` of a binned pixel."""
    tiles = np.arange(len(found.tiling.corners))
    step = max(1, TILE_PIXELS // found.tiling.patch**2)
    return np.concatenate(
        [
            _features(found, tiles[i : i + step], sampling_angstrom)
            for i in range(0, len(tiles), step)
        ]
    )


def _features(found: Estimate, tiles: NDArray[np.int64], sampling_angstrom: float) -> Values:
    binned, tiling = found.binned, found.tiling.take(tiles)
    counts, inside = cut(binned.counts, tiling)
    if binned.valid is not None:
        inside = inside * cut(binned.valid, tiling)[0]
    mu = np.maximum(cut(found.generated, tiling)[0], 1e-3)
    size = np.maximum(inside.sum((1, 2)), 1)
    over, variance = misfit(mu, counts, binned)
    spread = np.maximum((inside * variance).sum((1, 2)), 1e-12)
    deviance = (inside * over).sum((1, 2)) / np.sqrt(spread)
    sigma = binned.law.deviation(mu)
    restarts, added = (cut(image, tiling)[0] for image in (found.restarts, found.added))
    columns = [
        np.arcsinh(deviance),
        np.log(found.fit.energy[tiles]),
        _log_mean((restarts / sigma) ** 2, size),
        _log_mean((added / sigma) ** 2, size),
        np.full(len(size), _gain_of_filter(found)),
    ]
    level = (inside * counts).sum((1, 2)) / size
    flat_sigma = binned.law.deviation(level)
    signal = inside * (counts - level[:, None, None]) / flat_sigma[:, None, None]
    residual = inside * (counts - mu) / sigma
    bands = [
        _band_power(signal, size, sampling_angstrom, BANDS),
        _band_power(residual, size, sampling_angstrom, WIDE),
    ]
    return np.concatenate([np.stack(columns, 1), *bands], 1)


def _log_mean(values: Values | Array, size: Values) -> Values:
    return np.asarray(np.log(values.sum((1, 2)) / size + 1e-5))


def _gain_of_filter(found: Estimate) -> float:
    """How much better the plain filter did on held-out counts than the generator, nats,
    compressed."""
    difference = found.choice.filter - found.choice.generator
    return float(np.arcsinh(difference / 10)) if np.isfinite(difference) else 0.0


def _band_power(white: Values, size: Values, sampling: float, edges: tuple[float, ...]) -> Values:
    """log of the mean of the strongest coefficients' power in bands of spatial frequency, (tiles,
    bands); pure noise of unit power comes out the same in every tile."""
    n = white.shape[-1]
    ramp = np.hanning(n + 2)[1:-1]
    taper = np.outer(ramp, ramp)
    norm = (taper**2).mean() * size
    power = np.abs(np.fft.rfft2(white * taper)) ** 2 / norm[:, None, None]
    radius = np.hypot(np.fft.fftfreq(n, sampling)[:, None], np.fft.rfftfreq(n, sampling)[None])
    found = []
    for low, high in itertools.pairwise(edges):
        ring = power[:, (radius >= low) & (radius < high)]
        strongest = np.sort(ring, 1)[:, -PEAKS:] if ring.shape[1] else np.ones((len(power), 1))
        found.append(np.log(strongest.mean(1) + 1e-3))
    return np.stack(found, 1)
