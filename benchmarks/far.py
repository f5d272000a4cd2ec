"""The far set: 32 clean frames by code that shares nothing but physics with the training
simulation. For reporting only.

**Never choose a setting, a weight or a threshold by these frames.** Twelve of Pt on CeO2 (four with
bright columns, four dark, four between, by their defocus) and twenty of other crystals, in HRTEM,
HAADF and ABF at 80, 200 and 300 kV. Structures are ase's (`far_specimens.py`), waves abTEM's
(`far_imaging.py`). HRTEM is scaled to a vacuum level of 0.45; HAADF and ABF to a mean of 0.45, or
less where more than 1 % of the pixels would pass 1, or any 1.5.

One `NAME.npz` a frame: `image` (float32), `sampling_angstrom`, `columns` (n, 2) as x, y in pixels
with their `weights` (summed atomic number) and `elements` (heaviest atomic number), `vacancies`,
`vacancy_peers`, `adatoms`, `adatom_peers` (n, 2) alike, and `record` (JSON). Frames that are there
are kept; a frame depends on its own seed alone.

    python benchmarks/far.py -o /data/far [--only pt-ceo2-1,mos2-vacancies] [--sheet far.png]
"""

from __future__ import annotations

import argparse
import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.build import bulk
from far_imaging import Lens, Probe, exit_waves, framed, hrtem, stem, to_pixels
from far_specimens import (
    Builder,
    Specimen,
    caesium_lead_bromide,
    columns_of,
    decahedron,
    edge,
    graphene_with_vacancies,
    icosahedron,
    magnetite,
    molybdenum_sulphide,
    octahedron,
    particle,
    periodic,
    platinum_on_ceria,
    polyhedron,
    rutile,
    silicon,
    silicon_with_gold,
    strontium_titanate,
    titanate_with_vacancies,
    wurtzite,
    zincblende,
)
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

Image = NDArray[np.float32]

SEED = 0xFA12
VACUUM = 0.45  # also the mean of HAADF and ABF
BRIGHTEST = 1.5  # of HAADF, where single columns stand out
MARGIN_ANGSTROM = 5.0  # of the box around the frame: there the periodic neighbour shows
FOCI_NM = tuple(range(-12, 21))
BETWEEN = 0.03  # of the vacuum level: columns of less mean contrast are neither bright nor dark
# of the strongest contrast in the focus series: what a bright or dark frame has at least
STRONG = 0.6


@dataclass(frozen=True)
class Frame:
    """One frame of the set. `contrast` is asked for in HRTEM: bright, dark or intermediate
    columns."""

    name: str
    group: str
    specimen: str
    mode: str
    build: Builder
    sampling_angstrom: float
    shape: tuple[int, int]  # rows, columns
    optics: Lens | Probe
    contrast: str = ""
    camera: str = "scintillator"
    foci_nm: tuple[int, ...] = FOCI_NM

    @property
    def box_angstrom(self) -> float:
        """Side of the simulated box: a whole, even number of pixels."""
        pixels = max(self.shape) + 2 * int(np.ceil(MARGIN_ANGSTROM / self.sampling_angstrom))
        return (pixels + pixels % 2) * self.sampling_angstrom


def ceria(
    number: int,
    contrast: str,
    facet: Any,
    diameter: float,
    thickness: float,
    degrees: float,
    film: float,
    sampling: float,
    pixels: int,
    camera: str,
    **lens: Any,
) -> Frame:
    """One frame of Pt on CeO2; lengths in Å."""
    build = platinum_on_ceria(facet, diameter, thickness, degrees, film)
    optics = Lens(**{"voltage_kv": 300.0, **lens})
    return Frame(
        f"pt-ceo2-{number}",
        "pt-ceo2",
        "Pt on CeO2",
        "HRTEM",
        build,
        sampling,
        (pixels, pixels),
        optics,
        contrast,
        camera,
    )


def other(
    name: str,
    specimen: str,
    mode: str,
    build: Builder,
    sampling: float,
    shape: tuple[int, int],
    optics: Lens | Probe,
    contrast: str = "",
    camera: str = "pixel",
    foci_nm: tuple[int, ...] = FOCI_NM,
) -> Frame:
    """One frame of another crystal."""
    return Frame(
        name, "other", specimen, mode, build, sampling, shape, optics, contrast, camera, foci_nm
    )


