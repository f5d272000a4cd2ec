"""The bank: its scores, its file, and its symmetries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from gdn.engines.choose import open_engine
from gdn.likelihood import POISSON, TileData, negative_log_likelihood
from gdn.models import find_model
from gdn.restarts import restart_latents
from gdn.search.bank import Bank, BankPart, bank_for, bank_scores, best_of_bank
from gdn.search.candidates import propose, turn, turn_back
from gdn.search.refine import refine_candidates
from gdn.search.settings import SearchSettings
from gdn.storage import CacheError
from tests.helpers.tiles import made_tiles


def best_over_doses(x: np.ndarray, data: TileData) -> float:
    return float(
        minimize_scalar(
            lambda a: negative_log_likelihood(a * x[None], data)[0],
            bounds=(5, 50),
            method="bounded",
        ).fun
    )


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.0, 4.0)])
def test_bank_scores_profile_the_dose(rng: np.random.Generator, alpha: float, beta: float) -> None:
    data, _ = made_tiles(rng, alpha=alpha, beta=beta)
    bank = (1 + 0.2 * rng.standard_normal((5, 16, 16))).clip(0.3, 2).astype(np.float32)
    scores = bank_scores(BankPart(bank), data, 20.0)
    for t in range(3):
        one = data.take(np.array([t]))
        best = [best_over_doses(x, one) for x in bank]
        differences = np.array(best) - best[0]
        np.testing.assert_allclose(
            scores[t] - scores[t, 0], differences, atol=0.02 + 1e-4 * np.abs(differences).max()
        )


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


def test_half_precision_keeps_the_ranking(rng: np.random.Generator) -> None:
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        exact = engine.generate(restart_latents(0, range(256), 128))
        truth = engine.generate(restart_latents(7, range(8), 128))
        for dose in (19, 500):
            data = TileData(
                rng.poisson(dose * truth).astype(np.float32), np.ones_like(truth), POISSON
            )
            full = bank_scores(BankPart(exact), data, dose)
            half = bank_scores(BankPart(exact.astype(np.float16)), data, dose)
            np.testing.assert_array_equal(full.argmin(1), half.argmin(1))
            best, again = full.argsort(1)[:, :16], half.argsort(1)[:, :16]
            assert np.mean([len(set(a) & set(b)) for a, b in zip(best, again, strict=True)]) > 15


def test_best_of_bank_does_not_depend_on_chunks(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _ = made_tiles(rng)
    images = (1 + 0.2 * rng.standard_normal((37, 16, 16))).clip(0.3, 2).astype(np.float16)
    bank = Bank(seed=0, dimension=4, images=images)
    whole, scores = best_of_bank(bank, data, 20, 5)
    monkeypatch.setattr("gdn.search.portions.BANK_PIXELS", 2**12)  # sixteen images
    monkeypatch.setattr("gdn.search.bank.TILE_CHUNK", 2)
    chunked, again = best_of_bank(bank, data, 20, 5)
    np.testing.assert_array_equal(whole, chunked)
    np.testing.assert_allclose(scores, again, atol=0.01)
    assert (np.diff(scores) >= 0).all()
    assert best_of_bank(bank, data, 20, 100)[0].shape == (3, 37)


def test_symmetries_are_eight_and_undone(rng: np.random.Generator) -> None:
    image = rng.standard_normal((1, 4, 4)).astype(np.float32)
    eight = turn(np.repeat(image, 8, 0), np.arange(8))
    assert len({t.tobytes() for t in eight}) == 8
    np.testing.assert_array_equal(turn_back(eight, np.arange(8)), np.repeat(image, 8, 0))


def test_a_bank_image_is_found_however_it_lies(rng: np.random.Generator) -> None:
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        bank = bank_for(engine, 3, 32)
        symmetry = np.array([0, 3, 6])
        truth = turn_back(bank.images[[5, 17, 30]].astype(np.float32), symmetry)
        data = TileData(rng.poisson(300 * truth).astype(np.float32), np.ones_like(truth), POISSON)
        settings = SearchSettings(encoder=False, brief_candidates=1, full_steps=2)
        starts = propose(engine, bank, data, 300, settings)
        np.testing.assert_array_equal(
            starts.z, restart_latents(bank.seed, [5, 17, 30], bank.dimension)
        )
        np.testing.assert_array_equal(starts.symmetry, symmetry)
        found = refine_candidates(engine, data, starts, settings)
        assert np.abs(found.mean / 300 - truth).max() < 0.1
