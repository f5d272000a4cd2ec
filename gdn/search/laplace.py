"""The Laplace approximation of a candidate's posterior, from its Fisher information.

With J = d(mu)/d(theta), theta = (z, nuisances), and W the pixels' Fisher information, H = J W J^T + P is
the expected Hessian of the objective (P the prior's precision). Then the posterior covariance of theta
is H^-1, that of the mean image J^T H^-1 J, and the log evidence -objective - log det(H) / 2 + const
(MacKay 2003, ch. 27; Gauss-Newton form: Martens 2020). H is exact at the optimum of a generator that is
linear there; a candidate that was stopped early is treated as if it were one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from gdn.engines.base import Engine, jacobian
from gdn.engines.observation import Array, TileData, information
from gdn.search.refine import INTENSITY, PRIOR_SIGMA, Candidates, Objective
from gdn.search.symmetry import turn_back, turn_tiles

Matrix = NDArray[np.float64]


def linearise(objective: Objective, theta: Array) -> tuple[Array, Array]:
    """mu (h, w) and J (d + 4, h, w) of one theta (d + 4,) without a pose, its tile the objective's only one."""
    z, nuisance = objective.split(theta[None])
    x = objective.engine.generate(z)
    mu = objective.mean(x, nuisance)
    latent = np.exp(nuisance[0, 0] + nuisance[0, 1]) * jacobian(objective.engine, z[0])
    return mu[0], np.concatenate([latent, objective.nuisance_derivatives(x, mu, nuisance)[0]])


def curvature(mu: Array, derivative: Array, data: TileData) -> Matrix:
    """H (d + 4, d + 4) of one tile from its mean (h, w) and J (d + 4, h, w)."""
    j = derivative.reshape(len(derivative), -1).astype(np.float64)
    precision = np.ones(len(j))
    precision[-INTENSITY:] = PRIOR_SIGMA[:INTENSITY].astype(np.float64) ** -2
    return np.asarray((j * information(mu[None], data).ravel()) @ j.T + np.diag(precision))


def laplace(engine: Engine, data: TileData, candidates: Candidates) -> tuple[NDArray[np.float64], Array]:
    """Log evidence (n,), up to a constant of the tile, and variance of the mean (n, h, w), electrons^2, as
    the tiles lie. One Jacobian, d tangents, for each candidate: use it on few."""
    evidence = np.empty(len(candidates.z))
    variance = np.empty((len(candidates.z), *data.counts.shape[1:]), np.float32)
    for i in range(len(evidence)):
        one = candidates.take(np.array([i]))
        turned = turn_tiles(data.take(one.tile), one.symmetry)
        # The pose, where there is one, is left out: as if the crystal's place were known.
        mu, derivative = linearise(Objective(engine, turned), np.concatenate([one.z[0], one.nuisance[0, :INTENSITY]]))
        factor = np.linalg.cholesky(curvature(mu, derivative, turned))
        evidence[i] = -one.objective[0] - np.log(np.diag(factor)).sum()
        root = solve_triangular(factor, derivative.reshape(len(derivative), -1), lower=True)
        variance[i] = turn_back((root**2).sum(0).reshape(1, *mu.shape).astype(np.float32), one.symmetry)[0]
    return evidence, variance
