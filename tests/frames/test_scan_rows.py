"""Rows that a scan displaced, or made brighter, are seen; rows of other frames are left alone."""

from __future__ import annotations

import numpy as np

from gdn.frames.scan_rows import Prediction, find_scan
from tests.helpers.scans import crystal, displaced, swaying


def test_a_prediction_is_exact_for_a_cubic(rng: np.random.Generator) -> None:
    """Else the curvature of a specimen would be taken for what a scan did."""
    y = np.arange(120.0)[:, None] / 40
    rows = (1 + y - 2 * y**2 + 0.5 * y**3) * np.ones((1, 40))
    predicted = Prediction(2.2)(rows)
    assert np.abs(predicted - rows)[40:-40].max() < 1e-9


def test_a_prediction_does_not_see_its_own_row(rng: np.random.Generator) -> None:
    frame = rng.standard_normal((60, 40))
    before = Prediction(1.5)(frame)[30]
    frame[30] += 100
    assert np.allclose(Prediction(1.5)(frame)[30], before)


def test_displaced_rows_are_seen(rng: np.random.Generator) -> None:
    clean = crystal()
    counts = rng.poisson(displaced(clean, swaying(clean, 1.0, rng))).astype(np.float32)
    seen = find_scan(counts, float(counts.mean()))
    assert seen is not None
    assert not seen.turned
    assert seen.variance > 0.5
    turned = find_scan(np.ascontiguousarray(counts.T), float(counts.mean()))
    assert turned is not None
    assert turned.turned


def test_offsets_of_rows_are_seen(rng: np.random.Generator) -> None:
    clean = crystal()
    offsets = rng.normal(0, 0.08 * clean.mean(), (len(clean), 1))
    counts = (rng.poisson(clean) + offsets).astype(np.float32)
    seen = find_scan(counts, float(counts.mean()))
    assert seen is not None
    assert (seen.variance, seen.turned) == (0.0, False)


def test_frames_of_no_scan_are_left_alone() -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        mean = 10.0 ** rng.uniform(-0.5, 2.5)
        counts = rng.poisson(crystal(mean=mean)).astype(np.float32)
        assert find_scan(counts, float(counts.mean())) is None


def test_noise_that_is_alike_along_rows_is_no_displacement(rng: np.random.Generator) -> None:
    """A slow detector spreads the noise along the fast axis of a scan."""
    counts = rng.poisson(crystal()).astype(float)
    spread = (counts + np.roll(counts, 1, 1) + np.roll(counts, 2, 1)) / 3
    seen = find_scan(spread.astype(np.float32), float(counts.mean()) / 3)
    assert seen is None or seen.variance == 0.0


def test_too_few_rows_are_left_alone(rng: np.random.Generator) -> None:
    clean = crystal(100, 300)
    counts = rng.poisson(displaced(clean, swaying(clean, 1.5, rng))).astype(np.float32)
    assert find_scan(counts, float(counts.mean())) is None
