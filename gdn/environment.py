"""Where gdn runs, and the environment of the processes that it starts. Python looks for modules in
the folder in which a process is started, and that may be a folder of files from anybody: gdn's own
processes do not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

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


def install_command(extra: str) -> str:
    """What to type to get an extra of gdn into the environment that it runs in, which may be one of
    pipx or of `uv tool`. It needs no index to know gdn, which is there already."""
    here, package = Path(sys.prefix), f"'gdn[{extra}]'"
    if (here / "pipx_metadata.json").exists():
        return f"pipx runpip {here.name} install {package}"
    if (here / "uv-receipt.toml").exists():
        return f"uv pip install --python {here} {package}"
    return f"pip install {package}"
