"""What gdn prints. Names of files and data sets come from anybody: as they are printed, control
characters in them are escaped, and so is what the terminal's encoding lacks.

Every message goes through `note`: it keeps lines short, and indents what continues one.
"""

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
LINE = 120  # characters of a line, at most
INDENT = 4  # spaces before a line that continues a message
_HALVES = re.compile("[\ud800-\udfff]")


def escaped(text: str) -> str:
    """The text with control characters in the way Python writes them, such as \\x1b."""
    text = _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
    return _HALVES.sub(lambda half: f"\\x{ord(half[0]) & 0xFF:02x}", text)


def one_row(text: str) -> str:
    """The text escaped, on one line."""
    return escaped(text.replace("\n", "\\n"))


def note(text: str, speaker: str = "gdn") -> None:
    """Say something beside the results, on stderr, in lines as `wrapped` makes them. Only the first
    one begins with the `speaker`, so `grep ^gdn` gives one line a message."""
    words = wrapped(f"{speaker}: ", text, sys.stderr)
    # In one piece: no other thread's words come between the text and its end.
    print(f"{words}\n", end="", file=sys.stderr, flush=True)


def wrapped(head: str, text: str, stream: TextIO, indent: int = INDENT) -> str:
    """Head and text, escaped, in lines of at most LINE characters, or of the width of a terminal
    that is narrower. Lines that continue the text begin with `indent` spaces. A word that is longer
    than a line, such as a path, is not broken."""
    lines = textwrap.wrap(
        printable(one_row(text), stream),
        line_width(stream),
        initial_indent=head,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def line_width(stream: TextIO) -> int:
    """Characters in a line of messages on `stream`."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # no terminal, or closed
        return LINE
    return min(LINE, columns or LINE)  # 0: a terminal that does not know


def printable(text: str, stream: TextIO) -> str:
    """The text with what the stream's encoding lacks in the way Python writes it."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


class Printed(io.TextIOBase):
    """A stream that escapes what is printed to another one, `raw`, which it does not close.
    `plain` is for who writes sequences of the terminal on purpose: the progress bar."""

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str, /) -> int:
        """See `io.TextIOBase.write`."""
        self.raw.write(printable(escaped(text), self.raw))
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
