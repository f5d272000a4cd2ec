"""What a network learns from, and by what it is told whether it gains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gdn.adaptation.lessons import (
    KEPT,
    Lesson,
    evenly,
    held_out_nats,
    lesson_of,
)
from gdn.frames.coarse_noise import coarse_noise
from gdn.frames.noise import parse_noise
from gdn.frames.resampling import grids_for
from gdn.likelihood import POISSON, NoiseLaw
from gdn.movies.frames import MovieFrames
from gdn.search.restored import bin_by, binning
from gdn.search.thinning import split, thin
from tests.helpers.frames import noisy_frame

pytest.importorskip("torch", reason="needs the adapt extra (torch)")


def test_the_quarter_that_judges_is_never_learned_from() -> None:
    frame = noisy_frame((120, 150), 3, dose=5).astype(np.float32)
    lesson = lesson_of(frame, 0.1, 0.35, parse_noise("poisson"), seed=7)
    parts = split(frame, POISSON, 7)
    np.testing.assert_array_equal(
        lesson.counts + lesson.kept, bin_by(parts.first, binning(0.1, 0.35))
    )
    assert lesson.counts.sum() == pytest.approx((1 - KEPT) * 0.75 * frame.sum(), rel=0.02)
    assert lesson.share == pytest.approx((1 - KEPT) * 0.75)
    assert lesson.share + lesson.kept_share == pytest.approx(parts.share)


def test_of_a_movie_the_counts_held_out_of_a_frame_are_never_learned_from() -> None:
    stack = [noisy_frame((120, 150), n, dose=5).astype(np.float32) for n in range(3)]
    grids = grids_for((120, 150), 0.1, 0.4)
    frames = MovieFrames(
        read=lambda index: stack[index], count=3, grids=grids, seed=7, noise=parse_noise("poisson")
    )
    for index in range(3):
        lesson = lesson_of(stack[index], 0.1, 0.1, parse_noise("poisson"), 7, index)
        weighed_by = frames.recorded(index, depth=1)
        assert weighed_by is not None
        np.testing.assert_array_equal(lesson.counts + lesson.kept, weighed_by.electrons)


@pytest.mark.parametrize("law", [POISSON, NoiseLaw(1.0, 4.0), NoiseLaw(0.0, 9.0)])
def test_a_part_is_independent_of_the_rest(law: NoiseLaw, rng: np.random.Generator) -> None:
    mean = np.full((300, 300), 40.0, np.float32)
    counts = rng.poisson(mean).astype(np.float32)
    if law != POISSON:
        noise = law.deviation(40.0) * rng.standard_normal(mean.shape)
        counts = (mean + noise).astype(np.float32)
    first = thin(counts, law, 0.3, rng)
    rest = counts - first
    assert first.mean() == pytest.approx(12, rel=0.01)
    assert first.var() == pytest.approx(law.of_part(0.3).variance(12.0), rel=0.03)
    assert abs(np.corrcoef(first.ravel(), rest.ravel())[0, 1]) < 0.015


def test_the_truth_gains_and_noise_does_not(rng: np.random.Generator) -> None:
    y, x = np.mgrid[:96, :96]
    truth = (20 * (1 + 0.3 * np.cos(y / 2) * np.cos(x / 2))).astype(np.float32)
    kept = rng.poisson(0.1 * truth).astype(np.float32)
    lesson = Lesson(
        counts=rng.poisson(0.6 * truth).astype(np.float32),
        share=0.6,
        law=POISSON,
        kept=kept,
        kept_share=0.1,
        kept_law=POISSON,
    )
    flat = np.full_like(truth, truth.mean())
    assert held_out_nats([lesson], [truth], [flat]) > 100
    noisy = truth + rng.standard_normal(truth.shape).astype(np.float32) * 3
    assert held_out_nats([lesson], [noisy], [truth]) < -50
    assert held_out_nats([lesson], [flat], [flat]) == 0


def test_networks_of_any_pixel_size_have_the_same_counts_kept_from_them() -> None:
    frame = noisy_frame((120, 120), 3, dose=5).astype(np.float32)
    fine, coarse = (lesson_of(frame, 0.1, size, parse_noise("poisson"), 7) for size in (0.2, 0.4))
    np.testing.assert_array_equal(bin_by(fine.kept, 2), coarse.kept)
    np.testing.assert_array_equal(bin_by(fine.counts, 2), coarse.counts)


def test_coarse_noise_that_is_not_that_of_a_pixel_is_seen(rng: np.random.Generator) -> None:
    white = rng.poisson(3, (300, 300)).astype(np.float32)
    assert coarse_noise(white, POISSON, 0.05) == 1
    assert coarse_noise(white[:20, :20], POISSON, 0.05) == 1  # too few to tell
    assert coarse_noise(white, POISSON, 0.4) == 1  # no band without signal
    # Electrons that come close together are missed: neighbours are anticorrelated.
    around = sum(np.roll(white - 3, move, (0, 1)) for move in ((0, 1), (1, 0), (0, -1), (-1, 0)))
    missed = (white - 0.03 * around).astype(np.float32)
    expected = (1 - 0.12) ** 2
    assert coarse_noise(missed, POISSON, 0.05) == pytest.approx(expected, rel=0.05)


def test_what_is_learned_is_divided_by_the_noise_of_sums(rng: np.random.Generator) -> None:
    white = rng.poisson(3, (400, 400)).astype(np.float32)
    around = sum(np.roll(white - 3, move, (0, 1)) for move in ((0, 1), (1, 0), (0, -1), (-1, 0)))
    lesson = lesson_of(white - 0.03 * around, 0.05, 0.2, None, 0)
    first, rest, _ = lesson.pair((slice(0, 100), slice(0, 100)), rng)
    assert lesson.law != POISSON
    assert abs(np.corrcoef(first.ravel(), rest.ravel())[0, 1]) < 0.04


def test_noise_that_was_spread_teaches_too(rng: np.random.Generator) -> None:
    counts = gaussian_filter(rng.poisson(2.0, (600, 600)).astype(np.float32), 1.0)
    lesson = lesson_of(counts, 0.07, 0.2, None, 0)
    first, rest, _ = lesson.pair((slice(0, 200), slice(0, 200)), rng)
    assert abs(np.corrcoef(first.ravel(), rest.ravel())[0, 1]) < 0.1
    kept = (lesson.kept / lesson.kept_share - lesson.kept.mean() / lesson.kept_share).ravel()
    learned = (lesson.counts - lesson.counts.mean()).ravel()
    assert abs(np.corrcoef(kept, learned)[0, 1]) < 0.05


def test_frames_are_taken_evenly() -> None:
    assert evenly(5, 64) == [0, 1, 2, 3, 4]
    chosen = evenly(2000, 64)
    assert (len(chosen), chosen[0], chosen[-1]) == (64, 0, 1999)


def test_left_out_pixels_are_no_lesson(tmp_path: Path) -> None:
    frame = noisy_frame((120, 120), 1, dose=5).astype(np.float32)
    frame[40:80, 40:80] = np.nan
    lesson = lesson_of(frame, 0.1, 0.35, parse_noise("poisson"), 0)
    assert lesson.valid is not None
    assert lesson.valid[14:26, 14:26].max() == 0
    assert lesson.valid[:8].min() == 1
