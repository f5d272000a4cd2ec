"""Kill a batch at random moments and resume it, again and again: nothing is lost, nothing is
half-written, and the results are those of a run that nobody disturbed, byte for byte.

    python benchmarks/crash.py --kills 200
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

FILES = 6
VOLATILE = (
    "seconds",
    "stages",
    "output",
    "spread",
    "input",
    "path",
)  # of a record: clock and place


def inputs(folder: Path) -> None:
    """A batch of single frames and one stack."""
    rng = np.random.default_rng(0)
    y, x = np.indices((160, 170))
    clean = 1 + 0.2 * np.cos(2 * np.pi * x / 33) * np.cos(2 * np.pi * y / 40)
    for number in range(FILES):
        frames = rng.poisson(2 * clean, (3, *clean.shape) if number == 2 else clean.shape).astype(
            np.uint8
        )
        axes = {"axes": "TYX"} if frames.ndim == 3 else {"axes": "YX"}
        tifffile.imwrite(
            folder / f"f{number}.tif",
            frames,
            imagej=True,
            resolution=(100, 100),
            metadata=axes | {"unit": "nm"},
        )


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


def whole(folder: Path) -> list[str]:
    """Final files that cannot be read to their end."""
    bad = []
    for path in folder.iterdir():
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


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        inputs(folder / "in")
        command = [
            sys.executable,
            "-m",
            "gdn",
            "denoise",
            str(folder / "in"),
            "--restarts",
            "16",
            "--threads",
            "1",
            "--atoms",
            "--no-score",
        ]
        begun = time.perf_counter()
        subprocess.run([*command, "-o", str(folder / "calm")], check=True, capture_output=True)
        length = time.perf_counter() - begun
        expected = content(folder / "calm")
        kills, rounds, faults = 0, 0, []
        while kills < options.kills:
            out = folder / f"out{rounds}"
            while True:
                running = subprocess.Popen(
                    [*command, "--resume", "-o", str(out)],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                try:
                    code = running.wait(
                        timeout=rng.uniform(0.1, 0.8) * length if kills < options.kills else None
                    )
                except subprocess.TimeoutExpired:
                    running.kill()
                    running.wait()
                    kills += 1
                    if out.exists():
                        faults += [f"after kill {kills}: {line}" for line in whole(out)]
                    continue
                if code:
                    faults.append(f"round {rounds}: exit code {code}")
                break
            if content(out) != expected:
                faults.append(f"round {rounds}: results differ from an undisturbed run's")
            faults += [
                f"round {rounds}: left behind: {p.name}" for p in out.iterdir() if ".part" in p.name
            ]
            shutil.rmtree(out)
            rounds += 1
    print("| kills | batches completed | undisturbed run, s | faults |\n|--:|--:|--:|--:|")
    print(f"| {kills} | {rounds} | {length:.1f} | {len(faults)} |")
    print(*faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
