"""Can the generator explain this frame at all? p-values of every tile and of the frame
(docs/method.md, "Trust").

A tile's features are compared with those of simulated frames of the right kind at the same noise. A
classifier, trained on wrong pixel sizes and strange lattices, judges the frame's spectrum. The
p-value is the share of right frames that fit as badly or worse. It is uniform for frames of the
right kind, whatever the features are; the features decide which wrong frames it detects.

The features: the deviance of Poisson counts, 2 sum(y log(y / mu) - y + mu), does not have mean n
and variance 2 n where a pixel holds few electrons. Its exact moments are summed once for each mean
(McCullagh & Nelder 1989, ch. 2; for other noise laws Pearson's chi-squared with the fourth moment
of the law). At low dose the deviance alone is not enough. The spectra of the whitened counts and of
the whitened residual, the latents' energy |z|^2 / 2 and the disagreement of restarts are used too.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import gammaln, xlogy

from gdn.likelihood import POISSON, Array
from gdn.search.estimate import Estimate
from gdn.search.tiles import Binned, Tiling, cut, cut_each
from gdn.trust.fit_law import FitLaw
from gdn.trust.flatness import flat_p
from gdn.trust.spectrum import frequencies, measure_rings

Values = NDArray[np.float64]

REFUSED = 0.01  # below: not explained
DOUBTED = 0.05
LOCAL = 4.0  # px, over which the map averages
EXACT_BELOW = 200.0  # mean counts; beyond, the deviance is chi-squared to 1 / (6 mean)
# 1/Å: from the particle's outline over the lattice spacings to where these images end.
BANDS = (0.02, 0.1, 0.2, *np.round(np.arange(0.24, 0.72, 0.04), 2), 0.8, 1.0)
WIDE = (0.02, 0.2, 0.4, 0.6, 1.0)
TILE_PIXELS = 2**20  # of tiles whose features are made at a time
PEAKS = 6  # strongest coefficients of a band


@dataclass(frozen=True)
class Explained:
    """How well the generator explains a frame.

    - `p`: of the frame: the larger one of `by_law` and that of a flat field.
    - `tiles` (n,): p of each tile.
    - `map` (rows, columns): the local deviance above the expected one, in standard deviations.
    - `by_law`: p of the frame by the law of right frames alone.
    """

    p: float
    tiles: Values
    map: Array
    by_law: float = float("nan")

    @property
    def words(self) -> str:
        """The result in a sentence."""
        if self.p < REFUSED:
            return (
                f"the generator cannot explain this frame (p = {self.p:.2g}): do not rely on "
                "columns or intervals"
            )
        if self.p < DOUBTED:
            return f"it is doubtful whether the generator explains this frame (p = {self.p:.2g})"
        return f"the generator explains this frame (p = {self.p:.2g})"


def noise_level(estimate: Estimate) -> float:
    """Logarithm of the noise of a binned pixel as a share of the vacuum level."""
    dose = max(estimate.dose, 1e-6)
    return float(0.5 * np.log(estimate.binned.law.variance(dose)) - np.log(dose))


def shown_share(tiling: Tiling) -> float:
    """Logarithm of the share of a tile that shows the frame: below 0 where a side of the frame is
    shorter than a tile."""
    return float(sum(np.log(min(1.0, side / tiling.patch)) for side in tiling.shape))


def conditions(estimate: Estimate) -> Values:
    """On what the law of an estimate's numbers depends, (1, 2): the noise level, and the share of a
    tile that shows the frame."""
    return np.array([[noise_level(estimate), shown_share(estimate.tiling)]])


def explain_counts(estimate: Estimate, sampling_angstrom: float, law: FitLaw) -> Explained:
    """How well the generator explains an estimate's counts. `sampling_angstrom` is that of a binned
    pixel."""
    features = tile_features(estimate, sampling_angstrom)
    at = conditions(estimate)
    distances = law.tiles.distances(features, at.repeat(len(features), 0))
    binned = estimate.binned
    by_law = law.frame_p(distances, measure_rings(binned, sampling_angstrom), at)
    p = max(by_law, flat_p(binned, sampling_angstrom))
    return Explained(p, law.tile_p(distances), map_misfit(estimate), by_law)


def map_misfit(estimate: Estimate, width: float = LOCAL) -> Array:
    """The deviance of the counts under the generator's image above its mean, averaged over a
    Gaussian of `width` px, in standard deviations. It is 0 +- 1 where the generator explains the
    counts."""
    over, variance = measure_misfit(
        np.maximum(estimate.generated, 1e-3), estimate.binned.counts, estimate.binned
    )
    # Of a mean with weights w: sum w^2 v, and sum w^2 = 1 / (4 pi width^2) for a Gaussian.
    error = np.sqrt(gaussian_filter(variance, width) / (4 * np.pi * width**2))
    return np.asarray(gaussian_filter(over, width) / np.maximum(error, 1e-12), dtype=np.float32)


@lru_cache(maxsize=1)
def _exact_moments() -> tuple[Values, Values, Values]:
    """Logarithms of means, and mean and variance of one pixel's deviance at each of them."""
    log_mean = np.linspace(np.log(1e-4), np.log(EXACT_BELOW), 160)
    first, second = np.empty_like(log_mean), np.empty_like(log_mean)
    for i, mean in enumerate(np.exp(log_mean)):
        y = np.arange(0, int(mean + 12 * np.sqrt(mean) + 30))
        deviance = 2 * (xlogy(y, y / mean) - y + mean)
        # scipy.stats and scipy.signal take a second to import, longer than a small frame.
        probability = np.exp(xlogy(y, mean) - gammaln(y + 1) - mean)
        first[i] = probability @ deviance
        second[i] = probability @ deviance**2 - first[i] ** 2
    return log_mean, first, second


