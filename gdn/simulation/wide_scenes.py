"""Pt on CeO2 as many microscopes see it: thicker, more tilted, and in part of the scenes under or
on an amorphous film.

The settings are wider than those of `gdn.simulation.structures`; the seeds of that module keep
their meaning.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gdn.simulation.draws import draw_film
from gdn.simulation.grains import HALF_FIELD
from gdn.simulation.specimens import add_film
from gdn.simulation.structures import Structure, build_scene, draw_scene

THICKNESS_ANGSTROM = (20.0, 80.0)  # of the support
TILT_DEGREES = 5.0  # of the scene at most
PARTICLE_TILT_DEGREES = 3.0  # of the particle against its support, at most
FILMED = 0.4  # share of the scenes with a film


def draw_wide_scene(rng: np.random.Generator) -> dict[str, Any]:
    """Draw every setting of a scene, with those of its film or None."""
    p = draw_scene(rng)
    p["support_thickness"] = rng.uniform(*THICKNESS_ANGSTROM)
    p["tilt"] = TILT_DEGREES * rng.random()
    p["particle_tilt"] = PARTICLE_TILT_DEGREES * rng.random()
    p["particle_tilt_azimuth"] = rng.uniform(0, 360)
    p["thermal_angstrom"] = rng.uniform(0.06, 0.1)
    film = draw_film(rng, "particle-on-film")  # which always has one
    p["film"] = (
        film | {"below": bool(rng.random() < 0.5)} if film and rng.random() < FILMED else None
    )
    return p


def wide_structure(seed: int) -> Structure:
    """The wide scene of `seed`: positions in [0, cell), z with 2 Å of vacuum at both faces."""
    rng = np.random.default_rng([seed, 0x58])
    p = draw_wide_scene(rng)
    scene = build_scene(rng, p)
    film = p["film"]
    if film is None:
        return scene
    middle = np.array([HALF_FIELD, HALF_FIELD, 0.0])
    numbers, positions = add_film(
        rng, (scene.numbers, scene.positions - middle), film
    )  # whose field is about x = y = 0
    positions = positions + middle
    keep = ((positions[:, :2] >= 0) & (positions[:, :2] < scene.cell[:2])).all(1)
    numbers, positions = numbers[keep], positions[keep]
    positions[:, 2] += 2 - (positions[:, 2].min() if len(positions) else 0)
    top = positions[:, 2].max() + 2 if len(positions) else 4.0
    return Structure(numbers, positions, np.array([*scene.cell[:2], top]), p)
