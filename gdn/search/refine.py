"""Refinement of candidates: gradient descent on the latent and the tile's nuisance parameters.

The objective is -log p(y | mu) + |z|^2 / 2 + weak priors on the nuisances (DESIGN section 3), with
mu = dose * (1 + contrast * (G(z) - 1) + slope_y * v + slope_x * u), v and u from -1 to 1 over the tile.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import Engine
from gdn.engines.observation import Array, TileData, mean_derivative, negative_log_likelihood
from gdn.search.symmetry import turn_back, turn_tiles

NUISANCES = ("log_dose", "log_contrast", "slope_y", "slope_x")
# Prior standard deviations; the dose has none. A tile is 26 Å wide: a background changes little over it.
PRIOR_SIGMA = np.array([np.inf, 0.1, 0.02, 0.02], np.float32)


@dataclass(frozen=True)
class Candidates:
    """Candidates, each a latent that explains a tile under a symmetry of the square.

    `z` (n, d); `tile` (n,) the tile each explains; `symmetry` (n,), see `gdn.search.symmetry`;
    `nuisance` (n, 4) in the order of NUISANCES; `objective` (n,) nats; `mean` (n, h, w) electrons per
    binned pixel, as the tile lies; `from_bank` (n,): a restart of the bank, or the encoder's guess.
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
    z: Array, tile: NDArray[np.int64], symmetry: NDArray[np.int64], dose: float, from_bank: NDArray[np.bool_]
) -> Candidates:
    """Unrefined candidates; their objective and mean are filled by the first refinement."""
    n = len(z)
    nuisance = np.zeros((n, len(NUISANCES)), np.float32)
    nuisance[:, 0] = np.log(dose)
    return Candidates(z.copy(), tile, symmetry, nuisance, np.zeros(n), np.zeros((n, 1, 1), np.float32), from_bank)


def join(parts: list[Candidates]) -> Candidates:
    """Several sets of candidates as one."""
    return Candidates(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Candidates)))


def rate_at(step: int, steps: int, peak: float) -> float:
    """Learning rate: 5 % warm-up, constant, cosine to zero over the last half."""
    warm = max(1, steps // 20)
    if step < warm:
        return peak * (step + 1) / warm
    fall = (step - steps / 2) / (steps / 2)
    return peak if fall <= 0 else peak * 0.5 * (1 + float(np.cos(np.pi * fall)))


def refine(engine: Engine, data: TileData, candidates: Candidates, steps: int, rate: float, batch: int = 64) -> Candidates:
    """`steps` Adam steps for every candidate (with 0 steps: only evaluate); batches do not interact."""
    parts = []
    for first in range(0, len(candidates.z), batch):
        part = candidates.take(np.arange(first, min(first + batch, len(candidates.z))))
        parts.append(_refine_batch(engine, turn_tiles(data.take(part.tile), part.symmetry), part, steps, rate))
    return join(parts) if parts else candidates


class Objective:
    """The objective of latents and nuisances theta (n, d + 4) for the tiles that `data` holds, one each."""

    def __init__(self, engine: Engine, data: TileData) -> None:
        self.engine, self.data = engine, data
        axis = np.linspace(-1, 1, data.counts.shape[1], dtype=np.float32)
        self._plane = np.stack(np.meshgrid(axis, axis, indexing="ij"))  # v, u

    def mean(self, x: Array, nuisance: Array) -> Array:
        """mu (n, h, w) of patches x and their nuisances."""
        scale, shift = self._scale_and_shift(nuisance)
        return np.asarray(scale[:, None, None] * x + shift, dtype=np.float32)

    def value(self, mu: Array, theta: Array) -> NDArray[np.float64]:
        """Objective (n,) in nats, without terms of the data alone."""
        z, nuisance = theta[:, : -len(NUISANCES)].astype(np.float64), theta[:, -len(NUISANCES) :]
        prior = 0.5 * (z**2).sum(1) + 0.5 * ((nuisance / PRIOR_SIGMA) ** 2).sum(1)
        return np.asarray(negative_log_likelihood(mu, self.data) + prior)

    def gradient(self, theta: Array) -> Array:
        """Derivative (n, d + 4) of the objective in theta."""
        z, nuisance = np.ascontiguousarray(theta[:, : -len(NUISANCES)]), theta[:, -len(NUISANCES) :]
        scale, shift = self._scale_and_shift(nuisance)
        found = self.engine.value_and_gradient(z, self.data, scale, shift)
        mu = scale[:, None, None] * found.images + shift
        v = mean_derivative(mu, self.data)
        own = np.einsum("nij,nkij->nk", v, self.nuisance_derivatives(found.images, mu, nuisance))
        return np.concatenate([found.gradient + z, own + nuisance / PRIOR_SIGMA**2], 1)

    def nuisance_derivatives(self, x: Array, mu: Array, nuisance: Array) -> Array:
        """d(mu) / d(nuisance) (n, 4, h, w)."""
        dose, contrast = np.exp(nuisance[:, 0])[:, None, None], np.exp(nuisance[:, 1])[:, None, None]
        slopes = (dose * plane for plane in self._plane)
        return np.stack([mu, dose * contrast * (x - 1), *slopes], 1)

    def _scale_and_shift(self, nuisance: Array) -> tuple[Array, Array]:
        dose, contrast = np.exp(nuisance[:, 0]), np.exp(nuisance[:, 1])
        background = (1 - contrast)[:, None, None] + np.einsum("nk,kij->nij", nuisance[:, 2:], self._plane)
        return dose * contrast, np.asarray(dose[:, None, None] * background, dtype=np.float32)


def _refine_batch(engine: Engine, data: TileData, part: Candidates, steps: int, rate: float) -> Candidates:
    objective = Objective(engine, data)
    theta = np.concatenate([part.z, part.nuisance], 1)
    # The nuisances are stiff (thousands of counts bear on each): a tenth of the latents' rate.
    rates = np.full(theta.shape[1], 1.0, np.float32)
    rates[-len(NUISANCES) :] = 0.1
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    for step in range(steps):
        gradient = objective.gradient(theta)
        first = 0.9 * first + 0.1 * gradient
        second = 0.98 * second + 0.02 * gradient**2
        unbiased = first / (1 - 0.9 ** (step + 1)) / (np.sqrt(second / (1 - 0.98 ** (step + 1))) + 1e-8)
        theta = theta - rate_at(step, steps, rate) * rates * unbiased
    z, nuisance = np.ascontiguousarray(theta[:, : -len(NUISANCES)]), theta[:, -len(NUISANCES) :].copy()
    mu = objective.mean(engine.generate(z), nuisance)
    return replace(part, z=z, nuisance=nuisance, objective=objective.value(mu, theta), mean=turn_back(mu, part.symmetry))
