"""Aligned sums of a movie's frames, as candidates of each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from gdn.frames.resampling import bin_sum
from gdn.likelihood import Array
from gdn.movies import blocks
from gdn.movies.blocks import Block, BlockCandidate, blocks_of
from gdn.movies.frames import MovieFrames, sum_moved
from gdn.search.thinning import Recorded
from tests.helpers.movies import Places, counted, crystal, expected, movie_of

PIXEL, SIDE, DOSE = 0.4, 64, 8.0
STILL = np.zeros((6, 2))


def binned(recorded: Recorded) -> Array:
    """The stub of a denoiser: the counts themselves."""
    return bin_sum(recorded.electrons.astype(np.float32), recorded.grids)


def film(seed: int, count: int = 6, levels: tuple[float, ...] = ()) -> list[Array]:
    image = expected(crystal(seed, 16), SIDE, PIXEL, (0, 0), 0.5)
    each = levels or (1.0,) * count
    return [counted(image, DOSE * level, seed, index) for index, level in enumerate(each)]


def only_block(frames: MovieFrames, shifts: Places) -> Block:
    (block,) = blocks_of(frames, shifts, binned)
    return block


def candidate_for(frames: MovieFrames, shifts: Places, index: int, depth: int = 0) -> Array:
    """The image that a candidate makes of a frame's counts."""
    recorded = frames.recorded(index)
    assert recorded is not None
    for _ in range(depth):
        recorded = recorded.split(frames.seed)[1]
    return BlockCandidate(only_block(frames, shifts), index)(recorded)


@dataclass(frozen=True, kw_only=True)
class Marked(MovieFrames):
    """Electrons held out of frame `marked`, all of them in one pixel, are a thousand more."""

    marked: int

    def recorded(self, index: int, depth: int = 0) -> Recorded | None:
        found = super().recorded(index, depth)
        if found is None or index != self.marked or depth > 0:
            return found
        electrons = found.electrons.astype(np.float32)
        electrons[30, 30] += 1000
        return replace(found, electrons=electrons)


def test_counts_held_out_of_a_frame_never_reach_its_image() -> None:
    frames = movie_of(film(1), PIXEL)
    marked = Marked(
        read=frames.read, count=6, grids=frames.grids, seed=0, noise=frames.noise, marked=2
    )
    clean, dirty = only_block(frames, STILL), only_block(marked, STILL)
    for index in range(6):
        np.testing.assert_array_equal(clean.image(index, 1), dirty.image(index, 1))
        assert dirty.image(index, 0)[30, 30] > clean.image(index, 0)[30, 30] + 100


@pytest.mark.parametrize("index", [0, 3])
def test_the_image_of_what_is_left_is_not_correlated_with_what_is_held_out(index: int) -> None:
    """Of all counts it is: a frame is a sixth of its own block."""
    frames = movie_of(
        [counted(np.ones((SIDE, SIDE), np.float32), DOSE, 2, i) for i in range(6)], 0.4
    )
    recorded = frames.recorded(index)
    assert recorded is not None
    parts, _ = recorded.split(frames.seed)
    block = only_block(frames, STILL)
    independent, dependent = (
        np.corrcoef(block.image(index, depth).ravel(), parts.second.ravel())[0, 1]
        for depth in (1, 0)
    )
    assert abs(independent) < 3.5 / SIDE
    assert dependent > 0.12


def test_every_depth_of_thinning_has_its_own_image() -> None:
    frames = movie_of(film(3), PIXEL)
    block = only_block(frames, STILL)
    means = [block.image(0, depth).mean() for depth in (0, 1, 2)]
    np.testing.assert_allclose(np.array(means) / means[0], [1, 0.75, 0.75**2], rtol=0.02)
    assert block.image(0, 1) is block.image(5, 1)  # made once where nothing changed


def test_a_frames_level_is_respected() -> None:
    frames = movie_of(film(4, levels=(1.0, 0.5, 2.0, 1.0, 1.0, 1.0)), PIXEL)
    for index in range(6):
        recorded = frames.recorded(index)
        assert recorded is not None
        for depth in (0, 1):
            image = candidate_for(frames, STILL, index, depth)
            share = 0.75**depth
            assert image.mean() == pytest.approx(recorded.electrons.mean() * share, rel=0.02)


