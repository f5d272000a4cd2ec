"""Chunks of HDF5 and Zarr that unpack to more than they declare are refused before they are
unpacked; ordinary ones of every usual method are read."""

from __future__ import annotations

import bz2
import gzip
import json
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdn.frames.formats import read_frames
from gdn.frames.packed import zlib_exceeds
from gdn.frames.source import FrameError
from tests.helpers.microscope_files import write_hyperspy
from tests.helpers.needs import needs_formats

pytestmark = needs_formats

PIXELS = (np.arange(64 * 64).reshape(64, 64) ** 2 % 97).astype(np.uint16)
MUCH = 2**27  # bytes that a chunk of 8192 unpacks to
UNPACKS = r"does not unpack into the 8192 bytes that it declares"


@cache
def packed_zeros(method: str) -> bytes:
    import numcodecs

    own: dict[str, Any] = {"zlib": zlib.compress, "gzip": gzip.compress, "bz2": bz2.compress}
    encode = own.get(method) or numcodecs.get_codec({"id": method}).encode
    return bytes(encode(bytes(MUCH)))


def hdf5(path: Path, content: bytes | None = None, **options: Any) -> Path:
    """PIXELS in one chunk of an HDF5 file, which may hold other `content`."""
    import h5py

    with h5py.File(path, "w") as file:
        made = file.create_dataset("counts", data=PIXELS, chunks=PIXELS.shape, **options)
        if content is not None:
            made.id.write_direct_chunk((0, 0), content)
    return path


@pytest.mark.parametrize("suffix", [".h5", ".emd", ".hspy"])
def test_a_chunk_of_hdf5_that_unpacks_to_more_is_refused(tmp_path: Path, suffix: str) -> None:
    path = hdf5(tmp_path / f"case{suffix}", packed_zeros("zlib"), compression="gzip")
    with pytest.raises(FrameError, match=rf"case{suffix}: /counts: a chunk {UNPACKS}"):
        read_frames(path)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
        {"compression": "gzip", "scaleoffset": 0},
    ],
)
def test_filters_beside_gzip_hide_nothing(tmp_path: Path, options: dict[str, Any]) -> None:
    path = hdf5(tmp_path / "case.h5", packed_zeros("zlib"), **options)
    with pytest.raises(FrameError, match=UNPACKS):
        read_frames(path)


def test_a_chunk_of_lzf_that_unpacks_to_more_is_refused(tmp_path: Path) -> None:
    import imagecodecs

    packed = imagecodecs.lzf_encode(bytes(MUCH))
    path = hdf5(tmp_path / "case.h5", packed, compression="lzf")
    with pytest.raises(FrameError, match=UNPACKS):
        read_frames(path)


def with_filters(path: Path, filters: list[tuple[int, tuple[int, ...]]], content: bytes) -> Path:
    """An HDF5 file with one chunk, packed by filters that need not be installed."""
    import h5py

    with h5py.File(path, "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((64, 64))
        for number, values in filters:
            properties.set_filter(number, h5py.h5z.FLAG_OPTIONAL, values)
        space = h5py.h5s.create_simple((64, 64))
        made = h5py.h5d.create(file.id, b"counts", h5py.h5t.NATIVE_UINT16, space, properties)
        made.write_direct_chunk((0, 0), content)
    return path


@pytest.mark.parametrize(
    ("number", "values", "layout"),
    [
        (4, (141, 32, 16, 64), "<I"),  # szip
        (32001, (), "<4xI"),  # Blosc
        (32004, (), ">Q"),  # LZ4
        (32008, (0, 4, 2, 0, 2), ">Q"),  # bitshuffle
    ],
)
def test_the_size_that_a_chunk_states_is_read(
    tmp_path: Path, number: int, values: tuple[int, ...], layout: str
) -> None:
    content = struct.pack(layout, MUCH) + bytes(100)
    path = with_filters(tmp_path / "case.h5", [(number, values)], content)
    with pytest.raises(FrameError, match=UNPACKS):
        read_frames(path)


@pytest.mark.parametrize("number", [307, 32015])
def test_methods_of_plugins_are_measured(tmp_path: Path, number: int) -> None:
    content = packed_zeros("bz2" if number == 307 else "zstd")
    path = with_filters(tmp_path / "case.h5", [(number, ())], content)
    with pytest.raises(FrameError, match=UNPACKS):
        read_frames(path)


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ([(1, (4,)), (1, (4,))], r"HDF5 filter 1\) and another filter, which may take any memory"),
        ([(1, (4,)), (2, (2,))], r"HDF5 filter 1\) and another filter, which may take any memory"),
        ([(32013, ())], "compressed by ZFP .*which may take any memory"),
    ],
)
def test_filters_that_may_take_any_memory_are_refused(
    tmp_path: Path, filters: list[tuple[int, tuple[int, ...]]], words: str
) -> None:
    path = with_filters(tmp_path / "case.h5", filters, bytes(100))
    with pytest.raises(FrameError, match=words):
        read_frames(path)


