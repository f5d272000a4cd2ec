"""The small networks of a calibration. They are trained with torch and stored as plain numbers
(`gdn.trust.scaling.network`)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdn.generator.torch_globals import own_random_numbers

Values = NDArray[np.float64]
Layers = tuple[list[list[list[float]]], list[list[float]]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a network is trained.

    - `width`: units of each of its two hidden layers.
    - `rate`: AdamW's, falling as a cosine (Loshchilov & Hutter 2017, eq. 5).
    - `decay`: of the weights.
    - `passes`: over the data.
    - `batch`: samples a step.
    """

    width: int
    rate: float
    decay: float
    passes: int
    batch: int


def fit_network(
    x: Values, bias: Values, loss: Callable[[Tensor, Tensor], Tensor], plan: Plan, seed: int
) -> Layers:
    """Weights and biases of a network with SiLU from features `x` (n, f) to outputs that start at
    `bias` (k,). AdamW is that of Loshchilov & Hutter 2019, SiLU that of Elfwing et al. 2018.

    `loss(outputs, index)` is the loss of a batch (b, k) at the rows `index` (b,) of `x`.
    """
    sizes = (x.shape[1], plan.width, plan.width, len(bias))
    with own_random_numbers(seed):
        linear = [torch.nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    layers = [module for layer in linear for module in (layer, torch.nn.SiLU())]
    network = torch.nn.Sequential(*layers[:-1])
    with torch.no_grad():
        linear[-1].bias.copy_(torch.tensor(bias))
    features = torch.tensor(x, dtype=torch.float32)
    optimiser = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=plan.decay)
    steps = max(1, plan.passes * len(x) // plan.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        at = torch.randint(0, len(x), (min(plan.batch, len(x)),), generator=draw)
        value = loss(network(features[at]), at)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
    return [m.weight.detach().tolist() for m in linear], [m.bias.detach().tolist() for m in linear]
