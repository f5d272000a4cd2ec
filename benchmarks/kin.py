"""Validation frames of the far set's kind: other specimens, lenses and seeds, by the same code. For
choosing settings.

The frames of `near.py` are of the simulation that the shipped models were trained on, so they
cannot tell what helps with frames of somebody else's. The far set may tell it, but nothing may be
chosen by it. These twenty frames are to the far set what a validation split is to a test split:
none of its crystals but Pt on CeO2, which has other sizes, lenses and pixels here. Files and units
are those of `far.py`.

    python benchmarks/kin.py -o kin [--only NAMES] [--sheet kin.png]
    python benchmarks/rivals.py --far kin --methods bm3d-binned,tk_r_em,gdn --json kin/rows.jsonl
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk, graphene, mx2
from ase.spacegroup import crystal
from far import CUBE, SCHERZER_NM, TRUNCATED, Frame, ceria, other, run
from far_imaging import Lens, Probe
from far_specimens import (
    Builder,
    Specimen,
    block,
    decahedron,
    edge,
    icosahedron,
    octahedron,
    particle,
    periodic,
    place,
    polyhedron,
    turn,
    without_columns,
    wurtzite,
)

SEED = 0x51B5


def sheet_of(
    cell: Atoms, thickness: float, element: int, vacancies: int, degrees: float
) -> Builder:
    """One layer that fills the field, with columns of `element` missing."""

    def build(rng: np.random.Generator, box: float) -> Specimen:
        flat = block(cell, turn(degrees), (box, box, thickness))
        made = Specimen(place(flat, box), periodic=True)
        return without_columns(made, rng, box, element, vacancies)

    return build


def perovskite(a: str, b: str, x: str, side: float) -> Atoms:
    places = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)]
    return crystal([a, b, x], places, spacegroup=221, cellpar=[side] * 3 + [90] * 3)


GAAS = bulk("GaAs", "zincblende", a=5.653, cubic=True)
CASSITERITE = crystal(
    ["Sn", "O"],
    [(0, 0, 0), (0.307, 0.307, 0)],
    spacegroup=136,
    cellpar=[4.737, 4.737, 3.186, 90, 90, 90],
)
ZIRCONIA = crystal(
    ["Zr", "O"], [(0, 0, 0), (0.25, 0.25, 0.25)], spacegroup=225, cellpar=[5.13] * 3 + [90] * 3
)
ALN = wurtzite("Al", "N", 3.112, 4.982)
NITRIDE = graphene("BN", a=2.504, vacuum=4.0)
TUNGSTEN_SULPHIDE = mx2("WS2", "2H", a=3.18, thickness=3.14, vacuum=4.0)
FULL = (0, 0, 1)
WIDE = (800, 800)


def periodics() -> list[Frame]:
    """Crystals that fill the field."""
    return [
        other(
            "gaas-110", "GaAs [110]", "HRTEM", periodic(GAAS, (1, 1, 0), 60, degrees=-21), 0.0612,
            WIDE, Lens(300.0, -12.0), "bright", "scintillator",
        ),
        other(
            "gaas-haadf", "GaAs [110]", "HAADF", periodic(GAAS, (1, 1, 0), 80, degrees=9), 0.07,
            (720, 720), Probe(200.0, 24.0),
        ),
        other(
            "al-100", "Al [001]", "HRTEM",
            periodic(bulk("Al", "fcc", a=4.05, cubic=True), (0, 0, 1), 70, (0, 1, 0), 14), 0.05,
            WIDE, Lens(300.0, 2.0, vibration_angstrom=(0.15, 0.15)), "dark", "fibre",
        ),
        other(
            "batio3", "BaTiO3 [001]", "HAADF",
            periodic(perovskite("Ba", "Ti", "O", 4.0), (0, 0, 1), 90, (0, 1, 0), 31), 0.08,
            (700, 700), Probe(300.0, 22.0),
        ),
        other(
            "tungsten", "W [111]", "HAADF",
            periodic(bulk("W", "bcc", a=3.165, cubic=True), (1, 1, 1), 50, (1, -1, 0), -8), 0.05,
            (760, 760), Probe(300.0, 26.0),
        ),
        other(
            "sno2", "SnO2 [001]", "HRTEM", periodic(CASSITERITE, (0, 0, 1), 60, (0, 1, 0), -25),
            0.06, WIDE, Lens(300.0, -10.0), "bright", "direct",
        ),
        other(
            "aln-abf", "AlN [11-20]", "ABF", periodic(ALN, (1, 0, 0), 90, FULL, 17), 0.05,
            (760, 760), Probe(300.0, 25.0),
        ),
        other(
            "co-hcp", "Co [11-20]", "HRTEM",
            periodic(bulk("Co", "hcp", a=2.507, c=4.069), (1, 0, 0), 45, FULL, 40), 0.0612,
            WIDE, Lens(200.0, -8.0, 3.5), "dark", "scintillator",
        ),
        other(
            "ws2", "WS2 with S2 vacancies", "HAADF", sheet_of(TUNGSTEN_SULPHIDE, 10.0, 16, 8, -12),
            0.09, (700, 700), Probe(80.0, 30.0, 0.5),
        ),
        other(
            "bn", "BN with vacancies", "HRTEM", sheet_of(NITRIDE, 6.0, 7, 8, 23), 0.07, WIDE,
            Lens(80.0, -12.0, 2.0, 0.1, 0.5, 10.0, 10.0, vibration_angstrom=(0.2, 0.2)), "dark",
            "direct",
        ),
    ]  # fmt: skip


def others() -> list[Frame]:
    """Particles and edges."""
    lead = bulk("PbTe", "rocksalt", a=6.46, cubic=True)
    nickel_oxide = bulk("NiO", "rocksalt", a=4.177, cubic=True)
    return [
        other(
            "cu-decahedron", "Cu, five-fold twin on carbon", "HRTEM",
            particle(decahedron("Cu", 3.61, 7, 7, 1), FULL, (0, 1, 0), 25, 41), 0.07, (780, 780),
            Lens(300.0, -8.0), "bright", "fibre",
        ),
        other(
            "ni-icosahedron", "Ni, icosahedron", "HAADF",
            particle(icosahedron("Ni", 3.52, 13), (0.0, 1.0, 1.618), (1, 0, 0), 0, 33), 0.15,
            (600, 600), Probe(200.0, 22.0),
        ),
        other(
            "rh-octahedron", "Rh on carbon", "HRTEM",
            particle(octahedron("Rh", 3.80, 11, 3), (1, 1, 0), FULL, 30, -28), 0.1, (680, 680),
            Lens(200.0, 500.0, 4.0, 0.3, 2.0, 50.0, 50.0), "", "scintillator", SCHERZER_NM,
        ),
        other(
            "pbte", "PbTe nanocube", "HRTEM",
            particle(polyhedron(lead, 38, CUBE), FULL, (0, 1, 0), 20, 9), 0.15, (640, 640),
            Lens(200.0, 1.0, 3.5), "dark", "direct",
        ),
        other(
            "zro2", "ZrO2 particle", "HRTEM",
            particle(polyhedron(ZIRCONIA, 24, TRUNCATED), (1, 1, 0), FULL, 20, 15), 0.08, WIDE,
            Lens(300.0, -5.0), "intermediate", "fibre",
        ),
        other(
            "nio-edge", "NiO, edge", "HRTEM",
            edge(nickel_oxide, FULL, (0, 1, 0), 60, 2.0, -33), 0.0612, (850, 850),
            Lens(300.0, -10.0, vibration_angstrom=(0.2, 0.2)), "bright", "scintillator",
        ),
    ]  # fmt: skip


def platinum() -> list[Frame]:
    """Pt on CeO2."""
    return [
        ceria(21, "bright", (1, 1, 1), 32, 50, 21, 15, 0.0612, 850, "fibre", cs_um=-10.0),
        ceria(22, "dark", (0, 0, 1), 34, 40, -40, 0, 0.07, 800, "direct", tilt_mrad=(2.0, 2.0)),
        ceria(23, "intermediate", (1, 1, 1), 28, 60, 75, 0, 0.05, 850, "scintillator"),
        ceria(24, "bright", (0, 0, 1), 26, 35, 110, 0, 0.08, 760, "scintillator"),
    ]


FRAMES = [*platinum(), *periodics(), *others()]

if __name__ == "__main__":
    run(__doc__, FRAMES, SEED)
