"""Drift between the frames of a movie, found again."""

from __future__ import annotations

import numpy as np
import pytest

from gdn.likelihood import Array
from gdn.movies import drift
from gdn.movies.drift import add_moved, estimate_drift
from gdn.movies.shift import Shifts, shift_between
from tests.helpers.movies import counted, crystal, expected, smoothed

PIXEL, SIDE, DOSE = 0.12, 200, 5.0  # Å, px, electrons per pixel
PRECISE = 0.04  # Å: a tenth of the generator's pixel


def filmed(path: Shifts, seed: int, side: int = SIDE, pixel: float = PIXEL) -> list[Array]:
    """Frames of one crystal at the places of a `path`, Å."""
    places = crystal(seed, side * pixel / 2 + float(np.abs(path).max()) + 3)
    return [
        counted(expected(places, side, pixel, tuple(at)), DOSE, seed, index)
        for index, at in enumerate(path)
    ]


def found_in(stack: list[Array | None], pixel: float = PIXEL) -> Shifts:
    return estimate_drift(
        stack.__getitem__, len(stack), pixel, max(1, round(0.35 / pixel)), smoothed
    )


def errors(found: Shifts, path: Shifts) -> Shifts:
    """Å; only where frames are against each other can be known."""
    wrong = found - path
    return np.asarray(wrong - wrong.mean(0))


def walk(seed: int, rms: float, frames: int = 12) -> Shifts:
    steps = np.random.default_rng([seed, 0xD]).normal(0, rms / np.sqrt(2), (frames, 2))
    return np.asarray(np.clip(steps.cumsum(0), -8, 8))


PATHS = {
    "still": np.zeros((8, 2)),
    "slow": np.outer(np.arange(12), [0.1, -0.05]),
    "walk": walk(0, 1.0),
    "wide walk": walk(1, 3.0),
    "jumps": np.repeat([[0.0, 0.0], [3.0, -2.0], [-1.0, 1.0]], 4, axis=0),
    "line of 3 Å a frame": np.outer(np.arange(8), [2.1, 2.1]),
}


@pytest.mark.parametrize("name", PATHS)
def test_a_path_is_found_to_a_tenth_of_the_generators_pixel(name: str) -> None:
    path = PATHS[name]
    wrong = errors(found_in([*filmed(path, 1)]), path)
    assert np.sqrt(np.square(wrong).mean()) < PRECISE
    assert np.abs(wrong).max() < 3 * PRECISE


def test_a_specimen_that_moves_to_higher_rows_has_a_positive_drift_there() -> None:
    path = np.outer(np.arange(4), [1.0, -0.5])
    found = found_in([*filmed(path, 2)])
    np.testing.assert_array_equal(found[0], 0)
    np.testing.assert_allclose(found[3], [3.0, -1.5], atol=2.5 * PRECISE)


def test_two_frames_are_enough() -> None:
    path = np.array([[0.0, 0.0], [1.3, -2.2]])
    np.testing.assert_allclose(found_in([*filmed(path, 3)]), path, atol=2.5 * PRECISE)


def test_frames_that_cannot_be_used_do_not_disturb_the_others() -> None:
    path = walk(4, 0.5, 10)
    stack: list[Array | None] = [*filmed(path, 4)]
    stack[0] = stack[4] = stack[5] = None
    found = found_in(stack)
    used = [index for index, frame in enumerate(stack) if frame is not None]
    assert np.abs(errors(found[used], path[used])).max() < 3 * PRECISE
    assert np.isfinite(found).all()
    # What cannot be used is taken to be where its neighbour is, one step away.
    assert np.abs(found[4] - found[3]).max() < 1.0


def test_a_stack_without_a_frame_that_can_be_used_does_not_move() -> None:
    np.testing.assert_array_equal(found_in([None, None, None]), np.zeros((3, 2)))


def test_pieces_of_a_long_movie_are_tied_to_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    path = walk(5, 0.6, 20)
    stack: list[Array | None] = [*filmed(path, 5)]
    held = []

    def read(index: int) -> Array | None:
        held.append(index)
        return stack[index]

    monkeypatch.setattr(drift, "PIECE", 8)
    monkeypatch.setattr(drift, "BEFORE", 5)
    found = estimate_drift(read, len(stack), PIXEL, 3, smoothed)
    assert held == list(range(20))  # each is read once
    assert np.sqrt(np.square(errors(found, path)).mean()) < 1.5 * PRECISE