CERIA = [
    ceria(1, "bright", (1, 1, 1), 28, 30, 8, 0, 0.0612, 850, "scintillator"),
    ceria(
        2,
        "bright",
        (1, 1, 1),
        22,
        45,
        -14,
        0,
        0.05,
        850,
        "direct",
        cs_um=-12.0,
        focal_spread_nm=2.5,
    ),
    ceria(3, "bright", (0, 0, 1), 30, 60, 33, 20, 0.07, 800, "fibre", tilt_mrad=(3.0, -2.0)),
    ceria(
        4,
        "bright",
        (1, 1, 1),
        38,
        80,
        95,
        0,
        0.08,
        800,
        "scintillator",
        vibration_angstrom=(0.2, 0.2),
    ),
    ceria(5, "dark", (1, 1, 1), 30, 35, -5, 0, 0.0612, 850, "fibre", cs_um=3.0),
    ceria(6, "dark", (0, 0, 1), 24, 25, 20, 0, 0.05, 850, "direct", vibration_angstrom=(0.15, 0.2)),
    ceria(7, "dark", (1, 1, 1), 36, 55, 180, 30, 0.08, 760, "scintillator", tilt_mrad=(-4.0, 1.0)),
    ceria(8, "dark", (1, 1, 1), 45, 100, 60, 0, 0.1, 700, "scintillator", focal_spread_nm=4.0),
    ceria(9, "intermediate", (1, 1, 1), 26, 30, -24, 0, 0.0612, 850, "direct"),
    ceria(10, "intermediate", (0, 0, 1), 32, 50, 5, 0, 0.0612, 850, "scintillator", cs_um=-8.0),
    ceria(11, "intermediate", (1, 1, 1), 34, 70, 140, 25, 0.07, 800, "fibre", tilt_mrad=(2.0, 3.0)),
    ceria(
        12,
        "intermediate",
        (1, 1, 1),
        24,
        40,
        12,
        0,
        0.05,
        850,
        "scintillator",
        voltage_kv=200.0,
        focal_spread_nm=3.5,
    ),
]

