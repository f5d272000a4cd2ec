"""Groups of like blocks, and how many blocks each has."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from gdn.likelihood import Array
from gdn.search import block_matching
from gdn.search.block_groups import expected_errors, filter_groups, groups_by_size
from gdn.search.block_matching import BLOCK, matches

SIZES = (64, 128, 256)


def haar(length: int) -> Array:
    """The orthonormal Haar transform, as a matrix."""
    matrix = np.ones((1, 1))
    while len(matrix) < length:
        coarse = np.kron(matrix, [1, 1])
        matrix = np.vstack([coarse, np.kron(np.eye(len(matrix)), [1, -1])]) / np.sqrt(2)
    return matrix.astype(np.float32)


def test_expected_errors_are_those_of_each_size_transformed_alone() -> None:
    blocks = np.random.default_rng(0).normal(size=(3, 256, BLOCK**2)).astype(np.float32)
    cosines = np.array(
        [
            [np.cos(np.pi * (x + 0.5) * k / BLOCK) * np.sqrt((2 - (k == 0)) / BLOCK)]
            for k in range(BLOCK)
            for x in range(BLOCK)
        ]
    ).reshape(BLOCK, BLOCK)
    inside = np.kron(cosines, cosines)
    errors = expected_errors(blocks, SIZES)
    for size, column in zip(SIZES, errors.T, strict=True):
        power = (haar(size) @ (blocks[:, :size] @ inside.T)) ** 2
        np.testing.assert_allclose(column, (power / (power + 1)).sum((1, 2)) / size, rtol=1e-4)


def test_the_more_blocks_are_alike_the_less_error_is_expected() -> None:
    alike = np.tile(np.random.default_rng(1).normal(size=BLOCK**2), (1, 256, 1)).astype(np.float32)
    errors = expected_errors(alike, SIZES)[0]
    for fewer, more in pairwise(errors):
        assert more == pytest.approx(fewer / 2, rel=0.1)
    others = alike.copy()
    others[:, 64:] = 3 * np.random.default_rng(2).normal(size=(1, 192, BLOCK**2))
    assert expected_errors(others, SIZES)[0].argmin() == 0


@pytest.fixture(scope="module")
def lattice() -> Array:
    """Columns 6 px apart, (160, 160)."""
    y, x = np.mgrid[:160, :160].astype(np.float32)
    return np.asarray(np.cos(2 * np.pi * x / 6) * np.cos(2 * np.pi * y / 6), dtype=np.float32)


def group_sizes(image: Array) -> list[int]:
    """The size of each reference block's group."""
    within = (np.arange(BLOCK)[:, None] * image.shape[1] + np.arange(BLOCK)).ravel()
    return [
        groups.shape[1]
        for y, x, there in matches(image, SIZES[-1])
        for groups in groups_by_size(image.ravel(), y * image.shape[1] + x, there, within, SIZES)
        for _ in groups
    ]


def test_groups_are_large_where_the_image_repeats(lattice: Array) -> None:
    repeating = group_sizes(lattice)
    assert len(repeating) == 39**2  # one for each reference block
    assert np.median(repeating) > SIZES[0]


def test_a_weak_lattice_gains_by_large_groups(lattice: Array) -> None:
    weak = np.float32(0.3) * lattice
    noisy = weak + np.random.default_rng(4).normal(size=weak.shape).astype(np.float32)
    few, chosen = (
        np.square(filter_groups(noisy, weak, sizes, wiener=True) - weak).mean()
        for sizes in (SIZES[:1], SIZES)
    )
    assert chosen < 0.85 * few


def test_a_group_has_no_more_blocks_than_are_in_reach(
    lattice: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_matching, "SHIFTS", 300)
    monkeypatch.setattr(block_matching, "NEAR", 1)
    image = np.ascontiguousarray(lattice[:60, :60])
    ((y, x, there),) = matches(image, SIZES[-1])
    assert there.min() < SIZES[1] < there.max()
    within = (np.arange(BLOCK)[:, None] * 60 + np.arange(BLOCK)).ravel()
    groups = list(groups_by_size(image.ravel(), y * 60 + x, there, within, SIZES))
    assert sum(map(len, groups)) == len(y)
    for group in groups:
        for blocks in group:
            assert len(set(blocks.tolist())) == len(blocks)  # none twice to make up the number
