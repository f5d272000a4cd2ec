"""What is said of a frame of the demonstration, whose truth is known."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gdn.engines.base import Engine
from gdn.engines.choose import open_engine
from gdn.evaluation.demo import DEMO_NOISE, demo_frames
from gdn.frames.resampling import bin_sum
from gdn.likelihood import POISSON
from gdn.models import DEFAULT_MODEL, ModelError, find_model, load_model, sha256_of
from gdn.search.bank import Bank, bank_for
from gdn.search.candidates import evaluate, start
from gdn.search.denoise_frame import FrameResult, denoise_frame
from gdn.search.laplace import laplace, sampled_variance
from gdn.search.settings import Searcher
from gdn.search.tiles import Binned
from gdn.trust.atoms import COLUMNS, find_atoms, write_csv
from gdn.trust.calibration import (
    FILE,
    LEVELS,
    Calibration,
    calibration_of,
)
from gdn.trust.columns import find_columns
from gdn.trust.comparison import Expected
from gdn.trust.fit import explain_counts
from gdn.trust.held_out_score import (
    denoise_part,
    recover_recorded,
    score_held_out,
    score_on_following,
)
from gdn.trust.judge import JudgeSettings, expect_error, judge, next_frame
from gdn.trust.spread import nested, spread_of

SAMPLING = 0.4  # Å per binned pixel


@pytest.fixture(scope="module")
def running() -> tuple[Engine, Bank, FrameResult, np.ndarray]:
    """The default model, its bank, the result of a demo frame, and the truth on the generator's
    grid."""
    frame = demo_frames()[0]
    engine = open_engine(find_model(DEFAULT_MODEL), threads=1)
    bank = bank_for(engine, 0, 16, use_cache=False)
    result = denoise_frame(
        DEMO_NOISE.apply(frame.image, 3),
        frame.sampling_angstrom,
        Searcher(engine=engine, bank=bank),
    )
    return engine, bank, result, bin_sum(result.noise.electrons(frame.image), result.grids)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    found = calibration_of(find_model(DEFAULT_MODEL))
    assert found is not None
    return found


@pytest.mark.slow
def test_sampled_laplace_is_the_exact_one_on_average(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        from gdn.likelihood import TileData
        from gdn.restarts import restart_latents

        z = 0.5 * restart_latents(3, range(1), 128)
        counts = rng.poisson(200 * engine.generate(z)).astype(np.float32)
        data = TileData(counts, np.ones_like(counts), POISSON)
        here = evaluate(
            engine, data, start(z, np.zeros(1, np.int64), np.array([3]), 200.0, np.ones(1, bool))
        )
        exact = laplace(engine, data, here)[1]
        sampled = sampled_variance(engine, data, here, 48, 0)
        assert sampled.mean() == pytest.approx(exact.mean(), rel=0.35)
        monkeypatch.setattr("gdn.search.laplace.BATCH", 5)
        again = sampled_variance(engine, data, here, 48, 0)
        np.testing.assert_allclose(again, sampled, rtol=1e-3, atol=1e-4)


def test_intervals_of_a_demo_frame_hold_the_truth(running, calibration: Calibration) -> None:
    _, _, result, truth = running
    spread = spread_of(result.estimate, calibration)
    assert spread.calibrated
    assert (np.diff(spread.half_widths, axis=0) >= 0).all()
    inside = [
        (np.abs(result.estimate.image - truth) <= width).mean() for width in spread.half_widths
    ]
    # One frame, whose errors hang together (all of its vacuum is off by one amount): the middle
    # levels cannot be tested on it; benchmarks/trust.py does it over many frames.
    assert inside[LEVELS.index(90)] > 0.75
    assert inside[LEVELS.index(99)] > 0.95
    error = np.sqrt(((result.estimate.image - truth) ** 2).mean()) / result.estimate.dose
    assert (
        0.6
        < error
        / expect_error(spread.of_one_deviation, result.estimate.dose, calibration).square ** 0.5
        < 1.6
    )
    raw = spread_of(result.estimate, None)
    assert not raw.calibrated
    np.testing.assert_allclose(raw.of_one_deviation, result.estimate.raw_spread)


def test_a_demo_frame_is_explained_and_noise_of_another_kind_is_not(
    rng: np.random.Generator, running, calibration: Calibration
) -> None:
    engine, bank, result, _ = running
    fit = explain_counts(result.estimate, SAMPLING, calibration.fit)
    assert fit.p > 0.01
    assert fit.p == fit.by_law  # a frame with columns is not flat
    assert "explains this frame" in fit.words
    assert len(fit.tiles) == result.tiles
    v, u = np.indices((850, 850)) * 0.0612
    soot = 1 + 0.25 * np.cos(2 * np.pi * np.hypot(v - 20, u - 30) / 3.4) * (u > 15)
    counts = rng.poisson(5 * soot).astype(np.float32)
    other = denoise_frame(counts, 0.0612, Searcher(engine=engine, bank=bank))
    bad = explain_counts(other.estimate, SAMPLING, calibration.fit)
    assert bad.p < 0.01
    assert "cannot explain" in bad.words


def test_held_out_scores_of_a_demo_frame_say_what_is_true(
    rng: np.random.Generator, running
) -> None:
    engine, bank, result, truth = running
    frame = demo_frames()[0]
    recorded = recover_recorded(DEMO_NOISE.apply(frame.image, 3), result)
    halves = denoise_part(result.estimate, lambda: recorded, 0, Searcher(engine=engine, bank=bank))
    blur, flat = score_held_out(halves, Expected(5e-4, 1e-4))
    assert (blur.against, flat.against) == ("best blur", "constant")
    assert blur.verdict == flat.verdict == "better"
    # The next frame of the same object: fresh counts of the same truth.
    following = Binned(rng.poisson(truth).astype(np.float32), POISSON)
    assert {c.verdict for c in score_on_following(result.estimate, following, Expected(5e-4))} == {
        "better"
    }
    smaller = replace(result.estimate, binned=Binned(truth[:50], POISSON))
    assert next_frame(result.estimate, smaller, Expected(5e-4)) == []


def test_atoms_of_a_demo_frame(running, calibration: Calibration, tmp_path: Path) -> None:
    _, _, result, truth = running
    atoms = find_atoms(result.estimate, result.grids, calibration.columns, 0.05)
    counts = atoms.counts()
    assert set(counts) == {"present", "cannot_tell", "absent"}
    assert counts["present"] > 20
    reference = find_columns(
        (truth / result.estimate.dose).astype(np.float32), SAMPLING, share=0.07
    )
    drawn = atoms.columns.yx[(atoms.verdict == "present") & atoms.columns.drawn]
    nearest = np.hypot(*(drawn[:, None] - reference.yx[None]).transpose(2, 0, 1)).min(1)
    assert (nearest < 0.5).mean() > 0.85
    write_csv(tmp_path / "a.csv", atoms)
    with (tmp_path / "a.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == len(atoms.listed())
    for row in rows:
        assert float(row["y_angstrom"]) == pytest.approx(float(row["y_px"]) * 0.0612, abs=0.01)
        assert row["verdict"] in ("present", "cannot tell", "absent")


def test_judgement_without_a_calibration_says_so(running) -> None:
    engine, bank, result, _ = running
    trust = judge(
        np.zeros((850, 850), np.float32),
        result,
        Searcher(engine=engine, bank=bank),
        None,
        JudgeSettings(score=False, atoms=True, intervals=(90,)),
    )
    assert trust.row()["explained_p"] is None
    assert trust.row()["atoms"] is None
    assert not trust.calibrated
    assert any("not calibrated" in w and "cannot be tested" in w for w in trust.warnings)
    assert trust.spread.shape == trust.intervals[90].shape == result.image.shape
    assert (trust.intervals[90] >= 0).all()
    json.dumps(trust.row() | trust.detail())


def test_a_damaged_calibration_is_refused(tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(find_model("pt-ceo2-64").folder, folder)
    (folder / FILE).write_text("{}")
    with pytest.raises(ModelError, match="sha256"):
        load_model(folder)
    card = json.loads((folder / "model.json").read_text())
    card["files"][FILE] = sha256_of(folder / FILE)
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match="not a calibration of this version"):
        calibration_of(load_model(folder))


def test_intervals_are_nested() -> None:
    """Where interpolation swings below."""
    deviation = np.array([1.0, 2.0, 3.0], np.float32)
    levels = {
        99: np.array([1.4, 2.5, 9.0], np.float32),
        50: np.array([0.5, 2.5, 1.0], np.float32),
        90: np.array([1.5, 1.9, 8.0], np.float32),
    }
    widths = nested(levels, deviation)
    assert list(widths) == [99, 50, 90]
    np.testing.assert_array_equal(widths[50], np.array([0.5, 2.0, 1.0], np.float32))
    np.testing.assert_array_equal(widths[90], np.array([1.5, 2.0, 8.0], np.float32))
    np.testing.assert_array_equal(widths[99], np.array([1.5, 2.5, 9.0], np.float32))
