"""Random specimens of any common crystal: slabs, edges, wedges, particles, boundaries, sheets,
films (docs/simulation.md, "Any crystal").

A specimen is a pure function of its seed. Lab frame as in `gdn.simulation.structures`: z along the
beam, lengths in Å. The field's centre is x = y = 0 until `_place` shifts it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gdn.simulation import shapes
from gdn.simulation.draws import MAXIMAL_THICKNESS, draw_parameters
from gdn.simulation.grains import (
    HALF_FIELD,
    Atoms,
    Distances,
    amorphous,
    crystal_of,
    drop_overlaps,
    fill_grain,
    grain_to_lab,
    join,
    neighbour_distance,
    strain,
)
from gdn.simulation.structures import CELL_ANGSTROM, Structure, Vectors, orientation

# Amorphous material -> elements by their proportion, density in atoms/Å³, shortest distance in Å.
AMORPHOUS: dict[str, tuple[list[str], float, float]] = {
    "carbon": (["C"], 0.1, 1.4),  # 2 g/cm³
    "silica": (["Si", "O", "O"], 0.066, 1.55),
    "silicon nitride": (["Si", "Si", "Si", "N", "N", "N", "N"], 0.09, 1.55),
}
MINIMAL_DISTANCE = 1.05  # Å, between any two atoms
_SURFACE = 2.3  # Å, depth of the shell that is rough and height of the one that takes adatoms


def _distance(points: Vectors, to_lab: Vectors, body: dict[str, Any]) -> Distances:
    """Distance (n,) Å of `points` (about the body's centre) outside the body."""
    if body["type"] == "particle":
        crystal_points = points @ to_lab
        if body["grain"].get("decahedron"):
            outside = shapes.decahedron_distance(
                crystal_points @ orientation([1, -1, 0], [0, 0, 1]).T, body["shape"]
            )
        else:
            outside = shapes.particle_distance(points, crystal_points, body["shape"])
    else:
        # A slab is tilted with its crystal: its normal is the zone axis.
        zone = np.array(body["grain"]["zone"]) @ crystal_of(body["grain"]).cell @ to_lab.T
        height = points @ (zone / np.linalg.norm(zone))
        if body["type"] == "sheet":
            top = body["layers"] * body["grain"]["c"] / 2
            return np.asarray(
                np.maximum(_lateral(points, body), np.maximum(-height, height - top) * 10)
            )
        outside = shapes.slab_distance(points, height, body["profile"])
    return np.maximum(outside, _lateral(points, body))


def _lateral(points: Vectors, body: dict[str, Any]) -> Distances:
    """Distance (n,) Å beyond the body's edges or into its hole; minus infinity if it has
    neither."""
    outside = np.full(len(points), -np.inf)
    for edge in body["edges"]:
        distance = shapes.edge_distance(points, edge)
        outside = np.maximum(outside, -distance if edge.get("inverted") else distance)
    if body.get("hole"):
        outside = np.maximum(outside, shapes.hole_distance(points, body["hole"]))
    return outside


def _box(body: dict[str, Any]) -> tuple[Vectors, Vectors]:
    """Corners (3,) Å, about the body's centre, of the part of the field that the body can reach."""
    grain = body["grain"]
    if body["type"] == "particle":
        reach = np.full(3, 1.45 * body["shape"]["radius"] + 3)
    else:
        thickness = (
            body["layers"] * grain["c"] if body["type"] == "sheet" else body["profile"]["thickness"]
        )
        tilted = np.sqrt(2) * HALF_FIELD * np.sin(np.deg2rad(grain["tilt"]))
        reach = np.array([np.inf, np.inf, thickness / 2 + tilted + 3])
    centre = np.array(body["centre"])
    field = np.array([HALF_FIELD + 0.5, HALF_FIELD + 0.5, np.inf])
    return np.maximum(-reach, -field - centre), np.minimum(reach, field - centre)


def _build_body(rng: np.random.Generator, p: dict[str, Any], body: dict[str, Any]) -> Atoms:
    """The atoms of one body, with the rough surfaces, adatoms and vacancies of `p`."""
    low, high = _box(body)
    if (high <= low).any():
        return np.zeros(0, np.int64), np.zeros((0, 3))
    numbers, points = fill_grain(rng, body["grain"], low, high)
    outside = _distance(points, grain_to_lab(body["grain"], crystal_of(body["grain"])), body)
    chance = rng.random(len(points))
    keep = (outside <= 0) & (chance >= p["vacancies"])
    keep &= ~((outside > -_SURFACE) & (chance < p["roughness"]))
    if not any(edge.get("inverted") for edge in body["edges"]):
        keep |= (outside > 0) & (outside < _SURFACE) & (chance < p["adatoms"])
    return numbers[keep], points[keep] + body["centre"]


def add_film(rng: np.random.Generator, atoms: Atoms, film: dict[str, Any]) -> Atoms:
    """Atoms with an amorphous film below or above them. The gap of 1 Å puts the film's atoms about
    a bond length from the outermost atoms. If there are no atoms, the film lies about z = 0."""
    z = atoms[1][:, 2] if len(atoms[0]) else np.zeros(1)
    surface = z.min() - 1 if film["below"] else z.max() + 1
    return join(atoms, _build_film(rng, film, surface), 1.7)


def _build_film(rng: np.random.Generator, film: dict[str, Any], surface: float) -> Atoms:
    """An amorphous film that ends at z = `surface` Å (or starts there, if above the specimen)."""
    elements, density, spacing = AMORPHOUS[film["material"]]
    bottom = surface - film["thickness"] if film["below"] else surface
    low = np.array([-HALF_FIELD, -HALF_FIELD, bottom])
    high = np.array([HALF_FIELD, HALF_FIELD, bottom + film["thickness"]])
    numbers, points = amorphous(rng, elements, density, spacing, low, high)
    keep = _lateral(points, film) <= 0
    return numbers[keep], points[keep]


def _build(rng: np.random.Generator, p: dict[str, Any]) -> Atoms:
    """All bodies of `p`, then the film. Where two bodies overlap, the earlier one keeps the
    space."""
    atoms: Atoms = (np.zeros(0, np.int64), np.zeros((0, 3)))
    previous = 0.0
    for body in p["bodies"]:
        nearest = neighbour_distance(crystal_of(body["grain"]))
        atoms = join(atoms, _build_body(rng, p, body), 0.4 * (previous + nearest))
        previous = nearest
    if p["strain_angstrom"]:
        atoms = atoms[0], strain(rng, atoms[1], p["strain_angstrom"])
    film = p["film_shape"]
    if film and len(atoms[0]):
        atoms = add_film(rng, atoms, film)
    return atoms


def _place(p: dict[str, Any], atoms: Atoms) -> Structure:
    """Cut the atoms to the cell, shift z to start at 2 Å, and drop overlaps. The true thickness is
    added to `p`."""
    numbers, x = atoms[0], atoms[1] + [HALF_FIELD, HALF_FIELD, 0.0]
    keep = ((x[:, :2] >= 0) & (x[:, :2] < CELL_ANGSTROM)).all(1)
    numbers, x = numbers[keep], x[keep]
    if len(x):
        keep = x[:, 2] <= x[:, 2].min() + MAXIMAL_THICKNESS
        numbers, x = numbers[keep], x[keep]
        x[:, 2] += 2 - x[:, 2].min()
    thickness = float(x[:, 2].max()) - 2 if len(x) else 0.0
    cell = np.array([CELL_ANGSTROM, CELL_ANGSTROM, thickness + 4])
    if len(x):
        numbers, x = drop_overlaps((numbers, x), cell, MINIMAL_DISTANCE)
    return Structure(numbers, x, cell, p | {"thickness": thickness})


def random_specimen(seed: int) -> Structure:
    """The specimen of `seed`: positions in [0, cell), z from 2 Å to 2 Å below the cell's top.

    `parameters` holds all settings as plain values, among them "kind", "crystals", "families",
    "zones", "thickness" (Å), "thermal_angstrom" (rms displacement in one direction) and "film".
    """
    rng = np.random.default_rng([seed, 0xC1])
    p = draw_parameters(rng)
    return _place(p, _build(rng, p))
