"""What several commands share: faults of usage, expansion of file names, progress bars."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class UsageFault(ValueError):
    """The command line cannot be meant as it stands: exit code 2."""


def expand(patterns: list[str]) -> list[Path]:
    """File names with globs expanded (Windows shells do not), in order and without repeats.

    A pattern that matches nothing is kept if it has no wildcard, so that its absence is reported for
    that file alone. Raises UsageFault where a wildcard matches nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.exists() or not glob.has_magic(pattern):
            found[path] = None
            continue
        matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - patterns may be absolute
        if not matches:
            raise UsageFault(f"{pattern}: no file matches")
        found.update((Path(m), None) for m in matches)
    return list(found)


def writable_folder(path: Path) -> Path:
    """Create a folder and prove that it can be written to. Raises UsageFault."""
    probe = path / f".gdn-{os.getpid()}.part"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageFault(f"{path}: cannot write there ({error.strerror}); choose another folder with -o") from None
    return path


@contextmanager
def progress_bar(description: str, total: float | None = None, quiet: bool = False) -> Iterator[Any]:
    """A function update(done, total=None, text=None) that draws on stderr; silent where that is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total=None, text=None: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)

        def update(done: float, total: float | None = None, text: str | None = None) -> None:
            changes: dict[str, Any] = {"completed": done}
            if total is not None:
                changes["total"] = total
            if text is not None:
                changes["description"] = text
            bar.update(task, **changes)

        yield update


def need(package: str, extra: str) -> None:
    """Raises UsageFault where an optional package is missing, saying how to get it."""
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise UsageFault(f"{package} is not installed; pip install 'gdn[{extra}]'")
