"""What gdn prints. Names of files and data sets come from anybody: as they are printed, control
characters in them are escaped, and so is what the terminal's encoding lacks."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, TextIO

# Control characters but for line feed and tab; marks that turn the direction of the text; halves of
# surrogate pairs, which stand for bytes of a name that are no UTF-8.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
LINE = 120
_HALVES = re.compile("[\ud800-\udfff]")


def escaped(text: str) -> str:
    """The text with control characters in the way Python writes them, such as \\x1b."""
    text = _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
    return _HALVES.sub(lambda half: f"\\x{ord(half[0]) & 0xFF:02x}", text)


def one_row(text: str) -> str:
    """The text escaped, on one line."""
    return escaped(text.replace("\n", "\\n"))


def note(text: str) -> None:
    """Say something beside the results, on stderr, in lines of at most LINE characters."""
    lines = textwrap.wrap(
        f"gdn: {text}",
        LINE,
        subsequent_indent="     ",
        break_long_words=False,  # names of files
        break_on_hyphens=False,
    )
    print("\n".join(lines), file=sys.stderr)


class Printed(io.TextIOBase):
    """A stream that escapes what is printed to another one, `raw`, which it does not close.
    `plain` is for who writes sequences of the terminal on purpose: the progress bar."""

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str, /) -> int:
        """See `io.TextIOBase.write`."""
        encoding = self.raw.encoding or "utf-8"
        safe = escaped(text).encode(encoding, "backslashreplace").decode(encoding)
        self.raw.write(safe)
        return len(text)

    def flush(self) -> None:
        """See `io.TextIOBase.flush`."""
        if not self.raw.closed:
            self.raw.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)

    def isatty(self) -> bool:
        """See `io.TextIOBase.isatty`."""
        return self.raw.isatty()

    def fileno(self) -> int:
        """See `io.TextIOBase.fileno`."""
        return self.raw.fileno()


def plain(stream: TextIO) -> TextIO:
    """The stream below a `Printed` one, else the stream itself."""
    return stream.raw if isinstance(stream, Printed) else stream


@contextlib.contextmanager
def printing_safely() -> Iterator[None]:
    """Escape what is printed while the block runs. A stream that was closed before the program
    began takes what is printed and drops it."""
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123
        output, errors = (Printed(s or nowhere) for s in (sys.stdout, sys.stderr))
        stack.enter_context(contextlib.redirect_stdout(output))
        stack.enter_context(contextlib.redirect_stderr(errors))
        yield
