"""The environment of the processes that gdn starts. Python looks for modules in the folder in which
a process is started, and that may be a folder of files from anybody: gdn's own processes do not."""

from __future__ import annotations

import os

SAFE_PATH = "PYTHONSAFEPATH"  # of Python: unless empty, that folder is left out
_OURS = "gdn"


def start_safely() -> None:
    """Let the Python processes that are started from now on leave out the working folder."""
    if not os.environ.get(SAFE_PATH):
        os.environ[SAFE_PATH] = _OURS


def users_environment() -> dict[str, str]:
    """The environment for a command of the user's: as it was given to gdn."""
    return {
        name: value for name, value in os.environ.items() if (name, value) != (SAFE_PATH, _OURS)
    }
