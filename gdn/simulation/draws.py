"""Draw the settings of a random specimen: its form, bodies, crystals, shapes and defects, as plain
values.

Lengths in Å, angles in degrees except those of shapes (radians), z along the beam, the field's
centre at x = y = 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gdn.simulation import shapes
from gdn.simulation.crystals_table import FAMILIES
from gdn.simulation.grains import crystal_of, draw_grain

# Form -> its share among all specimens.
FORMS = {
    **{
        "slab": 0.15,
        "edge": 0.2,
        "wedge": 0.09,
        "particle": 0.12,
        "twinned-particle": 0.05,
        "decahedron": 0.04,
    },
    **{
        "two-particles": 0.06,
        "particle-on-crystal": 0.07,
        "particle-on-film": 0.07,
        "boundary": 0.08,
        "sheet": 0.07,
    },
}
MAXIMAL_THICKNESS = 100.0  # Å


def _draw_family(rng: np.random.Generator, layered: bool = False) -> str:
    """A structure family by its share, among the `layered` ones or the others."""
    names = [name for name, family in FAMILIES.items() if family.layered == layered]
    shares = np.array([FAMILIES[name].share for name in names])
    return names[rng.choice(len(names), p=shares / shares.sum())]


def _draw_thickness(rng: np.random.Generator) -> float:
    """A slab's thickness, Å, mostly 15 to 60."""
    low, high = [(3, 15), (15, 60), (60, MAXIMAL_THICKNESS)][rng.choice(3, p=[0.12, 0.76, 0.12])]
    return float(rng.uniform(low, high))


def _plane_angle(rng: np.random.Generator, grain: dict[str, Any]) -> float:
    """Direction (radians) of an edge's normal: that of one of the grain's low-index planes, or
    any."""
    if rng.random() < 0.75:
        return float(np.deg2rad(grain["rotation"] + 90 * rng.integers(4)))
    return float(rng.uniform(0, 2 * np.pi))


def _draw_slab(rng: np.random.Generator, kind: str, thickness: float) -> dict[str, Any]:
    """A slab's grain and shape, with edges if `kind` has them."""
    grain = draw_grain(rng, _draw_family(rng))
    edges = []
    if kind in ("edge", "profile"):
        count = 1 if kind == "profile" else int(rng.choice([1, 2, 3], p=[0.65, 0.25, 0.1]))
        place = (-20.0, 0.0) if kind == "profile" else (-12.0 + 8 * (count > 1), 24.0)
        angle = _plane_angle(rng, grain)
        turns = np.deg2rad([0.0, *rng.choice([54.7, 60, 70.5, 90, 120], count - 1)]).tolist()
        edges = [shapes.draw_edge(rng, angle + turn, place, grain["a"] / 2) for turn in turns]
    hole = shapes.draw_hole(rng) if kind in ("slab", "wedge") and rng.random() < 0.12 else None
    profile = shapes.draw_thickness(
        rng, thickness, kind == "wedge" or (kind == "edge" and rng.random() < 0.3)
    )
    return {
        "type": "slab",
        "grain": grain,
        "profile": profile,
        "edges": edges,
        "hole": hole,
        "centre": [0.0, 0.0, 0.0],
    }


def _draw_particle(
    rng: np.random.Generator, kind: str, radius: float, centre: list[float]
) -> dict[str, Any]:
    """A particle's grain, shape and centre; fcc if it is twinned or a decahedron."""
    grain = draw_grain(
        rng, "fcc" if kind in ("twinned-particle", "decahedron") else _draw_family(rng)
    )
    if kind == "twinned-particle":
        if rng.random() < 0.7:
            grain |= {"zone": [1, 1, 0], "plane": [0, 0, 1]}
        planes = [
            p
            for p in ([1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1])
            if abs(np.dot(p, grain["zone"])) < 0.1
        ]
        grain |= {
            "twin_plane": planes[0] if planes else [1, 1, 1],
            "twin_offset": rng.uniform(-0.4, 0.4) * radius,
        }
    body: dict[str, Any] = {"type": "particle", "grain": grain, "centre": centre, "edges": []}
    if kind == "decahedron":
        grain |= {"decahedron": True, "alloy": None, "offset": [0.0, 0.0, 0.0]}
        if rng.random() < 0.6:
            grain |= {"zone": [1, -1, 0], "plane": [0, 0, 1]}
        return body | {"shape": {"radius": radius, "cap": rng.uniform(1.2, 1.9)}}
    return body | {"shape": shapes.draw_particle(rng, radius, crystal_of(grain).reciprocal)}


def _draw_sheets(rng: np.random.Generator) -> list[dict[str, Any]]:
    """One sheet of 1 to 5 layers, sometimes with a second one rotated against it."""
    family = _draw_family(rng, layered=True)
    grain = draw_grain(rng, family)
    layers = int(rng.integers(1, 5 if family == "dichalcogenide" else 6))
    body: dict[str, Any] = {
        "type": "sheet",
        "grain": grain,
        "layers": layers,
        "hole": None,
        "centre": [0.0, 0.0, 0.0],
    }
    body["edges"] = (
        [shapes.draw_edge(rng, _plane_angle(rng, grain), (-10, 20), grain["a"])]
        if rng.random() < 0.5
        else []
    )
    if not body["edges"] and rng.random() < 0.6:
        body["hole"] = shapes.draw_hole(rng)
    if rng.random() < 0.7:
        return [body]
    upper = grain | {"rotation": rng.uniform(0, 360), "offset": rng.random(3).tolist()}
    return [
        body,
        body
        | {"grain": upper, "layers": 1, "centre": [0.0, 0.0, layers * grain["c"] / 2], "edges": []},
    ]


