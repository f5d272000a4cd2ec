"""Atoms of one crystal grain or amorphous film: oriented lattices, twins, decahedra, films,
overlaps, strain (docs/simulation.md, "Any crystal").

Lab frame as in `gdn.simulation.structures`: z along the beam, the field's centre at x = y = 0.
Lengths in Å, angles in degrees.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from gdn.simulation.crystals_table import (
    ATOMIC_NUMBERS,
    FAMILIES,
    RADII,
    ZONE_SHARES,
    ZONES,
    Crystal,
    build_crystal,
    compounds,
)
from gdn.simulation.structures import CELL_ANGSTROM, Vectors, orientation, rotation, unit

Numbers = NDArray[np.int64]  # (n,), atomic numbers
Atoms = tuple[Numbers, Vectors]
Distances = NDArray[np.float64]  # (n,), Å, positive outside

HALF_FIELD = CELL_ANGSTROM / 2


def draw_compound(rng: np.random.Generator, family: str) -> dict[str, Any]:
    """Elements and lattice constants (Å) of one crystal of `family`. A quarter are invented by
    substitution."""
    candidates = compounds(family)
    elements, a, c = candidates[rng.integers(len(candidates))]
    invented = bool(rng.random() < 0.25 and family not in ("graphene", "hbn"))
    scale = 1.0
    if invented:
        substitutes = tuple(pool[rng.integers(len(pool))] for pool in FAMILIES[family].pools)
        scale = float(
            np.clip(sum(RADII[e] for e in substitutes) / sum(RADII[e] for e in elements), 0.65, 1.6)
        )
        elements = substitutes
    jitter = 0.005 if FAMILIES[family].layered else 0.03
    scale *= rng.uniform(1 - jitter, 1 + jitter)
    names = [e for i, e in enumerate(elements) if e not in elements[:i]]
    compound = {"family": family, "elements": list(elements), "a": a * scale, "c": c * scale}
    compound |= {"crystal": "".join(names) + " " + family, "invented": invented, "alloy": None}
    if (
        family in ("fcc", "bcc", "cscl", "diamond", "perovskite", "dichalcogenide")
        and rng.random() < 0.15
    ):
        pool = FAMILIES[family].pools[0]
        compound["alloy"] = {
            "element": pool[rng.integers(len(pool))],
            "fraction": rng.uniform(0.05, 0.5),
        }
    return compound


def draw_grain(rng: np.random.Generator, family: str) -> dict[str, Any]:
    """A compound of `family` and its orientation: zone axis, plane normal to y, rotation and tilt
    in degrees."""
    grain = draw_compound(rng, family)
    system = FAMILIES[family].system
    zones = ZONES[system]
    zone = (
        (0, 0, 1)
        if FAMILIES[family].layered
        else zones[rng.choice(len(zones), p=ZONE_SHARES[system])]
    )
    planes = sorted(
        (h for h in product((-1, 0, 1), repeat=3) if any(h) and np.dot(h, zone) == 0),
        key=lambda h: np.dot(h, h),
    )
    planes = planes[: 4 + 2 * (system == "hexagonal")]
    tilt = 0.0 if rng.random() < 0.25 else rng.uniform(0, 4)
    grain |= {
        "zone": list(zone),
        "plane": list(planes[rng.integers(len(planes))]),
        "rotation": rng.uniform(0, 360),
    }
    return grain | {
        "tilt": tilt,
        "tilt_azimuth": rng.uniform(0, 360),
        "offset": rng.random(3).tolist(),
    }


def crystal_of(grain: dict[str, Any]) -> Crystal:
    """The unit cell that `grain` names."""
    return build_crystal(grain["family"], tuple(grain["elements"]), grain["a"], grain["c"])


def grain_to_lab(grain: dict[str, Any], crystal: Crystal) -> Vectors:
    """Rotation (3, 3) from Cartesian crystal axes to the lab: the zone to z, then in-plane
    rotation, then tilt."""
    aligned = orientation(
        np.array(grain["zone"]) @ crystal.cell, np.array(grain["plane"]) @ crystal.reciprocal
    )
    azimuth = np.deg2rad(grain["tilt_azimuth"])
    tilt = rotation([np.cos(azimuth), np.sin(azimuth), 0], grain["tilt"])
    return np.asarray(tilt @ rotation([0, 0, 1], grain["rotation"]) @ aligned)


def fill_box(
    crystal: Crystal, to_lab: Vectors, low: Vectors, high: Vectors, offset: Vectors
) -> Atoms:
    """Atoms of `crystal` between the corners `low` and `high` (3,) Å. `offset` (3,) shifts it, in
    fractions of the cell."""
    basis = crystal.cell @ to_lab.T
    corners = np.array(list(product(*zip(low, high, strict=True)))) @ np.linalg.inv(basis) - offset
    first, last = np.floor(corners.min(0)).astype(int) - 1, np.ceil(corners.max(0)).astype(int) + 1
    steps = [np.arange(f, e) for f, e in zip(first, last, strict=True)]
    cells = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 3) + offset
    # Drop cells that cannot reach the box before the sites multiply them.
    reach = np.linalg.norm(basis, axis=1).sum() / 2
    centres = (cells + 0.5) @ basis
    origins = (cells @ basis)[((centres > low - reach) & (centres < high + reach)).all(1)]
    points = (origins[:, None] + (crystal.fractions @ basis)[None]).reshape(-1, 3)
    numbers = np.tile(crystal.numbers, len(origins))
    inside = ((points >= low) & (points < high)).all(1)
    return numbers[inside], points[inside]


def fill_grain(
    rng: np.random.Generator, grain: dict[str, Any], low: Vectors, high: Vectors
) -> Atoms:
    """Atoms of `grain` in the box, twinned or alloyed if the grain is."""
    crystal = crystal_of(grain)
    to_lab = grain_to_lab(grain, crystal)
    if grain.get("decahedron"):
        return _decahedron(crystal, to_lab, low, high)
    offset = np.array(grain["offset"])
    if FAMILIES[grain["family"]].layered:
        offset[2] = 0
    numbers, points = fill_box(crystal, to_lab, low, high, offset)
    if grain.get("twin_plane"):
        points = _mirror(points, unit(to_lab @ unit(grain["twin_plane"])), grain["twin_offset"])
        points = points[((points >= low) & (points < high)).all(1)]
        numbers = np.full(len(points), crystal.numbers[0])
    if grain["alloy"]:
        host = numbers == ATOMIC_NUMBERS[grain["elements"][0]]
        replaced = host & (rng.random(len(numbers)) < grain["alloy"]["fraction"])
        numbers = np.where(replaced, ATOMIC_NUMBERS[grain["alloy"]["element"]], numbers)
    return numbers, points


def _mirror(points: Vectors, normal: Vectors, place: float) -> Vectors:
    """Replace `points` below the atomic plane nearest to `place` (Å along `normal`) by the mirror
    image of those above."""
    height = points @ normal
    side = height - height[np.abs(height - place).argmin()]
    above = points[side > -0.1]
    image = points[side > 0.1] - 2 * side[side > 0.1, None] * normal
    return np.concatenate([above, image])


def _decahedron(crystal: Crystal, to_lab: Vectors, low: Vectors, high: Vectors) -> Atoms:
    """Five twins of an fcc `crystal` about their common [1-10] axis, which lies along `to_lab`'s
    zone axis (docs/simulation.md, "Any crystal")."""
    radius = float(np.linalg.norm(high - low)) / 2
    local = orientation(
        [1, -1, 0], [0, 0, 1]
    )  # x along [110], y along [001], z along the five-fold axis
    _, points = fill_box(
        crystal, local, np.array([-radius, -0.1, -radius]), np.full(3, radius), np.zeros(3)
    )
    # The {111} planes enclose 70.53°: stretch the sector to 72° so that five close the circle.
    points[:, 0] *= np.tan(np.deg2rad(36)) * np.sqrt(2)
    angle = np.degrees(np.arctan2(points[:, 0], points[:, 1]))
    on_axis = np.hypot(points[:, 0], points[:, 1]) < 0.1
    sector = points[(angle >= -35.9) & (angle < 36.1) & ~on_axis]
    sectors = [sector @ rotation([0, 0, 1], 72 * k).T for k in range(5)]
    points = (
        np.concatenate([*sectors, points[on_axis]])
        @ (to_lab @ orientation([1, -1, 0], [0, 0, 1]).T).T
    )
    return np.full(len(points), crystal.numbers[0]), points


def amorphous(
    rng: np.random.Generator,
    elements: list[str],
    density: float,
    spacing: float,
    low: Vectors,
    high: Vectors,
) -> Atoms:
    """Random atoms in the box at `density` (1/Å³), no two closer than `spacing` Å; `elements` is
    sampled for each atom."""
    wanted = int(density * np.prod(high - low))
    points = np.zeros((0, 3))
    for _ in range(8):
        if len(points) >= wanted:
            break
        points = np.concatenate(
            [points, rng.uniform(low, high, (int(2 * (wanted - len(points))), 3))]
        )
        points = np.delete(
            points, cKDTree(points).query_pairs(spacing, output_type="ndarray")[:, 1], 0
        )[:wanted]
    return np.array([ATOMIC_NUMBERS[e] for e in elements])[
        rng.integers(len(elements), size=len(points))
    ], points


def neighbour_distance(crystal: Crystal) -> float:
    """Shortest distance between two atoms of `crystal`, Å."""
    shifts = np.array(list(product((-1, 0, 1), repeat=3)))
    points = (crystal.fractions[:, None] + shifts[None]).reshape(-1, 3) @ crystal.cell
    return float(cKDTree(points).query(crystal.fractions[:1] @ crystal.cell, k=2)[0][0, 1])


def join(first: Atoms, second: Atoms, distance: float) -> Atoms:
    """Both sets of atoms, without the atoms of `second` that are closer than `distance` Å to one of
    `first`."""
    if not len(first[0]) or not len(second[0]):
        return (second, first)[bool(len(first[0]))]
    # Only atoms near the other's bounding box can overlap.
    low, high = first[1].min(0) - distance, first[1].max(0) + distance
    close = np.flatnonzero(((second[1] > low) & (second[1] < high)).all(1))
    gap, _ = cKDTree(first[1]).query(second[1][close], distance_upper_bound=distance)
    keep = np.ones(len(second[0]), bool)
    keep[close[np.isfinite(gap)]] = False
    return np.concatenate([first[0], second[0][keep]]), np.concatenate([first[1], second[1][keep]])


def drop_overlaps(atoms: Atoms, cell: Vectors, distance: float) -> Atoms:
    """Atoms in [0, `cell`). Of each pair closer than `distance` Å the later one is left out, across
    the lateral borders too."""
    numbers, points = atoms
    box = np.array([cell[0], cell[1], 4 * cell[2]])
    pairs = cKDTree(points, boxsize=box).query_pairs(distance, output_type="ndarray")
    keep = np.ones(len(numbers), bool)
    keep[pairs[:, 1]] = False
    return numbers[keep], points[keep]


def strain(rng: np.random.Generator, points: Vectors, amplitude: float) -> Vectors:
    """Displace `points` by three random waves of 40 to 150 Å, by at most `amplitude` Å in each
    direction (docs/simulation.md, "Any crystal")."""
    displacement = np.zeros_like(points)
    for _ in range(3):
        angle, wavelength = rng.uniform(0, 2 * np.pi), rng.uniform(40, 150)
        phase = points[:, :2] @ [np.cos(angle), np.sin(angle)] * (
            2 * np.pi / wavelength
        ) + rng.uniform(0, 2 * np.pi)
        displacement += np.sin(phase)[:, None] * rng.uniform(-1, 1, 3) / 3
    return np.asarray(points + amplitude * displacement)
