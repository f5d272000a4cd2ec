"""Things that take long to make, for all of pytest's processes: runs and model folders."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.commands import gdn


@dataclass(frozen=True)
class Exported:
    """A model folder and what the command said that made it."""

    folder: Path
    said: str


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder of this name, made by the first process that asks for it. Nothing may change it."""
    from filelock import FileLock  # torch brings it, and what is made here needs torch

    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    made = root / f"{name}.made"
    with FileLock(root / f"{name}.lock"):
        if not made.exists():
            shutil.rmtree(root / name, ignore_errors=True)
            make(root / name)
            made.touch()
    return root / name


def exported(
    factory: pytest.TempPathFactory, name: str, source: Path, *options: str, called: str = "model"
) -> Exported:
    """What `gdn export` makes of a source, in a folder that is `called` so."""

    def make(folder: Path) -> None:
        folder.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's exporter
            done = gdn("export", source, "-o", folder / called, *options)
        assert done.returncode == 0, done.stderr
        (folder / "said").write_text(done.stdout)

    folder = made_once(factory, name, make)
    return Exported(folder / called, (folder / "said").read_text())
