"""Refinement of candidates: gradient descent on the latent, the tile's dose and its contrast.

The objective is -log p(y | mu) + |z|^2 / 2 + a weak prior on the contrast, with
mu = dose * (1 + contrast * (G(z) - 1)): contrast is a nuisance (DESIGN section 3, step 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import Array, Engine, TileData
from gdn.search.likelihood import mean_derivative, negative_log_likelihood

CONTRAST_SIGMA = 0.1  # prior standard deviation of log contrast


@dataclass(frozen=True)
class Candidates:
    """Candidates and their tiles: `z` (n, d), `tile` (n,) index of the tile each explains, `log_dose`
    and `log_contrast` (n,), `objective` (n,) nats, `mean` (n, h, w) electrons per binned pixel,
    `from_bank` (n,) whether the start was a restart of the bank (or the encoder's guess)."""

    z: Array
    tile: NDArray[np.int64]
    log_dose: Array
    log_contrast: Array
    objective: NDArray[np.float64]
    mean: Array
    from_bank: NDArray[np.bool_]

    def take(self, index: NDArray[np.int64]) -> Candidates:
        """The candidates of `index`, in that order."""
        return Candidates(
            self.z[index], self.tile[index], self.log_dose[index], self.log_contrast[index],
            self.objective[index], self.mean[index], self.from_bank[index],
        )  # fmt: skip


def start(z: Array, tile: NDArray[np.int64], log_dose: Array, from_bank: NDArray[np.bool_]) -> Candidates:
    """Unrefined candidates; their objective and mean are filled by the first refinement."""
    n = len(z)
    blank = np.zeros((n, 1, 1), np.float32)
    return Candidates(z.copy(), tile, log_dose.copy(), np.zeros(n, np.float32), np.zeros(n), blank, from_bank)


def rate_at(step: int, steps: int, peak: float) -> float:
    """Learning rate: 5 % warm-up, constant, cosine to zero over the last half."""
    warm = max(1, steps // 20)
    if step < warm:
        return peak * (step + 1) / warm
    fall = (step - steps / 2) / (steps / 2)
    return peak if fall <= 0 else peak * 0.5 * (1 + float(np.cos(np.pi * fall)))


def refine(engine: Engine, data: TileData, candidates: Candidates, steps: int, rate: float = 0.05, batch: int = 64) -> Candidates:
    """`steps` Adam steps for every candidate (with 0 steps: only evaluate); batches do not interact."""
    parts = []
    for first in range(0, len(candidates.z), batch):
        index = np.arange(first, min(first + batch, len(candidates.z)))
        part = candidates.take(index)
        parts.append(_refine_batch(engine, data.take(part.tile), part, steps, rate))
    return _join(parts)


def _join(parts: list[Candidates]) -> Candidates:
    """Several sets of candidates as one."""
    names = ("z", "tile", "log_dose", "log_contrast", "objective", "mean", "from_bank")
    return Candidates(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def _mean(x: Array, dose: Array, contrast: Array) -> Array:
    return np.asarray(dose[:, None, None] * (1 + contrast[:, None, None] * (x - 1)), dtype=np.float32)


def _objective(mu: Array, theta: Array, data: TileData) -> NDArray[np.float64]:
    prior = 0.5 * (theta[:, :-2].astype(np.float64) ** 2).sum(1) + 0.5 * (theta[:, -1] / CONTRAST_SIGMA) ** 2
    return np.asarray(negative_log_likelihood(mu, data) + prior)


def _gradient(engine: Engine, data: TileData, theta: Array) -> tuple[Array, Array]:
    """Mean image and gradient of the objective in theta = (z, log dose, log contrast)."""
    z, dose, contrast = theta[:, :-2], np.exp(theta[:, -2]), np.exp(theta[:, -1])
    scale = (dose * contrast).astype(np.float32)
    shift = (dose * (1 - contrast)).astype(np.float32)
    x, dz = engine.pull_back(np.ascontiguousarray(z), data, scale, shift)
    mu = _mean(x, dose, contrast)
    v = mean_derivative(mu, data)
    d_dose = (v * mu).sum((1, 2))
    d_contrast = (v * scale[:, None, None] * (x - 1)).sum((1, 2)) + theta[:, -1] / CONTRAST_SIGMA**2
    gradient = np.concatenate([dz + z, d_dose[:, None], d_contrast[:, None]], 1)
    return mu, gradient.astype(np.float32)


def _refine_batch(engine: Engine, data: TileData, part: Candidates, steps: int, rate: float) -> Candidates:
    theta = np.concatenate([part.z, part.log_dose[:, None], part.log_contrast[:, None]], 1).astype(np.float32)
    # Dose and contrast are stiff (thousands of counts bear on them): a tenth of the latents' rate.
    rates = np.concatenate([np.full(part.z.shape[1], 1.0), [0.1, 0.1]]).astype(np.float32)
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    for step in range(steps):
        _, gradient = _gradient(engine, data, theta)
        first = 0.9 * first + 0.1 * gradient
        second = 0.98 * second + 0.02 * gradient**2
        unbiased = first / (1 - 0.9 ** (step + 1)) / (np.sqrt(second / (1 - 0.98 ** (step + 1))) + 1e-8)
        theta = theta - rate_at(step, steps, rate) * rates * unbiased
    z = np.ascontiguousarray(theta[:, :-2])
    mu = _mean(engine.generate(z), np.exp(theta[:, -2]), np.exp(theta[:, -1]))
    objective = _objective(mu, theta, data)
    return Candidates(z, part.tile, theta[:, -2].copy(), theta[:, -1].copy(), objective, mu, part.from_bank)