def test_a_filter_that_promises_more_values_is_refused(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "case.h5", scaleoffset=0)
    content = path.read_bytes()
    stated = struct.pack("<4I", 2, 0, 64 * 64, 0)  # of integers, of how many
    assert content.count(stated) == 1
    path.write_bytes(content.replace(stated, struct.pack("<4I", 2, 0, 2**30, 0)))
    with pytest.raises(FrameError, match=r"case\.h5: /counts: a filter that makes more of a chunk"):
        read_frames(path)


def test_an_axis_that_unpacks_to_more_is_refused(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "case.nxs"
    with h5py.File(path, "w") as file:
        file["counts"] = PIXELS
        file.attrs["axes"] = ["y", "x"]
        axis = file.create_dataset("x", data=np.arange(64.0), chunks=(64,), compression="gzip")
        axis.id.write_direct_chunk((0,), packed_zeros("zlib"))
    with pytest.raises(FrameError, match=r"case.nxs: /x: a chunk does not unpack into the 512"):
        read_frames(path)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
        {"compression": "lzf"},
        {"compression": "gzip", "scaleoffset": 0},
        {"compression": "szip"},
        {},
    ],
)
def test_usual_filters_of_hdf5_are_read(tmp_path: Path, options: dict[str, Any]) -> None:
    path = hdf5(tmp_path / "case.h5", **options)
    assert (read_frames(path).read(0) == PIXELS).all()


def zarr2(path: Path, content: bytes | None = None, **card: Any) -> Path:
    """PIXELS in one chunk of an array of Zarr 2, packed by `compressor` and `filters`."""
    import zarr

    array = zarr.create_array(
        path, shape=(64, 64), chunks=(64, 64), dtype="u2", zarr_format=2, compressors=None
    )
    array[:] = PIXELS
    described = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps(described | card))
    if content is not None:
        (path / "0.0").write_bytes(content)
    return path


@pytest.mark.parametrize("method", ["zlib", "gzip", "bz2", "zstd", "blosc", "lz4"])
def test_a_chunk_of_zarr_that_unpacks_to_more_is_refused(tmp_path: Path, method: str) -> None:
    import numcodecs

    card = {"compressor": {"id": method}}
    path = zarr2(tmp_path / "case.zarr", packed_zeros(method), **card)
    with pytest.raises(FrameError, match=rf"case\.zarr: frame 0 .*{UNPACKS}"):
        read_frames(path).read(0)
    usual = bytes(numcodecs.get_codec({"id": method}).encode(PIXELS.tobytes()))
    path = zarr2(tmp_path / "usual.zarr", usual, **card)
    assert (read_frames(path).read(0) == PIXELS).all()


