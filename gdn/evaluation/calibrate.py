"""Fit a model's calibration to simulated frames of the validation split: spread, goodness of fit,
columns (docs/method.md, "Trust").

Every law is fitted to all structures except those of one fold, and then applied to that fold. The
half-widths of intervals and the null of the p-values come from these applications (cross-conformal
prediction: Vovk 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from gdn import __version__
from gdn.evaluation.error_samples import FitSample, Judged, Observation
from gdn.evaluation.spread_law import QUANTILES, fit_spread
from gdn.trust.calibration import LEVELS, Calibration, ColumnLaw, Logistic, SpreadLaw
from gdn.trust.fit import names
from gdn.trust.fit_law import FitLaw, SpectrumLaw, Tail, TileLaw, Trend, frame_score
from gdn.trust.scaling import Scaling, network

Values = NDArray[np.float64]

FOLDS = 5
SHRINKAGE = 0.1  # of the features' covariance towards its diagonal
SMALL_SHRINKAGE = 1.0  # in small fields, of one tile each: too few for so many covariances
RIDGE = 1e-3
ONE = LEVELS.index(68)
# of a planted column: it teaches what a lie looks like, not how common lies are
PLANTED_WEIGHT = 0.25


@dataclass(frozen=True)
class Samples:
    """Features (n, f) with their target (n,), the weight (n,) of each sample, and the fold (n,) of
    its structure."""

    features: Values
    target: Values
    weight: Values
    fold: NDArray[np.int64]


def calibrate(
    observations: Sequence[Observation], spectrum: SpectrumLaw, split: str, seed: int
) -> Calibration:
    """The calibration fitted to observations of frames, with a classifier of spectra. Raises
    ValueError if there are too few."""
    fold = folds_of(observations, split)
    return Calibration(
        split=split,
        structures=len(fold),
        frames=len(observations),
        seed=seed,
        gdn=__version__,
        spread=spread_law(observations, fold, seed),
        fit=fit_law(observations, fold, spectrum),
        columns=column_law(observations, fold),
    )


def check_enough(structures: int, split: str) -> None:
    """Raises ValueError if so many structures of a split are too few to calibrate on."""
    if structures < FOLDS * 4:
        raise ValueError(
            f"only {structures} structures of the {split} split; calibration needs at least "
            f"{FOLDS * 4}: simulate about {FOLDS * 40} structures or more"
        )


def spread_law(observations: Sequence[Observation], fold: dict[int, int], seed: int) -> SpreadLaw:
    """A network fitted to all frames. Its conformal factors come from networks that have not seen
    the structure."""
    features = np.concatenate([o.pixels for o in observations])
    size = np.abs(np.concatenate([o.errors for o in observations]))
    folds = np.concatenate([np.full(len(o.errors), fold[o.structure]) for o in observations])
    scaling = Scaling.of(features)
    x = scaling.apply(features)
    ratio = np.empty((len(size), len(QUANTILES)))
    for number in range(FOLDS):
        layers = fit_spread(x[folds != number], size[folds != number], seed)
        ratio[folds == number] = size[folds == number, None] / np.exp(
            network(*layers, x[folds == number])
        )
    factors = [float(np.quantile(ratio[:, k], level)) for k, level in enumerate(QUANTILES)]
    weights, biases = fit_spread(x, size, seed)
    logs = _frame_logs(observations, size, ratio[:, ONE] / factors[ONE])
    low, middle, high = np.quantile(logs, [0.1587, 0.5, 0.8413])
    return SpreadLaw(
        scaling=scaling,
        weights=weights,
        biases=biases,
        factors=factors,
        frame_factor=float(np.exp(middle)),
        frame_log_error=max(0.5 * float(high - low), 1e-3),
    )


def _frame_logs(observations: Sequence[Observation], size: Values, ratio: Values) -> Values:
    """Logarithm of mean squared error over mean squared half-width of every frame. `ratio` (n,) is
    each error divided by its half-width."""
    ends = np.cumsum([len(o.errors) for o in observations])[:-1]
    width = size / np.maximum(ratio, 1e-9)
    parts = zip(np.split(size**2, ends), np.split(width**2, ends), strict=True)
    return np.array([np.log(max(e.mean(), 1e-12) / max(w.mean(), 1e-12)) for e, w in parts])


def folds_of(samples: Sequence[FitSample], split: str) -> dict[int, int]:
    """The fold of each structure. Raises ValueError if there are too few."""
    structures = sorted({sample.structure for sample in samples})
    check_enough(len(structures), split)
    return {s: n % FOLDS for n, s in enumerate(structures)}


def fit_law(
    observations: Sequence[FitSample],
    fold: dict[int, int],
    spectrum: SpectrumLaw,
    small: bool = False,
) -> FitLaw:
    """Fit the law of the tiles' features, and the nulls of tiles and frames. In fields smaller than
    a tile they depend on the share of it that shows the frame, too."""
    levels = np.array([[o.level, o.share][: 1 + small] for o in observations])
    shrinkage = SMALL_SHRINKAGE if small else SHRINKAGE
    features = np.concatenate([o.tiles for o in observations])
    level = levels.repeat([len(o.tiles) for o in observations], 0)
    folds = np.concatenate([np.full(len(o.tiles), fold[o.structure]) for o in observations])
    distances = np.empty(len(features))
    for number in range(FOLDS):
        rest = folds != number
        distances[~rest] = tile_law(features[rest], level[rest], shrinkage).distances(
            features[~rest], level[~rest]
        )
    frames = np.split(distances, np.cumsum([len(o.tiles) for o in observations])[:-1])
    scores = (
        np.concatenate([frame_score(d) for d in frames]),
        spectrum.odds(np.stack([o.rings for o in observations])),
    )
    tails = Tail.of(scores[0], levels), Tail.of(scores[1], levels)
    total = tails[0].surprise(scores[0], levels) + tails[1].surprise(scores[1], levels)
    return FitLaw(
        tiles=tile_law(features, level, shrinkage),
        # The tiles of a frame overlap: each frame counts once, by its median tile and not by how
        # many it has.
        null=sorted(float(np.median(d)) for d in frames),
        spectrum=spectrum,
        tails=tails,
        frame_null=np.sort(total).tolist(),
    )


def tile_law(features: Values, level: Values, shrinkage: float = SHRINKAGE) -> TileLaw:
    """The law of the tiles' features (tiles, n) at noise levels (tiles,), or levels and shares
    (tiles, 2)."""
    trend = Trend.of(features, level)
    z = trend.standardise(features, level)
    covariance = np.cov(z.T)
    shrunk = (1 - shrinkage) * covariance + shrinkage * np.diag(np.diag(covariance))
    precision = np.linalg.inv(shrunk)
    return TileLaw(names=names(), trend=trend, precision=precision.tolist())


def column_law(observations: Sequence[Observation], fold: dict[int, int]) -> ColumnLaw:
    """Probabilities of columns and sites, and errors of positions."""
    drawn = _samples(observations, fold, lambda o: o.drawn)
    sites = _samples(observations, fold, lambda o: o.sites)
    ratio = np.concatenate(
        [position_ratio(o.drawn[0]) for o in observations if o.drawn] or [np.zeros(0)]
    )
    # The median of a two-dimensional Gaussian's distance is 1.177 standard deviations of one axis.
    position = float(np.median(ratio)) / 1.177 if len(ratio) else 1.0
    return ColumnLaw(drawn=fit_logistic(drawn), sites=fit_logistic(sites), position=position)


def position_ratio(judged: Judged) -> Values:
    """Distance of the true columns from the truth, in units of doubt * width / amplitude."""
    unit = (
        judged.evidence.doubt
        * judged.columns.width
        / np.maximum(np.abs(judged.columns.amplitude), 1e-6)
    )
    return np.asarray(judged.distance[judged.true] / unit[judged.true])


def _samples(
    observations: Sequence[Observation],
    fold: dict[int, int],
    pick: Callable[[Observation], list[Judged]],
) -> Samples:
    """The columns of each observation: natural ones with weight 1, planted ones with less."""
    rows: list[tuple[Values, Values, Values, NDArray[np.int64]]] = []
    for o in observations:
        for judged, weight in zip(pick(o), (1.0, PLANTED_WEIGHT), strict=False):
            n = len(judged.true)
            features = judged.evidence.features()
            rows.append(
                (
                    features,
                    judged.true.astype(float),
                    np.full(n, weight),
                    np.full(n, fold[o.structure]),
                )
            )
    kept = [row for row in rows if len(row[1])]
    if not kept:
        raise ValueError("the calibration frames have no atom column")
    return Samples(*(np.concatenate(part) for part in zip(*kept, strict=True)))


def fit_logistic(samples: Samples) -> Logistic:
    """Fit a logistic regression by maximum likelihood with a slight ridge."""
    scaling = Scaling.of(samples.features)
    design = Logistic.expand(scaling.apply(samples.features))
    total = samples.weight.sum()

    def loss(w: Values) -> tuple[float, Values]:
        z = design @ w
        value = (samples.weight * (np.logaddexp(0, z) - samples.target * z)).sum() / total
        slope = design.T @ (samples.weight * (1 / (1 + np.exp(-z)) - samples.target)) / total
        penalty = np.r_[0.0, w[1:]]
        return value + 0.5 * RIDGE * float(penalty @ penalty), slope + RIDGE * penalty

    fit = minimize(loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B")
    return Logistic(scaling=scaling, coefficients=fit.x.tolist())