def deviance_moments(mean: Values) -> tuple[Values, Values]:
    """Mean and variance of the deviance of Poisson pixels with the given `mean` counts, any
    shape."""
    log_mean, first, second = _exact_moments()
    at = np.log(np.maximum(mean, 1e-4))
    large = mean > EXACT_BELOW
    expected = np.where(large, 1 + 1 / (6 * np.maximum(mean, 1)), np.interp(at, log_mean, first))
    return expected, np.where(
        large, 2 + 4 / (3 * np.maximum(mean, 1)), np.interp(at, log_mean, second)
    )


def measure_misfit(mu: Array, counts: Array, binned: Binned) -> tuple[Values, Values]:
    """Each pixel's deviance of `counts` under `mu`, minus its mean; and its variance; any shape.
    For Poisson-Gaussian and Gaussian noise it is the squared residual divided by the variance; the
    variance of that is 2 + mu / sigma^4."""
    mean, y = np.maximum(mu.astype(np.float64), 1e-4), counts.astype(np.float64)
    if binned.law == POISSON:
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


def tile_features(estimate: Estimate, sampling_angstrom: float) -> Values:
    """Features (tiles, n) of every tile of an estimate, in the order of `names`.
    `sampling_angstrom` is that of a binned pixel."""
    tiles = np.arange(len(estimate.tiling.corners))
    step = max(1, TILE_PIXELS // estimate.tiling.patch**2)
    return np.concatenate(
        [
            _features(estimate, tiles[i : i + step], sampling_angstrom)
            for i in range(0, len(tiles), step)
        ]
    )


def _features(estimate: Estimate, tiles: NDArray[np.int64], sampling_angstrom: float) -> Values:
    binned, tiling = estimate.binned, estimate.tiling.take(tiles)
    counts, inside = cut(binned.counts, tiling)
    if binned.valid is not None:
        inside = inside * cut(binned.valid, tiling)[0]
    generated, restarts, added = cut_each(
        (estimate.generated, estimate.restarts, estimate.added), tiling
    )
    mu = np.maximum(generated, 1e-3)
    size = np.maximum(inside.sum((1, 2)), 1)
    over, variance = measure_misfit(mu, counts, binned)
    spread = np.maximum((inside * variance).sum((1, 2)), 1e-12)
    deviance = (inside * over).sum((1, 2)) / np.sqrt(spread)
    sigma = binned.law.deviation(mu)
    columns = [
        np.arcsinh(deviance),
        np.log(estimate.fit.energy[tiles]),
        _log_mean((restarts / sigma) ** 2, size),
        _log_mean((added / sigma) ** 2, size),
        np.full(len(size), _gain_of_filter(estimate)),
    ]
    level = (inside * counts).sum((1, 2)) / size
    flat_sigma = binned.law.deviation(level)
    signal = inside * (counts - level[:, None, None]) / flat_sigma[:, None, None]
    residual = inside * (counts - mu) / sigma
    taper = _taper(tiling)
    bands = [
        _band_power(taper * signal, size, sampling_angstrom, BANDS),
        _band_power(taper * residual, size, sampling_angstrom, WIDE),
    ]
    return np.concatenate([np.stack(columns, 1), *bands], 1)


def _log_mean(values: Values | Array, size: Values) -> Values:
    # Where nothing was added, or all restarts agree, the mean is 0.
    return np.asarray(np.log(values.sum((1, 2)) / size + 1e-5))


def _gain_of_filter(estimate: Estimate) -> float:
    """How much better the plain filter did on held-out counts than the generator, nats, on a
    compressed scale."""
    difference = estimate.choice.filter - estimate.choice.generator
    return float(np.arcsinh(difference / 10)) if np.isfinite(difference) else 0.0


def _taper(tiling: Tiling) -> Values:
    """A Hann window (patch, patch) over what a tile shows of the frame, of mean square 1 there. A
    frame that is smaller than a tile lies in the middle of it."""
    ramps = []
    for length in tiling.shape:
        shown = min(length, tiling.patch)
        before = (tiling.patch - shown) // 2
        ramp = np.hanning(shown + 2)[1:-1]
        ramps.append(
            np.pad(ramp, (before, tiling.patch - shown - before)) / np.sqrt((ramp**2).mean())
        )
    return np.outer(*ramps)


def _band_power(white: Values, size: Values, sampling: float, edges: tuple[float, ...]) -> Values:
    """Logarithm of the mean power of the strongest coefficients in bands of spatial frequency,
    (tiles, bands), of tapered tiles (tiles, patch, patch). Pure noise of unit power gives the same
    value in every tile, whatever part of it shows the frame."""
    n = white.shape[-1]
    power = np.abs(np.fft.rfft2(white)) ** 2 / size[:, None, None]
    radius = frequencies((n, n), sampling)
    powers = []
    for low, high in itertools.pairwise(edges):
        ring = power[:, (radius >= low) & (radius < high)]
        strongest = np.sort(ring, 1)[:, -PEAKS:] if ring.shape[1] else np.ones((len(power), 1))
        powers.append(np.log(strongest.mean(1) + 1e-3))
    return np.stack(powers, 1)
