"""What gdn costs against the size of a frame and the length of a stack, beside some rivals: seconds
and peak memory of whole commands, each in a fresh process.

    python benchmarks/cost.py --json docs/results/cost.jsonl            # gdn alone, two hours
    python benchmarks/cost.py --json docs/results/cost.jsonl --rivals bm3d,topaz \\
        --python topaz=/opt/topaz/bin/python
    python benchmarks/cost.py --json docs/results/cost.jsonl --plot docs/cost.png --cases ''

The frames are made from a seed (cost_frames.py): a Pt particle on CeO2, mirrored to any size, with
Poisson noise at the study's dose. Each measurement is appended as one line of JSON, and what is
there is not measured again. A command that fails, or takes more processor time than `--limit`, is
a line that says so.

Processor time is that of all threads of the process and of its children. It hardly depends on what
else the machine does; the time of the clock does. The peak is the largest resident memory of the
process, its start included.

A rival gets the frame binned to the pixel that was its best on most frames of the far set at the
same pixel size (docs/results/rivals.jsonl). Binning, and interpolation to the frame's own pixels,
are counted for BM3D alone, which makes them itself.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from cost_frames import SAMPLING, counts, scene, sized, write_stack
from cost_tables import Row, key_of, plot
from rival_methods import HERE, RIVALS, pythons_of

from gdn.evaluation.comparators import Case, bm3d_at
from gdn.evaluation.noise_suite import parse_suite
from gdn.frames.resampling import bin_sum, grids_for

SIDES = (256, 512, 1200, 2048, 4096, 8192)
STACKS = ((10, 256), (40, 256), (400, 256), (2000, 128))
RIVAL_SIDES = (512, 1200, 4096)
BINNINGS = {"bm3d": 8, "bmnd": 8, "topaz": 4, "tk_r_em": 6}  # px
POLL_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A process that has ended: its exit `code` (None: it was ended at the limit), seconds of the
    clock and of the processor, peak memory, and the last line that it printed as an error."""

    code: int | None
    wall_seconds: float
    cpu_seconds: float
    peak_mib: float
    last_words: str


def run(command: list[str], folder: Path, limit: float, request: str = "") -> Measured:
    """Run a command to its end, or to `limit` processor seconds. `request` is its input."""
    (folder / "request").write_text(request)
    with (folder / "request").open() as given, (folder / "log").open("w+") as log:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdin=given, stdout=subprocess.DEVNULL, stderr=log)
        peak, code, used = 0, 0, None
        while used is None:
            with contextlib.suppress(OSError, StopIteration, IndexError, psutil.Error):
                status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1])
                spent = psutil.Process(process.pid).cpu_times()
                if spent.user + spent.system > limit:
                    process.kill()
            ended, code, usage = os.wait4(process.pid, os.WNOHANG)
            used = usage if ended else None
            time.sleep(0 if ended else POLL_SECONDS)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(code)
        log.seek(0)
        lines = log.read().strip().splitlines() or [""]
    cpu = used.ru_utime + used.ru_stime
    return Measured(
        code=None if cpu > limit else process.returncode,
        wall_seconds=wall,
        cpu_seconds=cpu,
        peak_mib=peak / 1024,
        last_words=" ".join(lines[-1].split())[:200],
    )


def parts_of(record: Path) -> dict[str, float]:
    """Seconds of the clock that the record gives for each part, over all frames."""
    parts: dict[str, float] = {}
    for frame in json.loads(record.read_text(encoding="utf-8"))["frames"]:
        for name, seconds in frame["stages"].items():
            parts[name] = parts.get(name, 0.0) + seconds
    return {name: round(seconds, 2) for name, seconds in parts.items() if seconds}


def row_of(head: Row, measured: Measured) -> Row:
    """A line of the file, without the parts."""
    row = head | {
        "wall_seconds": round(measured.wall_seconds, 2),
        "cpu_seconds": round(measured.cpu_seconds, 2),
        "peak_mib": round(measured.peak_mib),
        "load": round(os.getloadavg()[0], 1),  # processes that compute, in the last minute
    }
    if measured.code is None:
        return row | {"failed": "not ended at the limit"}
    return row | ({"failed": measured.last_words or f"{measured.code}"} if measured.code else {})


