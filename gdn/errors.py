"""The errors that gdn raises: one base class, and one class for each kind of fault."""

from __future__ import annotations

import os
from typing import Self

DEBUG = "GDN_DEBUG"  # environment variable: unless it is 0 or empty, tracebacks are shown


def debugging() -> bool:
    """Whether tracebacks are shown (GDN_DEBUG=1 or --debug)."""
    return os.environ.get(DEBUG, "0") not in ("", "0")


class GdnError(Exception):
    """Base of every error that gdn raises on purpose; its message is one line that says what is
    wrong and what to do.

    `parameter` is the name of the setting at fault, None where it is none: the command line names
    its option beside the message, and the message itself need not know of options.
    """

    def __init__(self, message: str = "", parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter

    def __reduce__(self) -> tuple[type[Self], tuple[str, str | None]]:
        """Pickled with its parameter: errors cross between the processes of a cluster."""
        return type(self), (str(self), self.parameter)


class InputError(GdnError, ValueError):
    """An image, a file or a setting that cannot be used. The message says what gdn got and what it
    needs."""


class EmptyFrame(InputError):
    """A frame in which there is nothing to denoise: it is constant, the beam was blanked, almost
    none of its pixels are counts, or it has no noise. The message says which. Other frames of the
    same file may be good."""


class CandidateError(GdnError):
    """A candidate from outside gdn (`gdn.search.outside_candidates`) that does not run here, or
    whose image cannot be used: the fault of no frame."""