def _draw_boundary(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Two grains of one or two crystals that meet at a plane in the field."""
    first = _draw_slab(rng, "boundary", _draw_thickness(rng))
    grain = first["grain"]
    other = draw_grain(rng, grain["family"] if rng.random() < 0.5 else _draw_family(rng))
    if rng.random() < 0.45:  # a tilt boundary: the same crystal and zone, turned about the beam
        other = grain | {
            "rotation": grain["rotation"] + rng.uniform(3, 60),
            "offset": other["offset"],
        }
    border = shapes.draw_edge(rng, _plane_angle(rng, grain), (-14, 14), grain["a"] / 2)
    return [
        first | {"edges": [border]},
        first | {"grain": other, "edges": [border | {"inverted": True}]},
    ]


def _draw_bodies(rng: np.random.Generator, kind: str) -> list[dict[str, Any]]:
    """The bodies of a specimen of `kind`. Where two overlap, the earlier one keeps the space."""
    if kind == "sheet":
        return _draw_sheets(rng)
    if kind == "boundary":
        return _draw_boundary(rng)
    if kind in ("slab", "edge", "wedge"):
        return [_draw_slab(rng, kind, _draw_thickness(rng))]
    radius = rng.uniform(8, 20 if kind.startswith("two") or "-on-" in kind else 28)
    centre = [*rng.uniform(-10, 10, 2).tolist(), 0.0]
    if kind == "two-particles":
        other, angle = rng.uniform(8, 20), rng.uniform(0, 2 * np.pi)
        distance = (radius + other) * rng.uniform(0.75, 1.1) / 2
        ends = [
            [s * distance * np.cos(angle), s * distance * np.sin(angle), rng.uniform(-6, 6)]
            for s in (-1, 1)
        ]
        return [
            _draw_particle(rng, kind, r, end) for r, end in zip((radius, other), ends, strict=True)
        ]
    if kind != "particle-on-crystal":
        return [_draw_particle(rng, kind, radius, centre)]
    if rng.random() < 0.5:  # seen in profile, on the slab's edge
        slab = _draw_slab(rng, "profile", rng.uniform(20, 60))
        edge = slab["edges"][0]
        centre = [
            (edge["place"] + rng.uniform(0.2, 0.95) * radius) * f(edge["angle"])
            for f in (np.cos, np.sin)
        ] + [0.0]
        return [slab, _draw_particle(rng, kind, radius, [float(x) for x in centre])]
    slab = _draw_slab(
        rng, "edge" if rng.random() < 0.3 else "slab", rng.uniform(8, 40)
    )  # seen from above
    centre[2] = slab["profile"]["thickness"] / 2 + rng.uniform(0.3, 0.9) * radius
    return [slab, _draw_particle(rng, kind, radius, centre)]


def draw_film(rng: np.random.Generator, kind: str) -> dict[str, Any] | None:
    """An amorphous film below or above the specimen: a support, or on some other specimens
    contamination."""
    support = kind == "particle-on-film"
    if not support and rng.random() > 0.16:
        return None
    material = ["carbon", "silica", "silicon nitride"][
        rng.choice(3, p=[0.7, 0.15, 0.15] if support else [1, 0, 0])
    ]
    edges = (
        [shapes.draw_edge(rng, rng.uniform(0, 2 * np.pi), (-10, 20), 2.0)]
        if rng.random() < 0.35
        else []
    )
    thickness = rng.uniform(10, 40) if rng.random() < 0.5 else rng.uniform(10, 20)
    return {
        "material": material,
        "thickness": thickness,
        "below": bool(support or rng.random() < 0.5),
        "edges": edges,
    }


def draw_parameters(rng: np.random.Generator) -> dict[str, Any]:
    """Draw every setting of a specimen. The result is stored with it."""
    kind = list(FORMS)[rng.choice(len(FORMS), p=list(FORMS.values()))]
    bodies = _draw_bodies(rng, kind)
    film = draw_film(rng, kind)
    return {
        "kind": kind,
        "crystals": [body["grain"]["crystal"] for body in bodies],
        "families": [body["grain"]["family"] for body in bodies],
        "zones": [body["grain"]["zone"] for body in bodies],
        "bodies": bodies,
        "film": film is not None,
        "film_shape": film,
        "vacancies": rng.uniform(0, 0.04) if rng.random() < 0.35 else 0.0,
        "roughness": rng.uniform(0, 0.5) if rng.random() < 0.5 else 0.0,
        "adatoms": rng.uniform(0, 0.15) if rng.random() < 0.35 else 0.0,
        "strain_angstrom": rng.uniform(0.05, 0.3) if rng.random() < 0.3 else 0.0,
        "thermal_angstrom": rng.uniform(0.05, 0.12),
    }
