"""gdn beside what a reader has at hand, on frames that far.py or near.py wrote: filters, general
networks, and networks that learn from the frame itself.

Each frame is made noisy with a recorded seed and restored by each method; a line of JSON for each
frame and method is appended to `--json`, and what is there is not done again (`--again` does it
again; the last line counts). A method that fails on a frame is a line that says so. The tables are
printed from that file. The methods, and how each is installed: rival_methods.py and its workers.

    python benchmarks/far.py -o /data/far
    python benchmarks/rivals.py --far /data/far --json /data/far/rivals.jsonl \\
        --python tk_r_em=/opt/tk/bin/python --python topaz=/opt/topaz/bin/python
    python benchmarks/rivals.py --far /data/far --json /data/far/rivals.jsonl \\
        --methods zs-n2n,noise2self --only pt-ceo2-1,srtio3-110 --learn 180

gdn runs as in `gdn denoise --model auto`.

In the tables: SSIM, column F1, bias and rms error of the matched columns' positions as
`gdn.evaluation.metrics` has them (against the extrema of the clean image); in periodic fields the
share of the columns drawn that the clean image has not; rms error farther than 3 Å from any column,
in per cent of the vacuum (HRTEM of Pt/CeO2); vacancies filled and adatoms lost (less than half of
the clean image's difference from the like sites is left), vacancies and adatoms made (more than
half of it where there is none).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import far
import numpy as np
from numpy.typing import NDArray
from rival_methods import Method, gdn_method, opened, pythons_of
from rivals_tables import METHODS, last_lines, tables
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from gdn.evaluation.comparators import Case
from gdn.evaluation.metrics import Image, column_score, psnr, ssim
from gdn.evaluation.noise_suite import STUDY_VACUUM, Noise, parse_suite
from gdn.models import AUTO

Row = dict[str, Any]

SMOOTH_ANGSTROM = 0.3
INNER_ANGSTROM = 2.0  # from the edge, of the sites that are looked at
VACUUM_ANGSTROM = 3.0  # from every column
LEAST_VACUUM = 0.01  # of the frame


def at_sites(image: Image, places: NDArray[np.float32], sampling: float) -> NDArray[np.float64]:
    """The image smoothed by 0.3 Å at places (n, 2), x and y px; those within 2 Å of its edge are
    left out."""
    margin = INNER_ANGSTROM / sampling
    inner = ((places > margin) & (places < np.array(image.shape)[::-1] - 1 - margin)).all(1)
    smooth = gaussian_filter(image.astype(np.float64), SMOOTH_ANGSTROM / sampling)
    return np.asarray(map_coordinates(smooth, places[inner][:, ::-1].T, order=1))


def defects(clean: Image, image: Image, frame: Row) -> Row:
    """How many of the frame's defects the image has lost, and how many it has at the like sites,
    which have none."""
    row: Row = {}
    for name, peers in (("vacancies", "vacancy_peers"), ("adatoms", "adatom_peers")):
        if not len(frame[name]):
            continue
        usual, here, there = (
            at_sites(clean, frame[peers], frame["sampling_angstrom"]),
            *(at_sites(i, frame[name], frame["sampling_angstrom"]) for i in (clean, image)),
        )
        others = at_sites(image, frame[peers], frame["sampling_angstrom"])
        step = here - np.median(usual)
        lost = (there - np.median(others)) / step < 0.5
        made = (others - np.median(others)) / np.median(step) > 0.5
        row[name] = {
            "there": len(step),
            "lost": int(lost.sum()),
            "like": len(others),
            "made": int(made.sum()),
        }
    return row


def vacuum_error(clean: Image, image: Image, frame: Row) -> float | None:
    """Rms error farther than 3 Å from any column, per cent of the vacuum; None where the frame has
    no such place, or no vacuum of the study's (periodic fields, HAADF, ABF)."""
    columns = frame["columns"]
    if frame["record"]["group"] != "pt-ceo2" or not len(columns):
        return None
    places = np.stack(np.meshgrid(*(np.arange(n) for n in clean.shape[::-1])), -1).reshape(-1, 2)
    distance, _ = cKDTree(columns).query(
        places, distance_upper_bound=VACUUM_ANGSTROM / frame["sampling_angstrom"]
    )
    empty = np.isinf(distance).reshape(clean.shape)
    if empty.mean() < LEAST_VACUUM:
        return None
    error = (image - clean)[empty].astype(np.float64)
    return round(100 * float(np.sqrt((error**2).mean())) / STUDY_VACUUM, 4)


