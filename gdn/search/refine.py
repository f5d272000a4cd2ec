"""Refinement of candidates: gradient descent on the latent and the tile's nuisance parameters.

The objective is -log p(y | mu) + |z|^2 / 2 + weak priors on the nuisances (docs/method.md,
"Objective"), with mu = dose * (1 + contrast * (G(z) - 1) + slope_y * v + slope_x * u), v and u from
-1 to 1 over the tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import Engine
from gdn.likelihood import FLOOR, Array, TileData, mean_derivative, negative_log_likelihood
from gdn.search.symmetry import turn_back, turn_tiles

NUISANCES = ("log_dose", "log_contrast", "slope_y", "slope_x")
CHECK_EVERY = 8  # steps
CONVERGED = 0.05  # nats that the objective must fall between checks
# Prior standard deviations; the dose has none. A tile is 26 Å wide: a background changes little
# over it.
PRIOR_SIGMA = np.array([np.inf, 0.1, 0.02, 0.02], np.float32)
# Steps relative to the latents': thousands of counts bear on each nuisance.
_RATES = np.array([0.1, 0.1, 0.1, 0.1], np.float32)


@dataclass(frozen=True)
class Candidates:
    """Candidates, each a latent that explains a tile under a symmetry of the square.

    `z` (n, d); `tile` (n,) the tile each explains; `symmetry` (n,), see `gdn.search.symmetry`;
    `nuisance` (n, 4) in the order of NUISANCES; `objective` (n,) nats; `mean` (n, h, w) electrons
    per binned pixel, as the tile lies; `from_bank` (n,): a restart of the bank, or the encoder's
    guess.
    """

    z: Array
    tile: NDArray[np.int64]
    symmetry: NDArray[np.int64]
    nuisance: Array
    objective: NDArray[np.float64]
    mean: Array
    from_bank: NDArray[np.bool_]

    def take(self, index: NDArray[np.int64]) -> Candidates:
        """The candidates of `index`, in that order."""
        return Candidates(*(getattr(self, f.name)[index] for f in fields(self)))


def start(
    z: Array,
    tile: NDArray[np.int64],
    symmetry: NDArray[np.int64],
    dose: float,
    from_bank: NDArray[np.bool_],
) -> Candidates:
    """Unrefined candidates; `evaluate` fills in their objective and mean."""
    n = len(z)
    nuisance = np.zeros((n, len(NUISANCES)), np.float32)
    nuisance[:, 0] = np.log(dose)
    return Candidates(
        z.copy(), tile, symmetry, nuisance, np.zeros(n), np.zeros((n, 1, 1), np.float32), from_bank
    )


def evaluate(engine: Engine, data: TileData, candidates: Candidates, batch: int = 64) -> Candidates:
    """The candidates with their objective and mean, the dose of each in closed form: sum of counts
    over sum of x."""
    return in_batches(
        data, candidates, batch, lambda turned, part: _evaluate_batch(engine, turned, part)
    )


def in_batches(
    data: TileData,
    candidates: Candidates,
    batch: int,
    work: Callable[[TileData, Candidates], Candidates],
) -> Candidates:
    """`work` on the turned tiles of some candidates and those candidates, `batch` at a time."""
    parts = []
    for first in range(0, len(candidates.z), batch):
        part = candidates.take(np.arange(first, min(first + batch, len(candidates.z))))
        parts.append(work(turn_tiles(data.take(part.tile), part.symmetry), part))
    return join(parts) if parts else candidates


def _evaluate_batch(engine: Engine, turned: TileData, part: Candidates) -> Candidates:
    objective = Objective(engine, turned)
    mu = objective.mean(engine.generate(part.z), part.nuisance)
    ratio = (turned.weights * turned.counts).sum((1, 2)) / np.maximum(
        (turned.weights * mu).sum((1, 2)), FLOOR
    )
    # Of a tile of which nothing was recorded the dose stays the frame's.
    ratio = np.where(turned.weights.any((1, 2)), ratio, np.float32(1))
    nuisance = part.nuisance.copy()
    nuisance[:, 0] += np.log(np.clip(ratio, 0.1, 10))
    mu *= np.exp(nuisance[:, 0] - part.nuisance[:, 0])[:, None, None]
    value = objective.value(mu, np.concatenate([part.z, nuisance], 1))
    return replace(part, nuisance=nuisance, objective=value, mean=turn_back(mu, part.symmetry))


def join(parts: list[Candidates]) -> Candidates:
    """Several sets of candidates as one."""
    return Candidates(
        *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Candidates))
    )


def rate_at(step: int, steps: int, peak: float) -> float:
    """Learning rate: 5 % warm-up, constant, cosine to zero over the last half."""
    warm = max(1, steps // 20)
    if step < warm:
        return peak * (step + 1) / warm
    fall = (step - steps / 2) / (steps / 2)
    return peak if fall <= 0 else peak * 0.5 * (1 + float(np.cos(np.pi * fall)))


def refine(
    engine: Engine, data: TileData, candidates: Candidates, steps: int, rate: float, batch: int = 64
) -> Candidates:
    """`steps` Adam steps for every candidate; batches do not interact."""
    return in_batches(
        data,
        candidates,
        batch,
        lambda turned, part: _refine_batch(engine, turned, part, steps, rate),
    )


@dataclass(frozen=True)
class Point:
    """The objective at theta: `value` (n,) nats, `gradient` (n, d + k), `mu` (n, h, w), and d(mu) /
    d(nuisances) `derivatives` (n, k, h, w)."""

    value: NDArray[np.float64]
    gradient: Array
    mu: Array
    derivatives: Array


class Objective:
    """The objective of latents and nuisances theta (n, d + k) for the tiles that `data` holds, one
    each.

    For a model in half precision, values, gradients and images are in single precision and products
    of the Jacobian in half. A rounded direction costs little; a rounded result would not.
    """

    def __init__(self, engine: Engine, data: TileData) -> None:
        self.engine, self.exact, self.data = engine, engine.exact, data
        axis = np.linspace(-1, 1, data.counts.shape[1], dtype=np.float32)
        self._plane = np.stack(np.meshgrid(axis, axis, indexing="ij"))  # v, u

    def split(self, theta: Array) -> tuple[Array, Array]:
        """z (n, d) and the nuisances (n, k)."""
        d = self.engine.model.card.latent
        return np.ascontiguousarray(theta[:, :d]), np.ascontiguousarray(theta[:, d:])

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
        """The objective, its gradient and what a linear model around theta needs."""
        z, nuisance = self.split(theta)
        scale, shift = self._scale_and_shift(nuisance)
        found = self.exact.value_and_gradient(z, self.data, scale, shift)
        mu = scale[:, None, None] * found.images + shift
        derivatives = self.nuisance_derivatives(found.images, mu, nuisance)
        own = np.einsum("nij,nkij->nk", mean_derivative(mu, self.data), derivatives)
        gradient = np.concatenate([found.gradient + z, own + nuisance / PRIOR_SIGMA**2], 1)
        return Point(found.value + self._prior(theta), gradient, mu, derivatives)

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
    return replace(part, z=z, nuisance=nuisance, objective=value, mean=turn_back(mu, part.symmetry))
