"""The objective of a candidate, and its descent by truncated Gauss-Newton steps.

The objective is -log p(y | mu) + |z|^2 / 2 + weak priors on the nuisances (docs/method.md,
"Objective"), with mu = dose * (1 + contrast * (G(z) - 1) + slope_y * v + slope_x * u), where v and
u run from -1 to 1 over the tile.

Its quadratic model at theta has as Hessian the Fisher information J^T W J of the counts plus the
prior's precision (Gauss-Newton; Martens 2010, "Deep learning via Hessian-free optimization"). The
Hessian is never formed: an iteration of conjugate gradients needs one tangent and one cotangent
through the generator. Stopping after a few iterations is the regularisation: the directions with
the most information come first, those that only fit noise come last (Hansen 1998, ch. 6). Adam's
first steps move all latents by the same amount, whatever information the counts contain about them.
With many latents most of that movement fits noise (docs/measurements/search.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import Engine
from gdn.likelihood import (
    FLOOR,
    Array,
    TileData,
    information,
    mean_derivative,
    negative_log_likelihood,
)
from gdn.models.graphs import STEP_ITERATIONS

NUISANCES = ("log_dose", "log_contrast", "slope_y", "slope_x")
# Prior standard deviations; the dose has none. A tile is 26 Å wide: a background changes little
# over it.
PRIOR_SIGMA = np.array([np.inf, 0.1, 0.02, 0.02], np.float32)
PRECISION = np.asarray(PRIOR_SIGMA.astype(np.float64) ** -2, dtype=np.float32)
FRACTIONS = (1.0, 0.5, 0.25, 0.1)  # of a step, tried in turn
AGREEMENT = 0.5  # share of the quadratic model's decrease that a step must show


@dataclass(frozen=True)
class Point:
    """The objective at theta, and what a linear model around it needs.

    - `value` (n,): nats.
    - `gradient` (n, d + k).
    - `mu` (n, h, w).
    - `derivatives` (n, k, h, w): d(mu) / d(nuisances).
    """

    value: NDArray[np.float64]
    gradient: Array
    mu: Array
    derivatives: Array


class Objective:
    """The objective of latents and nuisances theta (n, d + k), one of each for each tile in `data`.

    For a model in half precision, values, gradients and images are in single precision, and
    products with the Jacobian in half precision. A rounded direction does little harm; a rounded
    result would.
    """

    def __init__(self, engine: Engine, data: TileData) -> None:
        self.engine, self.exact, self.data = engine, engine.exact, data
        axis = np.linspace(-1, 1, data.counts.shape[1], dtype=np.float32)
        self._plane = np.stack(np.meshgrid(axis, axis, indexing="ij"))  # v, u

    def split(self, theta: Array) -> tuple[Array, Array]:
        """z (n, d) and the nuisances (n, k)."""
        d = self.engine.model.card.latent
        return np.ascontiguousarray(theta[:, :d]), np.ascontiguousarray(theta[:, d:])

    def step(self, theta: Array, damping: float) -> tuple[Array, NDArray[np.float64]] | None:
        """`Engine.step`: a Gauss-Newton step by the engine's own graph, if it has one."""
        z, nuisance = self.split(theta)
        prior = np.tile(PRECISION, (len(theta), 1))
        return self.engine.step(z, nuisance, self.data, damping, prior)

    def mean(self, x: Array, nuisance: Array) -> Array:
        """mu (n, h, w) of patches x and their nuisances."""
        scale, shift = self._scale_and_shift(nuisance)
        return np.asarray(scale[:, None, None] * x + shift, dtype=np.float32)

    def value(self, mu: Array, theta: Array) -> NDArray[np.float64]:
        """Objective (n,) in nats, without terms of the data alone."""
        return negative_log_likelihood(mu, self.data) + self._prior(theta)

    def _prior(self, theta: Array) -> NDArray[np.float64]:
        z, nuisance = (part.astype(np.float64) for part in self.split(theta))
        return np.asarray(0.5 * (z**2).sum(1) + 0.5 * ((nuisance / PRIOR_SIGMA) ** 2).sum(1))

    def mean_and_value(self, theta: Array) -> tuple[Array, NDArray[np.float64]]:
        """mu (n, h, w) and the objective (n,) of theta: one forward pass."""
        z, nuisance = self.split(theta)
        mu = self.mean(self.exact.generate(z), nuisance)
        return mu, self.value(mu, theta)

    def gradient(self, theta: Array) -> tuple[NDArray[np.float64], Array]:
        """The objective (n,) and its derivative (n, d + k) in theta."""
        point = self.at(theta)
        return point.value, point.gradient

    def at(self, theta: Array) -> Point:
        """The objective, its gradient, and what a linear model around theta needs."""
        z, nuisance = self.split(theta)
        scale, shift = self._scale_and_shift(nuisance)
        evaluation = self.exact.value_and_gradient(z, self.data, scale, shift)
        mu = scale[:, None, None] * evaluation.images + shift
        derivatives = self.nuisance_derivatives(evaluation.images, mu, nuisance)
        own = np.einsum("nij,nkij->nk", mean_derivative(mu, self.data), derivatives)
        gradient = np.concatenate([evaluation.gradient + z, own + nuisance / PRIOR_SIGMA**2], 1)
        return Point(evaluation.value + self._prior(theta), gradient, mu, derivatives)

    def push_forward(self, theta: Array, point: Point, tangent: Array) -> Array:
        """J t (n, h, w) for J = d(mu) / d(theta) at `point` and `tangent` t (n, d + k)."""
        z, nuisance = self.split(theta)
        along_z, along_nuisance = self.split(tangent)
        moved = (
            self._scale_and_shift(nuisance)[0][:, None, None]
            * self.engine.push_forward(z, along_z[:, None])[:, 0]
        )
        return np.asarray(
            moved + np.einsum("nk,nkij->nij", along_nuisance, point.derivatives), dtype=np.float32
        )

    def pull_back(self, theta: Array, point: Point, cotangent: Array) -> Array:
        """J^T v (n, d + k) for `cotangent` v (n, h, w)."""
        z, nuisance = self.split(theta)
        scaled = self._scale_and_shift(nuisance)[0][:, None, None] * cotangent
        return np.concatenate(
            [
                self.engine.pull_back(z, scaled),
                np.einsum("nij,nkij->nk", cotangent, point.derivatives),
            ],
            1,
        )

    def nuisance_derivatives(self, x: Array, mu: Array, nuisance: Array) -> Array:
        """d(mu) / d(nuisances) (n, 4, h, w) of patches x."""
        dose, contrast = (
            np.exp(nuisance[:, 0])[:, None, None],
            np.exp(nuisance[:, 1])[:, None, None],
        )
        return np.stack(
            [mu, dose * contrast * (x - 1), *(dose * plane for plane in self._plane)], 1
        )

    def _scale_and_shift(self, nuisance: Array) -> tuple[Array, Array]:
        dose, contrast = np.exp(nuisance[:, 0]), np.exp(nuisance[:, 1])
        background = (1 - contrast)[:, None, None] + np.einsum(
            "nk,kij->nij", nuisance[:, 2:], self._plane
        )
        return dose * contrast, np.asarray(dose[:, None, None] * background, dtype=np.float32)


