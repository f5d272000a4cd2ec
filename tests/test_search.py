"""Likelihood, bank, refinement, blending, residual: each against something independent of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import poisson

from gdn.engines.choose import open_engine
from gdn.likelihood import POISSON, NoiseLaw, TileData, mean_derivative, negative_log_likelihood
from gdn.models import find_model
from gdn.models.graphs import STEP_ITERATIONS
from gdn.restarts import restart_latents
from gdn.search import candidates as refinement
from gdn.search.all_tiles import candidate_weights
from gdn.search.bank import Bank, BankPart, bank_for, bank_scores, best_of_bank
from gdn.search.candidates import (
    best_of_each,
    propose,
    propose_from_merged,
    turn,
    turn_back,
    turn_tiles,
)
from gdn.search.denoise_frame import denoise_frame
from gdn.search.held_out_shares import choose, shrink_residual
from gdn.search.laplace import curvature, laplace, linearise
from gdn.search.objective import Objective, conjugate_gradients
from gdn.search.refine import newton, refine, search
from gdn.search.settings import Searcher, SearchSettings
from gdn.search.thinning import split
from gdn.storage import CacheError, evict

RNG = np.random.default_rng(0)


def tiles(
    n: int = 3, p: int = 16, alpha: float = 1.0, beta: float = 0.0
) -> tuple[TileData, np.ndarray]:
    x = (1 + 0.2 * RNG.standard_normal((n, p, p))).clip(0.3, 2).astype(np.float32)
    y = RNG.poisson(20 * x).astype(np.float32)
    w = np.ones_like(y)
    w[0, :4] = 0
    return TileData(y, w, NoiseLaw(alpha, beta)), x


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
    return float(
        minimize_scalar(
            lambda a: negative_log_likelihood(a * x[None], data)[0],
            bounds=(5, 50),
            method="bounded",
        ).fun
    )


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.0, 4.0)])
def test_bank_scores_profile_the_dose(alpha: float, beta: float) -> None:
    data, _ = tiles(alpha=alpha, beta=beta)
    bank = (1 + 0.2 * RNG.standard_normal((5, 16, 16))).clip(0.3, 2).astype(np.float32)
    scores = bank_scores(BankPart(bank), data, 20.0)
    for t in range(3):
        one = data.take(np.array([t]))
        best = [best_over_doses(x, one) for x in bank]
        differences = np.array(best) - best[0]
        np.testing.assert_allclose(
            scores[t] - scores[t, 0], differences, atol=0.02 + 1e-4 * np.abs(differences).max()
        )


def test_each_restart_has_its_own_seed() -> None:
    whole = restart_latents(5, range(50), 8)
    np.testing.assert_array_equal(whole[30:], restart_latents(5, range(30, 50), 8))
    assert not np.allclose(whole, restart_latents(6, range(50), 8))
    many = restart_latents(1, range(2000), 8)
    assert abs(many.mean()) < 0.05
    assert many.std() == pytest.approx(1, abs=0.02)


def test_bank_is_cached_and_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDN_CACHE_DIR", str(tmp_path))
    with open_engine(find_model("pt-ceo2-64")) as engine:
        first, second = bank_for(engine, 0, 40), bank_for(engine, 0, 40)
        assert not first.cached
        assert second.cached
        made = np.array(first.images)
        np.testing.assert_array_equal(made, second.images)
        stored = next(tmp_path.rglob("*.npy"))
        damaged = stored.read_bytes()[:1000]
        stored.unlink()  # the banks above are maps of it
        stored.write_bytes(damaged)  # made again, not believed
        third = bank_for(engine, 0, 40)
        assert not third.cached
        np.testing.assert_array_equal(made, third.images)
        assert not list(tmp_path.rglob("*.part"))


def test_cache_forgets_the_least_recently_used(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "middle", "old")):
        path = tmp_path / f"{name}.npy"
        path.write_bytes(bytes(1000))
        os.utime(path, (time.time() - 100 * age,) * 2)
    for name, age in ((".dead.1.part.npy", 2 * 86_400), (".living.2.part.npy", 10)):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    assert [p.name for p in evict(tmp_path, 2500)] == ["old.npy"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".living.2.part.npy",
        "middle.npy",
        "new.npy",
    ]
    evict(tmp_path, 0)
    assert not list(tmp_path.glob("[!.]*"))


def test_bank_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("GDN_CACHE_GIB", str(3.1 * 8192 * 10 / 2**30))  # three banks of ten
    with open_engine(find_model("pt-ceo2-64")) as engine:
        for seed in range(5):
            bank_for(engine, seed, 10)
        assert len(list(tmp_path.rglob("*.npy"))) == 3
        assert not bank_for(engine, 0, 40).cached  # larger than the bound: made in memory
        assert len(list(tmp_path.rglob("*.npy"))) == 3
        with pytest.raises(CacheError, match=r"1000000 restarts takes 7\.6 GiB"):
            bank_for(engine, 0, 1_000_000, use_cache=False)
        monkeypatch.setenv("GDN_CACHE_GIB", "much")
        with pytest.raises(CacheError, match="GDN_CACHE_GIB=much"):
            bank_for(engine, 9, 10)


def test_two_processes_may_make_the_same_bank(tmp_path: Path) -> None:
    code = (
        "from gdn.engines.choose import open_engine; from gdn.models import "
        "find_model; from gdn.search.bank import bank_for\n"
        "with open_engine(find_model('pt-ceo2-64')) as e: print(float(bank_for(e, 0, "
        "300).images[-1].mean()))"
    )
    env = os.environ | {"GDN_CACHE_DIR": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [p.communicate()[0] for p in both]
    assert [p.returncode for p in both] == [0, 0]
    assert printed[0] == printed[1]
    assert len(list(tmp_path.rglob("*.*"))) == 1


def test_half_precision_keeps_the_ranking() -> None:
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        exact = engine.generate(restart_latents(0, range(256), 128))
        truth = engine.generate(restart_latents(7, range(8), 128))
        for dose in (19, 500):
            data = TileData(
                RNG.poisson(dose * truth).astype(np.float32), np.ones_like(truth), POISSON
            )
            full = bank_scores(BankPart(exact), data, dose)
            half = bank_scores(BankPart(exact.astype(np.float16)), data, dose)
            np.testing.assert_array_equal(full.argmin(1), half.argmin(1))
            best, again = full.argsort(1)[:, :16], half.argsort(1)[:, :16]
            assert np.mean([len(set(a) & set(b)) for a, b in zip(best, again, strict=True)]) > 15


def test_best_of_bank_does_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = tiles()
    images = (1 + 0.2 * RNG.standard_normal((37, 16, 16))).clip(0.3, 2).astype(np.float16)
    bank = Bank(seed=0, dimension=4, images=images)
    whole, scores = best_of_bank(bank, data, 20, 5)
    monkeypatch.setattr("gdn.search.portions.BANK_PIXELS", 2**12)  # sixteen images
    monkeypatch.setattr("gdn.search.bank.TILE_CHUNK", 2)
    chunked, again = best_of_bank(bank, data, 20, 5)
    np.testing.assert_array_equal(whole, chunked)
    np.testing.assert_allclose(scores, again, atol=0.01)
    assert (np.diff(scores) >= 0).all()
    assert best_of_bank(bank, data, 20, 100)[0].shape == (3, 37)


def test_symmetries_are_eight_and_undone() -> None:
    image = RNG.standard_normal((1, 4, 4)).astype(np.float32)
    eight = turn(np.repeat(image, 8, 0), np.arange(8))
    assert len({t.tobytes() for t in eight}) == 8
    np.testing.assert_array_equal(turn_back(eight, np.arange(8)), np.repeat(image, 8, 0))


def test_a_bank_image_is_found_however_it_lies() -> None:
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        bank = bank_for(engine, 3, 32)
        symmetry = np.array([0, 3, 6])
        truth = turn_back(bank.images[[5, 17, 30]].astype(np.float32), symmetry)
        data = TileData(RNG.poisson(300 * truth).astype(np.float32), np.ones_like(truth), POISSON)
        settings = SearchSettings(encoder=False, brief_candidates=1, full_steps=2)
        starts = propose(engine, bank, data, 300, settings)
        np.testing.assert_array_equal(starts.z, bank.latents(np.array([5, 17, 30])))
        np.testing.assert_array_equal(starts.symmetry, symmetry)
        found = search(engine, data, starts, settings)
        assert np.abs(found.mean / 300 - truth).max() < 0.1


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (1.0, 6.0), (0.0, 4.0)])
def test_objectives_gradient_is_finite_differences(alpha: float, beta: float) -> None:
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        truth = engine.generate(restart_latents(9, range(2), 128))
        counts = RNG.poisson(20 * truth).astype(np.float32)
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


def test_laplace_matches_the_spread_of_repeated_fits() -> None:
    """At many electrons and from the truth: the variance of refitted images over noise draws is J^T
    H^-1 J."""
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        z = np.repeat(0.5 * restart_latents(3, range(1), 128), 24, 0)
        truth = engine.generate(z)
        data = TileData(RNG.poisson(2e4 * truth).astype(np.float32), np.ones_like(truth), POISSON)
        begun = refinement.start(z, np.arange(24), np.zeros(24, np.int64), 2e4, np.ones(24, bool))
        found = refine(engine, data, begun, 300, 0.01)
        evidence, variance = laplace(engine, data, found.take(np.arange(2)))
        empirical = found.mean.var(0, ddof=1).mean()
        assert variance[0].mean() == pytest.approx(empirical, rel=0.4)
        assert np.isfinite(evidence).all()


def test_refinement_lowers_the_objective_and_batches_do_not_interact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        truth = engine.generate(restart_latents(9, range(4), 128))
        counts = RNG.poisson(20 * truth).astype(np.float32)
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


def test_converged_candidates_leave_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        truth = engine.generate(0.5 * restart_latents(9, range(2), 128))
        data = TileData(RNG.poisson(20 * truth).astype(np.float32), np.ones_like(truth), POISSON)
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
        sizes = []
        whole = engine.value_and_gradient
        monkeypatch.setattr(
            engine,
            "value_and_gradient",
            lambda z, *rest: (sizes.append(len(z)), whole(z, *rest))[1],
        )
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


def test_residual_of_pure_noise_is_almost_nothing_and_a_signal_survives() -> None:
    noise = RNG.standard_normal((130, 130)).astype(np.float32)
    sigma = np.ones_like(noise)
    assert shrink_residual(noise, sigma).std() < 0.1
    y, x = np.indices(noise.shape)
    wave = np.cos(2 * np.pi * (x + y) / 9).astype(np.float32)
    found = shrink_residual(wave + noise, sigma)
    assert ((found - wave) ** 2).mean() < 0.1 * (wave**2).mean()


@pytest.mark.parametrize("shape", [(5, 7), (31, 90), (40, 33)])
def test_residual_of_small_frames(shape: tuple[int, int]) -> None:
    noise = RNG.standard_normal(shape).astype(np.float32)
    found = shrink_residual(noise, np.ones_like(noise))
    assert found.shape == shape
    assert np.isfinite(found).all()


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (1.0, 30.0), (0.0, 40.0)])
def test_split_parts_are_independent_and_keep_their_law(alpha: float, beta: float) -> None:
    level = 20.0
    counts = RNG.poisson(level, (400, 400)) if alpha else np.full((400, 400), level)
    binned = (counts + np.sqrt(beta) * RNG.standard_normal(counts.shape)).astype(np.float32)
    parts = split(binned, NoiseLaw(alpha, beta), 0)
    np.testing.assert_allclose(parts.first + parts.second, binned, rtol=1e-4, atol=1e-3)
    assert abs(np.corrcoef(parts.first.ravel(), parts.second.ravel())[0, 1]) < 0.02
    for part, share, own in (
        (parts.first, parts.share, parts.law.beta),
        (parts.second, 1 - parts.share, parts.other_law.beta),
    ):
        assert part.mean() == pytest.approx(share * level, rel=0.01)
        assert part.var() == pytest.approx(alpha * share * level + own, rel=0.05)


def test_held_out_counts_reject_a_wrong_generator_and_keep_a_right_one() -> None:
    y, x = np.indices((96, 96))
    clean = (20 * (1 + 0.3 * np.cos(x) * np.cos(y))).astype(np.float32)
    parts = split(RNG.poisson(clean).astype(np.float32), POISSON, 1)
    right, _, _ = choose(parts, (parts.share * clean).astype(np.float32))
    assert np.isinf(right.threshold)
    assert right.share == 0
    assert not right.filter_wins
    wrong, _, _ = choose(
        parts, (parts.share * 20 * (1 + 0.3 * np.cos(0.8 * x) * np.cos(0.9 * y))).astype(np.float32)
    )
    assert wrong.filter_wins
    assert wrong.share >= 0.5


def test_a_frame_of_the_generator_comes_back_better_than_a_blur() -> None:
    from scipy.ndimage import gaussian_filter

    from gdn.evaluation.demo import demo_frames
    from gdn.evaluation.metrics import psnr

    frame = demo_frames()[0]
    clean = frame.image[:500, :500]
    noisy = RNG.poisson(clean).astype(np.float32)
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


def test_a_frame_does_not_depend_on_threads_or_on_the_frames_before_it() -> None:
    from conftest import noisy_frame

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


@pytest.fixture(scope="module")
def turned_starts() -> tuple[TileData, refinement.Candidates, np.ndarray]:
    """Counts at 19 electrons a pixel of four generated patches, the encoder's guesses of them, and
    the truth."""
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        truth = engine.generate(restart_latents(11, range(4), 128))
        data = TileData(
            np.random.default_rng(4).poisson(19 * truth).astype(np.float32),
            np.ones_like(truth),
            POISSON,
        )
        z = engine.encode(data.counts / np.float32(19), np.full(4, 19**-0.5, np.float32))
        assert z is not None
        starts = refinement.start(z, np.arange(4), np.array([0, 1, 4, 7]), 19, np.zeros(4, bool))
        return data, refinement.evaluate(engine, data, starts), truth


def test_many_conjugate_gradient_iterations_are_the_gauss_newton_step(turned_starts: Any) -> None:
    data, starts, _ = turned_starts
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        objective = Objective(engine, data)
        theta = np.concatenate([starts.z, starts.nuisance], 1)
        point = objective.at(theta)
        step = conjugate_gradients(objective, theta, point, 200)
        for i in range(2):
            one = Objective(engine, data.take(np.array([i])))
            mu, derivative = linearise(one, theta[i])
            h = curvature(mu, derivative, one.data)
            exact = -np.linalg.solve(h, point.gradient[i].astype(np.float64))
            assert np.linalg.norm(step.direction[i] - exact) < 0.02 * np.linalg.norm(exact)
            assert step.curvature[i] == pytest.approx(exact @ h @ exact, rel=0.02)
        few = [conjugate_gradients(objective, theta, point, k).promised(1.0) for k in (1, 2, 4, 8)]
        assert (np.diff(few, axis=0) > 0).all()  # each iteration promises more than the one before
        free, damped = (
            conjugate_gradients(objective, theta, point, 3, d).direction[:, :128]
            for d in (0.0, 1000.0)
        )
        assert (np.linalg.norm(damped, axis=1) < 0.5 * np.linalg.norm(free, axis=1)).all()


def test_gauss_newton_lowers_the_objective_and_the_error(
    turned_starts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, starts, truth = turned_starts
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        starts = refinement.evaluate(engine, data, starts)
        found = newton(engine, data, starts, 1, 2)
        assert (found.objective < starts.objective).all()
        monkeypatch.setattr(refinement, "BATCH_PIXELS", 1)
        alone = newton(engine, data, starts, 1, 2)
        monkeypatch.undo()
        np.testing.assert_allclose(alone.objective, found.objective, atol=0.05)
        again = refinement.evaluate(engine, data, replace(found, nuisance=found.nuisance.copy()))
        assert (
            found.objective < again.objective + 0.5
        ).all()  # what is reported belongs to the latents

    def error(c: refinement.Candidates) -> float:
        return float(((c.mean / 19 - truth) ** 2).mean())

    assert error(found) < error(starts)


@pytest.mark.parametrize("name", ["onnxruntime", "torch"])
def test_a_step_in_one_graph_is_the_step_by_products(
    turned_starts: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "torch":
        pytest.importorskip("torch")
    data, starts, _ = turned_starts
    with open_engine(find_model("pt-ceo2-64"), name, "cpu", threads=1) as engine:
        whole = [
            newton(engine, data, starts, 2, STEP_ITERATIONS, damping) for damping in (0.0, 100.0)
        ]
        monkeypatch.setattr(
            type(engine), "step", lambda *_: None
        )  # as of a model that has no such graph
        parts = [
            newton(engine, data, starts, 2, STEP_ITERATIONS, damping) for damping in (0.0, 100.0)
        ]
    for mine, theirs in zip(whole, parts, strict=True):
        assert (mine.objective < starts.objective).all()
        np.testing.assert_allclose(mine.objective, theirs.objective, atol=0.05)
        np.testing.assert_allclose(mine.mean, theirs.mean, rtol=2e-3)
        np.testing.assert_allclose(mine.z, theirs.z, atol=2e-3 * np.abs(theirs.z).max())


def test_a_step_starts_from_where_a_candidate_stands(turned_starts: Any) -> None:
    data, starts, _ = turned_starts
    unknown = refinement.start(starts.z, starts.tile, starts.symmetry, 19, np.zeros(4, bool))
    unknown = replace(unknown, nuisance=starts.nuisance)
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        found = [newton(engine, data, some, 1, STEP_ITERATIONS) for some in (starts, unknown)]
        still = newton(engine, data, unknown, 0, STEP_ITERATIONS)
    np.testing.assert_allclose(found[0].objective, found[1].objective, atol=1e-3)
    np.testing.assert_array_equal(found[0].z, found[1].z)
    np.testing.assert_allclose(still.objective, starts.objective, atol=1e-3)
    np.testing.assert_allclose(still.mean, starts.mean, rtol=1e-5)


def test_a_step_that_breaks_its_promise_is_shortened_or_not_taken(
    turned_starts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, starts, _ = turned_starts
    taken: list[int] = []

    def far(self: Objective, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        taken.append(len(theta))
        return np.zeros((len(theta), 64, 64), np.float32), np.full(len(theta), 1e9)

    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        monkeypatch.setattr(Objective, "mean_and_value", far)
        found = newton(engine, data, starts, 1, 2)
    assert taken == [4, 4, 4, 4]
    np.testing.assert_array_equal(found.z, starts.z)
    np.testing.assert_allclose(found.objective, starts.objective, atol=0.05)


def test_a_step_that_overflows_leaves_its_candidate_alone(
    turned_starts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:

    data, starts, _ = turned_starts

    def overflowing(
        self: Objective, theta: np.ndarray, point: Any, tangent: np.ndarray
    ) -> np.ndarray:
        out = np.zeros((len(theta), *self.data.counts.shape[1:]), np.float32)
        out[0] = np.inf
        return out

    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        monkeypatch.setattr(Objective, "push_forward", overflowing)
        found = newton(engine, data, starts, 1, 2, 100.0)
    np.testing.assert_array_equal(found.z[0], starts.z[0])
    assert np.isfinite(found.objective).all()
    assert np.isfinite(found.mean).all()
