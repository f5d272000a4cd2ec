"""Refinement of candidates, brief and full: by Gauss-Newton steps, or, for the single best
explanation of a tile (`map`), by Adam. The Gauss-Newton steps are those of docs/method.md,
"Search", step 4, Adam's those of Kingma & Ba 2015, algorithm 1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import Engine
from gdn.likelihood import FLOOR, TileData, information
from gdn.search.candidates import Candidates, join, run_in_batches
from gdn.search.objective import Objective, take_steps
from gdn.search.settings import SearchSettings

EMPTY = 0.25  # nats of structure below which a tile is empty
CHECK_EVERY = 8  # steps
CONVERGED = 0.05  # nats that the objective must fall between checks
# Steps of the nuisances relative to the latents': thousands of counts bear on each.
_RATES = np.array([0.1, 0.1, 0.1, 0.1], np.float32)


def refine_candidates(
    engine: Engine, data: TileData, starts: Candidates, settings: SearchSettings
) -> Candidates:
    """Refine briefly the starts of tiles that have too many, then refine fully the best of each
    tile.

    Candidates that show an empty tile, with no more structure than noise explains, are not refined.
    """
    empty = measure_structure(starts, data) < EMPTY
    if empty.all():
        return starts
    done: list[Candidates] = []
    if empty.any():
        shown, starts = starts.split(empty)
        done.append(shown)
    crowded = (np.bincount(starts.tile) > settings.full_candidates)[
        starts.tile
    ]  # of each tile: portions do not matter
    if crowded.any():
        many, few = starts.split(crowded)
        many = _refine_steps(engine, data, many, settings.brief_steps, settings)
        order = np.lexsort((many.objective, many.tile))
        rank = np.arange(len(order)) - np.searchsorted(many.tile[order], many.tile[order])
        starts = join([few, many.take(np.sort(order[rank < settings.full_candidates]))])
    refined = _refine_steps(engine, data, starts, settings.full_steps, settings)
    return join([*done, refined]) if done else refined


def _refine_steps(
    engine: Engine, data: TileData, starts: Candidates, steps: int, settings: SearchSettings
) -> Candidates:
    """Refine by Gauss-Newton steps or by Adam."""
    if settings.iterations:
        return take_newton_steps(engine, data, starts, steps, settings.iterations, settings.damping)
    return refine(engine, data, starts, steps, settings.rate)


def measure_structure(candidates: Candidates, data: TileData) -> NDArray[np.float64]:
    """How far a tile's mean estimate is from a flat image, in nats of the likelihood, for each
    candidate (n,). The likelihood is taken to second order (docs/method.md, "Search", step 3)."""
    tiles = len(data.counts)
    total = np.zeros((tiles, *data.counts.shape[1:]), np.float32)
    np.add.at(total, candidates.tile, candidates.mean)
    mean = total / np.maximum(np.bincount(candidates.tile, minlength=tiles), 1)[:, None, None]
    weight = information(np.maximum(mean, FLOOR), data)
    flat = (weight * mean).sum((1, 2)) / np.maximum(weight.sum((1, 2)), FLOOR)
    nats = 0.5 * (weight * (mean - flat[:, None, None]) ** 2).sum((1, 2), dtype=np.float64)
    return np.asarray(nats[candidates.tile])


def take_newton_steps(
    engine: Engine,
    data: TileData,
    candidates: Candidates,
    steps: int,
    iterations: int,
    damping: float = 0.0,
) -> Candidates:
    """Take `steps` Gauss-Newton steps for every candidate (`take_steps`). Batches do not
    interact."""

    def refine_batch(turned: TileData, part: Candidates) -> Candidates:
        objective = Objective(engine, turned)
        theta = np.concatenate([part.z, part.nuisance], 1)
        evaluated = part.mean.shape[1:] == turned.counts.shape[1:]
        standing = (part.mean, part.objective) if evaluated else None
        theta, mu, value = take_steps(objective, theta, standing, steps, iterations, damping)
        z, nuisance = np.split(theta, [part.z.shape[1]], 1)
        return replace(part, z=z, nuisance=nuisance, objective=value, mean=mu)

    return run_in_batches(data, candidates, refine_batch)


def rate_at(step: int, steps: int, peak: float) -> float:
    """Learning rate: it rises over the first 5 %, is constant, and falls as a cosine to zero over
    the last half (Loshchilov & Hutter 2017, eq. 5)."""
    warm = max(1, steps // 20)
    if step < warm:
        return peak * (step + 1) / warm
    fall = (step - steps / 2) / (steps / 2)
    return peak if fall <= 0 else peak * 0.5 * (1 + float(np.cos(np.pi * fall)))


def refine(
    engine: Engine, data: TileData, candidates: Candidates, steps: int, rate: float
) -> Candidates:
    """Take `steps` Adam steps for every candidate. Batches do not interact."""
    return run_in_batches(
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
        # Adam (Kingma & Ba 2015); its second moment forgets in 50 steps, not in their 1000: there
        # are less than a hundred.
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
