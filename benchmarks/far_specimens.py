"""Specimens of the far set, from ase's builders: blocks, edges, particles, sheets, films of
amorphous carbon, single defects.

Atoms stand in a square box, the beam along z; lengths in Å. Tags: 0 crystal, FILM amorphous carbon,
ADATOM single atoms. Nothing here is shared with `gdn.training`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, graphene, mx2
from ase.cluster import Decahedron, Icosahedron, Octahedron, wulff_construction
from ase.spacegroup import crystal
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

Values = NDArray[np.float64]

FILM, ADATOM, GHOST = 1, 2, 9
PAD_ANGSTROM = 4.0  # of vacuum above and below
JOIN_ANGSTROM = 0.5  # atoms that are nearer than this in projection are one column
DEFECT_CLEAR_ANGSTROM = 7.0  # between defects, and from the box's edge
CARBON_DENSITY = 0.095  # atoms per Å^3: 1.9 g/cm^3
CARBON_APART_ANGSTROM = 1.4


@dataclass(frozen=True)
class Specimen:
    """`atoms`, and the places (n, 2), x and y in Å, of columns taken away and atoms put on, each
    with the places of the crystal that are alike but for the defect."""

    atoms: Atoms
    periodic: bool = False  # the crystal fills the field
    vacancies: Values = field(default_factory=lambda: np.zeros((0, 2)))
    vacancy_peers: Values = field(default_factory=lambda: np.zeros((0, 2)))
    adatoms: Values = field(default_factory=lambda: np.zeros((0, 2)))
    adatom_peers: Values = field(default_factory=lambda: np.zeros((0, 2)))


Builder = Callable[[np.random.Generator, float], Specimen]


# Crystals, conventional cells.


def fluorite() -> Atoms:
    return crystal(
        ["Ce", "O"], [(0, 0, 0), (0.25, 0.25, 0.25)], spacegroup=225, cellpar=[5.411] * 3 + [90] * 3
    )


def strontium_titanate() -> Atoms:
    places = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)]
    return crystal(["Sr", "Ti", "O"], places, spacegroup=221, cellpar=[3.905] * 3 + [90] * 3)


def caesium_lead_bromide() -> Atoms:
    places = [(0.5, 0.5, 0.5), (0, 0, 0), (0.5, 0, 0)]
    return crystal(["Cs", "Pb", "Br"], places, spacegroup=221, cellpar=[5.87] * 3 + [90] * 3)


def magnetite() -> Atoms:
    places = [(0.125, 0.125, 0.125), (0.5, 0.5, 0.5), (0.2549, 0.2549, 0.2549)]
    return crystal(
        ["Fe", "Fe", "O"], places, spacegroup=227, setting=2, cellpar=[8.396] * 3 + [90] * 3
    )


def rutile() -> Atoms:
    places = [(0, 0, 0), (0.3053, 0.3053, 0)]
    return crystal(["Ti", "O"], places, spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90])


def wurtzite(first: str, second: str, a: float, c: float) -> Atoms:
    return bulk(first + second, "wurtzite", a=a, c=c)


def zincblende() -> Atoms:
    return bulk("CdSe", "zincblende", a=6.077, cubic=True)


def silicon(channels: bool = False) -> Atoms:
    """Diamond; with ghosts in the middle of the channels that are open along [110], on request."""
    cell = bulk("Si", "diamond", a=5.431, cubic=True)
    if channels:
        fcc = np.array([(0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)])
        cell += Atoms("X4", positions=(fcc + 0.625) % 1 * 5.431, tags=[GHOST] * 4)
    return cell


# Laying them out.


def frame_of(zone: Any, across: Any) -> Values:
    """Rotation (3, 3) that brings the Cartesian direction `zone` to z, and `across`, as far as it
    is at right angles, to y."""
    z = np.asarray(zone, float) / np.linalg.norm(zone)
    y = np.asarray(across, float) - np.dot(across, z) * z
    y /= np.linalg.norm(y)
    return np.array([np.cross(y, z), y, z])


def turn(degrees: float) -> Values:
    """Rotation (3, 3) about z."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def block(cell: Atoms, rotation: Values, size: Any, shift: Any = (0, 0, 0)) -> Atoms:
    """The crystal turned by `rotation`, cut to a block of `size` (x, y, z) Å about the origin,
    moved by `shift` Å beforehand."""
    half = np.asarray(size, float) / 2
    reach = np.linalg.norm(half) + np.linalg.norm(shift)
    count = np.ceil(2 * reach * np.linalg.norm(cell.cell.reciprocal(), axis=1)).astype(int) + 1
    grown = cell.repeat(tuple(np.where(cell.pbc, count, 1)))  # a sheet is one layer
    places = (grown.positions - grown.cell.sum(0) / 2) @ rotation.T + np.asarray(shift)
    inside = (np.abs(places) <= half + 1e-6).all(1)
    return Atoms(grown.numbers[inside], places[inside], tags=grown.get_tags()[inside])


