"""Refinement by Adam, for the single best explanation of a tile (`map`): gradient descent on the
latent and the tile's nuisance parameters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gdn.engines.base import Engine
from gdn.likelihood import TileData
from gdn.search.candidates import Candidates, Objective, in_batches

CHECK_EVERY = 8  # steps
CONVERGED = 0.05  # nats that the objective must fall between checks
# Steps of the nuisances relative to the latents': thousands of counts bear on each.
_RATES = np.array([0.1, 0.1, 0.1, 0.1], np.float32)


def rate_at(step: int, steps: int, peak: float) -> float:
    """Learning rate: 5 % warm-up, constant, cosine to zero over the last half."""
    warm = max(1, steps // 20)
    if step < warm:
        return peak * (step + 1) / warm
    fall = (step - steps / 2) / (steps / 2)
    return peak if fall <= 0 else peak * 0.5 * (1 + float(np.cos(np.pi * fall)))


def refine(
    engine: Engine, data: TileData, candidates: Candidates, steps: int, rate: float
) -> Candidates:
    """`steps` Adam steps for every candidate; batches do not interact."""
    return in_batches(
        data, candidates, lambda turned, part: _refine_batch(engine, turned, part, steps, rate)
    )


def _refine_batch(
    engine: Engine, data: TileData, part: Candidates, steps: int, rate: float
) -> Candidates:
    objective = Objective(engine, data)
    theta = np.concatenate([part.z, part.nuisance], 1)
    rates = np.concatenate([np.ones(part.z.shape[1], np.float32), _RATES])
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    active, before = np.arange(len(theta)), np.full(len(theta), np.inf)
    moving = objective
    for step in range(steps):
        value, gradient = moving.gradient(theta[active])
        first[active] = 0.9 * first[active] + 0.1 * gradient
        second[active] = 0.98 * second[active] + 0.02 * gradient**2
        scale = np.sqrt(second[active] / (1 - 0.98 ** (step + 1))) + 1e-8
        theta[active] -= (
            rate_at(step, steps, rate) * rates * first[active] / (1 - 0.9 ** (step + 1)) / scale
        )
        if step >= steps // 2 and step % CHECK_EVERY == 0:
            # While the rate falls, a candidate whose objective no longer does is done and leaves
            # the batch.
            falling = before - value > CONVERGED
            before, active = value[falling], active[falling]
            if not len(active):
                break
            if not falling.all():
                moving = Objective(engine, data.take(active))
    mu, value = objective.mean_and_value(theta)
    z, nuisance = objective.split(theta)
    return replace(part, z=z, nuisance=nuisance, objective=value, mean=mu)