def test_a_movie_may_leave_its_first_field_altogether() -> None:
    """Frames too far from the middle of all keep the place that those before them gave them."""
    side, pixel = 120, 0.2  # 24 Å
    path = np.outer(np.arange(28), [1.5, 1.0])
    wrong = errors(found_in([*filmed(path, 6, side, pixel)], pixel), path)
    assert np.abs(wrong).max() < 0.5


@pytest.mark.parametrize("level", [0.5, 3.0])
def test_the_level_of_a_frame_does_not_matter(level: float) -> None:
    path = walk(7, 0.5, 6)
    places = crystal(7, 16)
    stack: list[Array | None] = [
        counted(expected(places, SIDE, PIXEL, tuple(at)), DOSE * (level if i == 3 else 1), 7, i)
        for i, at in enumerate(path)
    ]
    assert np.abs(errors(found_in(stack), path)).max() < 3 * PRECISE


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.4, -0.3), (2.25, 3.5), (-7.6, 0.1)])
def test_shifts_are_found_between_pixels(shift: tuple[float, float]) -> None:
    """Without noise, to a sixteenth of a pixel, which is the last step."""
    pixel = 0.4
    places = crystal(8, 40)
    still = expected(places, 120, pixel, (0, 0))
    moved = expected(places, 120, pixel, (shift[0] * pixel, shift[1] * pixel))
    found = shift_between(moved, still - still.mean(), pixel)
    np.testing.assert_allclose(found, shift, atol=0.05)


def test_where_counts_say_little_a_small_step_is_expected() -> None:
    """A lattice without an edge: a shift by its spacing is as likely by the counts alone."""
    pixel, spacing = 0.4, 6  # px
    rows, columns = np.indices((96, 96))
    lattice = 1 + 0.3 * np.cos(2 * np.pi * rows / spacing) * np.cos(2 * np.pi * columns / spacing)
    frame = counted(lattice.astype(np.float32), 1.0, 9)
    reference = (lattice - lattice.mean()).astype(np.float32)
    assert np.abs(shift_between(frame, reference, pixel)).max() < spacing / 2


def test_moved_frames_are_added_where_they_lie() -> None:
    frame = np.zeros((6, 8), np.float32)
    frame[4, 1] = 1
    total, exposure = np.zeros_like(frame), np.zeros_like(frame)
    add_moved(total, exposure, frame, np.array([1.2, -2.4]))
    assert total[3, 3] == 1
    assert total.sum() == 1
    assert exposure.sum() == 5 * 6
    assert not exposure[5].any()
    assert not exposure[:, :2].any()
    add_moved(total, exposure, frame, np.array([20.0, 0.0]))  # beyond the field
    assert exposure.sum() == 5 * 6


@pytest.mark.parametrize("step", [3.0, -3.0, 3.4])
def test_a_lattice_that_moves_through_the_field_is_known_by_its_edge(step: float) -> None:
    """A crystal fills the field but for a strip. As it moves, a row of columns enters or leaves.
    One spacing less than the true step matches as many columns, but not its edge."""
    pixel, side, spacing = 0.35, 90, 2.4
    along = np.arange(-30.0, 30.0, spacing)
    rows, columns = (grid.ravel() for grid in np.meshgrid(along, along, indexing="ij"))
    places = np.stack([rows, columns], -1)[rows < 8]
    still = expected(places, side, pixel, (0, 0), 0.5)
    moved = expected(places, side, pixel, (step, 0), 0.5)
    for seed in range(4):
        shift = shift_between(counted(moved, 8, seed), still / still.mean() - 1, pixel)
        np.testing.assert_allclose(shift * pixel, [step, 0], atol=0.15)


def test_a_reference_without_truth_moves_nothing() -> None:
    """Of another crystal, and of few electrons: chance alone would move it."""
    image = expected(crystal(1, 16), 90, 0.35, (0, 0), 0.1)
    wrong = expected(crystal(2, 16), 90, 0.35, (0, 0), 0.1)
    for seed in range(4):
        shift = shift_between(counted(image, 0.5, seed), wrong / wrong.mean() - 1, 0.35)
        assert np.abs(shift).max() <= 2