def evaluate_at_best_dose(
    engine: Engine, data: TileData, z: Array, nuisance: Array
) -> tuple[Array, NDArray[np.float64], Array]:
    """Nuisances (n, k) with the best dose of each, and the objective (n,) and mu (n, h, w) there.
    The dose has a closed form: the sum of counts over the sum of x."""
    objective = Objective(engine, data)
    mu = objective.mean(engine.generate(z), nuisance)
    ratio = (data.weights * data.counts).sum((1, 2)) / np.maximum(
        (data.weights * mu).sum((1, 2)), FLOOR
    )
    # Of a tile of which nothing was recorded the dose stays the frame's.
    ratio = np.where(data.weights.any((1, 2)), ratio, np.float32(1))
    best = nuisance.copy()
    # Within a decade of the frame's: a tile of a few counts says little of the dose.
    best[:, 0] += np.log(np.clip(ratio, 0.1, 10))
    mu *= np.exp(best[:, 0] - nuisance[:, 0])[:, None, None]
    return best, objective.value(mu, np.concatenate([z, best], 1)), mu


@dataclass(frozen=True)
class Step:
    """A direction (n, d + k), and the decrease (n,) in nats that the quadratic model promises for
    half of the full step."""

    direction: Array
    curvature: NDArray[np.float64]

    def promised(self, fraction: float) -> NDArray[np.float64]:
        """Decrease (n,) of the quadratic model after a fraction of the step. The iterates of
        conjugate gradients have g.p = -p.H p."""
        return (fraction - fraction**2 / 2) * self.curvature


