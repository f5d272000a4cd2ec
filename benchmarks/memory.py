"""What a large frame, a long stack and a long batch take of host memory: each in a process of its
own, its peak printed.

    python benchmarks/memory.py                 # all, an hour or two
    python benchmarks/memory.py --case frame

The bound is 2 GiB. 'stub' is the whole program around a generator that costs nothing: a frame of
4096 x 4096 pixels that are as large as the generator's own has 4,000 tiles, hours of two cores, and
its memory is what is asked here.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tifffile

BOUND_GIB = 2.0
QUICK = ["--restarts", "256", "--threads", "1"]
CASES: dict[str, tuple[tuple[int, ...], int, float, list[str]]] = {  # shape, files, Å/px, options
    "frame": ((4096, 4096), 1, 0.06, ["--atoms", "--intervals", "50,90,99"]),
    "frame-stub": ((4096, 4096), 1, 0.4, ["--atoms", "--intervals", "50,90,99"]),
    "stack": ((2000, 128, 128), 1, 0.2, ["--no-score"]),
    "stack-stub": ((2000, 1024, 1024), 1, 0.06, ["--no-score", "--dtype", "float16"]),
    "batch": ((64, 64), 1000, 0.4, ["--no-score"]),
    "batch-restore": ((64, 64), 2000, 0.4, ["--no-score", "--model", "restore"]),
}


class Stub:
    """An engine whose generator draws one lattice, whatever the latent; its derivatives are
    zero."""

    name, device, reason = "stub", "cpu", "a benchmark"

    def __init__(self, model: Any) -> None:
        self.model = model
        self.patch, self.latent = model.card.patch, model.card.latent
        y, x = np.indices((self.patch, self.patch))
        self.image = (1 + 0.1 * np.cos(x) * np.cos(y)).astype(np.float32)

    def _images(self, n: int) -> np.ndarray:
        return np.broadcast_to(self.image, (n, self.patch, self.patch)).copy()

    @property
    def exact(self) -> Stub:
        return self

    def generate(self, z: np.ndarray) -> np.ndarray:
        return self._images(len(z))

    def value_and_gradient(
        self, z: np.ndarray, data: Any, scale: np.ndarray, shift: np.ndarray
    ) -> Any:
        from gdn.engines.base import Evaluation
        from gdn.likelihood import negative_log_likelihood

        x = self._images(len(z))
        return Evaluation(
            negative_log_likelihood(scale[:, None, None] * x + shift, data), np.zeros_like(z), x
        )

    def pull_back(self, z: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        return np.zeros_like(z)

    def push_forward(self, z: np.ndarray, tangents: np.ndarray) -> np.ndarray:
        return np.zeros((*tangents.shape[:2], self.patch, self.patch), np.float32)

    def step(
        self, z: np.ndarray, nuisance: np.ndarray, data: Any, damping: float, prior: np.ndarray
    ) -> Any:
        return np.zeros((len(z), z.shape[1] + nuisance.shape[1]), np.float32), np.zeros(len(z))

    def encode(self, images: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        return np.zeros((len(images), self.latent), np.float32)

    def __enter__(self) -> Stub:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def write_inputs(folder: Path, shape: tuple[int, ...], files: int, sampling: float) -> None:
    """Poisson counts of a lattice, frame by frame."""
    y, x = np.indices(shape[-2:]) * sampling
    clean = (1 + 0.2 * np.cos(2 * np.pi * x / 1.95) * np.cos(2 * np.pi * y / 2.76)).astype(
        np.float32
    )
    for number in range(files):
        rng = np.random.default_rng(number)
        frames = (rng.poisson(clean).astype(np.uint8) for _ in range(int(np.prod(shape[:-2]))))
        metadata = {"unit": "nm", "axes": "TYX"[-len(shape) :]}
        tifffile.imwrite(
            folder / f"f{number:04d}.tif",
            frames,
            shape=shape,
            dtype=np.uint8,
            imagej=True,
            resolution=(10 / sampling, 10 / sampling),
            metadata=metadata,
        )


def resident_mib() -> float:
    """Memory of this process now."""
    import psutil

    return float(psutil.Process().memory_info().rss / 2**20)


def exit_code(command: list[str]) -> int:
    """Of the program, run in this process."""
    from gdn.cli import main

    try:
        main(command)
    except SystemExit as end:
        return int(end.code or 0)
    return -1


def child(name: str, inputs: Path, out: Path) -> None:
    """Run one case in this process; print its peak, and how its memory went from file to file."""
    from gdn.batch import run as batch
    from gdn.batch.single_file import attempt

    options = CASES[name][3]
    trace: list[float] = []

    def watched(*given: Any) -> Any:
        outcome = attempt(*given)
        trace.append(resident_mib())
        return outcome

    command = ["denoise", str(inputs), "-o", str(out), *QUICK, *options]
    stub = (
        mock.patch("gdn.engines.choose.open_engine", lambda model, *_, **__: Stub(model))
        if "stub" in name
        else mock.MagicMock()
    )
    before = resident_mib()
    begun = time.perf_counter()
    with stub, mock.patch.object(batch, "attempt", watched):
        code = exit_code(command)
        took = time.perf_counter() - begun
        begun = time.perf_counter()
        again = exit_code([*command, "--resume"]) if CASES[name][1] > 1 else 0
    resumed = time.perf_counter() - begun
    measured = {
        "code": code or again,
        "seconds": took,
        "resumed": resumed,
        "before": before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
        "trace": [
            round(trace[i]) for i in sorted({min(i, len(trace) - 1) for i in (0, 9, 99, 499, 999)})
        ],
    }
    print(json.dumps(measured), file=sys.stderr)


def main_() -> int:
    if len(sys.argv) > 1 and sys.argv[1] == "--child":
        child(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", action="append", choices=list(CASES))
    options = parser.parse_args()
    print(
        "| case | input | files | peak, MiB | after files 1, 10, 100, 500, 1000, MiB "
        "| minutes | minutes with --resume | exit code |"
    )
    print("|---|---|--:|--:|---|--:|--:|--:|")
    good = True
    for name in options.case or CASES:
        shape, files, sampling, _ = CASES[name]
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            inputs = Path(folder, "in")
            inputs.mkdir()
            write_inputs(inputs, shape, files, sampling)
            command = [
                sys.executable,
                __file__,
                "--child",
                name,
                str(inputs),
                str(Path(folder, "out")),
            ]
            done = subprocess.run(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
        lines = done.stderr.strip().splitlines()
        try:
            measured = json.loads(lines[-1])
        except (IndexError, json.JSONDecodeError):
            print(f"| {name} | the process ended with {done.returncode}: {lines[-1:]} |")
            good = False
            continue
        good &= measured["code"] == 0 and measured["peak"] < 1024 * BOUND_GIB
        size = "x".join(map(str, shape))
        print(
            f"| {name} | {size} at {sampling} Å | {files} | {measured['peak']:.0f} | "
            f"{', '.join(map(str, measured['trace']))} "
            f"| {measured['seconds'] / 60:.1f} | {measured['resumed'] / 60:.1f} "
            f"| {measured['code']} |",
            flush=True,
        )
        if measured["code"]:
            print(*lines[-4:-1], sep="\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main_())