def place(atoms: Atoms, box: float) -> Atoms:
    """Atoms about the origin into the box of `box` x `box` Å; those outside of it are dropped."""
    low = atoms.positions[:, 2].min() - PAD_ANGSTROM
    placed = atoms.copy()
    placed.positions += (box / 2, box / 2, -low)
    inside = ((placed.positions[:, :2] >= 0) & (placed.positions[:, :2] < box)).all(1)
    kept: Atoms = placed[inside]
    kept.set_cell([box, box, kept.positions[:, 2].max() + PAD_ANGSTROM])
    kept.pbc = True
    return kept


def carbon(rng: np.random.Generator, box: float, thickness: float) -> Atoms:
    """A film of amorphous carbon about z = 0: random packing with a least distance, each atom
    refused that came too late."""
    wanted = round(CARBON_DENSITY * box * box * thickness)
    places = rng.uniform(-0.5, 0.5, (round(1.7 * wanted), 3)) * (box, box, thickness)
    pairs = cKDTree(places).query_pairs(CARBON_APART_ANGSTROM, output_type="ndarray")
    kept = np.ones(len(places), bool)
    for first, second in pairs[np.argsort(pairs.max(1), kind="stable")]:
        kept[max(first, second)] &= not kept[min(first, second)]
    places = places[kept][:wanted]
    return Atoms(f"C{len(places)}", places, tags=[FILM] * len(places))


def on_film(atoms: Atoms, film: Atoms) -> Atoms:
    """`atoms` with the film behind them."""
    joined: Atoms = film.copy()
    joined.positions[:, 2] += atoms.positions[:, 2].max() + 1.5 - film.positions[:, 2].min()
    both: Atoms = atoms + joined
    return both


def columns_of(atoms: Atoms) -> tuple[Values, Values, NDArray[Any], NDArray[Any]]:
    """Projected columns of all but the film: places (n, 2) Å, summed and heaviest atomic number
    (n,), column of each atom (-1: film)."""
    label = np.full(len(atoms), -1)
    at = np.flatnonzero(atoms.get_tags() != FILM)
    if not len(at):
        return np.zeros((0, 2)), np.zeros(0), np.zeros(0, int), label
    xy, numbers = atoms.positions[at, :2], atoms.numbers[at]
    tree = cKDTree(xy)
    label[at] = connected_components(
        tree.sparse_distance_matrix(tree, JOIN_ANGSTROM), directed=False
    )[1]
    weight = np.bincount(label[at], numbers).astype(float)
    centre = np.stack(
        [np.bincount(label[at], numbers * xy[:, a]) / np.maximum(weight, 1e-9) for a in (0, 1)], 1
    )
    heaviest = np.zeros(len(weight), int)
    np.maximum.at(heaviest, label[at], numbers)
    return centre, weight, heaviest, label


def spaced(
    rng: np.random.Generator, places: Values, count: int, box: float, margin: float
) -> NDArray[np.int64]:
    """Indices of up to `count` of `places` at random, apart from one another and `margin` Å from
    the box's edge."""
    kept: list[int] = []
    inner = ((places > margin) & (places < box - margin)).all(1)
    for index in rng.permutation(np.flatnonzero(inner)):
        if all(np.hypot(*(places[index] - places[i])) > DEFECT_CLEAR_ANGSTROM for i in kept):
            kept.append(int(index))
        if len(kept) == count:
            break
    return np.array(kept, int)


