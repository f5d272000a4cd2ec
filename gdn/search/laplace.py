"""The Laplace approximation of a candidate's posterior, from its Fisher information.

With J = d(mu)/d(theta), theta = (z, nuisances), and W the pixels' Fisher information, H = J W J^T +
P is the expected Hessian of the objective (P the prior's precision). Then the posterior covariance
of theta is H^-1, that of the mean image J^T H^-1 J, and the log evidence -objective - log det(H) /
2 + const (MacKay 2003, ch. 27; Gauss-Newton form: Martens 2020). H is exact at the optimum of a
generator that is linear there; a candidate that was stopped early is treated as if it were one.

With many latents J is too large to form. `sampled_variance` draws from N(0, H^-1) without it: H = J
W J^T + P is the covariance of J W^(1/2) a + P^(1/2) b for white a and b, so that H^-1 times such a
draw, by conjugate gradients, has the covariance H^-1 (Papandreou & Yuille 2010, "Gaussian sampling
by local perturbations").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from gdn.engines.base import Engine, jacobian
from gdn.likelihood import Array, TileData, information
from gdn.search.candidates import Candidates, turn_back, turn_tiles
from gdn.search.objective import PRIOR_SIGMA, Objective, conjugate_gradients

# of conjugate gradients: beyond them come directions that the prior alone decides
SAMPLE_ITERATIONS = 8
BATCH = 32  # draws made together

Matrix = NDArray[np.float64]


def linearise(objective: Objective, theta: Array) -> tuple[Array, Array]:
    """mu (h, w) and J (d + 4, h, w) of one theta (d + 4,). The objective must have exactly one
    tile."""
    z, nuisance = objective.split(theta[None])
    x = objective.engine.generate(z)
    mu = objective.mean(x, nuisance)
    latent = np.exp(nuisance[0, 0] + nuisance[0, 1]) * jacobian(objective.engine, z[0])
    return mu[0], np.concatenate([latent, objective.nuisance_derivatives(x, mu, nuisance)[0]])


def curvature(mu: Array, derivative: Array, data: TileData) -> Matrix:
    """H (d + 4, d + 4) of one tile from its mean (h, w) and J (d + 4, h, w)."""
    j = derivative.reshape(len(derivative), -1).astype(np.float64)
    precision = np.ones(len(j))
    precision[-len(PRIOR_SIGMA) :] = PRIOR_SIGMA.astype(np.float64) ** -2
    return np.asarray((j * information(mu[None], data).ravel()) @ j.T + np.diag(precision))


def laplace(
    engine: Engine, data: TileData, candidates: Candidates
) -> tuple[NDArray[np.float64], Array]:
    """Log evidence (n,), up to a constant of the tile, and variance of the mean (n, h, w),
    electrons^2, not turned. Each candidate needs a Jacobian, that is d tangents, so use this for
    few candidates."""
    evidence = np.empty(len(candidates.z))
    variance = np.empty((len(candidates.z), *data.counts.shape[1:]), np.float32)
    for i in range(len(evidence)):
        candidate = candidates.take(np.array([i]))
        turned = turn_tiles(data, candidate.tile, candidate.symmetry)
        mu, derivative = linearise(
            Objective(engine, turned), np.concatenate([candidate.z[0], candidate.nuisance[0]])
        )
        factor = np.linalg.cholesky(curvature(mu, derivative, turned))
        evidence[i] = -candidate.objective[0] - np.log(np.diag(factor)).sum()
        root = solve_triangular(factor, derivative.reshape(len(derivative), -1), lower=True)
        variance[i] = turn_back(
            (root**2).sum(0).reshape(1, *mu.shape).astype(np.float32), candidate.symmetry
        )[0]
    return evidence, variance


def sampled_variance(
    engine: Engine,
    data: TileData,
    candidates: Candidates,
    samples: int,
    seed: int,
    first_tile: int = 0,
) -> Array:
    """Variance of the mean (n, h, w), electrons^2, not turned, for candidates: the mean square of
    `samples` draws. The value of one pixel is rough (relative error sqrt(2 / samples)), so smooth
    it. A draw costs about 18 passes through the generator, for any number of latents. It depends
    only on `seed`, the tile and the number of the draw. `first_tile` is the frame's number of the
    first tile in the data."""
    rows = np.repeat(np.arange(len(candidates.z)), samples)
    numbers = np.tile(np.arange(samples), len(candidates.z))
    total = np.zeros((len(candidates.z), *data.counts.shape[1:]), np.float32)
    for first in range(0, len(rows), BATCH):
        row, number = rows[first : first + BATCH], numbers[first : first + BATCH]
        part = candidates.take(row)
        turned = turn_tiles(data, part.tile, part.symmetry)
        draws = _draw(engine, turned, part, part.tile + first_tile, number, seed)
        np.add.at(total, row, turn_back(draws, part.symmetry) ** 2)
    return np.asarray(total / samples, dtype=np.float32)


def _draw(
    engine: Engine,
    turned: TileData,
    part: Candidates,
    tile: NDArray[np.int64],
    number: NDArray[np.int64],
    seed: int,
) -> Array:
    """One draw of the mean's deviation (n, h, w) for each candidate, turned as its tile is."""
    objective = Objective(engine, turned)
    theta = np.concatenate([part.z, part.nuisance], 1)
    point = objective.at(theta)
    shape, k = turned.counts.shape[1:], theta.shape[1]
    white = np.empty((len(theta), *shape), np.float32)
    prior = np.empty_like(theta)
    for i, (t, n) in enumerate(zip(tile, number, strict=True)):
        rng = np.random.default_rng([seed, 0x1A, int(t), int(n)])
        white[i] = rng.standard_normal(shape, np.float32)
        prior[i] = rng.standard_normal(k, np.float32)
    prior[:, -len(PRIOR_SIGMA) :] /= PRIOR_SIGMA
    right = (
        objective.pull_back(theta, point, np.sqrt(information(point.mu, turned)) * white) + prior
    )
    step = conjugate_gradients(objective, theta, point, SAMPLE_ITERATIONS, right=right)
    return objective.push_forward(theta, point, step.direction)
