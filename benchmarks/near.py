"""Validation frames: clean frames of our own simulation, of seeds that nothing is trained on. For
choosing settings.

What the far set (`far.py`) must never be used for, these frames are for. `own`: Pt on CeO2 under
the imaging of the recipe `range-128` (dark columns); `bright`: the same under that of
`pt-ceo2-wide-128` with bright columns; `crystals`: other specimens of `gdn.simulation.specimens` in
HRTEM, HAADF and ABF. All seeds are of the validation split. Files and units are those of far.py,
without column positions, so that `rivals.py` takes the folder. Frames of Pt on CeO2 also have
`atoms` (n, 2), the places of all atoms as x, y in pixels, for `ghosts.py`:

    python benchmarks/near.py -o near [--own 10 --bright 10 --crystals 20] [--sheet near.png]
    python benchmarks/rivals.py --far near --methods blur,bm3d-binned,gdn --json near/rows.jsonl
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import far
import numpy as np
import torch
from numpy.typing import NDArray

from gdn.recipes import load_recipe
from gdn.simulation.breadth import ENERGIES_EV, AnyCrystal, WavePool
from gdn.simulation.conditions import Draws, any_lens, random_cuts
from gdn.simulation.imaging import FRAME_SAMPLING, FRAME_SHAPE, Optics
from gdn.simulation.lattices import CELL
from gdn.simulation.renderer import (
    Cuts,
    Lens,
    cell_images,
    intensity_spectra,
    patches,
    pixel_averaged,
)
from gdn.simulation.scattering import wavelength_angstrom
from gdn.simulation.specimens import random_specimen
from gdn.simulation.structures import Structure, random_structure

SEED = 0x9EA2
VALIDATION = 1  # seeds of this remainder by 10
MODES = ("HRTEM", "HRTEM", "HRTEM", "HAADF", "ABF")
SAMPLINGS = (0.07, 0.1, 0.14, 0.2)  # Å/px
SIDES = (400, 850)  # px
SHOWN = 240  # px of a frame on the picture
# Image, Å per pixel, description, and the atoms' places where they are known.
Made = tuple[far.Image, float, dict[str, Any], NDArray[np.float32] | None]


def seeds(group: str) -> Iterator[tuple[int, np.random.Generator]]:
    """Validation seeds of a group, each with random numbers of its own, without end."""
    rng = np.random.default_rng([SEED, *group.encode()])
    while True:
        value = 10 * int(rng.integers(2**40)) + VALIDATION
        yield value, np.random.default_rng([SEED, value])


def cut(spectra: torch.Tensor, sampling: float, side: int, draws: Draws) -> tuple[far.Image, Cuts]:
    """One frame of side x side px out of a periodic cell's spectrum (1, m, m), and where it was
    cut out."""
    pixel = torch.tensor([sampling])
    cuts = random_cuts(draws, torch.zeros(1, dtype=torch.int64), side, pixel, CELL)
    whole = pixel_averaged(spectra, pixel, CELL)
    image = patches(whole, cuts, side, CELL)[0].clamp_min(0).numpy()
    return np.asarray(image, dtype=np.float32), cuts


def places_in(cuts: Cuts, xy: NDArray[np.floating], side: int) -> NDArray[np.float32]:
    """Where points (n, 2), x and y in Å of the cell, lie in the frame that was cut out of it: x, y
    in pixels (n, 2). The inverse of `gdn.simulation.renderer.patches`."""
    centre, angle = cuts.centre[0].numpy(), float(cuts.angle[0])
    rows, columns = (xy[:, ::-1] - centre).T
    y = np.cos(angle) * rows + np.sin(angle) * columns
    x = (np.cos(angle) * columns - np.sin(angle) * rows) * float(cuts.flip[0])
    places = np.stack([x, y], 1) / float(cuts.pixel[0]) + (side - 1) / 2
    return np.asarray(places, dtype=np.float32)


def pool_of(structure: Structure, energy_ev: float, maps: bool) -> WavePool:
    """The waves of one structure."""
    pool = WavePool(1, "cpu", 768, maps)
    pool.add(structure, energy_ev)
    return pool


def ours(group: str, count: int) -> Iterator[Made]:
    """Frames of Pt on CeO2 whose columns are dark (`own`) or bright (`bright`)."""
    imaging = load_recipe("range-128" if group == "own" else "pt-ceo2-wide-128").imaging
    made = 0
    for seed, rng in seeds(group):
        if made == count:
            return
        structure, draws = random_structure(seed), Draws.seeded(seed, "cpu")
        if len(structure.numbers) == 0:
            continue
        waves = pool_of(structure, ENERGIES_EV[0], maps=False).waves
        lens = Lens.of([Optics.random(rng, imaging)], wavelength_angstrom(ENERGIES_EV[0]), "cpu")
        spectra = intensity_spectra(waves, lens, CELL)
        image, cuts = cut(spectra, FRAME_SAMPLING, FRAME_SHAPE[0], draws)
        heavy = structure.positions[structure.numbers == structure.numbers.max(), :2]
        whole = cell_images(spectra)[0].numpy()
        at = (heavy[:, ::-1] / CELL * whole.shape[0]).astype(int) % whole.shape[0]
        bright = float(np.median(whole[at[:, 0], at[:, 1]])) > float(np.median(whole))
        if bright == (group == "bright"):
            made += 1
            yield (
                image * np.float32(far.VACUUM),
                FRAME_SAMPLING,
                {"mode": "HRTEM", "seed": seed, "contrast": group},
                places_in(cuts, structure.positions[:, :2], FRAME_SHAPE[0]),
            )


def crystal_spectra(
    structure: Structure, energy_ev: float, mode: str, draws: Draws
) -> torch.Tensor:
    """Spectrum (1, m, m) of one periodic image of `structure` in a mode of MODES."""
    pool = pool_of(structure, energy_ev, maps=True)
    if mode == "HRTEM":
        return intensity_spectra(pool.waves, any_lens(draws, pool.wavelength), CELL)
    source = AnyCrystal(draws=draws, batch=1, patch=128)
    if mode == "HAADF":
        return source.dark_field(pool.maps[:, 0])
    return source.bright_field(pool.maps[:, 1])


def crystals(count: int) -> Iterator[Made]:
    """Frames of any crystal in any mode."""
    made = 0
    for seed, rng in seeds("crystals"):
        if made == count:
            return
        structure, draws = random_specimen(seed), Draws.seeded(seed, "cpu")
        if len(structure.numbers) == 0 or structure.parameters["kind"] == "amorphous":
            continue
        mode, energy = MODES[made % len(MODES)], float(rng.choice(ENERGIES_EV))
        spectra = crystal_spectra(structure, energy, mode, draws)
        sampling = float(rng.choice(SAMPLINGS))
        side = int(min(int(rng.integers(*SIDES)), 0.6 * CELL / sampling))
        image, _ = cut(spectra, sampling, side, draws)
        if image.std() < 0.02 * image.mean():
            continue
        made += 1
        scale = (
            far.VACUUM
            if mode == "HRTEM"
            else min(
                far.VACUUM / image.mean(), 1 / np.percentile(image, 99), far.BRIGHTEST / image.max()
            )
        )
        description = {
            "mode": mode,
            "seed": seed,
            "contrast": "",
            "specimen": str(structure.parameters["kind"]),
            "energy_ev": energy,
        }
        yield image * np.float32(scale), sampling, description, None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    for name, count in (("own", 10), ("bright", 10), ("crystals", 20)):
        parser.add_argument(f"--{name}", type=int, default=count, help="frames")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="also draw all frames")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    empty = np.zeros((0, 2), np.float32)
    number = 0
    for group, frames in (
        ("own", ours("own", options.own)),
        ("bright", ours("bright", options.bright)),
        ("crystals", crystals(options.crystals)),
    ):
        for i, (image, sampling, description, atoms) in enumerate(frames, 1):
            number += 1
            record = {
                "name": f"{group}-{i}",
                "group": group,
                "number": number,
                "periodic": False,
                **description,
            }
            places = dict.fromkeys(
                ("columns", "vacancies", "vacancy_peers", "adatoms", "adatom_peers"), empty
            )
            content = {
                "image": image,
                "sampling_angstrom": np.float64(sampling),
                "record": np.array(json.dumps(record)),
                **places,
            }
            if atoms is not None:
                content["atoms"] = atoms
            far.write(options.output / f"{record['name']}.npz", content)
            print(record["name"], image.shape, sampling, description, flush=True)
    if options.sheet:
        sheet(
            [far.read(file)["image"] for file in sorted(options.output.glob("*.npz"))],
            options.sheet,
        )
    return 0


def sheet(images: list[far.Image], path: Path) -> None:
    """Images of any sizes on one picture, eight a row, each from its darkest to its brightest."""
    from PIL import Image

    cells = []
    for image in images:
        low, high = np.percentile(image, [0.3, 99.7])
        picture = Image.fromarray(
            (np.clip((image - low) / (high - low + 1e-9), 0, 1) * 255).astype(np.uint8)
        )
        cells.append(np.asarray(picture.resize((SHOWN, SHOWN))))
    cells += [np.zeros_like(cells[0])] * (-len(cells) % 8)
    Image.fromarray(np.vstack([np.hstack(cells[i : i + 8]) for i in range(0, len(cells), 8)])).save(
        path
    )


if __name__ == "__main__":
    raise SystemExit(main())
