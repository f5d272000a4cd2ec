"""The law of the numbers by which frames of the right kind differ from others: it makes p of them
(docs/method.md, "Trust", "p"). It is a part of a model's calibration."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gdn.trust.scaling import Scaling, Strict, network

Values = NDArray[np.float64]

TAIL = 0.1  # of a score's law beyond which it is extrapolated


class Trend(Strict):
    """How numbers of right frames depend on the noise `level`, and in fields smaller than a tile on
    the logarithm of the share of a tile that shows the frame: polynomials of their mean and of the
    logarithm of their scale (docs/method.md, "Trust", "p")."""

    level: Scaling
    mean: list[list[float]]  # (3, numbers); (6, numbers) with the share
    log_scale: list[list[float]]  # (2, numbers); (3, numbers)

    def standardise(self, values: Values, level: Values) -> Values:
        """Remove the effect of the noise levels (n,), or levels and shares (n, 2), from `values`
        (n, numbers). A law of full tiles leaves the shares alone."""
        powers = powers_of(self.level, level)
        linear = len(self.log_scale)
        return np.asarray(
            (values - powers @ np.array(self.mean))
            / np.exp(powers[:, :linear] @ np.array(self.log_scale))
        )

    @staticmethod
    def of(values: Values, level: Values) -> Trend:
        """The trend of values (n, numbers) at noise levels (n,), or levels and shares (n, 2)."""
        scaling = Scaling.of(level.reshape(len(level), -1))
        powers = powers_of(scaling, level)
        linear = 1 + len(scaling.mean)
        mean = np.linalg.lstsq(powers, values, rcond=None)[0]
        log_scale = np.linalg.lstsq(
            powers[:, :linear], np.log(np.abs(values - powers @ mean) + 1e-6), rcond=None
        )[0]
        return Trend(level=scaling, mean=mean.tolist(), log_scale=log_scale.tolist())


class Tail(Strict):
    """The distribution of a score on frames of the right kind: its `trend` with the noise level,
    and the `sorted` values without that trend."""

    trend: Trend
    sorted: list[float] = Field(min_length=20)

    @staticmethod
    def of(score: Values, level: Values) -> Tail:
        """The tail of scores (n,) at noise levels (n,)."""
        trend = Trend.of(score[:, None], level)
        return Tail(
            trend=trend, sorted=np.sort(trend.standardise(score[:, None], level)[:, 0]).tolist()
        )

    def surprise(self, score: Values, level: Values) -> Values:
        """-log of the share of right frames with a higher score. In the last tenth an exponential
        law replaces the counted share. So scores that are far outside of all that were seen still
        differ from scores just outside (docs/method.md, "Trust", "p"; an exponential
        tail is a case of Pickands 1975)."""
        score = self.trend.standardise(score[:, None], level)[:, 0]
        null = np.array(self.sorted)
        start = np.quantile(null, 1 - TAIL)
        excess = max(float((null[null > start] - start).mean()), 1e-9)
        above = 1 - np.searchsorted(null, score, side="right") / (len(null) + 1)
        return np.asarray(
            np.where(
                score > start,
                (score - start) / excess - np.log(TAIL),
                -np.log(np.maximum(above, TAIL)),
            )
        )


class SpectrumLaw(Strict):
    """A classifier (SiLU network) of a frame's rings (gdn/trust/fit.py). Its output is the log-odds
    that the frame is of the wrong kind."""

    scaling: Scaling
    weights: list[list[list[float]]]
    biases: list[list[float]]

    def odds(self, rings: Values) -> Values:
        """Log-odds (n,) of rings (n, f)."""
        return network(self.weights, self.biases, self.scaling.apply(rings))[:, 0]


class TileLaw(Strict):
    """The distribution of the features of tiles of the right kind: their trend with the noise
    level, and their precision matrix."""

    names: list[str]
    trend: Trend
    precision: list[list[float]]

    def distances(self, features: Values, level: Values) -> Values:
        """Squared Mahalanobis distance (tiles,) of features (tiles, n) at noise levels (tiles,)
        (Mahalanobis 1936)."""
        z = self.trend.standardise(features, level)
        return np.asarray(np.einsum("ni,ij,nj->n", z, np.array(self.precision), z))


def powers_of(scaling: Scaling, level: Values) -> Values:
    """1, s and s^2, (tiles, 3), for the standardised noise level s; with the share of a tile also
    the products of the two, (tiles, 6), the linear ones first (docs/method.md, "Trust", "p")."""
    used = level.reshape(len(level), -1)[:, : len(scaling.mean)]
    standard = (used - np.array(scaling.mean)) / np.array(scaling.scale)
    first = np.clip(standard, -2, 2).T
    pairs = itertools.combinations_with_replacement(first, 2)
    return np.stack([np.ones(len(level)), *first, *(a * b for a, b in pairs)], 1)


class FitLaw(Strict):
    """Goodness of fit of tiles and frames. `null` holds the sorted squared distances of tiles that
    were not used to fit the law. The combination is that of Fisher 1932, section 21.1
    (docs/method.md, "Trust", "p").

    A frame is judged by two scores: the mean log distance of its tiles, and the log-odds from its
    spectrum. The sum of their surprises by `tails` (Fisher's combination, calibrated as one score)
    is compared with the sorted sums `frame_null` of right frames.
    """

    tiles: TileLaw
    null: list[float] = Field(min_length=20)
    spectrum: SpectrumLaw
    tails: tuple[Tail, Tail]
    frame_null: list[float] = Field(min_length=20)

    def tile_p(self, distances: Values) -> Values:
        """p-values of tiles from their distances (tiles,)."""
        return conformal_p(self.null, distances)

    def frame_p(self, distances: Values, rings: Values, level: float | Values) -> float:
        """p-value of a frame from its tiles' distances (tiles,), its rings (f,) and its noise
        level, or level and share (1, 2)."""
        at = np.reshape(level, (1, -1))
        scores = frame_score(distances), self.spectrum.odds(rings[None])
        total = sum(
            tail.surprise(score, at) for tail, score in zip(self.tails, scores, strict=True)
        )
        return float(conformal_p(self.frame_null, np.asarray(total))[0])


def frame_score(distances: Values) -> Values:
    """One number (1,) from the squared distances of a frame's tiles (docs/method.md, "Trust",
    "p")."""
    return np.asarray(np.log(np.maximum(distances, 1e-9)).mean(keepdims=True))


def conformal_p(null: list[float], scores: Values) -> Values:
    """The share of the sorted null that is at least as large as the score, the score itself counted
    in (conformal p-value; Vovk et al. 2005, ch. 2)."""
    values = np.array(null)
    return np.asarray(
        (1 + len(values) - np.searchsorted(values, scores, side="left")) / (len(values) + 1)
    )
