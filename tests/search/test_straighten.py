"""What a scan did to rows is taken off; other frames come back as they were."""

from __future__ import annotations

import numpy as np
import pytest
import threadpoolctl
from scipy.ndimage import gaussian_filter

from gdn.frames.noise import parse_noise
from gdn.search.straighten import straighten
from tests.helpers.scans import Image, crystal, displaced, swaying

PIXEL = 0.15  # Å


def off(image: Image, truth: Image) -> float:
    """rms error of detail as coarse as columns."""
    return float(gaussian_filter(image - truth, 1.5).std())


@pytest.fixture(scope="module")
def scanned() -> tuple[Image, Image, Image]:
    """A crystal; its rows displaced and of uneven brightness; and the counts of that."""
    rng = np.random.default_rng(3)
    clean = crystal()
    moved = displaced(clean, swaying(clean, 1.0, rng))
    uneven = np.maximum(moved + rng.normal(0, 0.05 * clean.mean(), (len(clean), 1)), 0)
    return clean, uneven, rng.poisson(uneven).astype(float)


def test_displaced_rows_are_straightened(scanned: tuple[Image, Image, Image]) -> None:
    clean, uneven, counts = scanned
    straight, scan = straighten(counts.astype(np.float32), PIXEL)
    assert scan is not None
    assert 0.6 < scan.displaced_px < 1.3
    assert 0.02 < scan.brightness < 0.08
    noise = off(counts, uneven)
    distorted, left = (off(image, clean) for image in (counts, straight))
    assert left**2 - noise**2 < 0.4 * (distorted**2 - noise**2)
    assert "displaced by" in scan.words
    assert "uneven in brightness" in scan.words


def test_the_noise_of_pixels_stays(scanned: tuple[Image, Image, Image]) -> None:
    """It must stay white: the noise law and held-out counts depend on it."""
    _, _, counts = scanned
    straight, _ = straighten(counts.astype(np.float32), PIXEL)
    before, after = (np.diff(image, 2, axis=1).std() for image in (counts, straight))
    assert after == pytest.approx(before, rel=0.02)


def test_the_columns_of_a_turned_frame(scanned: tuple[Image, Image, Image]) -> None:
    counts = scanned[2].astype(np.float32)
    straight, scan = straighten(counts, PIXEL)
    turned, its = straighten(np.ascontiguousarray(counts.T), PIXEL)
    assert scan is not None
    assert its is not None
    assert its.turned
    assert "the columns of the scan" in its.words
    # Not the same numbers: the noise is estimated along the rows of the frame.
    assert off(turned.T, straight) < 0.15 * off(straight, counts)


def test_units_do_not_matter(scanned: tuple[Image, Image, Image]) -> None:
    """Of inverted contrast, too."""
    counts = scanned[2].astype(np.float32)
    straight, _ = straighten(counts, PIXEL)
    inverted, scan = straighten(np.asarray(1000 - 3 * counts, np.float32), PIXEL)
    assert scan is not None
    assert off((1000 - inverted) / 3, straight.astype(float)) < 0.1 * off(straight, counts)


def test_missing_pixels_stay_missing(scanned: tuple[Image, Image, Image]) -> None:
    counts = scanned[2].astype(np.float32)
    counts[40:60, 50:80] = np.nan
    straight, scan = straighten(counts, PIXEL)
    assert scan is not None
    assert (np.isnan(straight) == np.isnan(counts)).all()


def test_counts_stay_positive_where_the_user_says_counts(
    scanned: tuple[Image, Image, Image],
) -> None:
    counts = scanned[2].astype(np.float32)
    counts[counts < np.quantile(counts, 0.4)] = 0
    straight, scan = straighten(counts, PIXEL, parse_noise("poisson"))
    assert scan is not None
    assert straight.min() == 0


def test_other_frames_come_back_unchanged(rng: np.random.Generator) -> None:
    counts = rng.poisson(crystal()).astype(np.float32)
    flat = np.full((300, 300), 7, np.float32)
    for frame in (counts, flat):
        straight, scan = straighten(frame, PIXEL)
        assert straight is frame
        assert scan is None


def test_the_same_bits_for_any_number_of_blas_threads(scanned: tuple[Image, Image, Image]) -> None:
    counts = scanned[2].astype(np.float32)
    images = []
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads, user_api="blas"):
            images.append(straighten(counts, PIXEL)[0])
    assert np.array_equal(*images)
