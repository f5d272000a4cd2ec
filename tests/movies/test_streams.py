"""Counts of different frames of a movie are thinned by different draws."""

from __future__ import annotations

import numpy as np
import pytest

from gdn.frames.resampling import Grids
from gdn.likelihood import POISSON, NoiseLaw
from gdn.search.thinning import HELD_OUT, Recorded, split
from tests.helpers.movies import counted, movie_of

SIDE = 100
FLAT = np.ones((SIDE, SIDE), np.float32)


@pytest.mark.parametrize("depth", [0, 2])
def test_a_frame_alone_is_thinned_as_it_ever_was(depth: int) -> None:
    counts = counted(FLAT, 5.0, 1)
    parts = split(counts, POISSON, 7, depth)
    rng = np.random.default_rng([7, 0x7E1D, *([depth] if depth else [])])
    drawn = rng.binomial(counts.astype(np.int64), 1 - HELD_OUT)
    np.testing.assert_array_equal(parts.first, drawn)
    np.testing.assert_array_equal(split(counts, POISSON, 7, depth, stream=0).first, drawn)


@pytest.mark.parametrize("law", [POISSON, NoiseLaw(0.0, 4.0)], ids=["poisson", "gaussian"])
def test_streams_are_not_correlated(law: NoiseLaw) -> None:
    """The same counts in two frames, the worst case: what is held out of them is as independent as
    their draws."""
    counts = counted(FLAT, 5.0, 2)
    first, second = (split(counts, law, 0, stream=stream).second for stream in (1, 2))
    again = split(counts, law, 0, stream=1).second
    np.testing.assert_array_equal(first, again)
    mean = HELD_OUT * counts
    apart = np.corrcoef((first - mean).ravel(), (second - mean).ravel())[0, 1]
    assert abs(apart) < 4 / SIDE


def test_depths_of_one_stream_are_not_those_of_another() -> None:
    """Numbers of depth and stream stand at different places."""
    counts = counted(FLAT, 5.0, 3)
    drawn = [
        split(counts, POISSON, 0, depth, stream).first.tobytes()
        for depth in range(3)
        for stream in range(3)
    ]
    assert len(set(drawn)) == 9


def test_a_movies_frames_have_streams_of_their_own() -> None:
    frames = movie_of([counted(FLAT, 5.0, 4)] * 3, 0.4)
    thinned = []
    for index in range(3):
        recorded = frames.recorded(index)
        assert recorded is not None
        assert recorded.stream == index
        thinned.append(recorded.split(0)[1])
        left = frames.recorded(index, depth=1)
        assert left is not None
        np.testing.assert_array_equal(left.electrons, thinned[-1].electrons)
    assert not np.array_equal(thinned[0].electrons, thinned[1].electrons)


def test_bad_pixels_of_different_frames_are_filled_by_different_draws() -> None:
    bad = np.zeros((SIDE, SIDE), bool)
    bad[:20] = True
    counts, grids = counted(FLAT, 5.0, 5), Grids((SIDE, SIDE), (SIDE, SIDE), 0.4)
    filled = [
        Recorded(electrons=counts, law=POISSON, grids=grids, bad=bad, stream=stream)
        .refill(5 * FLAT)
        .electrons
        for stream in (0, 1, 2)
    ]
    assert not np.array_equal(filled[0], filled[1])
    assert not np.array_equal(filled[1], filled[2])
    np.testing.assert_array_equal(filled[1][20:], counts[20:])
