"""A model's errors on simulated frames of known structures: `calibration.json` in its folder.

`gdn export --calibrate` (gdn/evaluation/calibrate.py) fits it to frames of the validation split;
this module applies it. It consists of plain numbers: a small network, regressions, and sorted
statistics of frames of the right kind, that is, of the kind the generator was trained for.
"""

from __future__ import annotations

import json
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from gdn.models import Model, ModelError
from gdn.trust.fit_law import FitLaw
from gdn.trust.scaling import Scaling, Strict, network

Values = NDArray[np.float64]

FILE: Final = "calibration.json"
LEVELS = (
    50,
    68,
    90,
    99,
)  # per cent; the second, 68.27, is one standard deviation of a Gaussian error


class SpreadLaw(Strict):
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


class Logistic(Strict):
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


class ColumnLaw(Strict):
    """Probabilities of columns that the image shows and of empty lattice sites; and the factor that
    turns spread * width / amplitude into the standard error of a position along each axis
    (docs/method.md, "Trust", "Places of columns")."""

    drawn: Logistic
    sites: Logistic
    position: float = Field(gt=0)


class Calibration(Strict):
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