def take_steps(
    objective: Objective,
    theta: Array,
    standing: tuple[Array, NDArray[np.float64]] | None,
    steps: int,
    iterations: int,
    damping: float,
) -> tuple[Array, Array, NDArray[np.float64]]:
    """theta (n, d + k), mu and the objective after `steps` Gauss-Newton steps of `iterations`
    conjugate-gradient iterations each (docs/method.md, "Search", step 4). `standing` is mu and the
    objective before the first step, if known; in half precision they are computed again.

    `damping` nats are added to the curvature along every latent (Levenberg 1944). The encoder's
    guess has seen these counts already, so only strong information should move it. A step is
    shortened until the objective falls by half of what the quadratic model promises. If it never
    does, theta does not change. If the engine has a graph of the whole step, it returns no image.
    """
    if standing is None or objective.exact is not objective.engine:
        standing = objective.mean_and_value(theta)
    mu, value = standing
    for _ in range(steps):
        whole = objective.step(theta, damping) if iterations == STEP_ITERATIONS else None
        if whole is not None:
            step = Step(*whole)
        else:
            point = objective.at(theta)
            mu, value = point.mu, point.value
            step = conjugate_gradients(objective, theta, point, iterations, damping)
        theta, mu, value = _take_shortened_step(objective, theta, mu, value, step)
    return theta, mu, value


def conjugate_gradients(
    objective: Objective,
    theta: Array,
    point: Point,
    iterations: int,
    damping: float = 0.0,
    right: Array | None = None,
) -> Step:
    """The step after `iterations` conjugate-gradient iterations from zero on H p = `right`
    (default: -gradient), for each candidate separately.

    Nuisances are scaled by their own curvature, latents by that of their prior, because the counts
    contain a thousand times more information about a dose than about a latent.
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
        # H is positive definite; rounded, or along no direction at all, the product may be 0.
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


def _take_shortened_step(
    objective: Objective, theta: Array, mu: Array, value: NDArray[np.float64], step: Step
) -> tuple[Array, Array, NDArray[np.float64]]:
    """theta, mean and objective after the largest of FRACTIONS of the step that decreases the
    objective as promised."""
    theta, mu, value = theta.copy(), mu.copy(), value.copy()
    open_ = np.arange(len(theta))
    for fraction in FRACTIONS:
        trial = theta[open_] + np.float32(fraction) * step.direction[open_]
        here = (
            objective
            if len(open_) == len(theta)
            else Objective(objective.engine, objective.data.take(open_))
        )
        trial_mu, trial_value = here.mean_and_value(trial)
        kept = value[open_] - trial_value >= AGREEMENT * step.promised(fraction)[open_]
        done = open_[kept]
        theta[done], mu[done], value[done] = trial[kept], trial_mu[kept], trial_value[kept]
        open_ = open_[~kept]
        if not len(open_):
            break
    return theta, mu, value


def _dot(a: Array, b: Array) -> NDArray[np.float64]:
    return np.asarray(np.einsum("ni,ni->n", a.astype(np.float64), b.astype(np.float64)))