SCHERZER_NM = tuple(range(35, 90, 2))  # for lenses that are not corrected
GAN, ZNO = wurtzite("Ga", "N", 3.189, 5.185), wurtzite("Zn", "O", 3.250, 5.207)
TITANIUM = bulk("Ti", "hcp", a=2.951, c=4.684)
IRON = bulk("Fe", "bcc", a=2.866, cubic=True)
MAGNESIA = bulk("MgO", "rocksalt", a=4.212, cubic=True)
CUBE = [((1, 0, 0), 1.0)]
TRUNCATED = [((1, 0, 0), 1.0), ((1, 1, 1), 0.95)]
OTHER = [
    other(
        "au-decahedron",
        "Au, five-fold twin on carbon",
        "HRTEM",
        particle(decahedron("Au", 4.078, 6, 6, 1), (0, 0, 1), (0, 1, 0), 30, 17),
        0.08,
        (760, 760),
        Lens(300.0, -8.0),
        "dark",
        "scintillator",
    ),
    other(
        "ag-icosahedron",
        "Ag, icosahedron",
        "HAADF",
        particle(icosahedron("Ag", 4.086, 15), (0.0, 1.0, 1.618), (1, 0, 0), 0, 5),
        0.2,
        (600, 600),
        Probe(200.0, 20.0),
    ),
    other(
        "pd-octahedron",
        "Pd on carbon",
        "HRTEM",
        particle(octahedron("Pd", 3.891, 12, 3), (1, 1, 0), (0, 0, 1), 40, 40),
        0.1,
        (700, 700),
        Lens(200.0, 500.0, 4.0, 0.3, 2.0, 50.0, 50.0),
        "",
        "fibre",
        SCHERZER_NM,
    ),
    other(
        "si-110",
        "Si [110]",
        "HRTEM",
        periodic(silicon(), (1, 1, 0), 80, degrees=12),
        0.05,
        (800, 800),
        Lens(300.0, -15.0),
        "bright",
        "direct",
    ),
    other(
        "si-gold",
        "Si [110] with Au in its channels",
        "HAADF",
        silicon_with_gold(50, 6, 25),
        0.08,
        (700, 700),
        Probe(200.0, 24.0),
    ),
    other(
        "gan-abf",
        "GaN [11-20]",
        "ABF",
        periodic(GAN, (1, 0, 0), 70, (0, 0, 1), 8),
        0.06,
        (700, 700),
        Probe(200.0, 25.0),
    ),
    other(
        "gan-edge",
        "GaN [1-100], edge",
        "HRTEM",
        edge(GAN, (0, 1, 0), (0, 0, 1), 60, 1.0, 35),
        0.0612,
        (850, 850),
        Lens(300.0, -5.0),
        "dark",
        "scintillator",
    ),
    other(
        "srtio3-vacancies",
        "SrTiO3 [001] with Sr vacancies",
        "HAADF",
        titanate_with_vacancies(60, 8, -10),
        0.07,
        (750, 750),
        Probe(300.0, 24.0, source_angstrom=0.3),
    ),
    other(
        "srtio3-110",
        "SrTiO3 [110], wedge",
        "HRTEM",
        edge(strontium_titanate(), (1, 1, 0), (0, 0, 1), 90, 1.8, -20, 15),
        0.0612,
        (850, 850),
        Lens(300.0, -12.0, tilt_mrad=(2.0, 0.0)),
        "bright",
        "fibre",
    ),
    other(
        "cspbbr3",
        "CsPbBr3 nanocube",
        "HRTEM",
        particle(polyhedron(caesium_lead_bromide(), 42, CUBE), (0, 0, 1), (0, 1, 0), 25, 22),
        0.2,
        (620, 620),
        Lens(200.0, 1.0, 3.5),
        "dark",
        "scintillator",
    ),
    other(
        "fe3o4",
        "Fe3O4 particle",
        "HRTEM",
        particle(polyhedron(magnetite(), 26, TRUNCATED), (1, 1, 0), (0, 0, 1), 20, -33),
        0.08,
        (800, 800),
        Lens(300.0, -5.0),
        "intermediate",
        "scintillator",
    ),
    other(
        "tio2-abf",
        "TiO2 rutile [001]",
        "ABF",
        periodic(rutile(), (0, 0, 1), 90, (0, 1, 0), 30),
        0.05,
        (800, 800),
        Probe(300.0, 22.0),
    ),
    other(
        "mgo",
        "MgO cubes",
        "HRTEM",
        edge(MAGNESIA, (0, 0, 1), (0, 1, 0), 40, 3.0, 15),
        0.07,
        (760, 760),
        Lens(80.0, -10.0, 3.0, vibration_angstrom=(0.2, 0.2)),
        "bright",
        "direct",
    ),
    other(
        "mos2-vacancies",
        "MoS2 with S2 vacancies",
        "HAADF",
        molybdenum_sulphide(vacancies=8, degrees=7),
        0.1,
        (640, 640),
        Probe(80.0, 30.0, 0.5),
    ),
    other(
        "mos2-platinum",
        "MoS2 with Pt atoms on it",
        "HAADF",
        molybdenum_sulphide(adatoms=8, degrees=-19),
        0.08,
        (750, 750),
        Probe(200.0, 22.0),
    ),
    other(
        "graphene-vacancies",
        "graphene with vacancies",
        "HRTEM",
        graphene_with_vacancies(8, 11),
        0.06,
        (800, 800),
        Lens(80.0, -12.0, 2.0, 0.1, 0.5, 10.0, 10.0, vibration_angstrom=(0.2, 0.2)),
        "dark",
        "direct",
    ),
    other(
        "zno-abf",
        "ZnO [1-100], edge",
        "ABF",
        edge(ZNO, (0, 1, 0), (0, 0, 1), 60, 1.5, -12),
        0.0612,
        (850, 850),
        Probe(300.0, 24.0),
    ),
    other(
        "cdse",
        "CdSe nanocrystal on carbon",
        "HRTEM",
        particle(polyhedron(zincblende(), 20, TRUNCATED), (1, 1, 0), (0, 0, 1), 30, 50),
        0.1,
        (640, 640),
        Lens(200.0, 1200.0, 5.0, 0.4, 3.0, 50.0, 50.0),
        "",
        "scintillator",
        SCHERZER_NM,
    ),
    other(
        "fe-bcc",
        "Fe [111]",
        "HRTEM",
        periodic(IRON, (1, 1, 1), 50, (1, -1, 0), 20),
        0.05,
        (760, 760),
        Lens(300.0, -10.0, vibration_angstrom=(0.15, 0.15)),
        "bright",
        "fibre",
    ),
    other(
        "ti-hcp",
        "Ti [11-20]",
        "HAADF",
        periodic(TITANIUM, (1, 0, 0), 100, (0, 0, 1), -27),
        0.0612,
        (820, 820),
        Probe(300.0, 26.0),
    ),
]

FRAMES = [*CERIA, *OTHER]


