"""Denoisers that are no part of gdn: scripts for `--candidate`, and a package that offers one."""

from __future__ import annotations

import sys
from pathlib import Path

HEAD = """
import sys
import numpy as np
source, target = sys.argv[1:3]
counts = np.load(source)
"""


def script(folder: Path, body: str, name: str = "own.py") -> Path:
    """A script that reads `counts` and is to save an array under the name `target`."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(HEAD + body)
    return path


def command(path: Path, name: str = "own", more: str = "") -> str:
    """What runs it, as `--candidate` takes it."""
    return f"{name}='{sys.executable}' '{path}' {{input}} {{output}} {more}".strip()


def offer(folder: Path, name: str, module: str, code: str, version: str = "1.0") -> None:
    """A package in a folder, installed as far as Python can tell, whose `denoise` is offered under
    a name."""
    (folder / f"{module}.py").write_text(code)
    about = folder / f"{module}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: {version}\n")
    (about / "entry_points.txt").write_text(f"[gdn.candidates]\n{name} = {module}:denoise\n")
