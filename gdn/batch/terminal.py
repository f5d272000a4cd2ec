"""Messages for the person at the terminal: usage errors in terms of options, and progress."""

from __future__ import annotations

import glob
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gdn.batch.printed import note, one_row, plain

AT_ONCE_SECONDS = 1.0  # within which only earlier work can be counted as done
LOG_SECONDS = 60.0  # between lines of progress where there is no terminal
TRIED_SECONDS = 5.0  # after which it is known how long the work takes
DRAWN_SECONDS = 0.2  # between looks at work that is in hand
LONG_SECONDS = 10.0  # of work that is left: worth saying


class UsageFault(ValueError):
    """The command line makes no sense as typed: exit code 2."""


def in_options(error: BaseException) -> str:
    """An error's message for someone who typed options: the library names a parameter, if that is
    at fault."""
    text, parameter = str(error), getattr(error, "parameter", None)
    if not parameter:
        return text
    option = f"--{parameter.replace('_', '-')}"
    return (
        text.replace(parameter, option, 1) if text.startswith(parameter) else f"{text} ({option})"
    )


def usage_fault(error: Exception) -> UsageFault:
    """The fault of a command line whose settings the library refuses."""
    return UsageFault(in_options(error))


def expand(patterns: list[str]) -> list[Path]:
    """File names with globs expanded (Windows shells do not), in order and without repeats.

    A pattern that matches nothing is kept if it has no wildcard, so that its absence is reported
    for that file alone. Raises UsageFault where a wildcard matches nothing.
    """
    files: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.exists() or not glob.has_magic(pattern):
            files[path] = None
            continue
        matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - patterns may be absolute
        if not matches:
            raise UsageFault(f"{pattern}: no file has such a name")
        files.update((Path(m), None) for m in matches)
    return list(files)


@contextmanager
def progress_bar(description: str, total: float | None = None) -> Iterator[Any]:
    """A function update(done, total=None, text=None) that draws on stderr, or now and then writes a
    line where that is no terminal."""
    if not sys.stderr.isatty():
        yield Log(description, total)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    terminal = Console(file=plain(sys.stderr))
    # Rows that go to a file or a pipe go there, and not to the terminal above the bar.
    rows_too = sys.stdout.isatty()
    with Progress(*columns, console=terminal, transient=True, redirect_stdout=rows_too) as bar:
        task = bar.add_task(one_row(description), total=total)

        def update(done: float, total: float | None = None, text: str | None = None) -> None:
            changes: dict[str, Any] = {"completed": done}
            if total is not None:
                changes["total"] = total
            if text is not None:
                changes["description"] = one_row(text)
            bar.update(task, **changes)

        yield update


@contextmanager
def keep_drawing(draw: Callable[[], None]) -> Iterator[None]:
    """Call `draw` every DRAWN_SECONDS while the block runs, in a thread of its own: the work goes
    on meanwhile, and need not know who looks on."""
    ended = threading.Event()

    def look_on() -> None:
        while not ended.wait(DRAWN_SECONDS):
            draw()

    thread = threading.Thread(target=look_on, name="gdn progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Log:
    """Progress as plain lines, for a batch system's log: one in LOG_SECONDS at most, none for what
    is done sooner. Once, after TRIED_SECONDS, how long the work will take, if it is long. What is
    done at once was done by an earlier run, and says nothing of the time."""

    def __init__(
        self, description: str, total: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._description, self._total, self._clock = description, total, clock
        self._begun = self._said = clock()
        self._text = ""
        self._estimated = False
        self._before: float | None = None  # what was done before this run

    def __call__(self, done: float, total: float | None = None, text: str | None = None) -> None:
        """Say how far it is, if it is time to."""
        self._total = self._total if total is None else total
        self._text = self._text if text is None else text
        now = self._clock()
        spent, left = now - self._begun, 0.0
        if self._before is None:
            self._before = done if spent < AT_ONCE_SECONDS else 0.0
        if self._total and done > self._before:
            left = spent * (self._total - done) / (done - self._before)
        first = not self._estimated and spent >= TRIED_SECONDS and left > LONG_SECONDS
        if now - self._said < LOG_SECONDS and not first:
            return
        self._said, self._estimated = now, True
        words = [f"{self._description}: {self._text or f'{done:.0f} done'}"]
        if self._total:
            words.append(f"{done / self._total:.0%}")
        if left:
            words.append(f"about {duration(left)} left")
        note(", ".join(words))


def duration(seconds: float) -> str:
    """A time in words: 40 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
