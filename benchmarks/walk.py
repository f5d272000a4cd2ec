"""The walk of one frame through the program: files that it passes, hand-overs between them, and
those that climb.

A hand-over is a call from a function of one file of the package into a function of another, calls
through libraries between counted as none. It climbs where it goes to a package above its own in
ORDER (CONTRIBUTING.md).

The hook also hears of two things that hand nothing over. A generator that goes on (a `with` block
that ends, the next round of a loop) was called before: what it does then belongs to that call. And
a module that is imported calls functions for its own constants. Both are counted apart, and so are
the imports.

    python benchmarks/walk.py FRAME.tif [--restarts 64 --model pt-ceo2-64] [--pairs]
"""

from __future__ import annotations

import argparse
import dis
import inspect
import sys
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

ABOVE = ("cli", "cluster", "batch", "report", "evaluation", "training", "pipeline", "adaptation")
ORDER = (
    *ABOVE,
    "movies",
    "trust",
    "search",
    "engines",
    "generator",
    "simulation",
    "recipes",
    "models",
    "frames",
)
PACKAGE = Path(__file__).resolve().parents[1] / "gdn"


class Walk:
    """Listens to every call (`sys.setprofile`)."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.imports = 0
        self.resumed = 0
        self.importing = 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """One event of the interpreter."""
        here = _inside(frame)
        if event != "call" or here is None:
            return
        if frame.f_code.co_name == "<module>":
            self.imports += 1
            return
        self.files.add(here)
        caller = frame.f_back
        while caller is not None and _inside(caller) is None:
            caller = caller.f_back
        there = _inside(caller) if caller is not None else None
        if caller is None or there is None or there == here:
            return
        if _resumes(frame):
            self.resumed += 1
        elif caller.f_code.co_name == "<module>":
            self.importing += 1
        else:
            self.pairs[there, here] += 1

    def climbs(self) -> list[tuple[str, str, int]]:
        """Caller, callee and how often, of the hand-overs that go up."""
        return [(a, b, n) for (a, b), n in self.pairs.items() if _level(b) < _level(a)]


def _inside(frame: FrameType) -> str | None:
    """The file of a frame within the package; None for one outside."""
    path = frame.f_code.co_filename
    return path[len(str(PACKAGE)) + 1 :] if path.startswith(f"{PACKAGE}/") else None


def _resumes(frame: FrameType) -> bool:
    """Whether a generator's frame goes on after a `yield`."""
    return frame.f_lasti in _after_yields(frame.f_code)


@cache
def _after_yields(code: CodeType) -> frozenset[int]:
    """Where a generator goes on: at the RESUME instructions whose argument is not 0 (documentation
    of Python's `dis`). None in another function."""
    if not code.co_flags & inspect.CO_GENERATOR:
        return frozenset()
    resuming = (i for i in dis.get_instructions(code) if i.opname == "RESUME")
    return frozenset(i.offset for i in resuming if i.arg)


def _level(path: str) -> int:
    """Place of a file's package in ORDER; modules beside the packages are the lowest."""
    room = path.split("/")[0]
    return ORDER.index(room) if room in ORDER else len(ORDER)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("frame", type=Path)
    parser.add_argument("--model", default="pt-ceo2-64")
    parser.add_argument("--restarts", default="64")
    parser.add_argument(
        "--pairs", action="store_true", help="also every pair of files, and those that climb"
    )
    options = parser.parse_args()
    walk = Walk()
    with tempfile.TemporaryDirectory() as out:
        from gdn.cli import main as gdn

        words = [
            "denoise",
            str(options.frame),
            "--threads",
            "1",
            "--restarts",
            options.restarts,
            "--model",
            options.model,
        ]
        sys.setprofile(walk)
        try:
            gdn([*words, "-o", out])
        except SystemExit as end:
            if end.code:
                raise
        finally:
            sys.setprofile(None)
    climbs = walk.climbs()
    print(
        f"{len(walk.files)} files, {sum(walk.pairs.values())} hand-overs, "
        f"{sum(n for *_, n in climbs)} of them climb; beside them "
        f"{walk.resumed} generators that go on, {walk.importing} calls of {walk.imports} imports"
    )
    if options.pairs:
        print("climb:", *(f"{n:5d}  {a} -> {b}" for a, b, n in climbs), sep="\n")
        print("all:", *(f"{n:5d}  {a} -> {b}" for (a, b), n in walk.pairs.most_common()), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
