"""The network behind the spread: quantile regression of log |error| on a pixel's features (torch, at calibration only)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

Values = NDArray[np.float64]
Layers = tuple[list[list[list[float]]], list[list[float]]]

QUANTILES = (0.5, 0.6827, 0.9, 0.99)  # of gdn.trust.calibration.LEVELS
WIDTH = 32
PASSES = 20  # over the samples
BATCH = 2048
SMALLEST = 1e-5  # of the vacuum level: an error below it is none


def fit_spread(x: Values, size: Values, seed: int) -> Layers:
    """Weights and biases of the network whose outputs are the logarithms of the QUANTILES of the errors' `size`.

    Pinball loss (Koenker & Bassett 1978), summed over QUANTILES. `x` (n, f) standardised features, `size` (n,) in vacuum
    units.
    """
    torch.manual_seed(seed)
    inner = [torch.nn.Linear(x.shape[1], WIDTH), torch.nn.SiLU(), torch.nn.Linear(WIDTH, WIDTH), torch.nn.SiLU()]
    last = torch.nn.Linear(WIDTH, len(QUANTILES))
    network = torch.nn.Sequential(*inner, last)
    features = torch.tensor(x, dtype=torch.float32)
    target = torch.tensor(np.log(size + SMALLEST), dtype=torch.float32)
    level = torch.tensor(QUANTILES)
    with torch.no_grad():
        last.bias.copy_(torch.quantile(target[:: max(1, len(target) // 10_000)], level))
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-3)
    steps = max(1, PASSES * len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        at = torch.randint(0, len(x), (min(BATCH, len(x)),), generator=draw)
        over = target[at][:, None] - network(features[at])
        loss = torch.maximum(level * over, (level - 1) * over).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    linear = [module for module in network if isinstance(module, torch.nn.Linear)]
    return [m.weight.detach().tolist() for m in linear], [m.bias.detach().tolist() for m in linear]
