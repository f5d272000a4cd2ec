"""The frames of a movie are weighed together (`gdn.pipeline.movie_evidence`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gdn.engines.choose import open_engine
from gdn.frames.resampling import Grids
from gdn.likelihood import POISSON, Array
from gdn.models import find_model
from gdn.pipeline.movie_evidence import TOGETHER, FrameBeside, MovieEvidence
from gdn.search.band_mixture import choose_mixing, measure_evidence
from gdn.search.bank import bank_for
from gdn.search.collaborative import CollaborativeCandidate
from gdn.search.first_part import first_part, others_of_first, tiles_of
from gdn.search.held_out_shares import Choice, choose, measure_gains
from gdn.search.settings import Searcher
from gdn.search.thinning import Recorded, Split
from gdn.search.tiles import Binned
from tests.helpers.movies import counted, crystal, expected

SIDE, PIXEL = 96, 0.4
UNLUCKY = 0.25  # of the held-out noise is that of the first part
NAMES = ("generator", "filter", "restore")


def recorded(image: Array, index: int) -> Recorded:
    grids = Grids(image.shape, image.shape, PIXEL)
    counts = counted(image, 1.0, 5, index)
    return Recorded(electrons=counts, law=POISSON, grids=grids, stream=index)


def faint_parts(index: int) -> tuple[Split, Array]:
    """An empty frame, and the guess that it is empty."""
    parts, _ = recorded(np.full((SIDE, SIDE), 4, np.float32), index).split(0)
    return parts, np.full((SIDE, SIDE), parts.level, np.float32)


def test_noise_that_one_frame_takes_for_signal_is_refused_by_the_others() -> None:
    """By chance a frame's held-out counts may look like its noise (here they are made so)."""
    parts, guess = faint_parts(0)
    chance = parts.second + UNLUCKY * (parts.first / 3 - parts.second)
    unlucky = replace(parts, second=chance.astype(np.float32))
    own = measure_gains(unlucky, guess)
    others = [measure_gains(*faint_parts(index)) for index in range(1, 9)]
    assert own.residual.max() > 3  # MARGIN
    assert (sum(o.residual for o in others) + own.residual)[1:].max() < 0
    assert np.isfinite(choose(unlucky, guess)[0].threshold)
    choice, image, _ = choose(unlucky, guess, others)
    assert choice.threshold == np.inf
    np.testing.assert_array_equal(image, guess)
    assert choice.generator == pytest.approx(own.residual[0])  # its own score


@pytest.mark.slow
def test_what_is_in_all_frames_is_seen_by_all_together() -> None:
    """A residual too weak for one frame to tell."""
    clean = gaussian_filter(np.random.default_rng(1).standard_normal((SIDE, SIDE)), 2)
    image = (4 * (1 + 0.16 * clean / clean.std())).astype(np.float32)
    split = [recorded(image, index).split(0)[0] for index in range(9)]
    cases = [(p, np.full_like(image, p.level)) for p in split]
    alone = [choose(*case)[0] for case in cases]
    gains = [measure_gains(*case) for case in cases]
    together = [choose(*case, gains[:i] + gains[i + 1 :])[0] for i, case in enumerate(cases)]
    assert len({c.threshold for c in together}) == 1  # one sum of gains, one choice
    assert len({(c.threshold, c.width, c.share) for c in alone}) > 1


def test_weights_begin_at_those_of_all_frames() -> None:
    """One candidate is the truth. A frame's few counts cannot tell, those of nine can."""
    clean = gaussian_filter(np.random.default_rng(2).standard_normal((SIDE, SIDE)), 2)
    image = (4 * (1 + 0.1 * clean / clean.std())).astype(np.float32)
    choice, sampling = Choice(threshold=np.inf), (PIXEL, PIXEL)
    cases = []
    for index in range(9):
        parts, _ = recorded(image, index).split(0)
        flat = np.full_like(image, parts.level)
        cases.append((parts, [flat, gaussian_filter(parts.first, 4), 0.75 * image]))
    shares = [choose_mixing(*case, NAMES, choice, sampling).share("restore") for case in cases]
    evidence = [measure_evidence(*case, NAMES, choice, sampling) for case in cases]
    for index, case in enumerate(cases):
        beside = evidence[:index] + evidence[index + 1 :]
        mixing = choose_mixing(*case, NAMES, choice, sampling, beside)
        assert mixing.weights[1:3, 2].min() > 0.9
        shares[index] = mixing.weights[1, 2] - shares[index]
        np.testing.assert_allclose(mixing.weights.sum(1), 1)
        np.testing.assert_array_equal(mixing.prior, [1, 0, 0])
    assert np.mean(shares) > 0.1


def test_the_frames_weighed_together_are_the_nearest() -> None:
    frames = {i: recorded(np.full((8, 8), 4, np.float32), i) for i in range(30) if i != 7}

    def none(index: int) -> Searcher:
        raise AssertionError(f"frame {index} was searched")

    movie = MovieEvidence(searcher=none, recorded=frames.get, count=30)
    assert movie.near(15) == [11, 12, 13, 14, 16, 17, 18, 19]
    assert movie.near(0) == [1, 2, 3, 4, 5, 6, 8]  # 7 cannot be used
    assert movie.near(29) == list(range(21, 29))
    few = replace(movie, count=4)
    assert few.near(2) == [0, 1, 3]
    assert all(len(movie.near(i)) < TOGETHER for i in range(30))


@pytest.mark.slow
def test_each_frame_is_weighed_once() -> None:
    places, asked = crystal(3, 20), list[int]()
    image = 2 * expected(places, SIDE, PIXEL, (0, 0), 0.4)
    frames = [recorded(image, index) for index in range(24)]
    engine = open_engine(find_model("pt-ceo2-64"), threads=1)
    bank = bank_for(engine, 0, 4, use_cache=False)

    class Counting(CollaborativeCandidate):
        def __call__(self, counts: Recorded) -> Array:
            asked.append(counts.stream)
            return np.full((SIDE, SIDE), counts.electrons.mean(), np.float32)

    def searcher(index: int) -> Searcher:
        return Searcher(engine=engine, bank=bank, others=(Counting(),), stream=index)

    movie = MovieEvidence(searcher=searcher, recorded=frames.__getitem__, count=len(frames))
    for index, frame in enumerate(frames):
        beside = FrameBeside(movie, index)
        assert len(beside.gains()) == len(beside.evidence()) == TOGETHER - 1
        made = beside.made(frame)
        assert made is not None
        assert beside.made(made[0].recorded) is None  # the counts of the score: not these
        if index in (0, 13):
            binned = Binned(frame.electrons.astype(np.float32), POISSON, None)
            again = first_part(searcher(index), frame, tiles_of(searcher(index), binned))
            np.testing.assert_array_equal(again.guess, made[0].guess)
            before = len(asked)
            np.testing.assert_array_equal(others_of_first(searcher(index), again), made[1])
            del asked[before:]
    assert sorted(asked) == list(range(len(frames)))
