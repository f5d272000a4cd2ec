"""Structures are functions of their seed; splits are by structure."""

from __future__ import annotations

import numpy as np
import pytest

from gdn.simulation.dataset import structure_seed
from gdn.simulation.imaging import read_wave
from gdn.simulation.structures import CELL_ANGSTROM, random_structure, split_of
from gdn.simulation.wide_scenes import wide_structure
from tests.helpers.needs import needs_training
from tests.helpers.places import ROOT

pytestmark = needs_training


def test_structures_are_functions_of_their_seed_and_lie_in_the_cell() -> None:
    kinds = set()
    for seed in range(40):
        a, b = random_structure(seed), random_structure(seed)
        np.testing.assert_array_equal(a.positions, b.positions)
        kinds.add(a.parameters["kind"])
        if len(a.numbers):
            assert (a.positions[:, :2] >= 0).all()
            assert (a.positions[:, :2] < CELL_ANGSTROM).all()
            assert a.positions[:, 2].min() >= 2 - 1e-9
            assert set(np.unique(a.numbers)) <= {8, 58, 78}
    assert {"particle-on-support", "particle", "support"} <= kinds


def test_wide_scenes_are_thicker_and_some_have_films() -> None:
    found = [wide_structure(seed) for seed in range(40)]
    np.testing.assert_array_equal(found[3].positions, wide_structure(3).positions)
    filmed = [s for s in found if s.parameters["film"]]
    assert 8 <= len(filmed) <= 24
    assert all(6 in s.numbers or 14 in s.numbers for s in filmed)
    assert max(s.cell[2] for s in found) > 70
    assert max(s.parameters["tilt"] for s in found) > 4
    for s in found:
        assert (s.positions >= 0).all()
        assert (s.positions < s.cell).all()


def test_atoms_do_not_overlap_much() -> None:
    from scipy.spatial import cKDTree

    scenes = [(random_structure(seed), 1.5) for seed in range(12)]
    scenes += [
        (wide_structure(seed), 1.35) for seed in range(12)
    ]  # a carbon film has bonds of 1.4 Å
    for s, close in scenes:
        if len(s.numbers) > 1:
            # Interfaces and twin planes are unrelaxed; nearly all neighbours are at bonding
            # distance.
            nearest = cKDTree(s.positions).query(s.positions, 2)[0][:, 1]
            assert (nearest < close).mean() < 0.03


def test_splits_are_by_structure_and_stable() -> None:
    seeds = [structure_seed(1, i) for i in range(2000)]
    assert len(set(seeds)) == 2000
    shares = {
        name: np.mean([split_of(s) == name for s in seeds])
        for name in ("train", "validation", "test")
    }
    assert shares["test"] == pytest.approx(0.1, abs=0.03)
    assert shares["validation"] == pytest.approx(0.1, abs=0.03)
    assert not set(seeds) & {structure_seed(2, i) for i in range(2000)}


def test_shipped_demo_waves_are_of_the_test_split() -> None:
    for path in (ROOT / "gdn" / "evaluation" / "demo_waves").glob("*.npz"):
        assert split_of(read_wave(path).record["seed"]) == "test"


def test_the_demonstration_shows_dark_and_bright_columns() -> None:
    from gdn.evaluation.demo import demo_frames

    frames = {frame.file: frame.image / np.float32(0.45) for frame in demo_frames()}
    assert list(frames) == ["frame1", "frame2", "frame3", "frame4"]
    skew = [float((((image - 1) / image.std()) ** 3).mean()) for image in frames.values()]
    assert skew[0] < -1, skew
    assert min(skew[2:]) > 0.5, skew
