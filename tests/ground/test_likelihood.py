"""The noise law of tiles, latents of restarts, and what a cache keeps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import poisson

from gdn.likelihood import TileData, mean_derivative, negative_log_likelihood
from gdn.restarts import restart_latents
from tests.helpers.tiles import made_tiles


def test_poisson_likelihood_is_scipys(rng: np.random.Generator) -> None:
    data, x = made_tiles(rng)
    other = 19 * np.ones_like(x)
    ours = negative_log_likelihood(20 * x, data) - negative_log_likelihood(other, data)
    logs = poisson.logpmf(data.counts, other) - poisson.logpmf(data.counts, 20 * x)
    np.testing.assert_allclose(ours, (logs * data.weights).sum((1, 2)), rtol=1e-4)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (1.0, 5.0), (0.0, 4.0)])
def test_mean_derivative_is_the_derivative(
    rng: np.random.Generator, alpha: float, beta: float
) -> None:
    data, x = made_tiles(rng, alpha=alpha, beta=beta)
    mu = (18 * x).astype(np.float64)
    direction = rng.standard_normal(mu.shape)
    step = 1e-4
    up, down = (negative_log_likelihood(mu + s * step * direction, data) for s in (1, -1))
    slope = (mean_derivative(mu, data) * direction).sum((1, 2))
    np.testing.assert_allclose((up - down) / (2 * step), slope, rtol=1e-3)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_no_mean_below_zero_explains_counts(rng: np.random.Generator, beta: float) -> None:
    """In dark fields most counts are 0. A candidate once won by a mean of -6e8."""
    data, x = made_tiles(rng, alpha=1.0, beta=beta)
    data = TileData(np.zeros_like(data.counts), data.weights, data.law)
    means = (0.0, -1.0, -1e3, -1e9, -1e30)
    values = [negative_log_likelihood(np.full_like(x, mean), data) for mean in means]
    assert np.isfinite(values).all()
    for better, worse in itertools.pairwise(values):
        assert (better <= worse).all()
    assert (values[0] < values[1]).all()


def test_each_restart_has_its_own_seed() -> None:
    whole = restart_latents(5, range(50), 8)
    np.testing.assert_array_equal(whole[30:], restart_latents(5, range(30, 50), 8))
    assert not np.allclose(whole, restart_latents(6, range(50), 8))
    many = restart_latents(1, range(2000), 8)
    assert abs(many.mean()) < 0.05
    assert many.std() == pytest.approx(1, abs=0.02)
