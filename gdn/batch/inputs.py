"""Finds the input files of a batch (by name, in folders, or in a watched folder) and the names of
their results."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gdn.batch.terminal import UsageFault, expand
from gdn.interruption import check_interrupted

if TYPE_CHECKING:  # the heavy imports wait until the arguments are known to be good
    from gdn.pipeline.output_files import Outputs, OutputStyle

POLL_SECONDS = 2.0
_Signature = tuple[int, int, int]  # bytes, newest change in ns, files


class Named(NamedTuple):
    """An input, and the folder below that of the results into which its own go."""

    path: Path
    below: Path = Path()


class Planned(NamedTuple):
    """An input with the names of its results; `again` where it changed after it was denoised in
    this very run."""

    path: Path
    outputs: Outputs
    again: bool = False


def gather(names: list[str], recursive: bool = False, null: bool = False) -> list[Named]:
    """Inputs of the names: globs expanded, folders searched (with their subfolders if `recursive`),
    '-' read from stdin, one name a line, or ended by a zero byte if `null` (`find -print0`).
    Raises UsageFault."""
    from gdn.pipeline.output_files import files_in

    listed: list[str] = []
    for name in names:
        listed += _names_on_stdin(null) if name == "-" else [name]
    inputs: dict[Path, Named] = {}
    for path in expand(listed):
        if not path.is_dir():
            inputs[path] = Named(path)
            continue
        inside = files_in(path, recursive)
        if not inside:
            more = "" if recursive else "; --recursive looks into its subfolders too"
            raise UsageFault(f"{path}: no file of frames in this folder{more}")
        for file in inside:
            below = Path() if file == path else file.parent.relative_to(path)
            inputs[file] = Named(file, below)
    return list(inputs.values())


def _names_on_stdin(null: bool) -> list[str]:
    if null:
        return [name for name in sys.stdin.read().split("\0") if name]
    return [line.rstrip("\r\n") for line in sys.stdin if line.strip()]


def plan(inputs: list[Named], folder: Path | None, style: OutputStyle) -> list[Planned]:
    """Each input with its results, in `folder` or beside it. Raises UsageFault where two inputs
    would share a name."""
    from gdn.pipeline.output_files import outputs_for

    seen: dict[Path, Path] = {}
    planned: list[Planned] = []
    for path, below in inputs:
        outputs = outputs_for(path, None if folder is None else folder / below, style)
        other = seen.setdefault(outputs.record, path)
        if other != path:
            raise UsageFault(
                f"{path} and {other} would both be written to {outputs.denoised}; denoise "
                "them in two runs"
            )
        planned.append(Planned(path, outputs))
    return planned


def watch(
    folder: Path,
    results: Path | None,
    style: OutputStyle,
    idle_seconds: float | None,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[Planned]:
    """Files of a folder as they appear, each once it has stopped growing, and again where it
    changed since; ends when nothing new came for `idle_seconds` (None: never).

    A copy that stalls looks complete: what was read then is read again when it has grown.
    """
    from gdn.pipeline.output_files import files_in, outputs_for

    seen: dict[Path, _Signature] = {}
    done: dict[Path, _Signature] = {}
    quiet = 0.0
    while idle_seconds is None or quiet < idle_seconds:
        check_interrupted()
        ready = []
        for path in files_in(folder):
            now = _signature(path)
            if now is None or now == done.get(path):
                continue
            if seen.get(path) != now:
                quiet = 0.0  # something is being written
            elif now[0]:
                ready.append(path)
            seen[path] = now
        for path in ready:
            again = path in done
            done[path] = seen[path]
            yield Planned(path, outputs_for(path, results, style), again)
            quiet = 0.0
        if not ready:
            wait(POLL_SECONDS)
            quiet += POLL_SECONDS


def _signature(path: Path) -> _Signature | None:
    """What changes when a file, or a file within a folder of data, does; None where it is gone."""
    try:
        parts = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
        states = [part.stat() for part in parts]
    except OSError:
        return None
    newest = max((state.st_mtime_ns for state in states), default=0)
    return sum(state.st_size for state in states), newest, len(states)
