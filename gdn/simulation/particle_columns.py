"""The atom columns of a particle: the atoms of each, the columns at its surface, and the places for
another column (docs/simulation.md, "Pt on CeO2", "Movies")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn.simulation.structures import Structure, Vectors, rotation, unit

PARTICLE_NUMBER = 78  # atomic number of the particle's atoms
JOINED_ANGSTROM = 0.7  # atoms nearer than this along the column axis' projection are one column
EMPTY_ANGSTROM = 1.2  # from an empty site to any column
NEIGHBOUR_ANGSTROM = 3.1  # from one column to those next to it
SURFACE_DEGREES = 150.0  # without a neighbour: a flat facet leaves 180, a vacancy within 120
SUPPORT_ANGSTROM = 4.5  # from a heavy atom that is no particle's: nearer, the column is at the foot
SUPPORT_NUMBER = 30  # heavier atoms are a support's, lighter ones its oxygen or a film
LEAST_ATOMS = 4  # in a column that is to be seen
RESOLVED_ANGSTROM = 1.8  # from a column that is to be seen to the next, and of a hop at least


@dataclass(frozen=True, kw_only=True)
class ParticleColumns:
    """Columns of a particle.

    - `structure`: which contains the particle.
    - `axis` (3,): unit vector along the columns.
    - `atoms`: of each column, indices into the structure.
    - `sites` (m, 2): Å in the plane across the columns.
    - `places` (m, 2): y, x in Å in the cell, where the beam sees them.
    """

    structure: Structure
    axis: Vectors
    atoms: list[NDArray[np.int64]]
    sites: NDArray[np.float64]
    places: NDArray[np.float64]

    def across(self, positions: Vectors) -> NDArray[np.float64]:
        """Positions (n, 3) projected along the columns, (n, 2) Å."""
        first = unit(np.array([1.0, 0, 0]) - self.axis[0] * self.axis)
        return np.asarray(positions @ np.stack([first, np.cross(self.axis, first)], 1))

    def outward(self, index: int) -> tuple[float, NDArray[np.float64]]:
        """The widest angle (degrees) without a neighbour at column `index`, and its direction; 0 if
        the column is not resolved or has no neighbours."""
        apart = self.sites - self.sites[index]
        distance = np.hypot(*apart.T)
        near = apart[(distance > 0) & (distance < NEIGHBOUR_ANGSTROM)]
        if len(near) < 2 or np.hypot(*near.T).min() < RESOLVED_ANGSTROM:
            return 0.0, np.zeros(2)
        angles = np.sort(np.arctan2(near[:, 1], near[:, 0]))
        gaps = np.diff(angles, append=angles[0] + 2 * np.pi)
        widest = int(gaps.argmax())
        middle = angles[widest] + gaps[widest] / 2
        return float(np.rad2deg(gaps[widest])), np.array([np.cos(middle), np.sin(middle)])

    def surface(self, reach: NDArray[np.float64]) -> NDArray[np.int64]:
        """Columns at the free surface with enough atoms to be visible, within `reach` (y, x) Å of
        the middle of the cell."""
        middle = self.structure.cell[:2] / 2
        inside = (np.abs(self.places - middle) < reach).all(1)
        columns = [
            i
            for i in map(int, np.flatnonzero(inside))
            if len(self.atoms[i]) >= LEAST_ATOMS
            and self.outward(i)[0] >= SURFACE_DEGREES
            and self.free(self.places[i])
        ]
        return np.array(columns, dtype=np.int64)

    def free(self, place: NDArray[np.float64]) -> bool:
        """Whether no heavy atom of another crystal is seen near `place` (y, x)."""
        numbers, positions = self.structure.numbers, self.structure.positions
        other = (numbers > SUPPORT_NUMBER) & (numbers != PARTICLE_NUMBER)
        distance = np.hypot(*(positions[other, 1::-1] - place).T)
        return bool((distance > SUPPORT_ANGSTROM).all())

    def hops(self, index: int) -> list[Vectors]:
        """Vectors (3,) from column `index` to empty sites next to it that touch two others."""
        positions = self.structure.positions
        own = self.atoms[index]
        particle = np.concatenate(self.atoms)
        apart = positions[particle] - positions[own[len(own) // 2]]
        near = apart[(np.linalg.norm(apart, axis=1) < NEIGHBOUR_ANGSTROM)]
        others = np.delete(self.sites, index, axis=0)
        hops = []
        for vector in np.concatenate([near, -near]):
            step = self.across(vector[None])[0]
            if np.hypot(*step) < RESOLVED_ANGSTROM:
                continue
            moved = positions[own] + vector
            distance = np.hypot(*(others - self.sites[index] - step).T)
            inside = (moved > 0.3).all() and (moved < self.structure.cell - 0.3).all()
            touching = int((distance < NEIGHBOUR_ANGSTROM).sum())
            empty = distance.min() > EMPTY_ANGSTROM and self.free(moved[:, 1::-1].mean(0))
            if inside and touching >= 2 and empty:
                hops.append(np.asarray(vector))
        return hops


def column_axis(parameters: dict[str, Any]) -> Vectors:
    """The direction (3,) of a particle's columns in a scene of `gdn.simulation.structures`: that of
    the beam, rotated as `build_scene` rotates the particle and then the scene."""
    p = parameters
    azimuth = np.deg2rad(p["particle_tilt_azimuth"]) if "particle_tilt_azimuth" in p else p["tilt"]
    axis = rotation([np.cos(azimuth), np.sin(azimuth), 0], p["particle_tilt"]) @ [0.0, 0.0, 1.0]
    azimuth = np.deg2rad(p["tilt_azimuth"])
    axis = rotation([np.cos(azimuth), np.sin(azimuth), 0], p["tilt"]) @ axis
    return np.asarray(rotation([0, 0, 1], p["in_plane_rotation"]) @ axis)


def particle_columns(structure: Structure, axis: Vectors | None = None) -> ParticleColumns | None:
    """The columns of the particle in a scene, along `axis` or along the axis in its parameters;
    None if there is no particle."""
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    atoms = np.flatnonzero(structure.numbers == PARTICLE_NUMBER)
    if not len(atoms):
        return None
    along = column_axis(structure.parameters) if axis is None else axis
    empty = np.zeros((0, 2))
    frame = ParticleColumns(structure=structure, axis=along, atoms=[], sites=empty, places=empty)
    sites = frame.across(structure.positions[atoms])
    tree = cKDTree(sites)
    count, label = connected_components(
        tree.sparse_distance_matrix(tree, JOINED_ANGSTROM), directed=False
    )
    members = [atoms[label == i] for i in range(count)]
    return ParticleColumns(
        structure=structure,
        axis=along,
        atoms=members,
        sites=np.stack([sites[label == i].mean(0) for i in range(count)]),
        places=np.stack([structure.positions[m, 1::-1].mean(0) for m in members]),
    )