def without_columns(
    made: Specimen,
    rng: np.random.Generator,
    box: float,
    element: int,
    count: int,
    left: float = 0.0,
) -> Specimen:
    """`count` columns of `element` emptied but for a share `left` of their atoms."""
    centre, weight, heaviest, label = columns_of(made.atoms)
    alike = np.flatnonzero(
        (heaviest == element) & (weight > 0.8 * np.median(weight[heaviest == element]))
    )
    chosen = alike[spaced(rng, centre[alike], count, box, 12.0)]
    gone = np.isin(label, chosen) & (rng.random(len(label)) >= left)
    return replace(
        made,
        atoms=made.atoms[~gone],
        vacancies=centre[chosen],
        vacancy_peers=centre[np.setdiff1d(alike, chosen)],
    )


def with_adatoms(
    made: Specimen, rng: np.random.Generator, box: float, element: str, count: int, above: float
) -> Specimen:
    """An atom of `element` at `count` of the ghosts' columns, `above` Å higher than the ghost
    there; the ghosts are taken out."""
    ghost = made.atoms.get_tags() == GHOST
    places, rest = made.atoms.positions[ghost], made.atoms[~ghost]
    tree = cKDTree(places[:, :2])
    column = connected_components(tree.sparse_distance_matrix(tree, JOIN_ANGSTROM), directed=False)[
        1
    ]
    sites = places[np.unique(column, return_index=True)[1]]
    chosen = spaced(rng, sites[:, :2], count, box, 12.0)
    top = sites[chosen] + (0, 0, above)
    top[:, 2] = np.minimum(top[:, 2], rest.cell[2, 2] - PAD_ANGSTROM / 2)
    extra = Atoms(f"{element}{len(chosen)}", top, tags=[ADATOM] * len(chosen))
    peers = np.delete(sites[:, :2], chosen, 0)
    return replace(made, atoms=rest + extra, adatoms=sites[chosen, :2], adatom_peers=peers)


# Kinds of specimen: each returns a Builder.


def periodic(
    cell: Atoms, zone: Any, thickness: float, across: Any = (0, 0, 1), degrees: float = 0.0
) -> Builder:
    """A field filled by the crystal; `zone` and `across` are Cartesian directions."""

    def build(rng: np.random.Generator, box: float) -> Specimen:
        shift = rng.uniform(-1, 1, 3)
        made = block(cell, turn(degrees) @ frame_of(zone, across), (box, box, thickness), shift)
        return Specimen(place(made, box), periodic=True)

    return build


def edge(
    cell: Atoms,
    zone: Any,
    across: Any,
    thickness: float,
    wedge: float,
    degrees: float,
    film: float = 0.0,
) -> Builder:
    """A crystal that ends half-way through the field, thinning by `wedge` Å per Å to its edge,
    steps along it; carbon behind."""

    def build(rng: np.random.Generator, box: float) -> Specimen:
        made = block(cell, frame_of(zone, across), (1.5 * box, 1.5 * box, thickness))
        x, y, z = made.positions.T
        step = (
            2.5
            * np.cumsum(rng.integers(-1, 2, 40))[np.clip(((x / box + 0.8) * 25).astype(int), 0, 39)]
        )
        depth = 0.12 * box + step - y
        made = made[(depth > 0) & (z + thickness / 2 < np.maximum(8.0, wedge * depth))]
        made.positions[:] = made.positions @ turn(degrees).T
        return Specimen(place(on_film(made, carbon(rng, box, film)) if film else made, box))

    return build


def particle(
    make: Callable[[], Atoms], zone: Any, across: Any, film: float = 0.0, degrees: float = 0.0
) -> Builder:
    """A particle that `make` makes in its crystal's own axes, on carbon of `film` Å."""

    def build(rng: np.random.Generator, box: float) -> Specimen:
        made = make()
        centred = made.positions - made.positions.mean(0)
        turned = Atoms(made.numbers, centred @ (turn(degrees) @ frame_of(zone, across)).T)
        turned.positions[:, :2] += rng.uniform(-3, 3, 2)
        return Specimen(place(on_film(turned, carbon(rng, box, film)) if film else turned, box))

    return build


def polyhedron(cell: Atoms, radius: float, normals: list[tuple[Any, float]]) -> Callable[[], Atoms]:
    """A crystal cut by all planes equivalent under cubic signs to `normals`, each at its share of
    `radius` Å."""

    def make() -> Atoms:
        made = block(cell, np.eye(3), (3 * radius,) * 3)
        size = np.abs(made.positions)
        inside = np.ones(len(made), bool)
        for normal, share in normals:
            inside &= (
                size @ (np.sort(np.abs(normal))[::-1] / np.linalg.norm(normal)) <= share * radius
            )
        return made[inside]

    return make


