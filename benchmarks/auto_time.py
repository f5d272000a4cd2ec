"""What `--model auto` costs beyond the generator that it picks, on validation frames (`near.py`) at
0.45 electrons a pixel.

Each frame has a process of its own, where three take turns on it, all models open: that generator
alone, without any other candidate (no command does that); `--model NAME`, which has the
collaborative filter beside it; and auto, the choice among generators included. Then, with
`--commands`, whole `gdn denoise` commands, of which each starts Python and opens its models. A time
is CPU seconds of all threads, the median over the turns (other work on the machine hardly changes
it), wall time beside it.

    python benchmarks/near.py -o near
    python benchmarks/auto_time.py --frames near [--names own-1,bright-2] \\
        [--larger own-2:1200] [--threads 1,2] [--commands]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

NAMES = "own-1,own-2,bright-1,bright-2,crystals-5,crystals-12"
TIMED = ("choice", "restore", "collaborative")  # what auto and the mixture add
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
)  # of matrix products: read as numpy is imported
Times = tuple[float, float]  # CPU and wall seconds


@dataclass(frozen=True)
class Timed:
    """A candidate whose time is added up under its name."""

    inner: Any
    spent: dict[str, float] = field(compare=False)

    @property
    def name(self) -> str:
        return str(self.inner.name)

    @property
    def identity(self) -> str:
        return str(self.inner.identity)

    def __call__(self, recorded: Any) -> Any:
        with adding(self.spent, self.name):
            return self.inner(recorded)


@contextmanager
def adding(spent: dict[str, float], name: str) -> Iterator[None]:
    begun = time.process_time()
    yield
    spent[name] = spent.get(name, 0.0) + time.process_time() - begun


def timed(work: Callable[[], Any]) -> Times:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def of_frame(
    path: Path, side: int | None, threads: int, repeats: int, score: bool
) -> dict[str, Any]:
    """Times of one frame in this process. `side`: mirrored to as many px."""
    import gdn

    frame, sampling = noisy(path, side)
    spent: dict[str, float] = {}
    times: dict[str, list[Times]] = {}

    def auto() -> None:
        with adding(spent, "choice"):
            chosen = family.for_recording(frame, sampling)
        replace(chosen, others=[Timed(other, spent) for other in chosen.others]).denoise(
            frame, sampling
        )

    with gdn.Denoiser(threads=threads, score=score) as family:
        name = family.for_recording(frame, sampling).engine.model.card.name
        with gdn.Denoiser(name, threads=threads, score=score) as denoiser:
            named = denoiser.for_recording(frame, sampling)
            bare = replace(named, others=())
            ways: dict[str, Callable[[], Any]] = {
                "alone": lambda: bare.denoise(frame, sampling),
                "named": lambda: named.denoise(frame, sampling),
                "auto": auto,
            }
            for work in ways.values():
                work()
            spent.clear()
            for _ in range(repeats):
                for way, work in ways.items():
                    times.setdefault(way, []).append(timed(work))
    return {
        "frame": path.stem,
        "side": frame.shape[0],
        "generator": name,
        "threads": threads,
        **middle(times),
        **{stage: spent.get(stage, 0.0) / repeats for stage in TIMED},
    }


def middle(measured: dict[str, list[Times]]) -> dict[str, Times]:
    """Medians of CPU and wall seconds, each for itself."""
    return {
        way: (median([cpu for cpu, _ in times]), median([wall for _, wall in times]))
        for way, times in measured.items()
    }


def noisy(path: Path, side: int | None) -> tuple[Any, float]:
    """A frame of `near.py`, whose values are electrons, with Poisson noise, and its Å/px."""
    import numpy as np

    with np.load(path) as content:
        image, sampling = content["image"], float(content["sampling_angstrom"])
    if side is not None:
        image = np.pad(image, [(0, max(0, side - n)) for n in image.shape], mode="symmetric")
    return np.random.default_rng(1).poisson(image).astype(np.float32), sampling


def of_commands(
    path: Path, side: int | None, name: str, threads: int, repeats: int, score: bool
) -> dict[str, Times]:
    """Times of `gdn denoise` with the generator named and with auto, in turn."""
    import numpy as np

    frame, sampling = noisy(path, side)
    times: dict[str, list[Times]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frame.npy"
        np.save(file, frame.astype(np.uint16))
        for turn in range(repeats + 1):
            for way, model in (("named", name), ("auto", "auto")):
                command = [
                    sys.executable,
                    "-m",
                    "gdn",
                    "denoise",
                    str(file),
                    "--sampling",
                    f"{sampling:g}",
                    "--model",
                    model,
                ]
                command += [
                    "--threads",
                    str(threads),
                    "--overwrite",
                    *([] if score else ["--no-score"]),
                ]
                before, wall = children(), time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                if turn:  # the first reads files from the disk
                    times.setdefault(way, []).append(
                        (children() - before, time.perf_counter() - wall)
                    )
    return middle(times)


def children() -> float:
    """CPU seconds of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(rows: list[dict[str, Any]]) -> None:
    print("\nmodels open, CPU s (wall s); shares of auto's time\n")
    head = (
        "frame",
        "generator",
        "threads",
        "alone",
        "named",
        "auto",
        *TIMED,
        "auto/named",
        "auto/alone",
    )
    print("|", " | ".join(head), "|")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for row in rows:
        cells = [f"{row[way][0]:.2f} ({row[way][1]:.2f})" for way in ("alone", "named", "auto")]
        cells += [f"{row[stage] / row['auto'][0]:.0%}" for stage in TIMED]
        cells += [f"{row['auto'][0] / row[way][0]:.2f}" for way in ("named", "alone")]
        print(
            f"| {row['frame']}, {row['side']} px | {row['generator']} | {row['threads']} |",
            " | ".join(cells),
            "|",
        )
    if "commands" not in rows[0]:
        return
    print(
        "\nwhole commands, CPU s (wall s)\n\n| frame | threads | named | auto | "
        "auto/named |\n|---|--:|--:|--:|--:|"
    )
    for row in rows:
        named, auto = row["commands"]["named"], row["commands"]["auto"]
        cells = [f"{cpu:.2f} ({wall:.2f})" for cpu, wall in (named, auto)]
        print(
            f"| {row['frame']} | {row['threads']} |",
            " | ".join(cells),
            f"| {auto[0] / named[0]:.2f} |",
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--frames", type=Path, required=True, metavar="DIR", help="what near.py wrote"
    )
    parser.add_argument("--names", default=NAMES)
    parser.add_argument(
        "--larger", metavar="NAME:PX", help="also this frame, mirrored to a larger one"
    )
    parser.add_argument("--threads", default="1")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--commands", action="store_true", help="also whole commands")
    parser.add_argument("--no-score", action="store_true", help="without the held-out score")
    options = parser.parse_args()
    wanted: list[tuple[str, int | None]] = [
        (name, None) for name in options.names.split(",") if name
    ]
    if options.larger:
        name, side = options.larger.split(":")
        wanted.append((name, int(side)))
    rows = []
    for threads in map(int, options.threads.split(",")):
        os.environ.update(dict.fromkeys(THREADS, str(threads)))
        for name, side in wanted:
            described = (options.frames / f"{name}.npz", side)
            counted = (threads, options.repeats, not options.no_score)
            with get_context("spawn").Pool(1) as pool:
                row = pool.apply(of_frame, (*described, *counted))
            if options.commands:
                row["commands"] = of_commands(*described, row["generator"], *counted)
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    table(rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
