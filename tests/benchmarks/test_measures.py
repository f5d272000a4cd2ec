"""What the benchmarks measure with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.helpers.needs import needs_training

pytestmark = needs_training


def test_generators_of_a_kind_are_alike_and_noise_is_not() -> None:
    from distribution import likeness

    rng = np.random.default_rng(0)
    y, x = np.indices((32, 32))

    def lattices(n: int) -> np.ndarray:
        k, phase = rng.uniform(0.3, 0.6, (n, 1, 1)), rng.uniform(0, 6, (2, n, 1, 1))
        return (1 + 0.2 * np.cos(k * x + phase[0]) * np.cos(k * y + phase[1])).astype(np.float32)

    data = lattices(80)
    same = likeness(lattices(80), data)
    assert same.precision > 0.7
    assert same.recall > 0.7
    few = likeness(
        np.repeat(data[:2], 40, 0) + rng.normal(0, 1e-4, (80, 32, 32)).astype(np.float32), data
    )
    assert few.precision > 0.9
    assert few.recall < 0.5
    noise = likeness((1 + rng.normal(0, 0.2, (80, 32, 32))).astype(np.float32), data)
    assert noise.precision < 0.1
    assert noise.spectrum_db > same.spectrum_db + 3


def test_tiles_know_what_they_show(dataset: Path) -> None:
    from content import column_contrast, contrast_class, kind_of

    grid = np.stack(np.meshgrid(np.arange(1, 26, 1.5), np.arange(1, 26, 1.5)), -1).reshape(-1, 2)
    assert kind_of(np.full(len(grid), 78), grid, 26) == "particle"
    assert kind_of(np.full(len(grid), 58), grid, 26) == "support"
    part = grid[grid[:, 0] < 10]
    assert kind_of(np.full(len(part), 58), part, 26) == "edge"
    assert kind_of(np.zeros(0, int), np.zeros((0, 2)), 26) == "vacuum"
    y, x = np.indices((64, 64))
    places = (
        np.stack(np.meshgrid(np.arange(8, 60, 8), np.arange(8, 60, 8)), -1)
        .reshape(-1, 2)
        .astype(float)
    )
    dots = np.exp(
        -0.5 * (((y[..., None] - places[:, 0]) ** 2 + (x[..., None] - places[:, 1]) ** 2) / 2)
    ).sum(-1)
    for sign, name in ((-1, "black"), (1, "white"), (0.01, "intermediate")):
        assert (
            contrast_class(column_contrast((1 + 0.3 * sign * dots).astype(np.float32), places, 0.4))
            == name
        )
    assert (
        contrast_class(column_contrast(np.ones((8, 8), np.float32), np.zeros((0, 2)), 0.4))
        == "none"
    )


def test_every_experiment_is_a_valid_recipe() -> None:
    from experiments import EXPERIMENTS, recipe_of

    for name in EXPERIMENTS:
        recipe = recipe_of(name, 16_000)
        assert recipe.optimiser.images * recipe.network.patch**2 <= 16_000 * 64**2