def gdn_row(head: Row, options: list[str], limit: float) -> Row:
    """`gdn denoise` on one frame or a stack."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        write_stack(folder / "frames.tif", head["frames"], head["side"], head["seed"])
        command = [sys.executable, "-m", "gdn", "denoise", str(folder / "frames.tif")]
        command += ["--model", "auto", "--restarts", "256", "-o", str(folder / "out"), *options]
        row = row_of(head, run(command, folder, limit))
        record = folder / "out" / "frames_gdn.json"
        return row | ({} if "failed" in row else {"parts": parts_of(record)})


def rival_row(head: Row, python: str, limit: float) -> Row:
    """A rival on one frame: the start of its process, and one frame."""
    name, side, binning = head["method"], head["side"], BINNINGS[head["method"]]
    frame = counts(sized(scene(head["seed"]), side), np.random.default_rng(head["seed"]))
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder_name:
        folder = Path(folder_name)
        given, made = folder / "input.npy", folder / "output.npy"
        if name == "bm3d":
            np.save(given, frame)
            command = [sys.executable, str(HERE / "cost.py"), "--bm3d", str(given), str(made)]
            measured = run(command, folder, limit)
        else:
            grids = grids_for((side, side), SAMPLING, binning * SAMPLING)
            np.save(given, bin_sum(frame.astype(np.float32), grids))
            request: Row = {"network": "sfr_hrtem", "kind": "poisson", "sigma": None}
            request |= {"input": str(given), "output": str(made), "seed": 0}
            command = [python, str(HERE / RIVALS[name].worker)]
            measured = run(command, folder, limit, json.dumps(request) + "\n")
        row = row_of(head | {"angstrom": round(binning * SAMPLING, 4)}, measured)
        if "failed" not in row and not made.exists():
            row["failed"] = measured.last_words or "no result"
        return row


def bm3d_child(given: Path, made: Path) -> None:
    """BM3D on a frame of electrons, binned; what `--bm3d` runs."""
    frame = np.load(given).astype(np.float32)
    case = Case(frame, frame, parse_suite("poisson:1")[0], SAMPLING)
    np.save(made, bm3d_at(case, BINNINGS["bm3d"]))


def cases_of(options: argparse.Namespace) -> Iterator[tuple[Row, list[str]]]:
    """What is measured: the head of each row, and the options of gdn's command."""
    kinds = [kind for kind in options.cases.split(",") if kind]
    chosen = {"frames": SIDES, "unjudged": (1200, 4096, 8192), "adapt": (1200,)}
    words = {"frames": [], "unjudged": ["--no-score"], "adapt": ["--adapt"]}
    heads: list[tuple[str, int, int, list[str]]] = []
    for kind in kinds:
        heads += [("gdn", 1, side, words[kind]) for side in chosen.get(kind, ())]
        if kind in ("stacks", "movies"):
            more = ["--movie", "auto" if kind == "movies" else "off"]
            heads += [("gdn", frames, side, more) for frames, side in STACKS]
    heads += [
        (name, 1, side, []) for name in options.rivals.split(",") if name for side in RIVAL_SIDES
    ]
    for method, frames, side, more in heads:
        head = {"method": method, "frames": frames, "side": side, "options": " ".join(more)}
        yield head | {"seed": options.seed}, more


def measure(options: argparse.Namespace) -> None:
    """Append the lines that are missing."""
    done = {key_of(json.loads(line)) for line in lines_of(options.json)}
    pythons = pythons_of(options.python) | {"bm3d": sys.executable}
    with options.json.open("a", encoding="utf-8") as stream:
        for head, more in cases_of(options):
            beyond = head["side"] > options.largest or head["frames"] > options.longest
            if beyond or key_of(head) in done:
                continue
            if head["method"] == "gdn":
                row = gdn_row(head, more, options.limit)
            else:
                row = rival_row(head, pythons[head["method"]], options.limit)
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            print(json.dumps(row), file=sys.stderr, flush=True)


def lines_of(path: Path) -> list[str]:
    """The lines of a file; none if there is no file."""
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="lines are appended here")
    parser.add_argument(
        "--cases",
        default="frames,unjudged,adapt,stacks,movies",
        help="of gdn: frames of all sizes, three of them without judging, one with adaptation, "
        "stacks, stacks with --movie auto; '' for none",
    )
    parser.add_argument("--rivals", default="", help=f"of {', '.join(BINNINGS)}, with commas")
    parser.add_argument(
        "--python", action="append", default=[], metavar="NAME=PYTHON", help="as of rivals.py"
    )
    parser.add_argument("--limit", type=float, default=1800, help="processor seconds of a command")
    parser.add_argument("--largest", type=int, default=max(SIDES), help="frame, px a side")
    parser.add_argument("--longest", type=int, default=max(STACKS)[0], help="stack, frames")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="also draw the lines of the file, as PNG or SVG")
    parser.add_argument("--bm3d", type=Path, nargs=2, metavar=("IN", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bm3d:
        bm3d_child(*options.bm3d)
        return 0
    if options.json is None:
        parser.error("--json: name the file of the lines")
    try:
        measure(options)
    except (ValueError, KeyError) as error:
        parser.error(f"a rival without its --python, or unknown: {error}")
    if options.plot:
        plot([json.loads(line) for line in lines_of(options.json)], options.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
