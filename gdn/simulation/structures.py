"""Random atomic structures: Pt nanoparticles on CeO2 seen in profile, and the parts of that scene
(docs/simulation.md, "Pt on CeO2").

Lab frame: x to the right, y away from the support (its surface normal before the in-plane
rotation), z along the beam. Lengths in Å, angles in degrees unless a name says otherwise.
A structure is a pure function of its seed, so a stored seed repeats it exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]  # (n, 3), Å
Split = Literal["test", "validation", "train"]

CELL_ANGSTROM = 64.0  # lateral size of the periodic simulation cell
CEO2_A, PT_A = 5.411, 3.924  # lattice constants, Å

# Fractional coordinates of the conventional cubic cells.
_FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], dtype=float)
_FLUORITE_O = np.array(
    [[i, j, k] for i in (0.25, 0.75) for j in (0.25, 0.75) for k in (0.25, 0.75)]
)

# Zone axis -> surface normals that are perpendicular to it.
ORIENTATIONS: dict[tuple[int, int, int], list[tuple[int, int, int]]] = {
    (1, 1, 0): [(-1, 1, 1), (0, 0, 1), (1, -1, 0)],
    (1, 0, 0): [(0, 1, 0), (0, 1, 1)],
    (1, 1, 2): [(1, 1, -1), (1, -1, 0)],
}
KINDS = {"particle-on-support": 0.62, "particle": 0.2, "support": 0.14, "vacuum": 0.04}


@dataclass(frozen=True)
class Structure:
    """Atoms of one scene: `numbers` (n,), `positions` (n, 3) Å inside `cell` (3,) Å, and what made
    it."""

    numbers: NDArray[np.int64]
    positions: Vectors
    cell: Vectors
    parameters: dict[str, Any] = field(default_factory=dict)


def split_of(seed: int) -> Split:
    """'test' (one in ten), 'validation' (one in ten) or 'train', from the structure's seed
    alone."""
    last = seed % 10
    return "test" if last == 0 else "validation" if last == 1 else "train"


def seeds_of(split: Split, rng: np.random.Generator) -> Iterator[int]:
    """Seeds of `split`, without end, drawn from `rng`: 48 bits, as those of a data set."""
    while True:
        seed = int(rng.integers(2**48))
        if split_of(seed) == split:
            yield seed


def unit(vector: Any) -> Vectors:
    """The `vector` (3,) scaled to length 1."""
    v = np.asarray(vector, dtype=float)
    return np.asarray(v / np.linalg.norm(v))


def orientation(zone: Any, normal: Any) -> Vectors:
    """Rotation (3, 3) that takes crystal axes to the lab: `normal` to y, `zone` to z."""
    z, y = unit(zone), unit(normal)
    return np.stack([np.cross(y, z), y, z])


def rotation(axis: Any, degrees: float) -> Vectors:
    """Rotation matrix (3, 3) about `axis` by `degrees` (Rodrigues 1840)."""
    k, angle = unit(axis), np.deg2rad(degrees)
    cross = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def lattice(
    basis: Vectors, a: float, to_lab: Vectors, radius: float, half_thickness: float
) -> Vectors:
    """Lattice points (n, 3) Å in the lab with |x|, |y| < `radius` and |z| < `half_thickness` (+2
    Å)."""
    reach = np.sqrt(2 * radius**2 + half_thickness**2) / a
    steps = np.arange(-int(reach) - 2, int(reach) + 2)
    cells = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    # Drop cells that cannot reach the box before the basis multiplies them.
    centres = (cells + 0.5) @ to_lab.T * a
    near = (np.abs(centres[:, :2]) < radius + a).all(1) & (
        np.abs(centres[:, 2]) < half_thickness + a
    )
    points: Vectors = (cells[near, None, :] + basis[None]).reshape(-1, 3) @ to_lab.T * a
    inside = (np.abs(points[:, :2]) < radius).all(1) & (np.abs(points[:, 2]) < half_thickness + 2)
    return np.asarray(points[inside])


def _support(rng: np.random.Generator, p: dict[str, Any]) -> tuple[NDArray[np.int64], Vectors]:
    """CeO2 slab filling y < `p['surface_y']`, with steps, roughness and oxygen vacancies."""
    zone, normal = p["support_zone"], p["support_normal"]
    to_lab = orientation(zone, normal)
    radius, half = CELL_ANGSTROM * 0.75, p["support_thickness"] / 2
    offset = rng.uniform(0, CEO2_A, 3)
    ce = lattice(_FCC, CEO2_A, to_lab, radius, half + 3) + offset - CEO2_A / 2
    ox = lattice(_FLUORITE_O, CEO2_A, to_lab, radius, half + 3) + offset - CEO2_A / 2
    points = np.concatenate([ce, ox])
    numbers = np.concatenate([np.full(len(ce), 58), np.full(len(ox), 8)])
    layer = CEO2_A / np.linalg.norm(normal)
    surface = p["surface_y"] + layer * p["support_step"] * (points[:, 0] > p["support_step_x"])
    depth = surface - points[:, 1]
    # A wedge: thinner at the edge than in the depth, as a crushed powder's grains are.
    local_half = half * np.clip(p["wedge"] + (1 - p["wedge"]) * depth / 25, 0.2, 1)
    keep = (depth > 0) & (np.abs(points[:, 2]) < local_half)
    keep &= ~((depth < layer) & (rng.random(len(points)) < p["support_roughness"]))
    keep &= ~((numbers == 8) & (rng.random(len(points)) < p["oxygen_vacancies"]))
    return numbers[keep], points[keep]


def _facet_depth(crystal: Vectors, p: dict[str, Any]) -> NDArray[np.float64]:
    """Signed distance (n,) Å by which points in crystal axes lie outside the truncated
    octahedron."""
    faces = [(h, k, m) for h in (-1, 1) for k in (-1, 1) for m in (-1, 1)]
    cubes = [tuple(s * (i == j) for j in range(3)) for i in range(3) for s in (-1, 1)]
    distances = np.concatenate([p["d111"], p["d100"]])
    normals = np.stack([unit(n) for n in faces + cubes])
    return np.asarray((crystal @ normals.T - distances).max(1))


def _particle(rng: np.random.Generator, p: dict[str, Any]) -> Vectors:
    """Pt atoms (n, 3) Å of a faceted particle centred on the origin of the lab frame."""
    to_lab = rotation([0, 0, 1], p["particle_rotation"]) @ orientation(
        p["particle_zone"], p["particle_normal"]
    )
    reach = 1.5 * p["particle_radius"] + 5
    points = lattice(_FCC, PT_A, to_lab, reach, reach) + (
        to_lab @ rng.uniform(0, PT_A, 3) - PT_A / 2
    )
    if p["twin"]:
        # Mirror on the (111) plane nearest to edge-on, displaced from the centre.
        n = to_lab @ unit(p["twin_plane"])
        height = points @ n
        # The mirror is an atomic plane: the one nearest to the drawn place.
        side = height - height[np.abs(height - p["twin_offset"]).argmin()]
        mirrored = points - 2 * side[:, None] * n
        points = np.concatenate([points[side <= 0.1], mirrored[side < -0.1]])
    outside = _facet_depth(points @ to_lab, p)
    shell = (outside > 0) & (outside < 2.4)
    keep = outside <= 0
    # A surface step: part of the outermost layer on one side is missing.
    if p["surface_step"]:
        direction = unit([np.cos(p["step_angle"]), np.sin(p["step_angle"]), 0])
        keep &= ~((outside > -2.3) & (points @ direction > p["particle_radius"] * 0.35))
    keep &= ~((outside > -2.3) & (rng.random(len(points)) < p["surface_vacancies"]))
    # Adatoms come as short columns along the beam: a single atom would not be seen.
    seeds = rng.permutation(np.flatnonzero(shell))[: p["adatom_columns"]]
    for seed in seeds:
        column = shell & (np.hypot(*(points[:, :2] - points[seed, :2]).T) < 0.6)
        keep |= column
    return np.asarray(points[keep])


def draw_scene(rng: np.random.Generator) -> dict[str, Any]:
    """Draw every setting of a scene. The result is stored with it."""
    zones = list(ORIENTATIONS)
    zone = zones[rng.choice(3, p=[0.6, 0.25, 0.15])]
    normals = ORIENTATIONS[zone]
    normal = normals[rng.integers(len(normals))]
    epitaxial = rng.random() < 0.6
    pt_zone = zone if epitaxial else zones[rng.choice(3, p=[0.6, 0.25, 0.15])]
    pt_normal = normal if epitaxial else ORIENTATIONS[pt_zone][0]
    radius = rng.uniform(9, 20)
    twin_planes = [n for n in [(-1, 1, 1), (1, -1, 1), (1, 1, -1)] if abs(np.dot(n, pt_zone)) < 0.1]
    return {
        "kind": list(KINDS)[rng.choice(len(KINDS), p=list(KINDS.values()))],
        "support_zone": zone,
        "support_normal": normal,
        "support_thickness": rng.uniform(30, 60),
        "surface_y": rng.uniform(-16, 4),
        "support_step": int(rng.choice([-1, 0, 1], p=[0.2, 0.6, 0.2])),
        "support_step_x": rng.uniform(-20, 20),
        "support_roughness": rng.choice([0.0, rng.uniform(0, 0.5)]),
        "oxygen_vacancies": rng.choice([0.0, rng.uniform(0, 0.15)]),
        "wedge": rng.uniform(0.35, 1),
        "particle_zone": pt_zone,
        "particle_normal": pt_normal,
        "particle_rotation": 0.0 if epitaxial else rng.uniform(0, 360),
        "particle_radius": radius,
        "particle_height": rng.uniform(0.1, 0.9),
        "particle_x": rng.uniform(-12, 12),
        "particle_z": rng.uniform(-5, 5),
        "d111": (radius * rng.uniform(0.88, 1.12, 8)).tolist(),
        "d100": (radius * rng.uniform(0.85, 1.25) * rng.uniform(0.9, 1.1, 6)).tolist(),
        "twin": bool(twin_planes) and bool(rng.random() < 0.15),
        "twin_plane": twin_planes[rng.integers(len(twin_planes))] if twin_planes else (1, 1, 1),
        "twin_offset": rng.uniform(-0.4, 0.4) * radius,
        "surface_step": bool(rng.random() < 0.3),
        "step_angle": rng.uniform(0, 2 * np.pi),
        "surface_vacancies": rng.choice([0.0, rng.uniform(0, 0.4)]),
        "adatom_columns": int(rng.choice(np.array([0, rng.integers(1, 6)]))),
        "tilt": 4 * rng.random(),
        "tilt_azimuth": rng.uniform(0, 360),
        "particle_tilt": 1.5 * rng.random(),
        "in_plane_rotation": rng.uniform(0, 360),
        "gap": rng.uniform(2.0, 2.6),
    }


def random_structure(seed: int) -> Structure:
    """The scene of `seed`. Positions lie in [0, cell); z has at least 2 Å of vacuum at both
    faces."""
    rng = np.random.default_rng([seed, 0x57])
    return build_scene(rng, draw_scene(rng))


def build_scene(rng: np.random.Generator, p: dict[str, Any]) -> Structure:
    """The structure of the settings `p` of `draw_scene`. `rng` draws what they leave open."""
    numbers: list[NDArray[np.int64]] = []
    positions: list[Vectors] = []
    if "support" in p["kind"]:
        n, x = _support(rng, p)
        numbers.append(n)
        positions.append(x)
    if "particle" in p["kind"]:
        # Scenes without an azimuth of their own take the number of degrees of the whole scene's
        # tilt for one in radians: an old mistake, kept because a seed must go on standing for the
        # same structure.
        azimuth = (
            np.deg2rad(p["particle_tilt_azimuth"]) if "particle_tilt_azimuth" in p else p["tilt"]
        )
        x = (
            _particle(rng, p)
            @ rotation([np.cos(azimuth), np.sin(azimuth), 0], p["particle_tilt"]).T
        )
        if p["kind"] == "particle":
            x = x + np.array([p["particle_x"], 0.5 * p["surface_y"], 0])
        else:
            step = p["support_step"] * CEO2_A / np.linalg.norm(p["support_normal"])
            base = p["surface_y"] + (step if p["particle_x"] > p["support_step_x"] else 0.0)
            x = x + np.array(
                [
                    p["particle_x"],
                    base + p["particle_height"] * p["particle_radius"],
                    p["particle_z"],
                ]
            )
            x = x[x[:, 1] > base + p["gap"]]
        numbers.append(np.full(len(x), 78))
        positions.append(x)
    return _place(p, numbers, positions)


def _place(
    p: dict[str, Any], numbers: list[NDArray[np.int64]], positions: list[Vectors]
) -> Structure:
    """Tilt, rotate in the plane, cut to the cell and shift so that z starts at 2 Å."""
    if not positions or not sum(map(len, positions)):
        return Structure(
            np.zeros(0, int), np.zeros((0, 3)), np.array([CELL_ANGSTROM, CELL_ANGSTROM, 4.0]), p
        )
    n, x = np.concatenate(numbers), np.concatenate(positions)
    azimuth = np.deg2rad(p["tilt_azimuth"])
    x = x @ rotation([np.cos(azimuth), np.sin(azimuth), 0], p["tilt"]).T
    x = x @ rotation([0, 0, 1], p["in_plane_rotation"]).T
    x[:, :2] += CELL_ANGSTROM / 2
    keep = ((x[:, :2] >= 0) & (x[:, :2] < CELL_ANGSTROM)).all(1)
    n, x = n[keep], x[keep]
    x[:, 2] += 2 - x[:, 2].min() if len(x) else 0
    thickness = x[:, 2].max() + 2 if len(x) else 4.0
    return Structure(n, x, np.array([CELL_ANGSTROM, CELL_ANGSTROM, thickness]), p)
