"""What is measured of planted defects, and of the mixture against its best candidate."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tests.helpers.needs import needs_training

pytestmark = needs_training

SAMPLING, SIDE = 0.1, 240


@pytest.fixture
def field():
    """Bright columns on a square lattice; one is missing, one is twice as strong, one is new."""
    from planted_fields import Field

    line = np.arange(30, SIDE - 20, 30)
    columns = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)

    def drawn(weights: dict[tuple[int, int], float]) -> np.ndarray:
        image = np.zeros((SIDE, SIDE), np.float32)
        for (row, column), weight in weights.items():
            image[row, column] = 100 * weight
        return np.asarray(0.2 + gaussian_filter(image, 4.0), dtype=np.float32)

    perfect = {(int(row), int(column)): 1.0 for row, column in columns}
    planted = {at: w for at, w in perfect.items() if at != (60, 60)}
    planted |= {(120, 120): 2.0, (75, 165): 1.0}
    rest = np.array([at for at in perfect if at not in ((60, 60), (120, 120))], float)
    hollow = np.array([(165.0, 75.0), (105.0, 195.0)])
    return Field(
        drawn(planted),
        drawn(perfect),
        {
            "vacancy": np.array([[60.0, 60.0]]),
            "adatom": np.array([[75.0, 165.0]]),
            "dopant": np.array([[120.0, 120.0]]),
        },
        {"vacancy": rest, "adatom": hollow, "dopant": rest},
    )


def test_the_part_of_a_defect_that_is_kept(field) -> None:
    from planted import kept_parts
    from planted_fields import KINDS

    half = (field.planted + field.perfect) / 2
    for image, part in ((field.planted, 1.0), (field.perfect, 0.0), (half, 0.5)):
        found = kept_parts(image, field, SAMPLING)
        for kind in KINDS:
            np.testing.assert_allclose(found[kind]["kept"], [part], atol=1e-4)
            assert found[kind]["invented"] == 0


def test_an_invented_vacancy_is_counted(field) -> None:
    from planted import kept_parts

    image = field.planted.copy()
    image[85:96, 85:96] = 0.2  # the column at 90, 90
    found = kept_parts(image, field, SAMPLING)
    assert found["vacancy"]["invented"] == 1
    assert found["adatom"]["invented"] == 0


def test_a_stronger_dose_shows_more(field) -> None:
    from planted import signal_to_noise

    from gdn.evaluation.noise_suite import parse_suite

    weak, strong = (signal_to_noise(field, n, SAMPLING) for n in parse_suite("poisson:1,poisson:4"))
    assert strong["vacancy"][0] == pytest.approx(2 * weak["vacancy"][0], rel=1e-2)


def test_planted_and_perfect_crystals_differ_by_the_defects_alone() -> None:
    from planted_fields import EACH, RECIPES, plant

    chosen, rng = RECIPES[1], np.random.default_rng(5)
    made = chosen.frame.build(rng, chosen.frame.box_angstrom).atoms
    planted, perfect, sites, peers = plant(made, chosen, rng)
    assert {kind: len(found) for kind, found in sites.items()} == dict.fromkeys(sites, EACH)
    assert len(perfect) == len(made)
    shared = len(made) - EACH - EACH  # single Mo atoms: gone, and another element
    np.testing.assert_array_equal(planted.positions[:shared], perfect.positions[:shared])
    np.testing.assert_array_equal(planted.numbers[:shared], perfect.numbers[:shared])
    every = np.concatenate(list(sites.values()))
    for kind, found in peers.items():
        assert len(found) > 20, kind
        assert np.hypot(*(found[:, None] - every).T).min() > 3


def test_frames_behind_the_best_candidate_are_counted() -> None:
    from mixture_tables import against_best_table

    row = {"group": "own", "noise": "poisson:1", "candidates": {"a": 1.0, "b": 2.0}}
    rows = [row | {"mixture": m, "standard_error": 0.1} for m in (0.9, 1.05, 1.15, 1.25)]
    last = against_best_table(rows).splitlines()[-1]
    assert last.startswith("| poisson:1 | all | 4 |")
    assert last.endswith("| 3 | 2 | 1 |")
