"""Saturated, hot and dead pixels, correlated noise, stretched pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter, zoom

from gdn.engines.choose import open_engine
from gdn.errors import EmptyFrame
from gdn.evaluation.demo import demo_frames
from gdn.evaluation.noise_suite import SUITE, Noise, parse_suite
from gdn.frames import examined
from gdn.frames.bad_pixels import fill_bad, find_defects
from gdn.frames.noise import NoiseModel
from gdn.frames.resampling import bin_sum
from gdn.models import find_model
from gdn.search.bank import bank_for
from gdn.search.denoise_frame import denoise_frame
from gdn.search.settings import Searcher
from tests.helpers.commands import FAST, gdn
from tests.helpers.frames import noisy_frame


@pytest.mark.parametrize(
    "noise",
    [*parse_suite(SUITE), Noise("poisson", 0.05), Noise("poisson", 1e4), Noise("gaussian", 1e-3)],
)
def test_good_frames_have_no_bad_pixels(noise: Noise) -> None:
    for frame in demo_frames():
        found = find_defects(noise.apply(frame.image, 1))
        assert found.bad is None
        assert found.notes == []


@pytest.mark.parametrize("dose", [0.2, 0.45, 20.0, 400.0])
def test_hot_and_dead_pixels_are_found(dose: float) -> None:
    rng = np.random.default_rng(3)
    frame = rng.poisson(dose, (300, 300)).astype(np.float32)
    hot = rng.integers(2, 298, (8, 2))
    frame[tuple(hot.T)] = 50 * dose + 60
    truth = np.zeros(frame.shape, bool)
    truth[tuple(hot.T)] = True
    if dose == 400:
        frame[150, 151] = 0
        truth[150, 151] = True
    found = find_defects(frame)
    assert found.bad is not None
    np.testing.assert_array_equal(found.bad, truth)
    assert f"{truth.sum()} hot or dead pixels are left out" in found.notes[0]
    level = fill_bad(frame, found.bad)[found.bad]
    assert np.abs(level - dose).max() < 6 * np.sqrt(dose / 40) + 0.05


@pytest.mark.slow
def test_missing_pixels_are_left_out_and_filled(tmp_path: Path) -> None:
    frame = noisy_frame((150, 150)).astype(np.float32)
    whole = frame.copy()
    frame[40:52, 60:71] = np.nan
    frame[3, 3] = np.inf
    tifffile.imwrite(tmp_path / "holes.tif", frame)
    tifffile.imwrite(tmp_path / "whole.tif", whole)
    result = gdn(
        "denoise",
        tmp_path / "holes.tif",
        tmp_path / "whole.tif",
        *FAST,
        "--sampling",
        "0.1",
        "--json",
        "--report",
    )
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert any(
        "133 missing (NaN) pixels are left out and filled in" in w for w in rows[0]["warnings"]
    )
    image, other = (
        tifffile.imread(tmp_path / f"{name}_denoised.tif") for name in ("holes", "whole")
    )
    assert np.isfinite(image).all()
    assert np.abs(image - other)[40:52, 60:71].max() < 0.2 * other.mean()
    assert np.abs(image - other)[80:].mean() < 0.02 * other.mean()


def test_saturated_pixels_are_found_and_too_many_are_refused() -> None:
    frame = np.random.default_rng(0).poisson(100, (200, 200)).astype(np.float32)
    frame[50:60, 50:60] = 255
    found = find_defects(np.minimum(frame, 255))
    assert found.bad is not None
    assert found.bad.sum() == 100
    frame[:100] = 255
    frame[100:] = 3
    with pytest.raises(EmptyFrame, match="nothing to denoise"):
        examined.examine(frame)


def test_a_clipped_tail_of_counts_is_kept() -> None:
    counts = np.random.default_rng(0).poisson(1.6, (400, 400)).astype(np.float32)
    found = find_defects(np.minimum(32 * counts, 255))
    assert found.bad is None


def test_correlated_noise_is_noticed() -> None:
    rng = np.random.default_rng(0)
    white = rng.standard_normal((300, 300)) + 20
    for correlated in (gaussian_filter(white, 0.8), zoom(white[:150, :150], 2, order=1)):
        assert any("correlated" in n for n in find_defects(correlated.astype(np.float32)).notes)
    assert find_defects(white.astype(np.float32)).notes == []
    smooth = gaussian_filter(white, 6)  # nothing but signal
    assert find_defects(smooth.astype(np.float32)).notes == []


@pytest.mark.slow
def test_masked_pixels_cost_next_to_nothing_and_unmasked_ones_much() -> None:
    """A frame with hot pixels and a saturated patch comes back as the frame without them would."""
    clean = demo_frames()[0]
    clean = replace(clean, image=np.ascontiguousarray(clean.image[:600, 200:800]))
    counts = np.random.default_rng(1).poisson(2 * clean.image).astype(np.float32)
    damaged = counts.copy()
    damaged[
        np.random.default_rng(2).integers(0, 600, 100),
        np.random.default_rng(4).integers(0, 600, 100),
    ] = 255
    damaged[300:312, 300:312] = 255  # on the particle
    engine = open_engine(find_model("pt-ceo2-64"), threads=1)
    bank = bank_for(engine, 0, 16, use_cache=False)
    results = [
        denoise_frame(f, clean.sampling_angstrom, Searcher(engine=engine, bank=bank))
        for f in (counts, damaged)
    ]
    errors = []
    for result in results:
        assert result.estimate is not None
        truth = bin_sum(2 * clean.image, result.grids) * (
            1 if result.noise.gain == 1 else 1 / result.noise.gain
        )
        errors.append(float(np.sqrt(((result.estimate.image - truth) ** 2).mean())))
    assert results[0].estimate is not None
    assert results[0].estimate.binned.valid is None
    assert any("are left out" in w for w in results[1].warnings)
    assert errors[1] < 1.15 * errors[0]


@pytest.mark.slow
def test_a_stretched_picture_is_said_to_be_one(tmp_path: Path) -> None:
    counts = noisy_frame((450, 460), 0, 3.0).astype(float)
    tifffile.imwrite(tmp_path / "a.tif", np.clip(17 * counts + 8, 0, 255).astype(np.uint8))
    result = gdn(
        "denoise", tmp_path / "a.tif", *FAST, "--no-score", "--sampling", "0.0612", "--json"
    )
    assert result.returncode == 0, result.stderr
    row = json.loads(result.stdout)
    assert any("8-bit values are not counts" in w for w in row["warnings"])


def test_the_last_frame_is_examined_once(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [np.random.default_rng(i).poisson(5.0, (80, 90)).astype(np.float32) for i in (0, 1)]
    frames[1][40, 40] = 500
    asked: list[float] = []

    def counted(frame: np.ndarray) -> Any:
        asked.append(float(frame.max()))
        return find_defects(frame)

    monkeypatch.setattr(examined, "find_defects", counted)
    examine = examined.Examiner()
    first, again, other = examine(frames[0]), examine(frames[0].copy()), examine(frames[1])
    assert len(asked) == 2
    assert first[2] == again[2]
    assert other[0].bad is not None
    assert other[1][40, 40] < 20
    np.testing.assert_array_equal(examine(frames[1])[1], other[1])
    assert (
        examine(frames[1], NoiseModel(kind="gaussian", read_noise=2.0))[2].kind == "gaussian"
    )  # other noise: another question
    assert len(asked) == 3
