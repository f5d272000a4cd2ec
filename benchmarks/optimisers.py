"""Optimisers of the latent from the same starts: objective and PSNR against generator passes and
time.

A pass is one forward evaluation of one image; what a gradient and a Jacobian cost in passes is
measured first, in the same run. On tiles of validation frames at poisson:1 and poisson:10.

    python benchmarks/optimisers.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from tiles import TileSet, tile_set

from gdn.engines.base import Engine
from gdn.engines.choose import open_engine
from gdn.models import DEFAULT_MODEL, find_model
from gdn.search import refine as refinement
from gdn.search.bank import bank_for
from gdn.search.candidates import (
    Candidates,
    best_of_each,
    evaluate,
    propose,
    turn_tiles,
)
from gdn.search.laplace import curvature, linearise
from gdn.search.objective import Objective
from gdn.search.refine import refine
from gdn.search.settings import SearchSettings


@dataclass
class Costs:
    """Generator passes that a gradient and a Jacobian cost."""

    gradient: float
    jacobian: float


def measured_costs(engine: Engine, tiles: TileSet, start: Candidates) -> Costs:
    """Medians of five, batch 32."""
    z = np.repeat(start.z[:1], 32, 0)
    data = tiles.data.take(np.zeros(32, np.int64))
    scale, shift = np.full(32, tiles.dose, np.float32), np.zeros_like(data.counts)
    basis = np.eye(z.shape[1], dtype=np.float32)[None, :32]

    def median(call: Callable[[], object]) -> float:
        seconds = []
        for _ in range(6):
            begun = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begun)
        return float(np.median(seconds[1:]))

    forward = median(lambda: engine.generate(z)) / 32
    gradient = median(lambda: engine.value_and_gradient(z, data, scale, shift)) / 32
    tangents = median(lambda: engine.push_forward(z[:1], basis))
    return Costs(gradient / forward, tangents * z.shape[1] / 32 / forward)


def constant_adam(
    engine: Engine, tiles: TileSet, start: Candidates, steps: int, rate: float
) -> Candidates:
    """The study's Adam: no warm-up, no decay."""
    kept = refinement.rate_at
    refinement.rate_at = lambda step, total, peak: peak  # type: ignore[assignment]
    try:
        return refine(engine, tiles.data, start, steps, rate)
    finally:
        refinement.rate_at = kept


def one_by_one(
    engine: Engine,
    tiles: TileSet,
    start: Candidates,
    solve: Callable[[Objective, np.ndarray], tuple[np.ndarray, float]],
) -> tuple[Candidates, float]:
    """`solve` for every candidate; returns what it found and the mean passes it reports."""
    thetas, passes = [], []
    for i in range(len(start.z)):
        single = start.take(np.array([i]))
        data = turn_tiles(tiles.data, single.tile, single.symmetry)
        theta, spent = solve(
            Objective(engine, data), np.concatenate([single.z[0], single.nuisance[0]])
        )
        thetas.append(theta)
        passes.append(spent)
    theta = np.stack(thetas).astype(np.float32)
    z, nuisance = Objective(engine, tiles.data).split(theta)
    moved = replace(start, z=z, nuisance=nuisance)
    return evaluate(engine, tiles.data, moved), float(np.mean(passes))


def value_of(objective: Objective, theta: np.ndarray) -> float:
    return float(objective.mean_and_value(theta[None])[1][0])


def levenberg_marquardt(
    steps: int, costs: Costs
) -> Callable[[Objective, np.ndarray], tuple[np.ndarray, float]]:
    """Fisher scoring with Marquardt's damping (Fletcher 1971's gain ratio)."""

    def solve(objective: Objective, theta: np.ndarray) -> tuple[np.ndarray, float]:
        damping, spent, value = 1e-2, 0.0, value_of(objective, theta)
        for _ in range(steps):
            mu, derivative = linearise(objective, theta)
            h = curvature(mu, derivative, objective.data)
            g = objective.gradient(theta[None])[1][0].astype(np.float64)
            spent += costs.jacobian + costs.gradient
            for _ in range(5):
                step = np.linalg.solve(h + damping * np.diag(np.diag(h)), g)
                trial = (theta - step).astype(np.float32)
                spent += 1
                trial_value = value_of(objective, trial)
                if trial_value < value:
                    theta, value, damping = trial, trial_value, damping / 5
                    break
                damping *= 4
            else:
                break
        return theta, spent

    return solve


