"""End a batch at random moments (SIGKILL, SIGTERM, SIGHUP, SIGINT), or kill the workers of its
cluster, and resume it, again and again: nothing is lost, nothing is half-written, and the results
are those of a run that nobody disturbed, byte for byte.

    python benchmarks/crash.py --kills 300 --workers 40
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import tifffile

SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
POLITE_SECONDS = 60.0  # after which a run that was asked to end has not
VOLATILE = (
    "seconds",
    "stages",
    "output",
    "spread",
    "input",
    "path",
)  # of a record: clock and place


def write_inputs(folder: Path, files: int) -> None:
    """A batch of single frames and one stack, the third."""
    rng = np.random.default_rng(0)
    y, x = np.indices((100, 110))
    clean = 1 + 0.2 * np.cos(2 * np.pi * x / 33) * np.cos(2 * np.pi * y / 40)
    for number in range(files):
        shape = (3, *clean.shape) if number == 2 else clean.shape
        axes = {"axes": "TYX" if number == 2 else "YX", "unit": "nm"}
        frames = rng.poisson(2 * clean, shape).astype(np.uint8)
        path = folder / f"f{number}.tif"
        tifffile.imwrite(path, frames, imagej=True, resolution=(100, 100), metadata=axes)


def stripped(value: object) -> object:
    """A record without what differs from run to run."""
    if isinstance(value, dict):
        return {k: stripped(v) for k, v in value.items() if k not in VOLATILE}
    return [stripped(v) for v in value] if isinstance(value, list) else value


def content(folder: Path) -> dict[str, object]:
    """Every final file: images and tables as bytes, records without clock and place."""
    contents: dict[str, object] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.startswith("gdn-"):
            continue
        contents[path.name] = (
            stripped(json.loads(path.read_text())) if path.suffix == ".json" else path.read_bytes()
        )
    return contents


def half_written(folder: Path) -> list[str]:
    """Final files that cannot be read to their end."""
    bad = []
    for path in folder.iterdir() if folder.exists() else ():
        if path.name.startswith("."):
            continue
        try:
            if path.suffix == ".tif":
                assert np.isfinite(tifffile.imread(path)).all()
            elif path.suffix == ".json":
                json.loads(path.read_text())
        except Exception as error:
            bad.append(f"{path.name}: {error}")
    return bad


class Rounds:
    """Batches that are disturbed and resumed until they are complete."""

    def __init__(self, folder: Path, seed: int, files: int) -> None:
        self.folder, self.rng = folder, np.random.default_rng(seed)
        self.kills: Counter[str] = Counter()
        self.faults: list[str] = []
        self.lost = 0
        self.said = folder / "said"  # on stderr, by the last run
        (folder / "in").mkdir()
        write_inputs(folder / "in", files)
        options = ["--restarts", "16", "--threads", "1", "--atoms", "--no-score"]
        self.command = [sys.executable, "-m", "gdn", "denoise", str(folder / "in"), *options]
        subprocess.run([*self.command, "-o", str(folder / "warm")], check=True, capture_output=True)
        begun = time.perf_counter()
        calm = [*self.command, "-o", str(folder / "calm")]
        subprocess.run(calm, check=True, capture_output=True)
        self.length = time.perf_counter() - begun
        self.expected = content(folder / "calm")

    def start(self, out: Path, *more: str) -> subprocess.Popen[bytes]:
        """The batch in a process of its own."""
        with self.said.open("wb") as errors:
            return subprocess.Popen(
                [*self.command, "--resume", "-o", str(out), *more],
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    def run(self, kills: int) -> int:
        """End batches by signals; returns how many were completed."""
        rounds = 0
        while self.kills.total() < kills:
            out = self.folder / f"out{rounds}"
            while True:
                running = self.start(out)
                after = self.rng.uniform(0.1, 0.8) * self.length
                try:
                    code = running.wait(after if self.kills.total() < kills else None)
                except subprocess.TimeoutExpired:
                    self.end(running, out)
                    continue
                if code:
                    self.faults.append(f"round {rounds}: exit code {code}")
                break
            self.compare(out, f"round {rounds}")
            rounds += 1
        return rounds

    def end(self, running: subprocess.Popen[bytes], out: Path) -> None:
        """End a run by one of the signals, and look at what is there."""
        number = SIGNALS[int(self.rng.integers(len(SIGNALS)))]
        running.send_signal(number)
        self.kills[number.name] += 1
        which = f"after kill {self.kills.total()} ({number.name})"
        try:
            code = running.wait(POLITE_SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            self.faults.append(f"{which}: it did not end")
            return
        if number != signal.SIGKILL:
            # Before gdn's own work the signal itself ends Python, after it nothing is left to end.
            if code not in (0, 130, -number):
                words = self.said.read_text(errors="replace").strip()
                self.faults.append(f"{which}: exit code {code}: {words[-400:]}")
            if code == 130:
                own = [name for name in left_behind(out) if f"-{running.pid}-" in name]
                self.faults += [f"{which}: left {name}" for name in own]
        self.faults += [f"{which}: {line}" for line in half_written(out)]

    def run_cluster(self, kills: int) -> int:
        """Kill workers of local clusters; the run itself must go on to its end."""
        rounds = 0
        while self.kills["worker"] < kills:
            out = self.folder / f"cluster{rounds}"
            running = self.start(out, "--cluster", "local:2")
            while running.poll() is None:
                time.sleep(self.rng.uniform(0.3, 1.5))
                workers = workers_of(running.pid)
                if workers and self.kills["worker"] < kills and self.rng.random() < 0.4:
                    workers[int(self.rng.integers(len(workers)))].kill()
                    self.kills["worker"] += 1
            # 1: the workers of one file were killed twice, as if that file killed them.
            self.lost += running.returncode == 1
            lost = [] if running.returncode < 2 else [f"exit code {running.returncode}"]
            self.faults += [f"cluster {rounds}: {line}" for line in [*lost, *half_written(out)]]
            self.start(out).wait()  # such a file is done here
            self.compare(out, f"cluster {rounds}")
            rounds += 1
        return rounds

    def compare(self, out: Path, which: str) -> None:
        """Results against those of the undisturbed run."""
        if content(out) != self.expected:
            self.faults.append(f"{which}: results differ from an undisturbed run's")
        self.faults += [f"{which}: left behind: {name}" for name in left_behind(out)]
        shutil.rmtree(out)


def left_behind(folder: Path) -> list[str]:
    return (
        [path.name for path in folder.iterdir() if ".part" in path.name] if folder.exists() else []
    )


def workers_of(parent: int) -> list[psutil.Process]:
    """The processes of a cluster that do its work: those started by multiprocessing."""
    try:
        children = psutil.Process(parent).children(recursive=True)
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--workers", type=int, default=40, help="kills of workers of a cluster")
    parser.add_argument("--files", type=int, default=5, help="of the batch; the third is a stack")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # What this process ignores, as under nohup, its children would ignore; what it handles, not.
    signal.signal(signal.SIGHUP, lambda number, frame: None)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as name:
        rounds = Rounds(Path(name), options.seed, options.files)
        batches = rounds.run(options.kills) + rounds.run_cluster(options.workers)
    print("| kills | batches completed | without a file | undisturbed run, s | faults |")
    print("|---|--:|--:|--:|--:|")
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(rounds.kills.items()))
    print(f"| {kinds} | {batches} | {rounds.lost} | {rounds.length:.1f} | {len(rounds.faults)} |")
    print(*rounds.faults, sep="\n")
    return 1 if rounds.faults else 0


if __name__ == "__main__":
    sys.exit(main())
