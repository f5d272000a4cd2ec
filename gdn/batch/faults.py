"""The words for a file that failed."""

from __future__ import annotations

import traceback
from pathlib import Path

from gdn.batch.printed import one_row
from gdn.batch.terminal import in_options
from gdn.errors import GdnError, debugging


def failure_words(path: Path, error: BaseException) -> str:
    """One line for a file that failed; what gdn does not raise on purpose is gdn's own fault."""
    if not isinstance(error, ValueError | OSError | MemoryError | GdnError):
        if debugging():
            traceback.print_exception(error)
        words = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return one_row(
            f"{path}: internal error, please report it: {words} (gdn --debug shows where)"
        )
    text = " ".join(in_options(error).split())
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename or path}: {error.strerror}"
    named = str(path) in text or isinstance(error, OSError)
    return one_row(text if named else f"{path}: {text or 'out of memory'}")
