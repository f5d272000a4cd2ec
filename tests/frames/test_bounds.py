"""Files that point elsewhere, and small files that grow: refused before pixels are read."""

from __future__ import annotations

import bz2
import gzip
import os
import resource
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import numpy as np
import pytest
import tifffile

from gdn.frames import bounds
from gdn.frames.formats import read_frames
from gdn.frames.source import FrameError
from tests.helpers.frames import write_mrc
from tests.helpers.needs import needs_formats

OURS = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 97
SECRET = OURS[::-1] + 1000


def write_ome(path: Path, planes: str, frames: int, compression: str | None = None) -> None:
    size = 'SizeX="64" SizeY="64" SizeC="1" SizeZ="1"'
    description = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        f'UUID="urn:uuid:1"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
        f'Type="uint16" {size} SizeT="{frames}"><Channel ID="c:0" SamplesPerPixel="1"/>{planes}'
        "</Pixels></Image></OME>"
    )
    tifffile.imwrite(
        path, OURS, description=description.encode(), metadata=None, compression=compression
    )


def of_two_files(path: Path, other: str) -> None:
    planes = "".join(
        f'<TiffData FirstT="{t}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{t + 1}'
        "</UUID></TiffData>"
        for t, name in enumerate((path.name, other))
    )
    write_ome(path, planes, 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An input's folder, beside another with a file that is none of its business."""
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").mkdir()
    tifffile.imwrite(tmp_path / "secret" / "s.ome.tif", SECRET, metadata={"axes": "YX"})
    SECRET.tofile(tmp_path / "secret" / "s.raw")
    return tmp_path / "in"


@pytest.mark.parametrize("way", ["../secret/s.ome.tif", "absolute", "link", "&#46;&#46;/secret/s"])
def test_planes_of_an_ome_tiff_come_from_its_own_folder(folder: Path, way: str) -> None:
    secret = folder.parent / "secret" / "s.ome.tif"
    if way == "link":
        (folder / "link.tif").symlink_to(secret)
        way = "link.tif"
    of_two_files(folder / "a.ome.tif", str(secret) if way == "absolute" else way)
    with pytest.raises(FrameError, match=r"a\.ome\.tif: planes in another file.*folder"):
        read_frames(folder / "a.ome.tif")


def test_a_file_beside_it_is_read_and_said(folder: Path) -> None:
    tifffile.imwrite(folder / "b.ome.tif", SECRET, metadata={"axes": "YX"})
    of_two_files(folder / "a.ome.tif", "b.ome.tif")
    frames = read_frames(folder / "a.ome.tif")
    np.testing.assert_array_equal(frames.read(1), SECRET)
    assert any("b.ome.tif" in note for note in frames.notes)


def test_a_pipe_beside_it_does_not_hang(folder: Path) -> None:
    os.mkfifo(folder / "b.ome.tif")
    of_two_files(folder / "a.ome.tif", "b.ome.tif")
    with pytest.raises(FrameError, match="not a file"):
        read_frames(folder / "a.ome.tif")


@needs_formats
@pytest.mark.parametrize("suffix", ["h5", "emd", "hspy"])
@pytest.mark.parametrize("kind", ["external", "virtual"])
def test_pixels_of_hdf5_lie_in_the_file(folder: Path, suffix: str, kind: str) -> None:
    import h5py

    path, secret = folder / f"a.{suffix}", folder.parent / "secret"
    with h5py.File(secret / "s.h5", "w") as file:
        file["data"] = SECRET
    with h5py.File(path, "w") as file:
        group = file.create_group("data/image") if suffix == "emd" else file
        if suffix == "emd":
            group.attrs["emd_group_type"] = 1
        if kind == "external":
            raw = [(str(secret / "s.raw"), 0, SECRET.nbytes)]
            group.create_dataset("data", shape=SECRET.shape, dtype="u2", external=raw)
        else:
            layout = h5py.VirtualLayout(SECRET.shape, "u2")
            layout[:] = h5py.VirtualSource("../secret/s.h5", "data", SECRET.shape)
            group.create_virtual_dataset("data", layout)
    with pytest.raises(FrameError, match=r"raw file|other files|outside of the folder"):
        read_frames(path).read(0)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """The peak of memory grows by little."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize("which", ["last", "first"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_of_8_kb_has_no_200000_frames(
    tmp_path: Path, which: str, compression: str | None, little_memory: None
) -> None:
    path = tmp_path / "a.ome.tif"
    first = 199_999 if which == "last" else 0
    write_ome(path, f'<TiffData IFD="0" FirstT="{first}" PlaneCount="1"/>', 200_000, compression)
    try:
        frames = read_frames(path)
    except FrameError as error:
        assert "promises 200000 frames" in str(error)  # noqa: PT017
        return
    assert (frames.count, "1 of 200000" in frames.cut_off) == (1, True)


@needs_formats
def test_an_empty_hdf5_has_no_200000_frames(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", shape=(200_000, 64, 64), dtype="u2", chunks=(1, 64, 64))
    with pytest.raises(FrameError, match=r"a\.h5: promises 200000 frames.*damaged"):
        read_frames(tmp_path / "a.h5")


@pytest.mark.parametrize("pack", [gzip.open, bz2.open])
def test_a_packed_file_is_not_unpacked_beyond_what_it_promises(
    tmp_path: Path, pack: Callable[..., IO[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a.mrc.{'gz' if pack is gzip.open else 'bz2'}"
    write_mrc(tmp_path / "a.mrc", OURS, 0.1)
    content = (tmp_path / "a.mrc").read_bytes()

    def write(more: bytes, times: int = 1) -> None:
        with pack(path, "wb") as stream:
            for _ in range(times):
                stream.write(more)

    write(content)
    np.testing.assert_array_equal(read_frames(path).read(0), OURS)
    member = path.read_bytes()
    write(bytes(2**22))
    path.write_bytes(member + path.read_bytes() * 1000)  # 4 GB of zeros after the pixels
    begun = time.process_time()
    with pytest.raises(FrameError, match=r"unpacks to more than the \d+ bytes"):
        read_frames(path)
    assert time.process_time() - begun < 3
    large = content[:4] + (2**20).to_bytes(4, "little") + content[8:]  # as many rows
    write(large)
    with pytest.raises(FrameError, match=r"a\.mrc.*: promises 268 MB, but has only .*damaged"):
        read_frames(path)
    monkeypatch.setattr(bounds, "MOST_UNPACKED", 2**26)
    with pytest.raises(FrameError, match="unpack it and give the unpacked file"):
        read_frames(path)


def test_a_packed_file_takes_no_more_memory_than_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc.gz"
    write_mrc(tmp_path / "a.mrc", np.broadcast_to(OURS, (4000, 64, 64)), 0.1)
    content = (tmp_path / "a.mrc").read_bytes()
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(content)
    tracemalloc.start()
    try:
        frames = read_frames(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(content) + 2**23
    np.testing.assert_array_equal(frames.read(3999), OURS)
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(content[:-10])
    with pytest.raises(FrameError, match=r"a\.mrc.*: not a readable MRC file \(it unpacks to \d+"):
        read_frames(path)


def test_an_archive_is_not_unpacked_beyond_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, little_memory: None
) -> None:
    monkeypatch.setattr(bounds, "MOST_UNPACKED", 2**20)
    np.savez_compressed(tmp_path / "a.npz", np.zeros((600, 1200), np.uint16))
    with pytest.raises(FrameError, match="unpack it and give the unpacked file"):
        read_frames(tmp_path / "a.npz")


def test_a_page_that_a_library_took_from_elsewhere_is_refused(folder: Path) -> None:
    def page(path: Path) -> SimpleNamespace:
        return SimpleNamespace(parent=SimpleNamespace(filehandle=SimpleNamespace(path=str(path))))

    own, secret = folder / "a.tif", folder.parent / "secret" / "s.ome.tif"
    tifffile.imwrite(own, OURS)
    bounds.check_opened_files(own, [page(own), None])
    with pytest.raises(FrameError, match=r"a\.tif: pixels in .*s\.ome\.tif, which lies outside"):
        bounds.check_opened_files(own, [page(own), page(secret)])
