"""Likelihood, bank, refinement, blending, residual: each against something independent of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import poisson

from gdn.engines.base import TileData
from gdn.engines.choose import open_engine
from gdn.models import find_model
from gdn.search import refine as refinement
from gdn.search.bank import Bank, bank_for, restart_latents
from gdn.search.denoise import SearchSettings, best_of_bank, denoise_frame, steps_for
from gdn.search.likelihood import bank_scores, mean_derivative, negative_log_likelihood
from gdn.search.posterior import candidate_weights
from gdn.search.residual import shrunk_residual

RNG = np.random.default_rng(0)


def tiles(n: int = 3, p: int = 16, alpha: float = 1.0, beta: float = 0.0) -> tuple[TileData, np.ndarray]:
    x = (1 + 0.2 * RNG.standard_normal((n, p, p))).clip(0.3, 2).astype(np.float32)
    y = RNG.poisson(20 * x).astype(np.float32)
    w = np.ones_like(y)
    w[0, :4] = 0
    return TileData(y, w, alpha, beta), x


def test_poisson_likelihood_is_scipys() -> None:
    data, x = tiles()
    other = 19 * np.ones_like(x)
    ours = negative_log_likelihood(20 * x, data) - negative_log_likelihood(other, data)
    logs = poisson.logpmf(data.counts, other) - poisson.logpmf(data.counts, 20 * x)
    np.testing.assert_allclose(ours, (logs * data.weights).sum((1, 2)), rtol=1e-4)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (1.0, 5.0), (0.0, 4.0)])
def test_mean_derivative_is_the_derivative(alpha: float, beta: float) -> None:
    data, x = tiles(alpha=alpha, beta=beta)
    mu = (18 * x).astype(np.float64)
    direction = RNG.standard_normal(mu.shape)
    step = 1e-4
    up, down = (negative_log_likelihood(mu + s * step * direction, data) for s in (1, -1))
    slope = (mean_derivative(mu, data) * direction).sum((1, 2))
    np.testing.assert_allclose((up - down) / (2 * step), slope, rtol=1e-3)


def best_over_doses(x: np.ndarray, data: TileData) -> float:
    return float(minimize_scalar(lambda a: negative_log_likelihood(a * x[None], data)[0], bounds=(5, 50), method="bounded").fun)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.0, 4.0)])
def test_bank_scores_profile_the_dose(alpha: float, beta: float) -> None:
    data, _ = tiles(alpha=alpha, beta=beta)
    bank = (1 + 0.2 * RNG.standard_normal((5, 16, 16))).clip(0.3, 2).astype(np.float32)
    scores = bank_scores(bank, data, 20.0)
    for t in range(3):
        one = data.take(np.array([t]))
        best = [best_over_doses(x, one) for x in bank]
        differences = np.array(best) - best[0]
        np.testing.assert_allclose(scores[t] - scores[t, 0], differences, atol=0.02 + 1e-4 * np.abs(differences).max())


def test_each_restart_has_its_own_seed() -> None:
    whole = restart_latents(5, 0, 50, 8)
    np.testing.assert_array_equal(whole[30:], restart_latents(5, 30, 20, 8))
    assert not np.allclose(whole, restart_latents(6, 0, 50, 8))
    many = restart_latents(1, 0, 2000, 8)
    assert abs(many.mean()) < 0.05
    assert many.std() == pytest.approx(1, abs=0.02)


def test_bank_is_cached_and_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDN_CACHE_DIR", str(tmp_path))
    with open_engine(find_model("pt-ceo2-64")) as engine:
        first, second = bank_for(engine, 0, 40), bank_for(engine, 0, 40)
        assert not first.cached
        assert second.cached
        np.testing.assert_array_equal(first.images, second.images)
        stored = next(tmp_path.rglob("*.npy"))
        stored.write_bytes(stored.read_bytes()[:1000])  # damaged: made again, not believed
        third = bank_for(engine, 0, 40)
        assert not third.cached
        np.testing.assert_array_equal(first.images, third.images)
        assert not list(tmp_path.rglob("*.part"))


def test_best_of_bank_does_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = tiles()
    images = (1 + 0.2 * RNG.standard_normal((37, 16, 16))).clip(0.3, 2).astype(np.float16)
    bank = Bank(np.zeros((37, 4), np.float32), images)
    whole = best_of_bank(bank, data, 20, 5)
    monkeypatch.setattr("gdn.search.denoise.BANK_CHUNK", 8)
    np.testing.assert_array_equal(whole, best_of_bank(bank, data, 20, 5))
    assert whole.shape == (3, 5)
    assert best_of_bank(bank, data, 20, 100).shape == (3, 37)


def test_refinement_lowers_the_objective_and_batches_do_not_interact() -> None:
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        truth = engine.generate(restart_latents(9, 0, 4, 128))
        counts = RNG.poisson(20 * truth).astype(np.float32)
        data = TileData(counts, np.ones_like(counts), 1.0, 0.0)
        start = refinement.start(
            restart_latents(1, 0, 4, 128), np.arange(4), np.full(4, np.log(20), np.float32), np.ones(4, bool)
        )
        before = refinement.refine(engine, data, start, 0)
        after = refinement.refine(engine, data, start, 15)
        assert (after.objective < before.objective - 10).all()
        alone = refinement.refine(engine, data, start, 15, batch=1)
        np.testing.assert_allclose(alone.mean, after.mean, rtol=1e-3)


def test_weights_sum_to_one_and_prefer_the_better() -> None:
    tile = np.array([0, 0, 1, 1, 1])
    weights = candidate_weights(np.array([5.0, 9.0, 1.0, 1.0, 1e5]), tile, 2.0)
    np.testing.assert_allclose(np.bincount(tile, weights), 1)
    assert weights[0] > weights[1]
    assert weights[2] == weights[3] > weights[4]


def test_residual_of_pure_noise_is_almost_nothing_and_a_signal_survives() -> None:
    noise = RNG.standard_normal((130, 130)).astype(np.float32)
    sigma = np.ones_like(noise)
    assert shrunk_residual(noise, sigma).std() < 0.1
    y, x = np.indices(noise.shape)
    wave = np.cos(2 * np.pi * (x + y) / 9).astype(np.float32)
    found = shrunk_residual(wave + noise, sigma)
    assert ((found - wave) ** 2).mean() < 0.1 * (wave**2).mean()


@pytest.mark.parametrize("shape", [(5, 7), (31, 90), (40, 33)])
def test_residual_of_small_frames(shape: tuple[int, int]) -> None:
    noise = RNG.standard_normal(shape).astype(np.float32)
    found = shrunk_residual(noise, np.ones_like(noise))
    assert found.shape == shape
    assert np.isfinite(found).all()


def test_more_electrons_more_steps() -> None:
    assert 10 <= steps_for(1) <= steps_for(19) < steps_for(500) <= 80


def test_a_frame_of_the_generator_comes_back_better_than_a_blur() -> None:
    from scipy.ndimage import gaussian_filter

    from gdn.evaluation.demo import demo_frames
    from gdn.evaluation.metrics import psnr

    frame = demo_frames()[0]
    clean = frame.image[:500, :500]
    noisy = RNG.poisson(clean).astype(np.float32)
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        bank = bank_for(engine, 0, 16)
        found = denoise_frame(noisy, frame.sampling_angstrom, engine, bank, SearchSettings())
        again = denoise_frame(noisy, frame.sampling_angstrom, engine, bank, SearchSettings())
    np.testing.assert_array_equal(found.image, again.image)
    blurred = max(psnr(clean, gaussian_filter(noisy, s)) for s in (2, 4, 6, 8, 12))
    assert psnr(clean, found.image) > blurred + 1
    assert found.image.shape == found.spread.shape == clean.shape
    assert (found.spread >= 0).all()
    assert found.dose == pytest.approx(0.45, rel=0.05)