def measured(frame: Row, noise: Noise, name: str, method: Method) -> Row:
    """One line of the file."""
    record, sampling, seed = (
        frame["record"],
        frame["sampling_angstrom"],
        int(frame["record"]["number"]),
    )
    clean = frame["image"]
    case = Case(clean, noise.apply(clean, seed), noise, sampling)
    head = {key: record[key] for key in ("group", "mode", "contrast", "periodic")}
    head = {"frame": record["name"], **head}
    head |= {"noise": str(noise), "noise_seed": seed, "method": name}
    begun = time.perf_counter()
    try:
        restored = method(case, record)
    except (RuntimeError, ValueError, MemoryError) as error:
        return head | {"failed": " ".join(str(error).split())[:200]}
    seconds, image = time.perf_counter() - begun, restored.image
    score = vars(column_score(clean, image, sampling))
    return head | {
        "psnr_db": round(psnr(clean, image), 3),
        "ssim": round(ssim(clean, image), 4),
        "columns": {
            key: None if np.isnan(value) else round(value, 4) for key, value in score.items()
        },
        "defects": defects(clean, image, frame),
        "vacuum_percent": vacuum_error(clean, image, frame),
        "seconds": round(seconds if restored.seconds is None else restored.seconds, 2),
        "angstrom": restored.angstrom,
        "peak_mib": restored.peak_mib,
        **restored.said,
    }


def frames_of(folder: Path, only: str) -> list[Row]:
    """The frames of a folder that far.py or near.py wrote, in their order, or those named. Raises
    ValueError."""
    asked = set(filter(None, only.split(",")))
    frames = sorted(
        (far.read(path) for path in folder.glob("*.npz")),
        key=lambda frame: int(frame["record"]["number"]),
    )
    if missing := asked - {frame["record"]["name"] for frame in frames}:
        raise ValueError(
            f"{folder}: no frame {', '.join(sorted(missing))}; far.py and near.py make them"
        )
    if not frames:
        raise ValueError(f"{folder}: holds no frames; far.py and near.py make them")
    return [frame for frame in frames if not asked or frame["record"]["name"] in asked]


def measure(options: argparse.Namespace) -> None:
    """Append the lines that are missing."""
    frames = frames_of(options.far, options.only)
    done = (
        set()
        if options.again
        else {(r["frame"], r["noise"], r["method"]) for r in last_lines(options.json)}
    )
    with ExitStack() as stack:
        names = options.methods.split(",")
        methods = opened(
            [name for name in names if name != "gdn"],
            stack,
            pythons_of(options.python),
            options.learn,
        )
        if "gdn" in names:
            methods[options.label] = gdn_method(stack, options.model, options.restarts)
        stream = stack.enter_context(options.json.open("a", encoding="utf-8"))
        for noise in parse_suite(options.noise):
            for frame in frames:
                for name, method in methods.items():
                    if (frame["record"]["name"], str(noise), name) in done:
                        continue
                    row = measured(frame, noise, name, method)
                    stream.write(json.dumps(row) + "\n")
                    stream.flush()
                    words = row.get("failed") or f"{row['psnr_db']:.2f} dB, {row['seconds']:.1f} s"
                    print(f"{row['frame']} {noise} {name}: {words}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--far", type=Path, required=True, help="folder that far.py wrote")
    parser.add_argument(
        "--json",
        type=Path,
        required=True,
        help="lines are appended here, and the tables printed from it",
    )
    parser.add_argument("--only", default="", metavar="NAMES", help="of frames, with commas")
    parser.add_argument(
        "--methods",
        default=",".join(METHODS),
        help="of the comparators, the rivals and gdn; '' only prints",
    )
    parser.add_argument("--noise", default="poisson:1")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="NAME=PYTHON",
        help="of a rival's environment; may be given several times",
    )
    parser.add_argument(
        "--learn", type=float, default=180, metavar="SECONDS", help="of what learns from the frame"
    )
    parser.add_argument("--model", default=AUTO, help="of gdn's row")
    parser.add_argument("--label", default="gdn", help="name of gdn's row, to tell models apart")
    parser.add_argument("--restarts", type=int, default=256)
    parser.add_argument("--again", action="store_true", help="also what is there already")
    options = parser.parse_args()
    try:
        if options.methods:
            measure(options)
    except (ValueError, OSError) as error:  # of the frames, the names, the Pythons given
        parser.error(str(error))
    print(*tables(options.json).values(), sep="\n\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
