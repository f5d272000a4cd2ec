"""The network behind the spread: quantile regression of log |error| on a pixel's features."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdn.evaluation.small_network import Layers, Plan, fit_network

Values = NDArray[np.float64]

QUANTILES = (0.5, 0.6827, 0.9, 0.99)  # of gdn.trust.calibration.LEVELS
PLAN = Plan(width=32, rate=3e-3, decay=1e-3, passes=20, batch=2048)
SMALLEST = 1e-5  # of the vacuum level: an error below it is none


def fit_spread(x: Values, size: Values, seed: int) -> Layers:
    """Weights and biases of the network whose outputs are the logarithms of the QUANTILES of the
    errors' `size`.

    The loss is the pinball loss (Koenker & Bassett 1978), summed over QUANTILES. `x` (n, f) are
    standardised features, `size` (n,) is in vacuum units.
    """
    target = torch.tensor(np.log(size + SMALLEST), dtype=torch.float32)
    level = torch.tensor(QUANTILES)

    def pinball(predicted: Tensor, at: Tensor) -> Tensor:
        over = target[at][:, None] - predicted
        return torch.maximum(level * over, (level - 1) * over).sum(1).mean()

    return fit_network(x, np.quantile(np.log(size + SMALLEST), QUANTILES), pinball, PLAN, seed)