def platinum_on_ceria(
    facet: Any, diameter: float, thickness: float, degrees: float, film: float = 0.0
) -> Builder:
    """A Pt particle (Wulff's shape, a part cut off) on the `facet` of a CeO2 slab, cube on cube,
    both seen along [1-10]."""
    axes = frame_of((1, -1, 0), facet)

    def build(rng: np.random.Generator, box: float) -> Specimen:
        surface = -0.14 * box + rng.uniform(-3, 3)
        support = block(fluorite(), axes, (1.5 * box, 1.5 * box, thickness))
        support = support[support.positions[:, 1] < surface]
        size = round(0.066 * np.pi / 6 * diameter**3)
        pt = wulff_construction(
            "Pt", [(1, 1, 1), (1, 0, 0)], [1.0, 1.12], size, "fcc", "above", latticeconstant=3.924
        )
        spots = (pt.positions - pt.positions.mean(0)) @ axes.T
        spots = spots[spots[:, 1] > -0.3 * diameter + rng.uniform(-1, 1)]
        spots[:, 1] += surface + 2.2 - spots[:, 1].min()
        spots[:, 0] += rng.uniform(-0.08, 0.08) * box
        made = support + Atoms(f"Pt{len(spots)}", spots)
        made.positions[:] = made.positions @ turn(degrees).T
        return Specimen(place(on_film(made, carbon(rng, box, film)) if film else made, box))

    return build


def molybdenum_sulphide(vacancies: int = 0, adatoms: int = 0, degrees: float = 0.0) -> Builder:
    """One layer of MoS2 with S2 columns and Mo atoms missing, or with Pt atoms over its hollows."""

    def build(rng: np.random.Generator, box: float) -> Specimen:
        cell = mx2("MoS2", "2H", a=3.16, thickness=3.19, vacuum=4.0)
        if adatoms:
            mo, s = (cell.positions[cell.numbers == n] for n in (42, 16))
            hollow = 2 * mo[0] - s[0]  # the third place of the three-fold axis
            cell += Atoms("X", [(hollow[0], hollow[1], mo[0, 2])], tags=[GHOST])
        made = Specimen(place(block(cell, turn(degrees), (box, box, 10.0)), box), periodic=True)
        if adatoms:
            return with_adatoms(made, rng, box, "Pt", adatoms, 3.0)
        return without_columns(made, rng, box, 16, vacancies)

    return build


def graphene_with_vacancies(count: int, degrees: float) -> Builder:
    """One layer of graphene with single atoms missing."""

    def build(rng: np.random.Generator, box: float) -> Specimen:
        sheet = graphene(a=2.46, vacuum=4.0)
        made = Specimen(place(block(sheet, turn(degrees), (box, box, 6.0)), box), periodic=True)
        return without_columns(made, rng, box, 6, count)

    return build


def silicon_with_gold(thickness: float, count: int, degrees: float) -> Builder:
    """Si along [110] with single gold atoms in its channels."""

    def build(rng: np.random.Generator, box: float) -> Specimen:
        made = periodic(silicon(channels=True), (1, 1, 0), thickness, degrees=degrees)(rng, box)
        return with_adatoms(made, rng, box, "Au", count, 0.0)

    return build


def titanate_with_vacancies(thickness: float, count: int, degrees: float) -> Builder:
    """SrTiO3 along [001]; of some strontium columns one atom in five is left."""

    def build(rng: np.random.Generator, box: float) -> Specimen:
        made = periodic(strontium_titanate(), (0, 0, 1), thickness, (0, 1, 0), degrees)(rng, box)
        return without_columns(made, rng, box, 38, count, left=0.2)

    return build


def decahedron(symbol: str, a: float, p: int, q: int, r: int) -> Callable[[], Atoms]:
    return lambda: Decahedron(symbol, p, q, r, latticeconstant=a)


def icosahedron(symbol: str, a: float, shells: int) -> Callable[[], Atoms]:
    return lambda: Icosahedron(symbol, shells, latticeconstant=a)


def octahedron(symbol: str, a: float, length: int, cutoff: int) -> Callable[[], Atoms]:
    return lambda: Octahedron(symbol, length, cutoff, latticeconstant=a)
