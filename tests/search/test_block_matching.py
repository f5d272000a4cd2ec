"""Where the collaborative filter looks for blocks that are alike."""

from __future__ import annotations

import numpy as np
import pytest

from gdn.likelihood import Array
from gdn.search import block_matching
from gdn.search.block_matching import BLOCK, NEAR, distances, likely_shifts, matches, references


def lattice(shape: tuple[int, int], noise: float, rng: np.random.Generator) -> Array:
    """Columns 9 px apart along a row, 11 px along a column."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    clean = np.cos(2 * np.pi * x / 9) + np.cos(2 * np.pi * y / 11)
    return np.asarray(clean + noise * rng.normal(size=shape), dtype=np.float32)


def test_blocks_are_compared_at_the_lattice_vectors(rng: np.random.Generator) -> None:
    shifts = {tuple(shift) for shift in likely_shifts(lattice((150, 140), 1.0, rng))}
    there = [(11 * i, 9 * j) for i in range(-9, 10) for j in range(-9, 10)]
    assert sum(place in shifts for place in there) > 0.95 * len(there)
    # Half-way between them the lattice is its own opposite.
    between = [(11 * i + 5, 9 * j + 4) for i in range(2, 9) for j in range(2, 9)]
    assert sum(place in shifts for place in between) < 0.05 * len(between)


@pytest.mark.parametrize("shape", [(16, 16), (23, 150), (90, 31)])
def test_shifts_have_their_opposites_and_all_that_are_near(
    shape: tuple[int, int], rng: np.random.Generator
) -> None:
    shifts = likely_shifts(rng.normal(size=shape).astype(np.float32))
    chosen = {tuple(shift) for shift in shifts}
    assert chosen == {(-y, -x) for y, x in chosen}
    assert len(chosen) == len(shifts)
    assert shifts.tolist() == sorted(shifts.tolist())
    assert all(abs(s) <= n - BLOCK for place in chosen for s, n in zip(place, shape, strict=True))
    reach = [min(NEAR, n - BLOCK) for n in shape]
    assert all(
        (y, x) in chosen
        for y in range(-reach[0], reach[0] + 1)
        for x in range(-reach[1], reach[1] + 1)
    )


@pytest.mark.parametrize("shape", [(40, 52), (37, 16), (43, 30)])
def test_distances_are_those_of_the_blocks(
    shape: tuple[int, int], rng: np.random.Generator
) -> None:
    image = rng.normal(size=shape).astype(np.float32)
    top, left = references(shape[0]), references(shape[1])
    shifts = np.array([(-30, 0), (-4, 1), (0, 0), (0, 3), (5, -2), (9, 9)])
    measured = distances(image, top, left, shifts)
    for i, j in ((0, 0), (len(top) - 1, len(left) - 1), (1, len(left) - 1)):
        y, x = top[i], left[j]
        for number, (dy, dx) in enumerate(shifts):
            if (dy, dx) == (0, 0):
                continue
            inside = 0 <= y + dy <= shape[0] - BLOCK and 0 <= x + dx <= shape[1] - BLOCK
            own, other = (
                image[y : y + BLOCK, x : x + BLOCK],
                image[y + dy :, x + dx :][:BLOCK, :BLOCK] if inside else np.inf,
            )
            assert measured[number, i, j] == pytest.approx(
                float(np.square(own - other).mean()), rel=1e-5
            )
    assert (measured[2] == -1).all()


def test_matches_come_first_themselves_and_then_by_likeness(rng: np.random.Generator) -> None:
    image = lattice((96, 88), 0.1, rng)
    (y, x, _), *more = list(matches(image, 20))
    assert not more
    top, left = references(96), references(88)
    assert (y[:, 0] == np.repeat(top, len(left))).all()
    assert (x[:, 0] == np.tile(left, len(top))).all()
    # A block's partners are whole periods away.
    assert np.mean((y[:, 1:] - y[:, :1]) % 11 == 0) > 0.95
    assert np.mean((x[:, 1:] - x[:, :1]) % 9 == 0) > 0.95


def test_strips_change_nothing(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    image = lattice((60, 70), 0.5, rng)
    ((y, x, _),) = matches(image, 12)
    monkeypatch.setattr(block_matching, "STRIP", 40)
    strips = list(matches(image, 12))
    assert len(strips) > 3
    np.testing.assert_array_equal(np.concatenate([strip[0] for strip in strips]), y)
    np.testing.assert_array_equal(np.concatenate([strip[1] for strip in strips]), x)


def test_every_band_has_shifts_of_its_own(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_matching, "BAND", 64)
    monkeypatch.setattr(block_matching, "REACH", 32)
    monkeypatch.setattr(block_matching, "SHIFTS", 60)
    monkeypatch.setattr(block_matching, "NEAR", 1)
    # The lower lattice is weaker, and its rows and columns are exchanged.
    upper, lower = lattice((96, 90), 0.0, rng), 0.2 * lattice((90, 97), 0.0, rng).T
    image = np.concatenate([upper[:, :90], lower[:96, :90]])
    y, x, _ = (np.concatenate(parts) for parts in zip(*matches(image, 4), strict=True))
    assert (y[:, 0] == np.repeat(references(192), len(references(90)))).all()
    inner = y[:, 0] > 160
    assert np.mean((y - y[:, :1])[inner] % 9 == 0) > 0.95
    assert np.mean((x - x[:, :1])[inner] % 11 == 0) > 0.95
