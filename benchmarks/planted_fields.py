"""Fields that a crystal fills, each twice: perfect, and with vacancies, adatoms and dopants planted
at known places. For `planted.py`; for reporting only.

Crystals, optics and images are those of the far set's code (`far_specimens.py`, `far_imaging.py`),
with seeds of their own. A vacancy is a column without its atoms. A dopant is another element in
place of half of a column's atoms (of one, where there is one). An adatom is a single
heavy atom over a hollow between columns. All other atoms lie, and vibrate, alike in both images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.build import bulk, mx2
from ase.data import atomic_numbers
from far import BRIGHTEST, VACUUM, Frame, chosen_focus, column_contrast, other
from far_imaging import DARK_LEVEL, Lens, Probe, exit_waves, framed, hrtem, stem, to_pixels
from far_specimens import (
    DEFECT_CLEAR_ANGSTROM,
    PAD_ANGSTROM,
    Builder,
    Specimen,
    block,
    columns_of,
    fluorite,
    periodic,
    place,
    silicon,
    spaced,
    strontium_titanate,
    turn,
)
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree

SEED = 0x71A7
KINDS = ("vacancy", "adatom", "dopant")
EACH = 3  # of a kind in a field
EDGE_ANGSTROM = 9.0  # of the box, without defects: 5 lie around the field
STEP_ANGSTROM = 0.1  # of the grid on which hollows are sought
NEAR_ANGSTROM = 4.0  # of a defect: not for comparing the brightness of both images

Values = NDArray[np.float64]
Image = NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """A field: how it is seen (`frame`), the element whose columns are changed, what dopants and
    adatoms are."""

    frame: Frame
    element: str
    dopant: str
    adatom: str


@dataclass(frozen=True)
class Field:
    """`planted` and `perfect` images, vacuum or mean VACUUM; `sites` (n, 2) of each kind's defects,
    and `peers`, places alike without a defect, as rows and columns in px."""

    planted: Image
    perfect: Image
    sites: dict[str, Values]
    peers: dict[str, Values]


def sheet(degrees: float) -> Builder:
    """One layer of MoS2."""

    def build(rng: np.random.Generator, box: float) -> Specimen:
        cell = mx2("MoS2", "2H", a=3.16, thickness=3.19, vacuum=4.0)
        made = block(cell, turn(degrees), (box, box, 10.0), (*rng.uniform(-1, 1, 2), 0))
        return Specimen(place(made, box), periodic=True)

    return build


def recipe(
    name: str, mode: str, build: Builder, optics: Lens | Probe, element: str, dopant: str, on: str
) -> Recipe:
    frame = other(f"{name}-{mode.lower()}", name, mode, build, 0.08, (600, 600), optics)
    return Recipe(frame, element, dopant, on)


STO, CERIA, SI = strontium_titanate(), fluorite(), silicon()
PLATINUM = bulk("Pt", "fcc", a=3.924, cubic=True)
LENS, PROBE = Lens(300.0, -10.0, vibration_angstrom=(0.2, 0.2)), Probe(200.0, 24.0)
RECIPES = [
    recipe("sto", "HAADF", periodic(STO, (0, 0, 1), 60, (0, 1, 0), 17), PROBE, "Sr", "Pb", "Au"),
    recipe("mos2", "HAADF", sheet(8), PROBE, "Mo", "W", "Pt"),
    recipe("si", "HAADF", periodic(SI, (1, 1, 0), 50, degrees=31), PROBE, "Si", "Sb", "Au"),
    recipe("ceria", "HAADF", periodic(CERIA, (1, 1, 0), 50, degrees=-12), PROBE, "Ce", "Ti", "Au"),
    recipe("sto", "HRTEM", periodic(STO, (0, 0, 1), 40, (0, 1, 0), -9), LENS, "Sr", "Pb", "Au"),
    recipe("mos2", "HRTEM", sheet(-20), replace(LENS, voltage_kv=80.0), "Mo", "W", "Pt"),
    recipe("ceria", "HRTEM", periodic(CERIA, (1, 1, 0), 35, degrees=40), LENS, "Ce", "Ti", "Au"),
    recipe("pt", "HRTEM", periodic(PLATINUM, (1, 1, 0), 30, degrees=22), LENS, "Pt", "Ni", "Au"),
]


def hollows(columns: Values, box: float) -> Values:
    """Places (n, 2) that are farthest from all columns, of those within 0.15 Å of the farthest."""
    axis = np.arange(0, box, STEP_ANGSTROM)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    away = np.asarray(cKDTree(columns).query(grid.reshape(-1, 2))[0]).reshape(grid.shape[:2])
    inner = ((grid > EDGE_ANGSTROM) & (grid < box - EDGE_ANGSTROM)).all(-1)
    top = float(np.percentile(away[inner], 99.9))
    peaks = inner & (away == maximum_filter(away, round(1.0 / STEP_ANGSTROM))) & (away > top - 0.15)
    return np.asarray(grid[peaks])


def plant(
    made: Atoms, chosen: Recipe, rng: np.random.Generator
) -> tuple[Atoms, Atoms, dict[str, Values], dict[str, Values]]:
    """Planted and perfect atoms, those that both have first; defects and places alike, Å."""
    box, number = float(made.cell[0, 0]), atomic_numbers[chosen.element]
    centre, weight, heaviest, label = columns_of(made)
    alike = heaviest == number
    alike &= weight > 0.9 * np.median(weight[alike])
    alike &= weight < 1.1 * np.median(weight[alike])
    free = hollows(centre, box)
    columns = centre[alike]
    changed_columns = spaced(rng, columns, 2 * EACH, box, EDGE_ANGSTROM)
    away = cKDTree(columns[changed_columns]).query(free)[0] > DEFECT_CLEAR_ANGSTROM
    over = free[away][spaced(rng, free[away], EACH, box, EDGE_ANGSTROM)]
    numbers = np.flatnonzero(alike)[changed_columns]
    gone = np.isin(label, numbers[:EACH])
    doped = np.zeros(len(made), bool)
    for column in numbers[EACH:]:
        own = np.flatnonzero((label == column) & (made.numbers == number))
        doped[rng.permutation(own)[: max(1, len(own) // 2)]] = True
    kept = made[~(gone | doped)]
    changed = made[doped]
    changed.numbers[:] = atomic_numbers[chosen.dopant]
    height = min(made.positions[:, 2].max() + 1.5, made.cell[2, 2] - PAD_ANGSTROM / 2)
    top = np.column_stack([over, np.full(len(over), height)])
    extra = Atoms(f"{chosen.adatom}{len(over)}", top)
    sites = {"vacancy": centre[numbers[:EACH]], "adatom": over, "dopant": centre[numbers[EACH:]]}
    defects = cKDTree(np.concatenate(list(sites.values())))

    def undisturbed(places: Values) -> Values:
        inner = ((places > EDGE_ANGSTROM) & (places < box - EDGE_ANGSTROM)).all(1)
        return np.asarray(places[inner & (defects.query(places)[0] > NEAR_ANGSTROM)])

    peers = {kind: undisturbed(free if kind == "adatom" else columns) for kind in KINDS}
    return kept + changed + extra, kept + made[doped] + made[gone], sites, peers


def pair(
    chosen: Recipe, planted: Atoms, perfect: Atoms, rng: np.random.Generator
) -> tuple[Image, Image]:
    """Images of both, on the same scale."""
    frame = chosen.frame
    box, sampling = frame.box_angstrom, frame.sampling_angstrom

    def seen(image: NDArray[np.float64]) -> Image:
        return framed(image, box, sampling, frame.shape, frame.camera)

    if not isinstance(frame.optics, Lens):
        first, second = (
            seen(stem(atoms, frame.optics, frame.mode)) for atoms in (planted, perfect)
        )
        scale = min(VACUUM / first.mean(), 1 / np.percentile(first, 99), BRIGHTEST / first.max())
        # Each is relative to its own brightest columns: undone by the middle of all places.
        ratio = float(np.median((first - DARK_LEVEL) / np.maximum(second - DARK_LEVEL, 1e-3)))
        second = ratio * (second - DARK_LEVEL) + DARK_LEVEL
        return np.float32(scale) * first, np.float32(scale) * np.asarray(second, np.float32)
    lens, seed = frame.optics, int(rng.integers(2**31))
    waves = [exit_waves(atoms, lens, seed) for atoms in (planted, perfect)]
    centre, weight, _, _ = columns_of(perfect)
    heavy = to_pixels(centre[weight > 0.5 * weight.max()], box, sampling, frame.shape)
    focus = chosen_focus(
        lambda f: column_contrast(seen(hrtem(waves[1], lens, f)), heavy, sampling), frame, rng
    )
    first, second = (np.float32(VACUUM) * seen(hrtem(wave, lens, focus)) for wave in waves)
    return first, second


def make_field(number: int, view: int) -> Field:
    """The field of RECIPES with its defects; views are of other places and defects."""
    chosen, rng = RECIPES[number], np.random.default_rng([SEED, number, view])
    frame = chosen.frame
    made = frame.build(rng, frame.box_angstrom).atoms
    planted, perfect, sites, peers = plant(made, chosen, rng)
    images = pair(chosen, planted, perfect, rng)

    def pixels(places: dict[str, Values]) -> dict[str, Values]:
        return {
            kind: to_pixels(at, frame.box_angstrom, frame.sampling_angstrom, frame.shape)[:, ::-1]
            for kind, at in places.items()
        }

    return Field(*images, pixels(sites), pixels(peers))