def lbfgs(steps: int, costs: Costs) -> Callable[[Objective, np.ndarray], tuple[np.ndarray, float]]:
    """scipy's L-BFGS-B, history 10."""

    def solve(objective: Objective, theta: np.ndarray) -> tuple[np.ndarray, float]:
        def both(t: np.ndarray) -> tuple[float, np.ndarray]:
            at = t.astype(np.float32)
            value, gradient = objective.gradient(at[None])
            return float(value[0]), gradient[0].astype(np.float64)

        solution = minimize(
            both, theta.astype(np.float64), jac=True, method="L-BFGS-B", options={"maxiter": steps}
        )
        return solution.x.astype(np.float32), solution.nfev * costs.gradient

    return solve


def racing(
    engine: Engine, tiles: TileSet, bank_starts: Candidates, costs: Costs, rate: float
) -> tuple[Candidates, float]:
    """Staged racing: 64 of the bank for 30 steps, 8 for 60, the best for 120."""
    current, passes = bank_starts, 0.0
    for keep, steps in ((64, 30), (8, 60), (1, 120)):
        order = np.lexsort((current.objective, current.tile))
        rank = np.arange(len(order)) - np.searchsorted(current.tile[order], current.tile[order])
        current = refine(engine, tiles.data, current.take(np.sort(order[rank < keep])), steps, rate)
        passes += keep * steps * costs.gradient
    return current, passes


def show(label: str, tiles: TileSet, candidates: Candidates, passes: float, seconds: float) -> None:
    best = best_of_each(candidates)
    objective, psnr = candidates.objective[best], tiles.psnr(candidates.mean[best])
    numbers = (
        f"{objective.mean():12.1f} {psnr.mean():7.2f} {psnr.min():7.2f} {passes:9.0f} "
        f"{seconds / len(best):8.3f}"
    )
    print(f"{label:40s} {numbers}", flush=True)


def compare(engine: Engine, tiles: TileSet, start: Candidates, bank_starts: Candidates) -> None:
    costs = measured_costs(engine, tiles, start)
    print(f"one gradient costs {costs.gradient:.1f} passes, one Jacobian {costs.jacobian:.0f}")
    print(
        f"{'optimiser':40s} {'objective':>12s} {'dB':>7s} {'worst':>7s} "
        f"{'passes':>9s} {'s/tile':>8s}"
    )

    def timed(label: str, call: Callable[[], tuple[Candidates, float]]) -> None:
        begun = time.perf_counter()
        candidates, passes = call()
        show(label, tiles, candidates, passes, time.perf_counter() - begun)

    timed("start (encoder)", lambda: (evaluate(engine, tiles.data, start), 1))

    def adam_alone(steps: int) -> tuple[Candidates, float]:
        return constant_adam(engine, tiles, start, steps, 0.01), steps * costs.gradient

    def ramped(rate: float, steps: int) -> tuple[Candidates, float]:
        return refine(engine, tiles.data, start, steps, rate), steps * costs.gradient

    for steps in (300, 2000):
        timed(
            f"Adam 0.01 constant, {steps}",
            partial(adam_alone, steps),
        )
    for rate in (0.03, 0.05, 0.1):
        for steps in (8, 30, 100, 300):
            timed(f"Adam {rate:g} ramped, {steps}", partial(ramped, rate, steps))
    for steps in (1, 3, 10):
        timed(
            f"Levenberg-Marquardt, {steps}",
            partial(one_by_one, engine, tiles, start, levenberg_marquardt(steps, costs)),
        )
    for steps in (10, 30, 100):
        timed(f"L-BFGS, {steps}", partial(one_by_one, engine, tiles, start, lbfgs(steps, costs)))
    timed("racing from the bank, 0.05", lambda: racing(engine, tiles, bank_starts, costs, 0.05))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--data", type=Path, default=Path("data/pt-ceo2"))
    options = parser.parse_args()
    with open_engine(find_model(options.model)) as engine:
        card = engine.model.card
        bank = bank_for(engine, 0, 4096)
        for level in (1.0, 10.0):
            tiles = tile_set(
                options.data, options.frames, level, card.sampling_angstrom, card.patch
            )
            settings = SearchSettings(symmetries=1, brief_candidates=0)
            start = propose(engine, bank, tiles.data, tiles.dose, settings)
            bank_starts = propose(
                engine,
                bank,
                tiles.data,
                tiles.dose,
                replace(settings, encoder=False, brief_candidates=64),
            )
            print(
                f"\npoisson:{level:g}, {len(tiles.clean)} tiles of {options.frames} "
                "validation frames"
            )
            compare(engine, tiles, start, bank_starts)


if __name__ == "__main__":
    main()