def test_where_few_frames_reach_nothing_is_known() -> None:
    shifts = np.array([[0.0, x] for x in (0, 0, 0, 0, 5, 10)])  # px
    places = crystal(5, 24)
    stack = [
        counted(expected(places, SIDE, PIXEL, (0, x * PIXEL), 0.5), DOSE, 5, index)
        for index, (_, x) in enumerate(shifts)
    ]
    frames = movie_of(stack, PIXEL)
    block = only_block(frames, shifts)
    assert block.at == 4  # in the middle
    image = block.image(0, 0)
    total = sum_moved(frames, shifts, block.chosen, block.at)
    assert total is not None
    unseen = total.exposure < 3
    assert unseen.any()
    assert np.isnan(image[unseen]).all()
    assert np.isfinite(image[total.exposure > 3]).all()
    away = candidate_for(frames, shifts, 0)
    # Five px to the left of there lies what it sees of its own left edge: all of it.
    assert np.isfinite(away[:, :-6]).all()
    assert np.isnan(away[:, -5:]).all()


def test_the_image_lies_where_its_frame_is() -> None:
    """One bright column, whose place in every frame is known, on a fine grid."""
    pixel, side = 0.12, 150
    path = np.random.default_rng(6).normal(0, 0.5, (8, 2)).cumsum(0)
    column = np.zeros((1, 2))
    stack = [
        counted(expected(column, side, pixel, tuple(at), 4.0), 20.0, 6, index)
        for index, at in enumerate(path)
    ]
    frames = movie_of(stack, pixel, 0.4)
    for index in range(8):
        image = candidate_for(frames, path / pixel, index)
        size = [a / b for a, b in zip(frames.grids.frame_shape, image.shape, strict=True)]
        at = [
            (np.arange(n) + 0.5) * step * pixel - side * pixel / 2
            for n, step in zip(image.shape, size, strict=True)
        ]
        near = np.hypot(at[0][:, None] - path[index, 0], at[1] - path[index, 1]) < 2
        weight = np.where(near, image - np.nanmedian(image), 0)
        centre = [(weight.sum(1) @ at[0]), (weight.sum(0) @ at[1])] / weight.sum()
        np.testing.assert_allclose(centre, path[index], atol=0.05)


def test_frames_before_and_after_a_change_have_their_own_state() -> None:
    """A column that vanishes with frame 5 of 10."""
    places = crystal(7, 16)
    places = places[np.hypot(*places.T) > 1.8]
    here = np.concatenate([places, [[0.0, 0.0]]])
    stack = [
        counted(expected(here if index < 5 else places, SIDE, PIXEL, (0, 0)), DOSE, 7, index)
        for index in range(10)
    ]
    frames, still = movie_of(stack, PIXEL), np.zeros((10, 2))
    block = only_block(frames, still)
    assert block.changes.times == [5]
    middle = slice(SIDE // 2 - 1, SIDE // 2 + 1)
    bright = [candidate_for(frames, still, i)[middle, middle].mean() / DOSE for i in range(10)]
    np.testing.assert_allclose(bright[:5], 1.85, atol=0.25)
    np.testing.assert_allclose(bright[5:], 1.05, atol=0.2)
    for index, same in ((1, range(5)), (8, range(5, 10))):
        apart = block.apart(index)
        assert apart is not None
        assert apart.frames == frozenset(same)
        assert apart.place[middle, middle].min() > 0.9
        assert apart.place[:8, :8].max() == 0
    # Elsewhere the sum of all is used.
    np.testing.assert_array_equal(block.image(0, 0)[:8, :8], block.image(9, 0)[:8, :8])


def test_frames_of_two_things_become_two_blocks() -> None:
    found = blocks_of(movie_of(film(8, 7) + film(9, 7), PIXEL), np.zeros((14, 2)), binned)
    assert [block.chosen for block in found] == [list(range(7)), list(range(7, 14))]
    assert [block.changes.times for block in found] == [[], []]


def test_what_cannot_be_used_and_what_is_far_away_are_in_no_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stack = film(10, 8)
    stack[2] = np.zeros_like(stack[2])  # the beam was blanked
    frames = movie_of(stack, PIXEL)
    assert frames.recorded(2) is None
    (block,) = blocks_of(frames, np.zeros((8, 2)), binned)
    assert block.chosen == [0, 1, 3, 4, 5, 6, 7]
    away = np.zeros((8, 2))
    away[6:] = 0.5 * SIDE
    (block,) = blocks_of(frames, away, binned)  # two frames are too few for another
    assert block.chosen == [0, 1, 3, 4, 5]
    monkeypatch.setattr(blocks, "LONGEST", 4)
    assert [b.chosen for b in blocks_of(frames, np.zeros((8, 2)), binned)] == [
        [0, 1, 3, 4],
        [5, 6, 7],
    ]


def test_a_candidate_says_what_it_sees() -> None:
    candidate = BlockCandidate(only_block(movie_of(film(11), PIXEL), STILL), 2)
    assert candidate.name == "movie"
    assert candidate.identity == "frames 0-5"
