"""Hostile files by the thousand: damaged ones of every format, pipes, links, bombs, files that
change while they are read, strange names, damaged models, and frames of strange values. Each must
be read (or denoised), or refused in one line, whatever it holds.

Each case runs in a child process with bounded memory; a case that ends the child, raises anything
but a refusal, takes over 10 s of the processor or 100 s, takes 768 MiB of memory, or whose line
would reach the terminal raw is a fault, printed with the seed that repeats it. Prints a table.

    python benchmarks/hostile.py --cases 20000
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from hostile_files import (
    CORPUS,
    corpus,
    damage_model,
    meanwhile,
    mutated,
    place_case,
    strange_frame,
    write_corpus,
)

from gdn.batch.faults import failure_words
from gdn.batch.printed import one_row
from gdn.errors import GdnError
from gdn.frames.formats import read_frames
from gdn.frames.source import FrameError
from gdn.models import ModelError, load_model, shipped_models
from gdn.pipeline.denoiser import Denoiser

SECONDS = 10.0
MEMORY_MIB = 768  # that a case may take beyond what the process has
MEMORY_GIB = 4  # of address space, libraries and mapped files included
SHARES = {"model": 0.05, "frame": 0.01, "place": 0.2}  # of all cases; others: damaged files
WEIGHTS = {".emd": 0.25, ".h5": 0.25, ".hspy": 0.25, ".dm3": 0.7, ".dm4": 0.7, ".ser": 0.7}


def check_line(path: Path, error: Exception) -> None:
    """Raises AssertionError unless the error is said in one line that names the file."""
    line = failure_words(path, error)
    if "\n" in str(error).replace(str(path), "") or "\n" in line or one_row(line) != line:
        raise AssertionError(f"not one line: {line!r}")
    if one_row(path.name) not in line:
        raise AssertionError(f"names no file: {line!r}")


def read_all(path: Path) -> str:
    """'read' or 'refused'; raises for a fault."""
    try:
        source = read_frames(path)
        for number in {0, min(source.count, 1000) - 1}:
            source.read(number)
        if source.calibration.sampling_angstrom is not None:
            source.sampling(None)
    except (FrameError, PermissionError) as error:
        check_line(path, error)
        return "refused"
    return "read"


def file_case(kind: str, folder: Path, rng: np.random.Generator) -> str:
    """A damaged file of the corpus."""
    return read_all(mutated(corpus()[kind], folder, rng))


def special_case(kind: str, folder: Path, rng: np.random.Generator) -> str:
    """A file that is hostile by what it is."""
    path = place_case(folder, rng)
    with meanwhile(path, rng):
        return read_all(path)


def model_case(kind: str, folder: Path, rng: np.random.Generator) -> str:
    """A damaged model folder: opened and tried, or refused."""
    from gdn.engines.base import EngineError
    from gdn.engines.choose import open_engine
    from gdn.pipeline.open_models import check_generator

    shutil.copytree(shipped_models()["pt-ceo2-64"], folder / "m")
    damage_model(folder / "m", rng)
    try:
        with open_engine(load_model(folder / "m"), threads=1) as engine:
            check_generator(engine)
    except (ModelError, EngineError) as error:
        check_line(folder / "m", error)
        return "refused"
    return "read"


def frame_case(kind: str, folder: Path, rng: np.random.Generator) -> str:
    """A frame of strange values: denoised to finite numbers, or refused."""
    try:
        result = _denoiser().denoise(strange_frame(rng), sampling_angstrom=0.2)
    except GdnError as error:
        if "\n" in str(error):
            raise AssertionError(f"not one line: {error}") from None
        return "refused"
    if not np.isfinite(result.image).all() or not np.isfinite(np.asarray(result.spread)).all():
        raise AssertionError("the result is not finite")
    return "read"


@cache
def _denoiser() -> Denoiser:
    return Denoiser(restarts=16, threads=1)


CASES: dict[str, Callable[[str, Path, np.random.Generator], str]] = {
    "place": special_case,
    "model": model_case,
    "frame": frame_case,
}


ENDED = "ended"
Range = tuple[str, int, int]  # a kind, its first seed, and the one after its last


def child(plan: list[Range], folder: Path) -> None:
    """Run the cases of a plan, one JSON line each; the parent sees from the last line where a crash
    was."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_GIB << 30, MEMORY_GIB << 30))
    warnings.simplefilter("ignore")
    for kind, seed in ((kind, seed) for kind, *seeds in plan for seed in range(*seeds)):
        case = CASES.get(kind, file_case)
        rng = np.random.default_rng([seed, 0xF0])
        begun = time.process_time()  # of the processor: a busy machine is no fault
        before = peak_mib(afresh=True)
        signal.alarm(int(10 * SECONDS))  # ends the process; the parent goes on with the next seed
        inner = folder / f"{kind}-{seed}"
        inner.mkdir()
        try:
            result = case(kind, inner, rng)
        except BaseException as error:
            result = f"fault: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        took = round(time.process_time() - begun, 3)
        grown = peak_mib() - before
        if grown > MEMORY_MIB and result in ("read", "refused"):
            result = f"fault: took {grown} MiB"
        print(json.dumps([kind, seed, result, took]), flush=True)
        shutil.rmtree(inner, ignore_errors=True)


