"""Refinement by truncated Gauss-Newton steps: few conjugate-gradient iterations, each along what
the data resolve.

The quadratic model of the objective at theta has the Fisher information J^T W J of the counts and
the prior's precision as its Hessian (Gauss-Newton; Martens 2010, "Deep learning via Hessian-free
optimization"). It is never
formed: an iteration is one tangent and one cotangent through the generator. Stopping after a few
iterations is the
regularisation: the directions with the most information per nat come first, and those that only fit
noise, last (Hansen 1998, ch. 6). Adam's first steps move all latents by the same amount, whatever
the counts say of them: with many latents that is mostly noise (docs/measurements/search.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import Engine
from gdn.likelihood import Array, TileData, information
from gdn.models.graphs import STEP_ITERATIONS
from gdn.search.candidates import PRECISION, Candidates, Objective, Point, in_batches

FRACTIONS = (1.0, 0.5, 0.25, 0.1)  # of a step, tried in turn
AGREEMENT = 0.5  # share of the quadratic model's decrease that a step must show


@dataclass(frozen=True)
class Step:
    """A direction (n, d + k), and the decrease (n,) in nats that the quadratic model promises of
    half of it all."""

    direction: Array
    curvature: NDArray[np.float64]

    def promised(self, fraction: float) -> NDArray[np.float64]:
        """Decrease (n,) of the quadratic model after a fraction of the step; CG's iterates have g.p
        = -p.H p."""
        return (fraction - fraction**2 / 2) * self.curvature


def newton(
    engine: Engine,
    data: TileData,
    candidates: Candidates,
    steps: int,
    iterations: int,
    damping: float = 0.0,
) -> Candidates:
    """`steps` Gauss-Newton steps of `iterations` conjugate-gradient iterations each; batches do not
    interact.

    `damping` nats are added to the curvature along every latent (Levenberg 1944): a start from the
    encoder has seen these counts already, and only what is far better known than that should move
    it.

    A step is shortened until the objective falls by half of what its quadratic model promises; if
    it never does, the candidate stays as it was. Where the engine has a graph of the whole step, no
    image comes back from it.
    """

    def work(turned: TileData, part: Candidates) -> Candidates:
        objective = Objective(engine, turned)
        theta = np.concatenate([part.z, part.nuisance], 1)
        mu, value = _standing(objective, theta, part)
        for _ in range(steps):
            whole = objective.step(theta, damping) if iterations == STEP_ITERATIONS else None
            if whole is not None:
                step = Step(*whole)
            else:
                point = objective.at(theta)
                mu, value = point.mu, point.value
                step = conjugate_gradients(objective, theta, point, iterations, damping)
            theta, mu, value = _stepped(objective, theta, mu, value, step)
        z, nuisance = objective.split(theta)
        return replace(part, z=z, nuisance=nuisance, objective=value, mean=mu)

    return in_batches(data, candidates, work)


def _standing(
    objective: Objective, theta: Array, part: Candidates
) -> tuple[Array, NDArray[np.float64]]:
    """Mean and objective of candidates: as they were evaluated, if they were, and not in half
    precision."""
    if (
        objective.exact is objective.engine
        and part.mean.shape[1:] == objective.data.counts.shape[1:]
    ):
        return part.mean, part.objective
    return objective.mean_and_value(theta)


def conjugate_gradients(
    objective: Objective,
    theta: Array,
    point: Point,
    iterations: int,
    damping: float = 0.0,
    right: Array | None = None,
) -> Step:
    """The step of `iterations` conjugate-gradient iterations from zero on H p = `right`, by default
    -gradient, for every candidate alone.

    Nuisances are scaled by their own curvature, latents by their prior's: the counts' information
    about a dose is a thousand times that about a latent.
    """
    precision = np.full_like(theta, 1 + damping)
    weight = information(point.mu, objective.data)
    k = point.derivatives.shape[1]
    precision[:, -k:] = PRECISION
    diagonal = precision.copy()
    diagonal[:, -k:] += np.einsum("nij,nkij->nk", weight, point.derivatives**2)
    direction, image = np.zeros_like(theta), np.zeros_like(theta)
    residual = -point.gradient if right is None else right
    scaled = residual / diagonal
    search, strength = scaled, _dot(residual, scaled)
    for _ in range(iterations):
        curved = (
            objective.pull_back(theta, point, weight * objective.push_forward(theta, point, search))
            + precision * search
        )
        along = np.maximum(_dot(search, curved), 1e-12)
        length = (strength / along).astype(np.float32)[:, None]
        direction = direction + length * search
        # Half precision may overflow: the step is then not a number, promises nothing, and its
        # candidate stays as it is.
        with np.errstate(invalid="ignore"):
            image = image + length * curved
            residual = residual - length * curved
        scaled = residual / diagonal
        before, strength = strength, _dot(residual, scaled)
        search = (
            scaled + (strength / np.maximum(before, 1e-12)).astype(np.float32)[:, None] * search
        )
    return Step(direction, _dot(direction, image))


def _stepped(
    objective: Objective, theta: Array, mu: Array, value: NDArray[np.float64], step: Step
) -> tuple[Array, Array, NDArray[np.float64]]:
    """theta, mean and objective after the largest of FRACTIONS of the step that keeps what it
    promises."""
    theta, mu, value = theta.copy(), mu.copy(), value.copy()
    open_ = np.arange(len(theta))
    for fraction in FRACTIONS:
        trial = theta[open_] + np.float32(fraction) * step.direction[open_]
        here = (
            objective
            if len(open_) == len(theta)
            else Objective(objective.engine, objective.data.take(open_))
        )
        found_mu, found = here.mean_and_value(trial)
        kept = value[open_] - found >= AGREEMENT * step.promised(fraction)[open_]
        done = open_[kept]
        theta[done], mu[done], value[done] = trial[kept], found_mu[kept], found[kept]
        open_ = open_[~kept]
        if not len(open_):
            break
    return theta, mu, value


def _dot(a: Array, b: Array) -> NDArray[np.float64]:
    return np.asarray(np.einsum("ni,ni->n", a.astype(np.float64), b.astype(np.float64)))
