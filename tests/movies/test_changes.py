"""Changes in time: found where and when they are, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from gdn.likelihood import POISSON, Array
from gdn.movies.changes import SAME_TIME, Changes, find_changes
from tests.helpers.movies import counted, crystal, expected

PIXEL, SIDE, FRAMES, DOSE = 0.4, 64, 14, 8.0
GONE = (2.1, -3.3)  # Å from the middle


def film(seed: int, *until: tuple[tuple[float, float], int], frames: int = FRAMES) -> Array:
    """Counts (frames, SIDE, SIDE) of a crystal; each place of `until` holds a column up to a
    frame."""
    places = crystal(seed, SIDE * PIXEL / 2 + 3)
    for place, _ in until:
        places = places[np.hypot(*(places - place).T) > 1.8]
    stack = []
    for index in range(frames):
        extra = [place for place, last in until if index < last]
        shown = np.concatenate([places, np.array(extra).reshape(-1, 2)])
        stack.append(counted(expected(shown, SIDE, PIXEL, (0, 0), 0.8), DOSE, seed, index))
    return np.stack(stack)


def pixel_of(place: tuple[float, float]) -> tuple[int, int]:
    rows, columns = np.rint(np.array(place) / PIXEL + (SIDE - 1) / 2).astype(int)
    return int(rows), int(columns)


@pytest.mark.parametrize("seed", range(12))
def test_noise_alone_is_no_change(seed: int) -> None:
    stack = film(seed)
    changes = find_changes(stack, np.ones_like(stack), POISSON, PIXEL)
    assert changes.times == []
    assert not changes.too_many
    assert not changes.place.any()
    assert changes.segment(3) == (0, FRAMES)


@pytest.mark.parametrize("seed", range(3))
def test_a_column_that_vanishes_is_found_in_its_place_and_frame(seed: int) -> None:
    stack = film(seed, (GONE, 6))
    changes = find_changes(stack, np.ones_like(stack), POISSON, PIXEL)
    assert len(changes.times) == 1
    assert abs(changes.times[0] - 6) <= SAME_TIME
    assert changes.place[pixel_of(GONE)] == 1
    away = np.hypot(*(np.indices((SIDE, SIDE)) - np.reshape(pixel_of(GONE), (2, 1, 1)))) * PIXEL
    assert not changes.place[away > 5].any()
    assert 0 < changes.place.mean() < 0.15


def test_two_changes_have_two_times() -> None:
    stack = film(11, (GONE, 4), ((-6.0, 5.0), 10))
    changes = find_changes(stack, np.ones_like(stack), POISSON, PIXEL)
    assert len(changes.times) == 2
    assert np.abs(np.array(changes.times) - [4, 10]).max() <= SAME_TIME
    assert changes.place[pixel_of((-6.0, 5.0))] == 1


def test_the_beam_current_is_no_change() -> None:
    stack = film(12)
    levels = np.where(np.arange(FRAMES) < 6, 1.0, 1.4)
    brighter = np.random.default_rng(12).poisson(levels[:, None, None] * stack.mean(0))
    changes = find_changes(brighter.astype(np.float32), np.ones_like(stack), POISSON, PIXEL)
    assert changes.times == []


def test_frames_that_do_not_see_a_place_say_nothing_of_it() -> None:
    """Beyond the edge of a frame that drifted there are no counts: that is no column less."""
    stack = film(14)
    seen = np.ones_like(stack)
    seen[8:, :, -15:] = 0
    stack[8:, :, -15:] = 0
    changes = find_changes(stack, seen, POISSON, PIXEL)
    assert changes.times == []
    # A change that is seen beside it is one still.
    stack = film(14, (GONE, 6))
    stack[8:, :, -15:] = 0
    changes = find_changes(stack, seen, POISSON, PIXEL)
    assert len(changes.times) == 1
    assert changes.place[pixel_of(GONE)] == 1


def test_frames_of_different_things_are_no_block() -> None:
    halves = [film(17, frames=7), film(18, frames=7)]
    stack = np.concatenate(halves)
    assert find_changes(stack, np.ones_like(stack), POISSON, PIXEL).too_many


def test_a_change_a_frame_is_too_many() -> None:
    ends = [(float(y), float(x)) for y in (-9, -3, 3, 9) for x in (-9, 9)]
    stack = film(16, *((place, 2 + 3 * (i % 4)) for i, place in enumerate(ends)))
    assert find_changes(stack, np.ones_like(stack), POISSON, PIXEL).too_many


def test_a_segment_lies_between_two_changes() -> None:
    changes = Changes(10, [3, 7], np.zeros((2, 2), np.float32))
    assert [changes.segment(i) for i in (0, 2, 3, 6, 7, 9)] == [
        (0, 3),
        (0, 3),
        (3, 7),
        (3, 7),
        (7, 10),
        (7, 10),
    ]