def peak_mib(afresh: bool = False) -> int:
    """The most memory that this process had, since it was last looked at `afresh`; 0 where the
    system does not say."""
    try:
        if afresh:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM")), 0)


@dataclass
class Row:
    """Counts of one kind's results, its faults, and its slowest case's seconds."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0


def run(plan: list[Range]) -> Iterator[tuple[str, Row]]:
    """The row of each kind of a plan, when its last case is done. One process runs case after case;
    where a case ends it, another goes on with the next one."""
    rows, left = {kind: Row() for kind, *_ in plan}, list(plan)
    while left:
        for kind, seed, result, seconds in cases_of(left):
            if kind == ENDED:
                if not left:
                    break
                kind, seed, _ = left[0]
            row = rows[kind]
            row.slowest = max(row.slowest, seconds)
            if result in ("read", "refused"):
                row.counts[result] += 1
            else:
                row.faults.append(f"{kind} seed {seed}: {result}")
            if seconds > SECONDS:
                row.faults.append(f"{kind} seed {seed}: took {seconds} s")
            left[0] = (kind, seed + 1, left[0][2])
            if seed + 1 == left[0][2]:
                left.pop(0)
                yield kind, row


def cases_of(plan: list[Range]) -> Iterator[tuple[str, int, str, float]]:
    """Kind, seed, result and seconds of each case, until the process that runs them ends. If it is
    ended, ENDED and how."""
    with tempfile.TemporaryDirectory() as folder:
        own = str(Path(__file__).resolve())
        with subprocess.Popen(
            [sys.executable, own, "--child", json.dumps(plan), folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"GDN_CACHE_DIR": f"{folder}/cache"},
        ) as running:
            assert running.stdout is not None
            for line in running.stdout:
                # Others are a crashing child's last words, or a library's print.
                if line.startswith("[") and line.endswith("]\n"):
                    yield json.loads(line)
        if running.returncode:
            yield ENDED, 0, f"the process ended with {running.returncode}", 0.0


def main() -> int:
    if len(sys.argv) > 1 and sys.argv[1] == "--child":
        child(json.loads(sys.argv[2]), Path(sys.argv[3]))
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cases", type=int, default=20_000, help="over all kinds")
    add("--first", type=int, default=0, help="first seed")
    add("--kind", action="append", help="only this kind, again and again for more")
    add("--write-corpus", action="store_true", help="make the valid files anew")
    options = parser.parse_args()
    if options.write_corpus:
        write_corpus(CORPUS)
        return 0
    weights = {kind: WEIGHTS.get(path.suffix, 2.0) for kind, path in corpus().items()}
    each = options.cases * (1 - sum(SHARES.values())) / sum(weights.values())
    plan = {kind: int(each * weight) + 1 for kind, weight in weights.items()}
    plan |= {kind: int(options.cases * share) for kind, share in SHARES.items()}
    print(
        "| kind | cases | read | refused in one line | faults | slowest s "
        "|\n|---|--:|--:|--:|--:|--:|"
    )
    everything: list[str] = []
    first = options.first
    ranges = [
        (kind, first, first + cases)
        for kind, cases in plan.items()
        if cases and (not options.kind or kind in options.kind)
    ]
    for kind, row in run(ranges):
        everything += row.faults
        print(
            f"| {kind} | {plan[kind]} | {row.counts['read']} | {row.counts['refused']} "
            f"| {len(row.faults)} | {row.slowest:.1f} |",
            flush=True,
        )
    print(*everything, sep="\n")
    return 1 if everything else 0


if __name__ == "__main__":
    sys.exit(main())
