"""A model's errors on simulated frames of known structures: `calibration.json` in its folder.

`gdn export --calibrate` (gdn/evaluation/calibrate.py) fits it to frames of the validation split;
this module applies it. It consists of plain numbers: a small network, regressions, and sorted
statistics of frames of the right kind, that is, of the kind the generator was trained for.
"""

from __future__ import annotations

import itertools
import json
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gdn.models import Model, ModelError

Values = NDArray[np.float64]

FILE: Final = "calibration.json"
CLIP = 4.0  # standard deviations: beyond what was seen, features count as the last that was
TAIL = 0.1  # of a score's law beyond which it is extrapolated
LEVELS = (
    50,
    68,
    90,
    99,
)  # per cent; the second, 68.27, is one standard deviation of a Gaussian error


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scaling(_Strict):
    """Mean and standard deviation of each feature over the calibration frames."""

    mean: list[float]
    scale: list[float]

    def apply(self, features: Values) -> Values:
        """Standardised features, the same shape (..., n)."""
        return np.asarray(
            np.clip((features - np.array(self.mean)) / np.array(self.scale), -CLIP, CLIP)
        )

    @staticmethod
    def of(features: Values) -> Scaling:
        """The scaling of features (samples, n)."""
        return Scaling(
            mean=features.mean(0).tolist(), scale=np.maximum(features.std(0), 1e-6).tolist()
        )


def network(weights: list[list[list[float]]], biases: list[list[float]], x: Values) -> Values:
    """The outputs (n, k) of a small network for `x` (n, in): layers of `weights` (out, in) and
    `biases` with SiLU between them (Elfwing et al. 2018)."""
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = x @ np.array(weight).T + np.array(bias)
        if number < len(weights) - 1:
            x = x / (1 + np.exp(-x))
    return x


class SpreadLaw(_Strict):
    """Logarithms of the half-widths of a pixel's intervals, one for each of LEVELS, from its
    features: a small network (SiLU), and the conformal `factor` of each level.

    Errors have longer tails than their 68 % interval suggests. `frame_factor` is a frame's mean
    squared error divided by the mean of its squared half-widths (median over frames).
    `frame_log_error` is the standard deviation of its logarithm over frames.
    """

    scaling: Scaling
    weights: list[list[list[float]]]
    biases: list[list[float]]
    factors: list[float]
    frame_factor: float = Field(gt=0)
    frame_log_error: float = Field(gt=0)

    @model_validator(mode="after")
    def _fits(self) -> SpreadLaw:
        if (
            len(self.factors) != len(LEVELS)
            or len(self.weights) != len(self.biases)
            or len(self.biases[-1]) != len(LEVELS)
        ):
            raise ValueError(
                "one output and one factor for each of the levels "
                f"{', '.join(map(str, LEVELS))}, and layers in pairs"
            )
        return self

    def half_widths(self, features: Values) -> Values:
        """Half-widths (n, levels) in vacuum units for features (n, f). They are wider for higher
        levels (docs/method.md, "Trust", "Spread"; Romano et al. 2019)."""
        logs = network(self.weights, self.biases, self.scaling.apply(features)) + np.log(
            self.factors
        )
        return np.asarray(np.exp(np.maximum.accumulate(logs, 1)))


class Trend(_Strict):
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


class Tail(_Strict):
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


class SpectrumLaw(_Strict):
    """A classifier (SiLU network) of a frame's rings (gdn/trust/fit.py). Its output is the log-odds
    that the frame is of the wrong kind."""

    scaling: Scaling
    weights: list[list[list[float]]]
    biases: list[list[float]]

    def odds(self, rings: Values) -> Values:
        """Log-odds (n,) of rings (n, f)."""
        return network(self.weights, self.biases, self.scaling.apply(rings))[:, 0]


class TileLaw(_Strict):
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


class FitLaw(_Strict):
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


class Logistic(_Strict):
    """Probability of a column from its features: a logistic regression on their standardised values
    and products (McCullagh & Nelder 1989, ch. 4)."""

    scaling: Scaling
    coefficients: list[float]

    @staticmethod
    def expand(x: Values) -> Values:
        """1, every feature, and every product of two, (samples, ...)."""
        n = x.shape[1]
        products = [x[:, i] * x[:, j] for i in range(n) for j in range(i, n)]
        return np.stack([np.ones(len(x)), *x.T, *products], 1)

    def probability(self, features: Values) -> Values:
        """The probability for each row of features (n, f)."""
        if not len(features):
            return np.zeros(0)
        return np.asarray(
            1
            / (1 + np.exp(-self.expand(self.scaling.apply(features)) @ np.array(self.coefficients)))
        )


class ColumnLaw(_Strict):
    """Probabilities of columns that the image shows and of empty lattice sites; and the factor that
    turns spread * width / amplitude into the standard error of a position along each axis
    (docs/method.md, "Trust", "Places of columns")."""

    drawn: Logistic
    sites: Logistic
    position: float = Field(gt=0)


class Calibration(_Strict):
    """The whole calibration of a model, and the data it was fitted to."""

    schema_version: Literal[1] = 1
    split: str
    structures: int
    frames: int
    seed: int
    gdn: str
    spread: SpreadLaw
    fit: FitLaw
    small_fit: FitLaw | None = None  # of fields smaller than a tile
    columns: ColumnLaw

    def fit_of(self, share: float) -> FitLaw:
        """The law of frames of which a tile shows a `share` (its logarithm): fields smaller than a
        tile have their own, if the model was calibrated on such."""
        return self.fit if share >= 0 or self.small_fit is None else self.small_fit


def calibration_of(model: Model) -> Calibration | None:
    """The model's calibration; None if it has none. Raises ModelError if it cannot be used."""
    path = model.file(FILE)
    if path is None:
        return None
    try:
        return Calibration.model_validate_json(path.read_text())
    except (OSError, ValidationError, json.JSONDecodeError) as error:
        raise ModelError(
            f"{path}: not a calibration of this version ({str(error).splitlines()[0]}); "
            "calibrate again"
        ) from None
