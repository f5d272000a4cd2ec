"""The images that are written are the same bytes, whatever the order of the files, the threads, the
sizes of batches, what else is installed, and whether the bank was in the cache. (Workers of a
cluster: tests/cluster/test_denoising.py; threads of BLAS: tests/ground/test_blas.py; the core in an
environment of its own: .ci/run.)"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.helpers.commands import gdn
from tests.helpers.frames import noisy_frame

pytestmark = pytest.mark.slow

# What the extras bring, or what was installed beside gdn: a core installation has none of it.
BEYOND_CORE = (
    "abtem,ase,av,bm3d,cryptography,dask,distributed,h5py,hyperspy,matplotlib,napari,numba,numcodecs,"
    "numexpr,onnx,onnxscript,pandas,qtpy,rsciio,skimage,sklearn,tensorrt,tensorrt_rtx,torch,zarr"
)
CORE = """
import sys
from importlib.machinery import PathFinder
absent, find = sys.argv[1].split(","), PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: None if name in absent else find(name, *more)
from gdn.cli import main
main(sys.argv[2:])
"""
OPTIONS = ["--restarts", "40", "--sampling", "0.15", "--atoms", "--intervals", "50"]
PASSING = ("seconds", "stages", "output", "spread", "path", "folder", "input")
NAMES = ["a.tif", "b.tif", "stack.tif"]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames and a stack, of two shapes."""
    folder = tmp_path_factory.mktemp("night")
    for number, name in enumerate(NAMES):
        frame = noisy_frame((90, 100 + 8 * number), number)
        frames = frame if number < 2 else [noisy_frame((90, 116), n) for n in (7, 8)]
        tifffile.imwrite(folder / name, frames, photometric="minisblack")
    return folder


def results(folder: Path) -> dict[str, bytes | str]:
    """Images and tables as they are, records without clock and place."""
    written: dict[str, bytes | str] = {}
    for path in folder.iterdir():
        if path.suffix in (".tif", ".csv") and not path.name.startswith("gdn-"):
            written[path.name] = path.read_bytes()
        elif path.name.endswith("_gdn.json"):
            written[path.name] = json.dumps(lasting(json.loads(path.read_text())), indent=0)
    assert written
    return written


def lasting(value: Any) -> Any:
    """A record without clock and place."""
    if isinstance(value, dict):
        return {name: lasting(part) for name, part in value.items() if name not in PASSING}
    return [lasting(part) for part in value] if isinstance(value, list) else value


def denoised(folder: Path, names: list[Path], *more: str) -> dict[str, bytes | str]:
    done = gdn("denoise", *names, *OPTIONS, "-o", folder, *more)
    assert done.returncode == 0, done.stderr
    return results(folder)


@pytest.fixture(scope="module")
def calm(night: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | str]:
    """The results of one thread, in the order of the names."""
    folder = tmp_path_factory.mktemp("calm")
    written = denoised(folder, [night / name for name in NAMES], "--threads", "1")
    assert len(written) >= 3 * 5
    return written


def small_batches(patch: pytest.MonkeyPatch, cache: Path) -> None:
    """A new bank, made and searched in small portions; one frame of a movie in memory."""
    patch.setenv("GDN_CACHE_DIR", str(cache))
    patch.setattr("gdn.search.bank.BATCH", 7)
    patch.setattr("gdn.search.portions.BANK_PIXELS", 2**16)
    patch.setattr("gdn.search.portions.TILE_PIXELS", 2**14)
    patch.setattr("gdn.movies.frames.KEPT", 1)


@pytest.mark.parametrize("way", ["order and threads", "one by one", "cold and in batches"])
def test_the_same_bytes(
    night: Path,
    calm: dict[str, bytes | str],
    tmp_path: Path,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = [night / name for name in NAMES]
    more = ["--threads", "1"]
    if way == "order and threads":
        paths.reverse()
        more = ["--threads", "3"]
    elif way == "cold and in batches":
        small_batches(monkeypatch, tmp_path / "cache")
    if way == "one by one":
        for path in paths:
            own = tmp_path / "own" / path.name
            own.parent.mkdir(exist_ok=True)
            shutil.copy(path, own)
            done = gdn("denoise", own, *OPTIONS, "-o", tmp_path / "out", *more)
            assert done.returncode == 0, done.stderr
        written = results(tmp_path / "out")
    else:
        written = denoised(tmp_path / "out", paths, *more)
    different = [name for name in calm if written[name] != calm[name]]
    assert different == []


def test_the_same_bytes_of_a_core_installation(
    night: Path, calm: dict[str, bytes | str], tmp_path: Path
) -> None:
    words = ["denoise", *(str(night / name) for name in NAMES), *OPTIONS, "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "-c", CORE, BEYOND_CORE, *words, "-o", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "out") == calm
    doctor = subprocess.run(
        [sys.executable, "-c", CORE, BEYOND_CORE, "doctor"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "gdn[adapt]" in doctor.stdout  # or nothing was hidden
    assert "gdn[formats]" in doctor.stdout


@pytest.mark.parametrize("kind", ["movie", "large"])
def test_the_same_bytes_of_movies_and_of_large_fields(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large field has generators of another size to choose from. A movie drifts, and its
    recorded drift, gains and shares are compared too: few of them change an image."""
    if kind == "movie":
        frames = [noisy_frame((96, 122), n)[n : n + 90, 2 * n : 2 * n + 116] for n in range(4)]
    else:
        frames = [noisy_frame((380, 390), 3)]
    path = tmp_path / "f.tif"
    tifffile.imwrite(path, np.squeeze(frames), photometric="minisblack")
    more = ("--movie", "on") if kind == "movie" else ()
    calm = denoised(tmp_path / "calm", [path], "--threads", "1", *more)
    small_batches(monkeypatch, tmp_path / "cache")
    assert denoised(tmp_path / "other", [path], "--threads", "3", *more) == calm