def column_contrast(image: Image, places: NDArray[np.float64], sampling: float) -> float:
    """Mean over columns (n, 2), x and y px, of the image smoothed by 0.25 Å less its mean over a
    ring of 1 Å around them."""
    inner = ((places > 0) & (places < np.array(image.shape)[::-1] - 1)).all(1)
    smooth = gaussian_filter(image, 0.25 / sampling)
    angle = np.arange(12) * np.pi / 6
    ring = np.stack([np.sin(angle), np.cos(angle)]) / sampling
    yx = places[inner][:, ::-1].T
    at = map_coordinates(smooth, yx, order=1)
    around = map_coordinates(smooth, yx[:, :, None] + ring[:, None], order=1, mode="nearest").mean(
        1
    )
    return float((at - around).mean())


def contrast_name(value: float) -> str:
    """Class of a contrast in units of the vacuum level."""
    return "bright" if value > BETWEEN else "dark" if value < -BETWEEN else "intermediate"


def chosen_focus(
    contrast_at: Callable[[float], float], frame: Frame, rng: np.random.Generator
) -> float:
    """Defocus, nm: one of those that show the wanted columns strongly; for intermediate ones the
    place where the contrast changes its sign; "" takes that of the strongest contrast."""
    foci = np.array(frame.foci_nm[::2], float)
    values = np.array([contrast_at(focus) for focus in foci])
    if frame.contrast == "intermediate":
        return sign_change(contrast_at, foci, values)
    if not frame.contrast:
        return float(foci[np.abs(values).argmax()])
    signed = values if frame.contrast == "bright" else -values
    return float(rng.choice(foci[signed >= STRONG * signed.max()]) + rng.uniform(-0.4, 0.4))


def sign_change(
    contrast_at: Callable[[float], float], foci: NDArray[np.float64], values: NDArray[np.float64]
) -> float:
    """The first focus at which the contrast changes its sign, by three secants; the one of least
    contrast if it never does."""
    crossings = np.flatnonzero(values[1:] * values[:-1] < 0)
    if not len(crossings):
        return float(foci[np.abs(values).argmin()])
    low, high = ((float(foci[i]), float(values[i])) for i in (crossings[0], crossings[0] + 1))
    focus = low[0]
    for _ in range(3):
        focus = low[0] - low[1] * (high[0] - low[0]) / (high[1] - low[1])
        crossing = focus, contrast_at(focus)
        low, high = (crossing, high) if crossing[1] * low[1] > 0 else (low, crossing)
    return focus


def hrtem_image(
    frame: Frame, made: Specimen, heavy: NDArray[np.float64], rng: np.random.Generator
) -> tuple[Image, dict[str, Any]]:
    """The frame at the focus that shows the contrast asked for, vacuum 1, and what was chosen.
    `heavy`: places in px."""
    assert isinstance(frame.optics, Lens)
    lens = frame.optics
    waves = exit_waves(made.atoms, lens, int(rng.integers(2**31)))

    def seen(defocus: float) -> Image:
        image = hrtem(waves, lens, defocus)
        return framed(image, frame.box_angstrom, frame.sampling_angstrom, frame.shape, frame.camera)

    focus = chosen_focus(
        lambda f: column_contrast(seen(f), heavy, frame.sampling_angstrom), frame, rng
    )
    image = seen(focus)
    return image, {
        "defocus_nm": round(focus, 2),
        "column_contrast": column_contrast(image, heavy, frame.sampling_angstrom),
    }


def make(frame: Frame, number: int = 0, seed: int = SEED) -> dict[str, Any]:
    """Everything that is stored of a frame."""
    rng = np.random.default_rng([seed, number])
    box, sampling = frame.box_angstrom, frame.sampling_angstrom
    made = frame.build(rng, box)
    centre, weight, element, _ = columns_of(made.atoms)
    pixels = to_pixels(centre, box, sampling, frame.shape)
    heavy = pixels[weight > 0.5 * np.percentile(weight, 95)]
    facts: dict[str, Any] = {}
    if frame.mode == "HRTEM":
        image, facts = hrtem_image(frame, made, heavy, rng)
        image = image * np.float32(VACUUM)
    else:
        assert isinstance(frame.optics, Probe)
        image = framed(
            stem(made.atoms, frame.optics, frame.mode), box, sampling, frame.shape, frame.camera
        )
        image = image * np.float32(
            min(VACUUM / image.mean(), 1 / np.percentile(image, 99), BRIGHTEST / image.max())
        )
        facts["column_contrast"] = column_contrast(image, heavy, sampling) / VACUUM
    record = {
        "name": frame.name,
        "group": frame.group,
        "specimen": frame.specimen,
        "mode": frame.mode,
        "number": number,
        "seed": seed,
        "periodic": made.periodic,
        "contrast": contrast_name(facts["column_contrast"]),
        "camera": frame.camera,
        "thickness_angstrom": round(float(np.ptp(made.atoms.positions[:, 2])), 1),
        "atoms": len(made.atoms),
        "optics": asdict(frame.optics),
        **facts,
    }
    inside = ((pixels > -0.5) & (pixels < np.array(frame.shape)[::-1] - 0.5)).all(1)
    places = {
        name: to_pixels(getattr(made, name), box, sampling, frame.shape)
        for name in ("vacancies", "vacancy_peers", "adatoms", "adatom_peers")
    }
    return {
        "image": np.maximum(image, 0).astype(np.float32),
        "sampling_angstrom": np.float64(sampling),
        "columns": pixels[inside].astype(np.float32),
        "weights": weight[inside].astype(np.float32),
        "elements": element[inside].astype(np.int16),
        "record": np.array(json.dumps(record)),
        **{name: value.astype(np.float32) for name, value in places.items()},
    }


