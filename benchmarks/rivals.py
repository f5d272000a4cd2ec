"""gdn beside what a reader has at hand, on the far set (`far.py`): a constant, the best blur, BM3D
at its best binning, tk_r_em.

Each frame is made noisy with a recorded seed and restored by each method; a line of JSON for each
frame and method is appended to `--json`, and what is there is not done again (`--again` does it
again; the last line counts). The tables are printed from that file.

tk_r_em (Lobato, Friedrich and Van Aert 2023) is run by `tk_worker.py` with the Python that `--tk`
names, on counts summed over the whole number of pixels nearest to 0.35 Å, without any truth:
`sfr_hrtem` on HRTEM frames and `sfr_hrstem` on HAADF and ABF, its networks for atomic resolution;
mean over eight orientations; interpolated back. gdn runs as in `gdn denoise --model auto`.

    python benchmarks/far.py -o /data/far
    python benchmarks/rivals.py --far /data/far --tk /opt/tk/bin/python \\
        --json /data/far/rivals.jsonl

In the tables: SSIM, column F1, bias and rms error of the matched columns' positions as
`gdn.evaluation.metrics` has them (against the extrema of the clean image); in periodic fields the
share of the columns drawn that the clean image has not; vacancies filled and adatoms lost (less
than half of the clean image's difference from the like sites is left), vacancies and adatoms made
(more than half of it where there is none).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import far
import numpy as np
from numpy.typing import NDArray
from rivals_tables import METHODS, rows_of, tables
from scipy.ndimage import gaussian_filter, map_coordinates
from suite import denoiser_of

from gdn.evaluation.comparators import COMPARATORS, Case, unet_comparators
from gdn.evaluation.metrics import Image, column_score, psnr, ssim
from gdn.evaluation.noise_suite import Noise, parse_suite
from gdn.frames.resampling import bin_sum, grids_for, unbin
from gdn.models import AUTO

Row = dict[str, Any]
Method = Callable[[Case, Row], Image]

KNOWN = COMPARATORS | unet_comparators(Path(__file__).resolve().parent / "unets")
TK_ANGSTROM = 0.35
TK_NETWORKS = {"HRTEM": "sfr_hrtem", "HAADF": "sfr_hrstem", "ABF": "sfr_hrstem"}
SMOOTH_ANGSTROM = 0.3
INNER_ANGSTROM = 2.0  # from the edge, of the sites that are looked at


class TkRem:
    """tk_r_em in a process of its own, which is ended with the context."""

    def __init__(self, python: str) -> None:
        worker = Path(__file__).with_name("tk_worker.py")
        self._process = subprocess.Popen(
            [python, str(worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> TkRem:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()

    def __call__(self, case: Case, record: Row) -> Image:
        """Bin, restore, interpolate back."""
        sampling = case.sampling_angstrom
        binning = max(1, round(TK_ANGSTROM / sampling))
        grids = grids_for((case.noisy.shape[0], case.noisy.shape[1]), sampling, binning * sampling)
        paths = [Path(self._folder.name) / f"{name}.npy" for name in ("input", "output")]
        np.save(paths[0], bin_sum(case.noisy, grids) / np.float32(grids.area))
        asked = {
            "model": TK_NETWORKS[record["mode"]],
            "input": str(paths[0]),
            "output": str(paths[1]),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline().strip() != "done":
            raise RuntimeError(
                "tk_worker.py failed: run it by hand with the Python of --tk to see why"
            )
        return unbin(np.load(paths[1]), grids)


def gdn_method(stack: ExitStack, model: str, restarts: int) -> Method:
    """What `gdn denoise --model MODEL` does."""
    denoiser = stack.enter_context(denoiser_of(model, restarts))

    def run(case: Case, record: Row) -> Image:
        return (
            denoiser.for_recording(case.noisy, case.sampling_angstrom)
            .search(case.noisy, case.sampling_angstrom)
            .image
        )

    return run


def without_record(method: Callable[[Case], Image]) -> Method:
    """A comparator that asks for nothing but the frame."""
    return lambda case, record: method(case)


def opened(names: list[str], stack: ExitStack, options: argparse.Namespace) -> dict[str, Method]:
    """The methods by name; what they need is closed by `stack`. Raises ValueError for a name that
    there is not."""
    methods: dict[str, Method] = {}
    for name in names:
        if name == "gdn":
            methods[options.label] = gdn_method(stack, options.model, options.restarts)
        elif name == "tk_r_em":
            if options.tk is None:
                raise ValueError(
                    "--methods tk_r_em needs --tk, the Python of an environment that has it"
                )
            methods[name] = stack.enter_context(TkRem(options.tk))
        elif name in KNOWN:
            methods[name] = without_record(KNOWN[name])
        else:
            raise ValueError(
                f"--methods {name}: choose from {', '.join([*KNOWN, 'tk_r_em', 'gdn'])}"
            )
    return methods


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


def measured(frame: Row, noise: Noise, name: str, method: Method) -> Row:
    """One line of the file."""
    record, sampling, seed = (
        frame["record"],
        frame["sampling_angstrom"],
        int(frame["record"]["number"]),
    )
    clean = frame["image"]
    case = Case(clean, noise.apply(clean, seed), noise, sampling)
    begun = time.perf_counter()
    image = method(case, record)
    seconds = time.perf_counter() - begun
    score = vars(column_score(clean, image, sampling))
    return {
        "frame": record["name"],
        "group": record["group"],
        "mode": record["mode"],
        "contrast": record["contrast"],
        "periodic": record["periodic"],
        "noise": str(noise),
        "noise_seed": seed,
        "method": name,
        "psnr_db": round(psnr(clean, image), 3),
        "ssim": round(ssim(clean, image), 4),
        "columns": {
            key: None if np.isnan(value) else round(value, 4) for key, value in score.items()
        },
        "defects": defects(clean, image, frame),
        "seconds": round(seconds, 2),
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
        else {(r["frame"], r["noise"], r["method"]) for r in rows_of(options.json)}
    )
    with ExitStack() as stack:
        methods = opened(options.methods.split(","), stack, options)
        stream = stack.enter_context(options.json.open("a", encoding="utf-8"))
        for noise in parse_suite(options.noise):
            for frame in frames:
                for name, method in methods.items():
                    if (frame["record"]["name"], str(noise), name) in done:
                        continue
                    row = measured(frame, noise, name, method)
                    stream.write(json.dumps(row) + "\n")
                    stream.flush()
                    print(
                        f"{row['frame']} {noise} {name}: {row['psnr_db']:.2f} dB, "
                        f"{row['seconds']:.1f} s",
                        file=sys.stderr,
                    )


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
        help="of the comparators, tk_r_em and gdn; '' only prints",
    )
    parser.add_argument("--noise", default="poisson:1")
    parser.add_argument("--tk", metavar="PYTHON", help="of the environment of tk_r_em")
    parser.add_argument("--model", default=AUTO, help="of gdn's row")
    parser.add_argument("--label", default="gdn", help="name of gdn's row, to tell models apart")
    parser.add_argument("--restarts", type=int, default=256)
    parser.add_argument("--again", action="store_true", help="also what is there already")
    options = parser.parse_args()
    try:
        if options.methods:
            measure(options)
    except ValueError as error:
        parser.error(str(error))
    print(*tables(options.json).values(), sep="\n\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
