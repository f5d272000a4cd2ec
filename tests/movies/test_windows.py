"""A frame with its neighbours, aligned, as what a filter is given."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from gdn.frames.resampling import bin_sum
from gdn.likelihood import Array
from gdn.movies.frames import MovieFrames
from gdn.movies.windows import Apart, WindowCandidate
from gdn.search.thinning import Recorded
from tests.helpers.movies import Places, counted, crystal, expected, movie_of

PIXEL, SIDE, DOSE = 0.4, 64, 8.0
STILL = np.zeros((7, 2))


@dataclass(frozen=True)
class Counts:
    """The stub of a restorer: the counts themselves."""

    name: str = "counts"
    identity: str = "itself"

    def __call__(self, recorded: Recorded) -> Array:
        return bin_sum(recorded.electrons.astype(np.float32), recorded.grids)


def film(seed: int, levels: tuple[float, ...] = (1.0,) * 7) -> list[Array]:
    image = expected(crystal(seed, 16), SIDE, PIXEL, (0, 0), 0.5)
    return [counted(image, DOSE * level, seed, index) for index, level in enumerate(levels)]


def window(
    frames: MovieFrames, index: int, reach: int = 2, shifts: Places = STILL
) -> WindowCandidate:
    return WindowCandidate(inner=Counts(), frames=frames, shifts=shifts, index=index, reach=reach)


def recorded_of(frames: MovieFrames, index: int) -> Recorded:
    found = frames.recorded(index)
    assert found is not None
    return found


def test_counts_held_out_of_a_frame_never_reach_its_image() -> None:
    """Its own counts are those that are given; of its neighbours all are there."""
    stack = film(1)
    frames = movie_of(stack, PIXEL)
    _, first = recorded_of(frames, 3).split(frames.seed)
    image = window(frames, 3)(first)
    stack[3] = stack[3] + 1000
    np.testing.assert_array_equal(window(movie_of(stack, PIXEL), 3)(first), image)
    stack[3], stack[4] = stack[3] - 1000, stack[4] + 50
    assert np.abs(window(movie_of(stack, PIXEL), 3)(first) - image).max() > 0.1


def test_an_image_is_not_correlated_with_what_is_held_out_of_its_frame() -> None:
    flat = np.ones((SIDE, SIDE), np.float32)
    frames = movie_of([counted(flat, DOSE, 2, index) for index in range(7)], PIXEL)
    recorded = recorded_of(frames, 3)
    parts, first = recorded.split(frames.seed)
    free = np.corrcoef(window(frames, 3)(first).ravel(), parts.second.ravel())[0, 1]
    bound = np.corrcoef(window(frames, 3)(recorded).ravel(), parts.second.ravel())[0, 1]
    assert abs(free) < 3.5 / SIDE
    assert bound > 0.12


@pytest.mark.parametrize("index", [0, 1, 3, 6])
def test_at_the_ends_of_a_movie_there_are_fewer_neighbours(index: int) -> None:
    frames = movie_of(film(3), PIXEL)
    recorded = recorded_of(frames, index)
    near = [i for i in range(index - 2, index + 3) if 0 <= i < 7]
    mean = np.mean([recorded_of(frames, i).electrons for i in near], axis=0)
    image = window(frames, index)(recorded)
    np.testing.assert_allclose(image / image.mean(), mean / mean.mean(), atol=0.01)


def test_an_image_has_the_level_of_its_frame() -> None:
    frames = movie_of(film(4, (1.0, 1.0, 0.5, 3.0, 1.0, 2.0, 1.0)), PIXEL)
    for index in range(7):
        recorded = recorded_of(frames, index)
        image = window(frames, index)(recorded)
        assert image.mean() == pytest.approx(recorded.electrons.mean(), rel=0.02)
        _, first = recorded.split(frames.seed)
        thinned = window(frames, index)(first)
        assert thinned.mean() == pytest.approx(first.electrons.mean(), rel=0.02)


def test_neighbours_are_moved_to_where_the_frame_is() -> None:
    places = crystal(5, 24)
    shifts = np.outer(np.arange(7), [2.0, -3.0])  # px
    stack = [
        counted(expected(places, SIDE, PIXEL, (at[0] * PIXEL, at[1] * PIXEL), 0.5), DOSE, 5, index)
        for index, at in enumerate(shifts)
    ]
    frames = movie_of(stack, PIXEL)
    truth = DOSE * expected(places, SIDE, PIXEL, (6 * PIXEL, -9 * PIXEL), 0.5)
    recorded = recorded_of(frames, 3)
    errors = [
        np.square(image - truth)[10:-10, 10:-10].mean()
        for image in (
            window(frames, 3, shifts=shifts)(recorded),
            window(frames, 3, shifts=STILL)(recorded),
            recorded.electrons,
        )
    ]
    assert errors[0] < 0.25 * errors[2]
    assert errors[0] < errors[1]


def test_without_neighbours_it_is_the_inner_candidates_image() -> None:
    stack = film(6)
    for index in (1, 2, 4, 5):
        stack[index] = np.zeros_like(stack[index])
    frames = movie_of(stack, PIXEL)
    recorded = recorded_of(frames, 3)
    np.testing.assert_array_equal(window(frames, 3)(recorded), Counts()(recorded))
    # So it is where none of them shows any of the same field.
    away = STILL.copy()
    away[3] = 2 * SIDE
    frames = movie_of(film(7), PIXEL)
    recorded = recorded_of(frames, 3)
    np.testing.assert_array_equal(window(frames, 3, shifts=away)(recorded), Counts()(recorded))


def test_a_window_says_how_many_frames_it_sees() -> None:
    many = film(8, (1.0,) * 12)
    candidate = window(movie_of(many, PIXEL), 3, reach=4)
    assert candidate.name == "9 frames"
    # A movie of five frames has no window of nine.
    assert window(movie_of(many[:5], PIXEL), 3, reach=4).name == "5 frames"
    assert candidate.identity == "itself+-4"
    assert replace(candidate, reach=1).identity != candidate.identity


def test_where_something_changed_it_takes_only_frames_that_show_the_same() -> None:
    """A column that is there until frame 3 of 7; the windows of frames 2 and 4 reach over it."""
    places = crystal(9, 16)
    places = places[np.hypot(*places.T) > 1.8]
    here = np.concatenate([places, [[0.0, 0.0]]])
    with_it, without = (expected(each, SIDE, PIXEL, (0, 0)) for each in (here, places))
    stack = [counted(with_it if i < 3 else without, 4 * DOSE, 9, i) for i in range(7)]
    frames, middle = movie_of(stack, PIXEL), slice(SIDE // 2 - 1, SIDE // 2 + 1)
    place = np.zeros((SIDE, SIDE), np.float32)
    place[SIDE // 2 - 3 : SIDE // 2 + 3, SIDE // 2 - 3 : SIDE // 2 + 3] = 1
    for index, same, truth in ((2, range(3), with_it), (4, range(3, 7), without)):
        across, recorded = window(frames, index), recorded_of(frames, index)
        apart = replace(across, apart=Apart(frozenset(same), place))
        level = truth[middle, middle].mean()
        images = [candidate(recorded) / (4 * DOSE) for candidate in (across, apart)]
        error, least = (abs(image[middle, middle].mean() - level) for image in images)
        assert least < 0.1
        assert error > 0.15
        np.testing.assert_array_equal(images[0][:8], images[1][:8])