def read(path: Path) -> dict[str, Any]:
    """What `make` made, its record as a dictionary. Raises ValueError naming the file where it is
    something else."""
    try:
        with np.load(path, allow_pickle=False) as data:
            content = {name: data[name] for name in data.files}
        return content | {
            "record": json.loads(str(content["record"])),
            "sampling_angstrom": float(content["sampling_angstrom"]),
        }
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: not a frame of the far set ({error}); delete it and run far.py again"
        ) from None


def write(path: Path, content: dict[str, Any]) -> None:
    """Store under a temporary name, then rename."""
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as stream:
        np.savez_compressed(stream, **content)
    temporary.replace(path)


def selected(frames: list[Frame], only: str) -> list[tuple[int, Frame]]:
    """Frames by name, with their numbers. Raises ValueError for a name that there is not."""
    names = {frame.name for frame in frames}
    asked = set(filter(None, only.split(",")))
    if asked - names:
        raise ValueError(
            f"--only {','.join(sorted(asked - names))}: choose from {', '.join(sorted(names))}"
        )
    return [
        (number, frame) for number, frame in enumerate(frames) if not asked or frame.name in asked
    ]


def sheet(frames: list[Frame], folder: Path, path: Path) -> None:
    """All frames on one picture, to be looked at."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(6, 6, figsize=(24, 25))
    for axis in axes.flat:
        axis.axis("off")
    for axis, frame in zip(axes.flat, frames, strict=False):
        if (folder / f"{frame.name}.npz").exists():
            content = read(folder / f"{frame.name}.npz")
            record, image = content["record"], content["image"]
            axis.imshow(
                image, cmap="gray", vmin=np.percentile(image, 0.2), vmax=np.percentile(image, 99.8)
            )
            words = (
                f"{record['mode']} {content['sampling_angstrom']:g} Å/px, "
                f"{record.get('defocus_nm', '')} nm"
            )
            span = f"{image.min():.2f}-{image.max():.2f}, sd {image.std():.3f}"
            axis.set_title(
                f"{frame.name}: {record['contrast']} "
                f"{record['column_contrast']:+.2f}\n{words}; {span}",
                fontsize=9,
            )
    figure.tight_layout()
    figure.savefig(path, dpi=75)
    plt.close(figure)


def run(description: str | None, frames: list[Frame], seed: int) -> None:
    """The command that makes a set of frames."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="folder of the frames; those there are kept",
    )
    parser.add_argument("--only", default="", metavar="NAMES", help="of the frames, with commas")
    parser.add_argument(
        "--sheet", type=Path, metavar="PNG", help="also draw all frames that are there"
    )
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for number, frame in selected(frames, options.only):
        path = options.output / f"{frame.name}.npz"
        if path.exists():
            continue
        begun = time.perf_counter()
        content = make(frame, number, seed)
        write(path, content)
        record = json.loads(str(content["record"]))
        missed = frame.contrast and frame.contrast != record["contrast"]
        words = (
            f"{record['contrast']} "
            f"{record['column_contrast']:+.3f}{' INSTEAD OF ' + frame.contrast if missed else ''}"
        )
        print(
            f"{frame.name}: {record['atoms']} atoms, {words}, {time.perf_counter() - begun:.0f} s",
            flush=True,
        )
    if options.sheet:
        sheet(frames, options.output, options.sheet)


if __name__ == "__main__":
    run(__doc__, FRAMES, SEED)
