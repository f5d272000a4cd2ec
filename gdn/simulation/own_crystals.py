"""Scenes of a user's own crystals, from CIF or XYZ files (docs/howto/own-specimen.md).

A scene is a pure function of the files, the settings and its seed. Lab frame as in
`gdn.simulation.structures`: z along the beam, lengths in Å.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gdn.errors import InputError
from gdn.simulation import shapes
from gdn.simulation.crystals_table import Crystal
from gdn.simulation.grains import HALF_FIELD, Atoms, drop_overlaps, fill_box
from gdn.simulation.structures import (
    CELL_ANGSTROM,
    Structure,
    Vectors,
    orientation,
    rotation,
)

Zone = tuple[int, int, int]

KINDS = {"edge": 0.45, "slab": 0.3, "particle": 0.2, "vacuum": 0.05}  # of periodic crystals
TILT_DEGREES = 2.0  # from the zone axis, at most
RADIUS_ANGSTROM = (10.0, 24.0)  # of particles
SURFACE_ANGSTROM = 2.3  # depth of the layer that may be rough
MOST_THICKNESS = 400.0  # Å
MINIMAL_DISTANCE = 0.7  # Å, between two atoms
ROUGHNESS, VACANCIES = 0.4, 0.03  # shares of atoms left out of the surface and of all, at most


CLUSTER = "cluster"  # the family of atoms that do not fill space


@dataclass(frozen=True)
class AtomModel:
    """The atoms of a file `name` with this content `sha256`: a crystal that fills space, or a
    cluster, whose cell is a cube of 1 Å and whose `fractions` are Å about its middle."""

    name: str
    sha256: str
    crystal: Crystal

    @property
    def periodic(self) -> bool:
        """Whether it fills space."""
        return self.crystal.family != CLUSTER


@dataclass(frozen=True, kw_only=True)
class OwnCrystals:
    """Scenes of `models` seen along one of the `zones`, `thickness_angstrom` (least, most)
    thick."""

    models: tuple[AtomModel, ...]
    zones: tuple[Zone, ...]
    thickness_angstrom: tuple[float, float]

    def record(self) -> dict[str, Any]:
        """JSON-ready: what decides every scene of a seed."""
        return {
            "files": [{"name": m.name, "sha256": m.sha256} for m in self.models],
            "zones": [list(zone) for zone in self.zones],
            "thickness_angstrom": list(self.thickness_angstrom),
        }

    def __call__(self, seed: int) -> Structure:
        """The scene of `seed`: positions in [0, cell), z from 2 Å."""
        rng = np.random.default_rng([seed, 0x0C])
        model = self.models[rng.integers(len(self.models))]
        zone = self.zones[rng.integers(len(self.zones))]
        kind = list(KINDS)[rng.choice(len(KINDS), p=list(KINDS.values()))]
        p: dict[str, Any] = {
            "kind": kind if model.periodic or kind == "vacuum" else CLUSTER,
            "file": model.name,
            "zone": zone,
            "thickness": rng.uniform(*self.thickness_angstrom),
            "rotation": rng.uniform(0, 360),
            "tilt": TILT_DEGREES * rng.random(),
            "tilt_azimuth": rng.uniform(0, 360),
            "roughness": ROUGHNESS * rng.random(),
            "vacancies": VACANCIES * rng.random(),
        }
        return _place(p, _atoms(rng, model.crystal, p))


def read_models(files: Sequence[Path]) -> tuple[AtomModel, ...]:
    """The atoms of CIF, XYZ and other files that ASE reads. Raises InputError, in one line."""
    return tuple(_read(path) for path in files)


def _read(path: Path) -> AtomModel:
    import ase.io

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of occupancies and settings of the space group
            atoms: Any = ase.io.read(path)
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    except Exception as error:  # its readers raise many kinds
        words = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: no structure can be read ({words}); wanted CIF or XYZ") from None
    numbers, cell = np.array(atoms.numbers, np.int64), np.array(atoms.cell)
    if not len(numbers) or numbers.min() < 1:
        raise InputError(f"{path}: holds no atoms")
    periodic = bool(atoms.pbc.all()) and abs(np.linalg.det(cell)) > 1
    if periodic:
        fractions = atoms.get_scaled_positions() % 1
        crystal = _crystal(path.name, numbers, cell, fractions)
    else:
        middle = atoms.positions - (atoms.positions.max(0) + atoms.positions.min(0)) / 2
        crystal = _crystal(CLUSTER, numbers, np.eye(3), middle)
    return AtomModel(path.name, content, crystal)


def _crystal(family: str, numbers: Any, cell: Any, fractions: Any) -> Crystal:
    return Crystal(family=family, elements=(), cell=cell, fractions=fractions, numbers=numbers)


def parse_zones(text: str) -> tuple[Zone, ...]:
    """'110' or '1-10' or '110,001': zone axes [uvw]. Raises InputError."""
    zones = []
    for word in text.split(","):
        if re.fullmatch(r"(-?\d){3}", word.strip()) is None or not re.search("[1-9]", word):
            raise InputError(f"zone {text}: three digits each, such as 110 or 1-10,001", "zone")
        u, v, w = (int(number) for number in re.findall(r"-?\d", word))
        zones.append((u, v, w))
    return tuple(zones)


def parse_thickness(text: str) -> tuple[float, float]:
    """'30-60' or '40': Å. Raises InputError."""
    low, _, high = text.partition("-")
    try:
        least, most = float(low), float(high or low)
    except ValueError:
        least = most = -1.0
    if not 1 <= least <= most <= MOST_THICKNESS:
        raise InputError(
            f"thickness {text}: Å, from 1 to {MOST_THICKNESS:g}, such as 30-60", "thickness"
        )
    return least, most


def _to_lab(p: dict[str, Any], crystal: Crystal) -> Vectors:
    """Rotation (3, 3) from Cartesian crystal axes to the lab: the zone to z, then in-plane
    rotation, then tilt."""
    aligned = np.eye(3)
    if p["kind"] != CLUSTER:
        along = np.array(p["zone"]) @ crystal.cell
        across = min(np.eye(3), key=lambda axis: abs(axis @ along))
        aligned = orientation(along, np.cross(along, across))
    azimuth = np.deg2rad(p["tilt_azimuth"])
    tilt = rotation([np.cos(azimuth), np.sin(azimuth), 0], p["tilt"])
    return np.asarray(tilt @ rotation([0, 0, 1], p["rotation"]) @ aligned)


def _atoms(rng: np.random.Generator, crystal: Crystal, p: dict[str, Any]) -> Atoms:
    """Atoms about the middle of the field."""
    if p["kind"] == "vacuum":
        return np.zeros(0, np.int64), np.zeros((0, 3))
    to_lab = _to_lab(p, crystal)
    if p["kind"] == CLUSTER:
        points = crystal.fractions @ to_lab.T
        return crystal.numbers, points + np.array([*rng.uniform(-12, 12, 2), 0.0])
    half = p["thickness"] / 2
    radius = min(rng.uniform(*RADIUS_ANGSTROM), half) if p["kind"] == "particle" else 0.0
    reach = np.array([HALF_FIELD + 1, HALF_FIELD + 1, half + 1])
    numbers, points = fill_box(crystal, to_lab, -reach, reach, rng.random(3))
    if p["kind"] == "particle":
        p["particle"] = shapes.draw_particle(rng, radius, crystal.reciprocal)
        centre = np.array([*rng.uniform(-10, 10, 2), 0.0])
        outside = shapes.particle_distance(
            points - centre, (points - centre) @ to_lab, p["particle"]
        )
    else:
        p["profile"] = shapes.draw_thickness(rng, p["thickness"], wedge=bool(rng.random() < 0.4))
        outside = shapes.slab_distance(points, points[:, 2], p["profile"])
    if p["kind"] == "edge":
        p["edge"] = shapes.draw_edge(rng, rng.uniform(0, 2 * np.pi), (-14.0, 18.0), 2.0)
        outside = np.maximum(outside, shapes.edge_distance(points, p["edge"]))
    chance = rng.random(len(points))
    keep = (outside <= 0) & (chance >= p["vacancies"])
    keep &= ~((outside > -SURFACE_ANGSTROM) & (chance < p["roughness"]))
    return numbers[keep], points[keep]


def _place(p: dict[str, Any], atoms: Atoms) -> Structure:
    """Cut the atoms to the cell and shift z to start at 2 Å."""
    numbers, points = atoms[0], atoms[1] + [HALF_FIELD, HALF_FIELD, 0.0]
    inside = ((points[:, :2] >= 0) & (points[:, :2] < CELL_ANGSTROM)).all(1)
    numbers, points = numbers[inside], points[inside]
    if len(points):
        points[:, 2] += 2 - points[:, 2].min()
    top = float(points[:, 2].max()) + 2 if len(points) else 4.0
    cell = np.array([CELL_ANGSTROM, CELL_ANGSTROM, top])
    if len(points):
        numbers, points = drop_overlaps((numbers, points), cell, MINIMAL_DISTANCE)
    return Structure(numbers, points, cell, p)
