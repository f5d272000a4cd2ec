"""Random specimens: reproducible, inside their cell, at the literature's distances, and of every
kind."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from scipy.spatial import cKDTree

from gdn.simulation.crystals_table import (
    ATOMIC_NUMBERS,
    COMPOUNDS,
    FAMILIES,
    build_crystal,
    compounds,
)
from gdn.simulation.draws import FORMS
from gdn.simulation.grains import amorphous, crystal_of, draw_grain, fill_box, grain_to_lab
from gdn.simulation.specimens import AMORPHOUS, MINIMAL_DISTANCE, random_specimen
from gdn.simulation.structures import CELL_ANGSTROM

SEEDS = 200


@cache
def specimens():
    return [random_specimen(seed) for seed in range(SEEDS)]


def test_a_seed_repeats_its_specimen():
    first, second = random_specimen(7), random_specimen(7)
    assert np.array_equal(first.positions, second.positions)
    assert np.array_equal(first.numbers, second.numbers)
    assert first.parameters == second.parameters
    assert not np.array_equal(first.cell, random_specimen(8).cell)


@pytest.mark.slow
def test_atoms_lie_inside_the_cell_and_apart():
    for s in specimens():
        assert s.numbers.shape == (len(s.positions),)
        assert len(s.numbers) > 20
        assert np.array_equal(s.cell[:2], [CELL_ANGSTROM] * 2)
        assert (s.positions >= 0).all()
        assert (s.positions < s.cell).all()
        assert s.positions[:, 2].min() >= 2 - 1e-9
        assert s.positions[:, 2].max() <= s.cell[2] - 2 + 1e-9
        assert s.cell[2] <= 104 + 1e-9
        tree = cKDTree(s.positions, boxsize=[*s.cell[:2], 4 * s.cell[2]])
        assert tree.query(s.positions, k=2)[0][:, 1].min() >= MINIMAL_DISTANCE


@pytest.mark.slow
def test_parameters_are_plain_values():
    for s in specimens():
        assert json.loads(json.dumps(s.parameters)) == s.parameters
        assert 0.05 <= s.parameters["thermal_angstrom"] <= 0.12
        assert {"kind", "crystals", "zones", "thickness", "film"} <= set(s.parameters)


@pytest.mark.slow
def test_every_form_and_family_occurs_in_200_seeds():
    parameters = [s.parameters for s in specimens()]
    assert {p["kind"] for p in parameters} == set(FORMS)
    assert {family for p in parameters for family in p["families"]} == set(FAMILIES)
    assert 0.15 < np.mean([p["film"] for p in parameters]) < 0.35


@pytest.mark.slow
def test_few_fields_are_almost_empty():
    covered = [
        np.histogram2d(*s.positions[:, :2].T, bins=16, range=[[0, CELL_ANGSTROM]] * 2)[0] > 0
        for s in specimens()
    ]
    assert np.mean([c.mean() < 0.08 for c in covered]) < 0.03


def neighbours(family, elements, pair):
    """Distances (Å) and number of the nearest `pair[1]` atoms about one `pair[0]` atom."""
    _, a, c = next(entry for entry in compounds(family) if entry[0] == elements)
    numbers, points = fill_box(
        build_crystal(family, elements, a, c),
        np.eye(3),
        np.full(3, -14.0),
        np.full(3, 14.0),
        np.zeros(3),
    )
    first, second = (points[numbers == ATOMIC_NUMBERS[e]] for e in pair)
    centre = first[np.linalg.norm(first, axis=1).argmin()]
    d = np.linalg.norm(second - centre, axis=1)
    d = np.sort(d[d > 0.1])
    return d[0], int((d < 1.15 * d[0]).sum())


@pytest.mark.parametrize(
    ("family", "elements", "pair", "distance", "count"),
    [
        ("fcc", "Au", "Au-Au", 2.88, 12),
        ("bcc", "Fe", "Fe-Fe", 2.48, 8),
        ("hcp", "Ti", "Ti-Ti", 2.90, 12),
        ("diamond", "Si", "Si-Si", 2.35, 4),
        ("zincblende", "Ga-As", "Ga-As", 2.45, 4),
        ("wurtzite", "Ga-N", "Ga-N", 1.95, 4),
        ("rocksalt", "Mg-O", "Mg-O", 2.11, 6),
        ("fluorite", "Ce-O", "Ce-O", 2.34, 8),
        ("perovskite", "Sr-Ti-O", "Ti-O", 1.95, 6),
        ("perovskite", "Sr-Ti-O", "Sr-O", 2.76, 12),
        ("rutile", "Ti-O", "Ti-O", 1.95, 6),
        ("spinel", "Mg-Al-O", "Mg-O", 1.91, 4),
        ("spinel", "Mg-Al-O", "Al-O", 1.94, 6),
        ("cscl", "Ni-Al", "Ni-Al", 2.50, 8),
        ("graphene", "C", "C-C", 1.42, 3),
        ("hbn", "B-N", "B-N", 1.446, 3),
        ("dichalcogenide", "Mo-S", "Mo-S", 2.41, 6),
    ],
)
def test_coordination_is_the_literature_s(family, elements, pair, distance, count):
    nearest, found = neighbours(family, tuple(elements.split("-")), pair.split("-"))
    assert nearest == pytest.approx(distance, abs=0.04)
    assert found == count


def test_every_family_has_compounds_of_known_elements():
    assert set(COMPOUNDS) == set(FAMILIES)
    for family, kind in FAMILIES.items():
        for elements, a, c in compounds(family):
            assert len(build_crystal(family, elements, a, c).numbers) == sum(map(len, kind.sites))


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_zone_axis_lies_along_the_beam(family):
    rng = np.random.default_rng(3)
    for _ in range(8):
        grain = draw_grain(rng, family)
        crystal = crystal_of(grain)
        to_lab = grain_to_lab(grain, crystal)
        zone = np.array(grain["zone"]) @ crystal.cell @ to_lab.T
        assert np.degrees(np.arccos(min(zone[2] / np.linalg.norm(zone), 1))) == pytest.approx(
            grain["tilt"], abs=1e-4
        )
        assert np.allclose(to_lab @ to_lab.T, np.eye(3))


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_box_holds_the_cell_s_density(family):
    grain = draw_grain(np.random.default_rng(5), family)
    crystal = crystal_of(grain)
    low, high = np.array([-30.0, -30, -20]), np.array([30.0, 30, 20])
    numbers, _ = fill_box(
        crystal, grain_to_lab(grain, crystal), low, high, np.array(grain["offset"])
    )
    density = len(crystal.numbers) / np.linalg.det(crystal.cell)
    assert len(numbers) / np.prod(high - low) == pytest.approx(density, rel=0.1)


def test_amorphous_films_have_their_density_and_spacing():
    for elements, density, spacing in AMORPHOUS.values():
        low, high = np.zeros(3), np.array([40.0, 40, 20])
        _, points = amorphous(np.random.default_rng(1), elements, density, spacing, low, high)
        assert len(points) / np.prod(high) == pytest.approx(density, rel=0.03)
        assert cKDTree(points).query(points, k=2)[0][:, 1].min() >= spacing
