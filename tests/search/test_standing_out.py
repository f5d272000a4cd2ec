"""What a filter took away and the counts show is put back; noise is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import laplace

from gdn.likelihood import Array
from gdn.search import standing_out
from gdn.search.standing_out import add_what_stands_out, shape

PIXEL = 0.3  # Å
SIZE = (120, 96)


def noise(seed: int, size: tuple[int, int] = SIZE) -> Array:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def planted(rings: int, width: float, at: tuple[int, int], height: float) -> Array:
    """Nothing but a shape of that height in standard deviations, centred at `at`."""
    values = shape(rings, width / PIXEL)
    r = len(values) // 2
    image = np.zeros((SIZE[0] + 2 * r, SIZE[1] + 2 * r), np.float32)
    image[at[0] : at[0] + 2 * r + 1, at[1] : at[1] + 2 * r + 1] = height * values
    return image[r:-r, r:-r]


@pytest.mark.parametrize("rings", [0, 1, 2])
@pytest.mark.parametrize("width", [0.4, 0.8])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_spot_with_and_without_rings_is_put_back(rings: int, width: float, sign: int) -> None:
    true = planted(rings, width, (50, 40), sign * 10.0)
    image = add_what_stands_out(noise(rings) + true, np.zeros(SIZE, np.float32), None, PIXEL)
    assert (image * true).sum() > 0.75 * (true**2).sum()
    assert ((image - true) ** 2).sum() < 0.3 * (true**2).sum()


def test_noise_alone_stands_out_nowhere() -> None:
    nothing = np.zeros(SIZE, np.float32)
    for seed in range(16):
        for restored in (None, nothing):
            image = add_what_stands_out(noise(seed), nothing, restored, PIXEL)
            assert (image == 0).all()


def test_less_is_enough_where_the_restorer_draws_it_too() -> None:
    true = planted(1, 0.6, (50, 40), 4.6)
    nothing = np.zeros(SIZE, np.float32)
    kept = {
        part: np.mean(
            [
                (add_what_stands_out(noise(s) + true, nothing, part * true, PIXEL) * true).sum()
                for s in range(8)
            ]
        )
        / (true**2).sum()
        for part in (0.0, 0.15, 0.6, -0.6)
    }
    assert kept[0.6] > 0.7
    assert kept[0.0] < 0.6 * kept[0.6]
    assert kept[-0.6] < 0.6 * kept[0.6]
    assert kept[0.15] < 0.6 * kept[0.6]  # as much it draws wherever the filter's image is wrong


def test_what_only_the_restorer_draws_is_not_put_in() -> None:
    nothing = np.zeros(SIZE, np.float32)
    drawn = planted(0, 0.6, (50, 40), 8.0)
    assert (add_what_stands_out(noise(3), nothing, drawn, PIXEL) == 0).all()


def test_two_neighbours_are_both_put_back() -> None:
    """The second shows once the first is drawn."""
    true = planted(0, 0.6, (50, 40), 12.0) + planted(0, 0.6, (50, 46), 12.0)
    image = add_what_stands_out(noise(5) + true, np.zeros(SIZE, np.float32), None, PIXEL)
    for column in (40, 46):
        assert image[50, column] == pytest.approx(true[50, column], rel=0.35)


def test_a_spot_at_the_edge_is_put_back_in_part() -> None:
    true = planted(0, 0.6, (0, 40), 14.0)
    image = add_what_stands_out(noise(6) + true, np.zeros(SIZE, np.float32), None, PIXEL)
    assert ((image - true) ** 2).sum() < 0.3 * (true**2).sum()


def test_noise_stands_out_at_an_edge_no_more_than_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(standing_out, "OUTLYING", 3.4)
    of_rows = np.zeros(40)
    for seed in range(30):
        values = noise(seed, (40, 160))
        of_rows += (add_what_stands_out(values, np.zeros_like(values), None, PIXEL) ** 2).mean(1)
    edges, middle = of_rows[[0, 1, -2, -1]].mean(), of_rows[10:-10].mean()
    assert middle > 0
    assert edges < 2 * middle


def test_shapes_are_laplacians_of_a_gaussian() -> None:
    width = 8.0
    gaussian = shape(0, width).astype(np.float64)
    for rings in (1, 2):
        gaussian = -laplace(gaussian)
        values = shape(rings, width)
        assert (values**2).sum() == pytest.approx(1, abs=1e-5)
        agreement = (gaussian * values).sum() / np.sqrt((gaussian**2).sum())
        assert agreement == pytest.approx(1, abs=2e-3)


def test_an_image_smaller_than_the_shapes_is_taken() -> None:
    small = noise(1, (9, 14))
    assert (add_what_stands_out(small, np.zeros_like(small), small, 0.1) == 0).all()
