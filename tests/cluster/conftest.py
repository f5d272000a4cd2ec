"""Frames with the results of one machine, and a cluster of processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tifffile

from tests.helpers.cluster import COPIES, COUNT, OPTIONS, Cluster, picture
from tests.helpers.commands import gdn


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small low-dose frames, and what one machine makes of them in `alone`."""
    folder = tmp_path_factory.mktemp("frames")
    (folder / "in").mkdir()
    for number in range(COUNT):
        tifffile.imwrite(folder / "in" / f"f{number}.tif", picture(number))
    done = gdn("denoise", "in", "-o", "alone", "--report", *OPTIONS, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.close()


@pytest.fixture
def many(frames: Path, tmp_path: Path) -> Path:
    """More frames than are done before something happens to the workers."""
    (tmp_path / "in").mkdir()
    for number in range(COUNT):
        for copy in range(COPIES):
            shutil.copy(frames / "in" / f"f{number}.tif", tmp_path / "in" / f"f{number}-{copy}.tif")
    return tmp_path
