"""A batch under siege: full disks, little address space, eight processes in one place, a clock that
was set back, and folders that cannot be written to. Each case must end in its usual time with its
results or one line, and leave nothing half-written. Linux, as root: it mounts small file systems.

    python benchmarks/siege.py
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile

SECONDS = 300.0
ROWS: dict[str, list[str]] = {}  # faults of each kind of case
CASES: dict[str, int] = {}


def write_inputs(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        frames = rng.poisson(2, (4, 100, 110) if number == 2 else (100, 110)).astype(np.uint8)
        tifffile.imwrite(folder / f"f{number}.tif", frames, photometric="minisblack")
    return folder


def run(*words: str | Path, before: tuple[str, ...] = (), **options: object) -> Done:
    """`gdn denoise`, quickly."""
    quick = ("--restarts", "64", "--no-score")
    return gdn("denoise", *words, *quick, before=before, **options)


def gdn(*words: str | Path, before: tuple[str, ...] = (), **options: object) -> Done:
    command = [*before, sys.executable, "-m", "gdn", *map(str, words)]
    command += ["--sampling", "0.2", "--threads", "1"]
    done = subprocess.run(  # type: ignore[call-overload]
        command, capture_output=True, text=True, timeout=SECONDS, check=False, **options
    )
    return Done(done.returncode, done.stderr)


class Done:
    """How a run ended."""

    def __init__(self, code: int, said: str) -> None:
        self.code, self.said = code, said

    def faults(self, out: Path, codes: tuple[int, ...] = (0, 1)) -> list[str]:
        """What is wrong with it, and with what it left in `out`."""
        wrong = [] if self.code in codes else [f"exit code {self.code}: {self.said[-300:]}"]
        wrong += ["a traceback"] if "Traceback" in self.said else []
        wrong += ["failed without a word"] if self.code and "gdn: " not in self.said else []
        for path in out.rglob("*") if out.is_dir() else ():
            if ".part" in path.name:
                wrong.append(f"left {path.name}")
            elif path.suffix == ".tif" and not np.isfinite(tifffile.imread(path)).all():
                wrong.append(f"{path.name} is not finite")
            elif path.suffix == ".json":
                json.loads(path.read_text())
        return wrong


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=False)


def note(kind: str, which: str, faults: list[str]) -> None:
    CASES[kind] = CASES.get(kind, 0) + 1
    ROWS.setdefault(kind, []).extend(f"{kind}: {which}: {fault}" for fault in faults)


def full_disks(work: Path, night: Path) -> None:
    """Disks that fill up with the results, the report, the cache, or a movie's results."""
    stages: dict[str, tuple[str, ...]] = {
        "results": (),
        "report": ("--report",),
        "movie": ("--movie", "on"),
        "zarr": ("--format", "zarr"),
        "integers": ("--dtype", "uint16"),
        "pictures": ("--png", "--atoms"),
    }
    for stage, more in stages.items():
        for kilobytes in (4, 60, 400, 900):
            with small_disk(work / f"{stage}{kilobytes}", kilobytes) as disk:
                done = run(night, *more, "-o", disk / "out")
                note("disk full", f"{stage}, {kilobytes} kB", done.faults(disk / "out", (0, 1, 2)))
    for kilobytes in (4, 200):
        with small_disk(work / f"cache{kilobytes}", kilobytes) as disk:
            environment = os.environ | {"GDN_CACHE_DIR": str(disk / "cache")}
            done = run(night, "-o", work / f"of-cache{kilobytes}", env=environment)
            note("disk full", f"cache, {kilobytes} kB", done.faults(disk, (0,)))
    full_disks_of_learning(work, night)


def full_disks_of_learning(work: Path, night: Path) -> None:
    """Disks that fill up with what was learned: for good, or in the folder for temporary files."""
    learned = models = 0
    for kilobytes in (4, 60, 700, 1500, 2500, 20_000):
        with small_disk(work / f"adapted{kilobytes}", kilobytes) as disk:
            done = gdn("adapt", night / "f2.tif", "--steps", "2,2", "-o", disk / "model")
            faults = done.faults(disk)
            there = (disk / "model").exists()
            if there != (done.code == 0):
                faults.append(f"exit code {done.code}, but a model there: {there}")
            if there:
                models += 1
                faults += run(
                    night / "f2.tif", "--adapted", disk / "model", "-o", work / f"with{kilobytes}"
                ).faults(work / f"with{kilobytes}", (0,))
            note("disk full", f"adapted model, {kilobytes} kB", faults)
        with small_disk(work / f"tmp{kilobytes}", kilobytes) as disk:
            environment = os.environ | {"TMPDIR": str(disk)}
            out = work / f"learned{kilobytes}"
            words = (night / "f2.tif", "--adapt", "--adapt-steps", "2,2", "-o", out)
            done = run(*words, env=environment)
            learned += "gdn: learned in" in done.said
            note("disk full", f"--adapt, {kilobytes} kB", done.faults(out, (0,)))
    if not (0 < models < 6 and 0 < learned < 6):
        note("disk full", "adapted model", ["the sizes of the disks show nothing"])


