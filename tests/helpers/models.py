"""Model folders made by the command."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.commands import gdn


@dataclass(frozen=True)
class Exported:
    """A model folder and what the command said that made it."""

    folder: Path
    said: str


def export(source: Path, folder: Path, *options: str) -> Exported:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter
        done = gdn("export", source, "-o", folder, *options)
    assert done.returncode == 0, done.stderr
    return Exported(folder, done.stdout)