@pytest.mark.parametrize("method", ["gzip", "zstd"])
def test_a_chunk_of_zarr_3_that_unpacks_to_more_is_refused(tmp_path: Path, method: str) -> None:
    import zarr
    from zarr.codecs import GzipCodec, ZstdCodec

    codecs: dict[str, Any] = {"gzip": GzipCodec(), "zstd": ZstdCodec()}
    path = tmp_path / "case.zarr"
    array = zarr.create_array(
        path, shape=(64, 64), chunks=(64, 64), dtype="u2", compressors=codecs[method]
    )
    array[:] = PIXELS
    assert (read_frames(path).read(0) == PIXELS).all()
    (path / "c" / "0" / "0").write_bytes(packed_zeros(method))
    with pytest.raises(FrameError, match=UNPACKS):
        read_frames(path).read(0)


def test_a_chunk_of_a_shard_that_unpacks_to_more_is_refused(tmp_path: Path) -> None:
    import numcodecs
    import zarr
    from zarr.codecs import GzipCodec

    path = tmp_path / "case.zarr"
    options: dict[str, Any] = {"chunks": (64, 64), "shards": (128, 64), "compressors": GzipCodec()}
    array = zarr.create_array(path, shape=(128, 64), dtype="u2", **options)
    array[:] = np.concatenate([PIXELS, PIXELS])
    assert (read_frames(path).read(0)[64:] == PIXELS).all()
    shard = path / "c" / "0" / "0"
    packed = packed_zeros("gzip")
    index = np.array([0, len(packed), 0, len(packed)], "<u8").tobytes()
    shard.write_bytes(packed + bytes(numcodecs.get_codec({"id": "crc32c"}).encode(index)))
    with pytest.raises(FrameError, match=UNPACKS):
        read_frames(path).read(0)


def test_a_hyperspy_folder_whose_chunk_unpacks_to_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "case.zspy"
    write_hyperspy(path, PIXELS, [("y", "nm", 1.0, False), ("x", "nm", 1.0, False)])
    assert (read_frames(path).read(0) == PIXELS).all()
    (chunk,) = [part for part in path.rglob("0.0") if part.parent.name == "data"]
    packed_by = json.loads((chunk.parent / ".zarray").read_text())["compressor"]["id"]
    chunk.write_bytes(packed_zeros(packed_by))
    with pytest.raises(FrameError, match=UNPACKS):
        read_frames(path).read(0)


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ({"compressor": {"id": "lzma"}}, "compressed by 'lzma', which gdn does not unpack"),
        ({"filters": [{"id": "pickle"}]}, "not a readable Zarr file"),
        (
            {"compressor": {"id": "zlib"}, "filters": [{"id": "zlib"}]},
            "compressed by 'zlib' and another codec, which gdn does not unpack",
        ),
    ],
)
def test_codecs_that_may_take_any_memory_are_refused(
    tmp_path: Path, card: dict[str, Any], words: str
) -> None:
    path = zarr2(tmp_path / "case.zarr", b"x", **card)
    with pytest.raises(FrameError, match=words):
        read_frames(path).read(0)


def test_values_of_a_zarr_filter_are_read(tmp_path: Path) -> None:
    import numcodecs

    change = {"id": "delta", "dtype": "<u2", "astype": "<i4"}
    stored = numcodecs.get_codec(change).encode(PIXELS.ravel())
    packed = zlib.compress(np.asarray(stored).tobytes())
    card = {"compressor": {"id": "zlib"}, "filters": [change]}
    path = zarr2(tmp_path / "case.zarr", packed, **card)
    assert (read_frames(path).read(0) == PIXELS).all()


def test_zarr_keeps_its_own_settings(tmp_path: Path) -> None:
    import zarr

    before = zarr.config.get("codec_pipeline.path")
    read_frames(zarr2(tmp_path / "case.zarr")).read(0)
    assert zarr.config.get("codec_pipeline.path") == before


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20])
def test_a_zlib_stream_is_measured_to_the_byte(size: int) -> None:
    packed = zlib.compress(np.random.default_rng(0).bytes(size) if size % 2 else bytes(size))
    assert not zlib_exceeds(packed, size)
    assert size == 0 or zlib_exceeds(packed, size - 1)