def little_memory(work: Path, night: Path) -> None:
    """Limits of address space."""
    for mebibytes in (700, 1024, 2048, 4096):

        def limit(size: int = mebibytes << 20) -> None:
            resource.setrlimit(resource.RLIMIT_AS, (size, size))

        for more in ((), ("--no-cache",)):
            out = work / f"little{mebibytes}{len(more)}"
            done = run(night, *more, "-o", out, preexec_fn=limit)
            note("address space", f"{mebibytes} MiB", done.faults(out, (0, 1, 2)))


def crowd(work: Path, night: Path) -> None:
    """Eight processes in one folder and one cache."""
    environment = os.environ | {"GDN_CACHE_DIR": str(work / "crowded")}
    command = [sys.executable, "-m", "gdn", "denoise", str(night), "--sampling", "0.2"]
    command += ["--restarts", "64", "--threads", "1", "--no-score", "--overwrite"]
    command += ["-o", str(work / "crowd")]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    racing = [subprocess.Popen(command, env=environment, **pipes) for _ in range(8)]  # type: ignore[call-overload]
    for number, process in enumerate(racing):
        said = process.communicate(timeout=SECONDS)[1]
        note(
            "eight processes",
            f"{number}",
            Done(process.returncode, said).faults(work / "crowd", (0,)),
        )
    calm = work / "calm"
    run(night, "-o", calm)
    for path in calm.glob("*.tif"):
        same = path.read_bytes() == (work / "crowd" / path.name).read_bytes()
        note("eight processes", path.name, [] if same else ["other bytes than of one process"])


def other_clocks(work: Path, night: Path) -> None:
    """Files and caches of the future and of 1970, as after a clock was set back."""
    for when in (time.time() + 10 * 365 * 86_400, 0.0):
        out = work / f"clock{when:.0f}"
        environment = os.environ | {"GDN_CACHE_DIR": str(work / f"cache-of{when:.0f}")}
        note("clock", "before", run(night, "-o", out, env=environment).faults(out, (0,)))
        places = (night, out, Path(environment["GDN_CACHE_DIR"]))
        for path in [path for place in places for path in (place, *place.rglob("*"))]:
            os.utime(path, (when, when))
        for more in ("--resume", "--overwrite"):
            done = run(night, "-o", out, more, env=environment)
            faults = done.faults(out, (0,))
            if more == "--resume" and "3 of 3 files were already complete" not in done.said:
                faults.append("not taken for complete")
            note("clock", f"{when:.0f} {more}", faults)


def closed(work: Path, night: Path) -> None:
    """Folders that cannot be written to: inputs, results, cache, home, all of them."""
    before = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    for name in ("results", "cache", "home", "tmp", "everything"):
        places = {kind: work / f"{name}-{kind}" for kind in ("results", "cache", "home", "tmp")}
        for kind, place in places.items():
            place.mkdir()
            if name in (kind, "everything"):
                place.chmod(0o555)
        environment = os.environ | {
            "GDN_CACHE_DIR": str(places["cache"] / "gdn"),
            "HOME": str(places["home"]),
            "TMPDIR": str(places["tmp"]),
        }
        done = run(night, "-o", places["results"] / "out", before=before, env=environment)
        wanted = (2,) if name in ("results", "everything") else (0,)
        note("read-only", name, done.faults(places["results"] / "out", wanted))


def main() -> int:
    kinds: dict[str, Callable[[Path, Path], None]] = {
        "full_disks": full_disks,
        "little_memory": little_memory,
        "crowd": crowd,
        "other_clocks": other_clocks,
        "closed": closed,
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=kinds)
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        night = write_inputs(work / "night")
        for kind, besiege in kinds.items():
            if only in (None, kind):
                besiege(work, night)
                print(f"{kind} done", file=sys.stderr, flush=True)
    print("| kind | cases | faults |\n|---|--:|--:|")
    for kind, count in CASES.items():
        print(f"| {kind} | {count} | {len(ROWS[kind])} |")
    faults = [fault for each in ROWS.values() for fault in each]
    print(*faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
