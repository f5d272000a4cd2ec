"""Shapes that cut grains: slabs, edges, holes and particles, each as a signed distance in Å
(positive outside; docs/simulation.md, "Any crystal").

Every `draw_...` returns plain values that `..._distance` turns into distances; angles are in
radians here.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from gdn.simulation.grains import HALF_FIELD, Distances
from gdn.simulation.structures import CELL_ANGSTROM, Vectors, unit

Shape = dict[str, Any]


def along(points: Vectors, angle: float) -> Distances:
    """Coordinate (n,) Å of `points` in the direction `angle` of the plane."""
    return np.asarray(points[:, 0] * np.cos(angle) + points[:, 1] * np.sin(angle))


def draw_thickness(rng: np.random.Generator, thickness: float, wedge: bool) -> Shape:
    """A slab's `thickness` profile: wedge, terraces and dome."""
    terraces = [
        {
            "angle": rng.uniform(0, 6.28),
            "place": rng.uniform(-25, 25),
            "height": rng.uniform(-0.25, 0.25) * thickness,
        }
        for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.55, 0.2, 0.15, 0.1])))
    ]
    dome = rng.uniform(0.2, 0.8) * thickness if rng.random() < 0.12 else 0.0
    return {
        "thickness": thickness,
        "wedge": rng.uniform(0.5, 1.1) if wedge else 0.0,
        "wedge_angle": rng.uniform(0, 6.28),
        "terraces": terraces,
        "dome": dome,
        "dome_centre": rng.uniform(-15, 15, 2).tolist(),
        "flat_bottom": bool(rng.random() < 0.5),
    }


def slab_distance(points: Vectors, height: Distances, p: Shape) -> Distances:
    """Distance from the slab `p`; `height` (n,) Å is the coordinate along the slab's normal."""
    local = np.full(len(points), p["thickness"])
    if p["wedge"]:
        ramp = np.clip(0.5 + along(points, p["wedge_angle"]) / CELL_ANGSTROM, 0, 1)
        local *= 1 - p["wedge"] * ramp
    for terrace in p["terraces"]:
        local += terrace["height"] * (along(points, terrace["angle"]) > terrace["place"])
    if p["dome"]:
        local -= p["dome"] * np.minimum(
            ((points[:, :2] - p["dome_centre"]) ** 2).sum(1) / HALF_FIELD**2, 1
        )
    bottom = -p["thickness"] / 2 if p["flat_bottom"] else -local / 2
    return np.asarray(np.maximum(bottom - height, height - bottom - local))


def draw_edge(
    rng: np.random.Generator, angle: float, place: tuple[float, float], layer: float
) -> Shape:
    """A lateral border whose outward normal lies at `angle`; `layer` Å is the height of its
    steps."""
    steps = [
        {"place": rng.uniform(-25, 25), "height": float(rng.integers(-3, 4)) * layer}
        for _ in range(int(rng.choice([0, 1, 2, 3, 5], p=[0.35, 0.25, 0.2, 0.1, 0.1])))
    ]
    waves = [
        {
            "wavelength": rng.uniform(8, 60),
            "phase": rng.uniform(0, 6.28),
            "height": rng.uniform(0, 2.5),
        }
        for _ in range(int(rng.choice([0, 3], p=[0.6, 0.4])))
    ]
    slope = rng.normal(0, 0.25) if rng.random() < 0.5 else 0.0
    return {
        "angle": angle,
        "place": rng.uniform(*place),
        "slope": slope,
        "steps": steps,
        "waves": waves,
    }


def edge_distance(points: Vectors, p: Shape) -> Distances:
    """Distance beyond the border `p`, with its steps, waves and its slope along the beam."""
    border = np.full(len(points), p["place"]) + p["slope"] * points[:, 2]
    coordinate = along(points, p["angle"] + np.pi / 2)
    for step in p["steps"]:
        border += step["height"] * (coordinate > step["place"])
    for wave in p["waves"]:
        border += wave["height"] * np.sin(
            2 * np.pi * coordinate / wave["wavelength"] + wave["phase"]
        )
    return np.asarray(along(points, p["angle"]) - border)


def draw_hole(rng: np.random.Generator) -> Shape:
    """A hole through a slab or sheet, round to lobed, 5 to 18 Å in radius."""
    return {
        "centre": rng.uniform(-18, 18, 2).tolist(),
        "radius": rng.uniform(5, 18),
        "lobes": int(rng.integers(2, 7)),
        "lobe_depth": rng.uniform(0, 0.3),
        "phase": rng.uniform(0, 6.28),
    }


def hole_distance(points: Vectors, p: Shape) -> Distances:
    """Distance into the hole `p`."""
    x, y = (points[:, :2] - p["centre"]).T
    radius = p["radius"] * (
        1 + p["lobe_depth"] * np.sin(p["lobes"] * np.arctan2(y, x) + p["phase"])
    )
    return np.asarray(radius - np.hypot(x, y))


def draw_particle(rng: np.random.Generator, radius: float, reciprocal: Vectors) -> Shape:
    """A particle about the origin: an ellipsoid, or the convex body between low-index planes,
    normals in crystal axes."""
    if rng.random() < 0.25:
        return {
            "radius": radius,
            "axes": rng.uniform(0.75, 1.1, 3).tolist(),
            "normals": [],
            "distances": [],
        }
    indices = [h for h in product((-1, 0, 1), repeat=3) if any(h)]
    by_order = {1: rng.uniform(0.85, 1.2), 2: rng.uniform(0.9, 1.3), 3: rng.uniform(0.8, 1.1)}
    spread = rng.uniform(0, 0.15)
    distances = [
        radius * by_order[sum(map(abs, h))] * rng.uniform(1 - spread, 1 + spread) for h in indices
    ]
    normals = [unit(np.array(h) @ reciprocal).tolist() for h in indices]
    return {"radius": radius, "axes": None, "normals": normals, "distances": distances}


def particle_distance(points: Vectors, crystal_points: Vectors, p: Shape) -> Distances:
    """Distance from the particle `p`; `crystal_points` (n, 3) are the same points in Cartesian
    crystal axes."""
    if p["axes"]:
        return np.asarray(np.linalg.norm(points / p["axes"], axis=1) - p["radius"])
    return np.asarray((crystal_points @ np.array(p["normals"]).T - p["distances"]).max(1))


def decahedron_distance(local: Vectors, p: Shape) -> Distances:
    """Distance from a truncated pentagonal bipyramid with its axis along z of `local` (n, 3) Å."""
    angle = np.arctan2(local[:, 0], local[:, 1])
    to_sector = angle - np.round(angle / (2 * np.pi / 5)) * (2 * np.pi / 5)
    side = np.hypot(local[:, 0], local[:, 1]) * np.cos(to_sector)
    cap = (side + np.sqrt(2) * np.abs(local[:, 2]) - p["cap"] * p["radius"]) / np.sqrt(3)
    return np.asarray(np.maximum(side - p["radius"], cap))
