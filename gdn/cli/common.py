"""What several commands check before they begin: a folder that can be written to, an optional
package."""

from __future__ import annotations

import tempfile
from pathlib import Path

from gdn.batch.terminal import UsageFault
from gdn.environment import install_command


def writable_folder(path: Path) -> Path:
    """Create a folder and prove that it can be written to. Raises UsageFault."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UsageFault(
            f"{path}: cannot write there ({error.strerror}); choose another folder with -o"
        ) from None
    return path


def need(package: str, extra: str) -> None:
    """Raises UsageFault where an optional package is missing, saying how to get it."""
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise UsageFault(f"{package} is not installed; {install_command(extra)}")
