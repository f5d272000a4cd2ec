"""What the laws of a calibration have in common: standardised features, and a small network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Values = NDArray[np.float64]

CLIP = 4.0  # standard deviations: beyond what was seen, features count as the last that was


class Strict(BaseModel):
    """A part of a calibration: it has no other entries than these, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Scaling(Strict):
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
