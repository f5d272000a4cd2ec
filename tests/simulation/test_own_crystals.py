"""Scenes of a user's own structures: files, zones, thickness, and the data set that they make."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from gdn.errors import InputError
from tests.helpers.commands import gdn, one_line
from tests.helpers.needs import missing

pytest.importorskip("ase", reason="needs the extra 'structures' (ase)")
pytest.importorskip("torch", reason="needs the extra 'structures' (torch)")

from gdn.simulation.own_crystals import (
    OwnCrystals,
    parse_thickness,
    parse_zones,
    read_models,
)

CIF = """data_SrTiO3
_cell_length_a 3.905
_cell_length_b 3.905
_cell_length_c 3.905
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P m -3 m'
loop_
_symmetry_equiv_pos_as_xyz
 'x,y,z'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Sr Sr 0 0 0
Ti Ti 0.5 0.5 0.5
O1 O 0.5 0.5 0
O2 O 0.5 0 0.5
O3 O 0 0.5 0.5
"""
XYZ = "3\na cluster\nAu 0 0 0\nAu 2.9 0 0\nAu 0 2.9 0\n"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    (tmp_path / "SrTiO3.cif").write_text(CIF)
    (tmp_path / "Au3.xyz").write_text(XYZ)
    return [tmp_path / "SrTiO3.cif", tmp_path / "Au3.xyz"]


def crystals_of(files: list[Path], zone: str = "001") -> OwnCrystals:
    return OwnCrystals(
        models=read_models(files), zones=parse_zones(zone), thickness_angstrom=(30.0, 60.0)
    )


def scene_of_kind(crystals: OwnCrystals, kind: str, **settings: float):
    for seed in range(400):
        scene = crystals(seed)
        if scene.parameters["kind"] == kind:
            return scene
    raise AssertionError(kind)


def test_a_cif_becomes_slabs_along_its_zone(files: list[Path]) -> None:
    crystals = crystals_of(files[:1])
    scene = scene_of_kind(crystals, "slab")
    assert set(scene.numbers) == {8, 22, 38}
    strontium = scene.positions[scene.numbers == 38]
    # Along [001] strontium lies in columns of a square lattice of 3.905 Å, but for the tilt.
    levels = np.round((strontium[:, 2] - strontium[:, 2].min()) / 3.905, 1)
    assert len(np.unique(levels)) > 5
    middle = strontium[np.abs(strontium[:, :2] - 32).max(1) < 20]
    gaps = np.linalg.norm(middle[:, None, :] - middle[None], axis=-1)
    nearest = np.sort(gaps, 1)[:, 1]
    assert np.median(nearest) == pytest.approx(3.905, abs=0.01)
    assert scene.positions[:, :2].min() >= 0
    assert (scene.positions[:, :2] < 64).all()
    assert 0 < np.ptp(scene.positions[:, 2]) <= 60 + 3


def test_another_zone_is_another_projection(files: list[Path]) -> None:
    along, across = (scene_of_kind(crystals_of(files[:1], zone), "slab") for zone in ("001", "110"))
    assert along.parameters["zone"] != across.parameters["zone"]
    heights = {}
    for name, scene in (("001", along), ("110", across)):
        titanium = scene.positions[scene.numbers == 22]
        gaps = np.diff(np.unique(np.round(np.sort(titanium[:, 2]), 0)))
        heights[name] = len(gaps)
    assert heights["110"] != heights["001"]


def test_a_cluster_is_placed_as_it_is(files: list[Path]) -> None:
    scene = scene_of_kind(crystals_of(files[1:]), "cluster")
    assert scene.numbers.tolist() == [79, 79, 79]
    gaps = np.linalg.norm(scene.positions[1:] - scene.positions[0], axis=1)
    assert gaps == pytest.approx([2.9, 2.9])


def test_a_seed_is_a_scene_whatever_the_process(files: list[Path]) -> None:
    crystals = crystals_of(files)
    again = pickle.loads(pickle.dumps(crystals))
    for seed in range(5):
        np.testing.assert_array_equal(crystals(seed).positions, again(seed).positions)
    assert crystals.record()["files"][0]["name"] == "SrTiO3.cif"


@pytest.mark.parametrize("text", ["11", "abc", "000", "1 1 0", "110,", "1234"])
def test_what_is_no_zone_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="three digits each"):
        parse_zones(text)


def test_zones_and_thickness() -> None:
    assert parse_zones("110,1-10") == ((1, 1, 0), (1, -1, 0))
    assert parse_thickness("30-60") == (30.0, 60.0)
    assert parse_thickness("40") == (40.0, 40.0)
    for text in ("60-30", "thin", "0", "10-1000"):
        with pytest.raises(InputError, match="such as 30-60"):
            parse_thickness(text)


@pytest.mark.slow
def test_the_command_makes_a_data_set_and_keeps_to_it(files: list[Path], tmp_path: Path) -> None:
    made = ["simulate", tmp_path / "data", "--count", "1", "--seed", "1", "--structures"]
    done = gdn(*made, tmp_path / "*.cif", "--zone", "110", "--thickness", "20-21")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "data" / "waves").glob("*.npz"))) == 1
    record = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert record["scenes"] == "files"
    assert record["structures"]["zones"] == [[1, 1, 0]]
    other = gdn(*made, tmp_path / "*.cif", "--zone", "001", "--thickness", "20-21")
    assert other.returncode != 0
    assert "other structures, zone or thickness" in " ".join(other.stderr.split())
    (tmp_path / "bad.cif").write_text("nothing")
    one_line(gdn(*made, tmp_path / "bad.cif"), 2, "bad.cif", "no structure can be read")


@pytest.mark.skipif(missing("ase"), reason="needs ase")
def test_what_makes_no_scenes_is_refused(files: list[Path], tmp_path: Path) -> None:
    made = ["simulate", tmp_path / "d", "--count", "1", "--seed", "1", "--structures", files[0]]
    one_line(gdn(*made, "--movies", "1"), 2, "--movies")
    one_line(gdn(*made, "--zone", "1"), 2, "--zone 1")
