"""Far movies: specimens of the far set, drifting, one column of each gone from some frame on. For
reporting only.

**Never choose a setting, a weight or a threshold by these movies.** Specimens, optics, cameras and
foci are those of `far.py`, with seeds of their own; waves are by abTEM. The column that vanishes is
a heavy one in the middle of the field, at an edge or within the crystal. The atoms that stay
vibrate alike before and after: it alone changes. Only the path of the drift and the form of the
files are shared with `gdn simulate`. In HRTEM the vacuum is 1.0. In HAADF and ABF the mean is 1.0,
or less as in `far.py`, and a dose is of that level.

    python benchmarks/far_movies.py -o data/far-movies [--only si-110,fe-bcc] [--frames 24]
    python benchmarks/movies.py data/far-movies/movies --split far --rows rows.jsonl
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from far import BRIGHTEST, FRAMES, VACUUM, Frame, chosen_focus, column_contrast, selected
from far_imaging import Lens, exit_waves, framed, hrtem, stem, to_pixels
from far_specimens import columns_of
from numpy.typing import NDArray

from gdn.simulation.movie_files import FOLDER, write_movie
from gdn.simulation.movies import DOSES, Drift, drift_path

SEED = 0xFA3A
ROOM_ANGSTROM = 4.0  # that the specimen may move either way: 5 Å lie around the field
DRIFT_ANGSTROM = (0.1, 1.0)  # rms a frame
MIDDLE = 0.25  # of the box, either way from its centre: where the column is
DRIFTS: tuple[Drift, ...] = ("walk", "jumps", "linear")

Image = NDArray[np.float64]


def column_last(atoms: Atoms, chosen: int, label: NDArray[Any]) -> tuple[Atoms, int]:
    """The atoms with those of a column at the end, and how many there are: frozen phonons are drawn
    atom by atom, so that the others vibrate alike without them."""
    inside = label == chosen
    order = np.concatenate([np.flatnonzero(~inside), np.flatnonzero(inside)])
    return atoms[order], int(inside.sum())


def shifted(image: Image, box: float, path: NDArray[np.float64]) -> Image:
    """The periodic image moved by `path` (rows, columns) Å, exactly."""
    ky, kx = (np.fft.fftfreq(n, box / n) for n in image.shape)
    phase = np.exp(-2j * np.pi * (ky[:, None] * path[0] + kx[None] * path[1]))
    return np.asarray(np.fft.ifft2(np.fft.fft2(image) * phase).real)


def images_of(
    frame: Frame, states: list[Atoms], heavy: NDArray[np.float64], rng: np.random.Generator
) -> tuple[list[Image], dict[str, Any]]:
    """The image of the box of each state, with the scale of the movie; and what was chosen."""
    box, sampling = frame.box_angstrom, frame.sampling_angstrom
    if not isinstance(frame.optics, Lens):
        images = [stem(state, frame.optics, frame.mode) for state in states]
        first = images[0]
        least = min(1 / first.mean(), 1 / np.percentile(first, 99) / VACUUM)
        scale = min(least, BRIGHTEST / VACUUM / first.max())
        return [scale * image for image in images], {"scale": float(scale)}
    lens, seed = frame.optics, int(rng.integers(2**31))
    waves = [exit_waves(state, lens, seed) for state in states]

    def contrast(defocus: float) -> float:
        image = framed(hrtem(waves[0], lens, defocus), box, sampling, frame.shape, frame.camera)
        return column_contrast(image, heavy, sampling)

    focus = chosen_focus(contrast, frame, rng)
    return [hrtem(wave, lens, focus) for wave in waves], {"defocus_nm": round(focus, 2)}


def make(frame: Frame, number: int, frames: int) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Clean frames and the record of a movie."""
    rng = np.random.default_rng([SEED, number])
    box, sampling, shape = frame.box_angstrom, frame.sampling_angstrom, frame.shape
    made = frame.build(rng, box)
    centre, weight, element, label = columns_of(made.atoms)
    strong = weight > 0.5 * np.percentile(weight, 95)
    middle = (np.abs(centre - box / 2) < MIDDLE * box).all(1)
    chosen = int(rng.choice(np.flatnonzero(strong & middle)))
    atoms, count = column_last(made.atoms, chosen, label)
    drift = DRIFTS[rng.integers(len(DRIFTS))]
    path = drift_path(drift, frames, rng.uniform(*DRIFT_ANGSTROM), ROOM_ANGSTROM, rng)
    event = int(rng.integers(frames // 3, max(frames // 3 + 1, 2 * frames // 3)))
    heavy = to_pixels(centre[strong], box, sampling, shape)
    images, drawn = images_of(frame, [atoms, atoms[:-count]], heavy, rng)
    state = (np.arange(frames) >= event).astype(int)
    clean = [
        framed(shifted(images[s], box, step), box, sampling, shape, frame.camera)
        for s, step in zip(state, path, strict=True)
    ]
    wanted = round(box / sampling)
    corners = (wanted - np.array(shape)) // 2 * sampling - path
    place = centre[chosen][::-1]
    vanished = {
        "kind": "vanish",
        "frame": event,
        "place_angstrom": place.round(4).tolist(),
        "place_px": ((place - corners[event]) / sampling - 0.5).round(2).tolist(),
        "change": -1,
        "size": count,
    }
    columns = np.column_stack([centre[:, ::-1], weight]).round(3)
    record = {
        "schema": 1,
        "structure_seed": SEED,
        "view": number,
        "split": "far",
        "name": frame.name,
        "group": frame.group,
        "mode": frame.mode,
        "kind": "vanish",
        "frames": frames,
        "shape": list(shape),
        "sampling_angstrom": sampling,
        "optics": asdict(frame.optics),
        "camera": frame.camera,
        "drift": drift,
        "drift_angstrom": (path - path[0]).round(5).tolist(),
        "corner_angstrom": corners.round(5).tolist(),
        "events": [vanished],
        "element": int(element[chosen]),
        "state_of_frame": state.tolist(),
        "columns_of_state": [columns.tolist(), np.delete(columns, chosen, 0).tolist()],
        **drawn,
    }
    return np.maximum(np.stack(clean), 0).astype(np.float32), record


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", default="", metavar="NAMES", help="of the frames, with commas")
    parser.add_argument("--frames", type=int, default=24, help="of each movie")
    options = parser.parse_args()
    for number, frame in selected(FRAMES, options.only):
        path = options.output / FOLDER / f"{frame.name}.json"
        if path.exists():
            continue
        begun = time.perf_counter()
        clean, record = make(frame, number, options.frames)
        write_movie(path, clean, record, DOSES)
        print(f"{frame.name}: {record['drift']}, {time.perf_counter() - begun:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
