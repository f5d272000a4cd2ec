"""Refinement, blending, residual: each against something independent of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gdn.engines.choose import open_engine
from gdn.likelihood import POISSON, NoiseLaw, TileData
from gdn.models import find_model
from gdn.restarts import restart_latents
from gdn.search import candidates as refinement
from gdn.search.all_tiles import candidate_weights
from gdn.search.bank import bank_for
from gdn.search.candidates import best_of_each, propose, propose_from_merged, turn_tiles
from gdn.search.denoise_frame import denoise_frame
from gdn.search.held_out_shares import choose, shrink_residual
from gdn.search.laplace import laplace
from gdn.search.objective import Objective
from gdn.search.refine import refine
from gdn.search.settings import Searcher, SearchSettings
from gdn.search.thinning import split
from tests.helpers.frames import noisy_frame


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (1.0, 6.0), (0.0, 4.0)])
def test_objectives_gradient_is_finite_differences(
    rng: np.random.Generator, alpha: float, beta: float
) -> None:
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        truth = engine.generate(restart_latents(9, range(2), 128))
        counts = rng.poisson(20 * truth).astype(np.float32)
        objective = Objective(engine, TileData(counts, np.ones_like(counts), NoiseLaw(alpha, beta)))
        nuisance = np.tile(np.array([3.0, 0.05, 0.01, -0.02], np.float32), (2, 1))
        theta = np.concatenate([restart_latents(1, range(2), 128), nuisance], 1)
        at_theta, gradient = objective.gradient(theta)

        def value(at: np.ndarray) -> np.ndarray:
            z, nuisance = objective.split(at)
            return objective.value(objective.mean(engine.generate(z), nuisance), at)

        np.testing.assert_allclose(at_theta, value(theta), rtol=1e-9, atol=1e-3)
        for step in np.eye(132, dtype=np.float32)[128:] * 2e-3:
            slope = (value(theta + step) - value(theta - step)) / 4e-3
            np.testing.assert_allclose(gradient @ step, slope * 2e-3, rtol=0.02, atol=0.02)
        direction = (
            np.concatenate([restart_latents(8, range(1), 128)[0], np.zeros(4, np.float32)]) * 3e-4
        )
        slope = (value(theta + direction) - value(theta - direction)) / 2
        np.testing.assert_allclose(
            gradient @ direction, slope, rtol=0.05, atol=0.05 * np.abs(slope).max()
        )


@pytest.mark.slow
def test_laplace_matches_the_spread_of_repeated_fits(rng: np.random.Generator) -> None:
    """At many electrons and from the truth: the variance of refitted images over noise draws is J^T
    H^-1 J."""
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        z = np.repeat(0.5 * restart_latents(3, range(1), 128), 24, 0)
        truth = engine.generate(z)
        data = TileData(rng.poisson(2e4 * truth).astype(np.float32), np.ones_like(truth), POISSON)
        begun = refinement.start(z, np.arange(24), np.zeros(24, np.int64), 2e4, np.ones(24, bool))
        found = refine(engine, data, begun, 300, 0.01)
        evidence, variance = laplace(engine, data, found.take(np.arange(2)))
        empirical = found.mean.var(0, ddof=1).mean()
        assert variance[0].mean() == pytest.approx(empirical, rel=0.4)
        assert np.isfinite(evidence).all()


def test_refinement_lowers_the_objective_and_batches_do_not_interact(
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        truth = engine.generate(restart_latents(9, range(4), 128))
        counts = rng.poisson(20 * truth).astype(np.float32)
        data = TileData(counts, np.ones_like(counts), POISSON)
        symmetry = np.array([0, 1, 3, 6])
        data = turn_tiles(
            data, np.arange(4), np.array([0, 3, 1, 6])
        )  # as the tiles lie, so that each start is turned to its own
        start = refinement.start(
            restart_latents(1, range(4), 128), np.arange(4), symmetry, 20, np.ones(4, bool)
        )
        before = refinement.evaluate(engine, data, start)
        after = refine(engine, data, start, 15, 0.05)
        assert (after.objective < before.objective - 10).all()
        monkeypatch.setattr(refinement, "BATCH_PIXELS", 1)
        alone = refine(engine, data, start, 15, 0.05)
        np.testing.assert_allclose(alone.mean, after.mean, rtol=1e-3)


@pytest.mark.slow
def test_converged_candidates_leave_the_batch(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        truth = engine.generate(0.5 * restart_latents(9, range(2), 128))
        data = TileData(rng.poisson(20 * truth).astype(np.float32), np.ones_like(truth), POISSON)
        begun = refinement.start(
            restart_latents(1, range(2), 128),
            np.arange(2),
            np.zeros(2, np.int64),
            20,
            np.ones(2, bool),
        )
        done = refine(engine, data, begun, 400, 0.05)
        # One candidate that has converged, at a rate that moves it no more, and one that has not
        # begun.
        fresh = refinement.evaluate(engine, data, begun.take(np.array([1])))
        both = refinement.join([done.take(np.array([0])), fresh])
        sizes: list[int] = []
        whole = engine.value_and_gradient

        def counted(z: np.ndarray, *rest: Any) -> Any:
            sizes.append(len(z))
            return whole(z, *rest)

        monkeypatch.setattr(engine, "value_and_gradient", counted)
        found = refine(engine, data, both, 60, 0.003)
        assert sizes[0] == 2
        assert sizes[-1] == 1
        assert abs(found.objective[0] - done.objective[0]) < 1


def test_weights_sum_to_one_and_prefer_the_better() -> None:
    tile = np.array([0, 0, 1, 1, 1])
    weights = candidate_weights(np.array([5.0, 9.0, 1.0, 1.0, 1e5]), tile, 2.0)
    np.testing.assert_allclose(np.bincount(tile, weights), 1)
    assert weights[0] > weights[1]
    assert weights[2] == weights[3] > weights[4]


def test_residual_of_pure_noise_is_almost_nothing_and_a_signal_survives(
    rng: np.random.Generator,
) -> None:
    noise = rng.standard_normal((130, 130)).astype(np.float32)
    sigma = np.ones_like(noise)
    assert shrink_residual(noise, sigma).std() < 0.1
    y, x = np.indices(noise.shape)
    wave = np.cos(2 * np.pi * (x + y) / 9).astype(np.float32)
    found = shrink_residual(wave + noise, sigma)
    assert ((found - wave) ** 2).mean() < 0.1 * (wave**2).mean()


@pytest.mark.parametrize("shape", [(5, 7), (31, 90), (40, 33)])
def test_residual_of_small_frames(rng: np.random.Generator, shape: tuple[int, int]) -> None:
    noise = rng.standard_normal(shape).astype(np.float32)
    found = shrink_residual(noise, np.ones_like(noise))
    assert found.shape == shape
    assert np.isfinite(found).all()


def test_a_place_of_no_expected_counts_brings_no_noise(rng: np.random.Generator) -> None:
    """An image that dips to zero somewhere says that there is no noise: the electrons there must
    not open the windows around them."""
    clean = np.full((96, 96), 4.0, np.float32)
    counts = rng.poisson(clean).astype(np.float32)
    sigma = np.sqrt(clean)
    sigma[40:42, 40:42] = 1e-3
    found = shrink_residual(counts - clean, sigma)
    assert found.std() < 0.2 * (counts - clean).std()


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (1.0, 30.0), (0.0, 40.0)])
def test_split_parts_are_independent_and_keep_their_law(
    rng: np.random.Generator, alpha: float, beta: float
) -> None:
    level = 20.0
    counts = rng.poisson(level, (400, 400)) if alpha else np.full((400, 400), level)
    binned = (counts + np.sqrt(beta) * rng.standard_normal(counts.shape)).astype(np.float32)
    parts = split(binned, NoiseLaw(alpha, beta), 0)
    np.testing.assert_allclose(parts.first + parts.second, binned, rtol=1e-4, atol=1e-3)
    assert abs(np.corrcoef(parts.first.ravel(), parts.second.ravel())[0, 1]) < 0.02
    for part, share, own in (
        (parts.first, parts.share, parts.law.beta),
        (parts.second, 1 - parts.share, parts.other_law.beta),
    ):
        assert part.mean() == pytest.approx(share * level, rel=0.01)
        assert part.var() == pytest.approx(alpha * share * level + own, rel=0.05)


def test_held_out_counts_reject_a_wrong_generator_and_keep_a_right_one(
    rng: np.random.Generator,
) -> None:
    y, x = np.indices((96, 96))
    clean = (20 * (1 + 0.3 * np.cos(x) * np.cos(y))).astype(np.float32)
    parts = split(rng.poisson(clean).astype(np.float32), POISSON, 1)
    right, _, _ = choose(parts, (parts.share * clean).astype(np.float32))
    assert np.isinf(right.threshold)
    assert right.share == 0
    assert not right.filter_wins
    wrong, _, _ = choose(
        parts, (parts.share * 20 * (1 + 0.3 * np.cos(0.8 * x) * np.cos(0.9 * y))).astype(np.float32)
    )
    assert wrong.filter_wins
    assert wrong.share >= 0.5


def test_a_frame_of_the_generator_comes_back_better_than_a_blur(rng: np.random.Generator) -> None:
    from scipy.ndimage import gaussian_filter

    from gdn.evaluation.demo import demo_frames
    from gdn.evaluation.metrics import psnr

    frame = demo_frames()[0]
    clean = frame.image[:500, :500]
    noisy = rng.poisson(clean).astype(np.float32)
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        bank = bank_for(engine, 0, 16)
        found = denoise_frame(noisy, frame.sampling_angstrom, Searcher(engine=engine, bank=bank))
        again = denoise_frame(noisy, frame.sampling_angstrom, Searcher(engine=engine, bank=bank))
    np.testing.assert_array_equal(found.image, again.image)
    blurred = max(psnr(clean, gaussian_filter(noisy, s)) for s in (2, 4, 6, 8, 12))
    assert psnr(clean, found.image) > blurred + 1
    assert found.image.shape == found.raw_spread.shape == clean.shape
    assert (found.raw_spread >= 0).all()
    assert found.dose == pytest.approx(0.45, rel=0.05)


@pytest.mark.slow
def test_a_frame_does_not_depend_on_threads_or_on_the_frames_before_it() -> None:

    frame = noisy_frame((200, 230)).astype(np.float32)
    results = []
    for threads, before in ((1, False), (3, True)):
        with open_engine(find_model("pt-ceo2-64"), threads=threads) as engine:
            bank = bank_for(engine, 0, 32)
            if before:
                denoise_frame(
                    noisy_frame((150, 160), 5).astype(np.float32),
                    0.2,
                    Searcher(engine=engine, bank=bank),
                )
            results.append(denoise_frame(frame, 0.2, Searcher(engine=engine, bank=bank)))
    np.testing.assert_array_equal(results[0].image, results[1].image)
    np.testing.assert_array_equal(results[0].raw_spread, results[1].raw_spread)


def test_tiles_hear_of_the_merged_frame() -> None:
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        truth = engine.generate(0.7 * restart_latents(9, range(2), 128))
        data = TileData(
            np.random.default_rng(5).poisson(10 * truth).astype(np.float32),
            np.ones_like(truth),
            POISSON,
        )
        bank = bank_for(engine, 0, 16)
        settings = SearchSettings(symmetries=1)
        found = propose(engine, bank, data, 10, settings)
        # Had the neighbours found the truth, so would the tile: by its own objective.
        merged = replace(data, counts=(10 * truth).astype(np.float32))
        told = propose_from_merged(engine, data, merged, 10.0, settings)
        assert told is not None
        assert len(told.z) == 2 * settings.exchange
        best = best_of_each(told)
        assert (told.objective[best] < found.objective[best_of_each(found)]).all()
