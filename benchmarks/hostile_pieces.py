"""Cases of `benchmarks/hostile.py`: small frames in pieces (a tile, a chunk) that unpack to more
than a gigabyte: because that is their size, or because they hold more than they declare."""

from __future__ import annotations

import base64
import importlib.util
import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

SIDE = 24_000  # px of 16 bits, of a piece
DEFLATE, LERC = 8, 34887  # compressions of TIFF
# 40000 x 40000 zeros, packed by LERC.
LERC_PIECE = base64.b64decode(
    "TGVyYzIgBAAAAOgP7LZAnAAAQJwAAAEAAAAAEF5fCAAAAEYAAAABAAAAAAAAAAAA4D8AAAAAAAAAAAAAAAAAAAAAAAAAAA=="
)


@cache
def packed_square() -> bytes:
    """SIDE x SIDE zeros, packed by zlib."""
    packer = zlib.compressobj(1)
    rows = [packer.compress(bytes(2 * SIDE * 100)) for _ in range(SIDE // 100)]
    return b"".join([*rows, packer.flush()])


@cache
def zstd_square() -> bytes:
    """As many zeros in 64 frames of Zstandard."""
    return bytes(imagecodecs.zstd_encode(bytes(2 * SIDE * SIDE // 64))) * 64


def large_tile(folder: Path) -> Path:
    """A TIFF whose only tile is far larger than its page."""
    sides = {"TileWidth": SIDE, "TileLength": SIDE}
    return _tiff(folder / "bomb.tif", "Tile", packed_square(), sides | {"Compression": DEFLATE})


def own_size(folder: Path) -> Path:
    """A TIFF whose pixels are packed by a method that says their number itself."""
    return _tiff(folder / "bomb.tif", "Strip", LERC_PIECE, {"Compression": LERC})


def _tiff(path: Path, kind: str, content: bytes, tags: dict[str, int]) -> Path:
    """A TIFF of one small page in one piece, with the tags and the packed pixels given."""
    pixels = np.eye(64, dtype=np.uint8 if kind == "Strip" else np.uint16)
    tile = (64, 64) if kind == "Tile" else None
    tifffile.imwrite(path, pixels, metadata=None, tile=tile)
    data = bytearray(path.read_bytes())
    tags = tags | {f"{kind}Offsets": len(data), f"{kind}ByteCounts": len(content)}
    with tifffile.TiffFile(path) as tif:
        for name, value in tags.items():
            at = tif.pages.first.tags[name].offset
            data[at + 2 : at + 4] = (4).to_bytes(2, "little")
            data[at + 8 : at + 12] = value.to_bytes(4, "little")
    path.write_bytes(bytes(data) + content)
    return path


def large_chunk(folder: Path) -> Path:
    """A small data set of HDF5 in one large packed chunk."""
    if not importlib.util.find_spec("h5py"):
        return large_tile(folder)
    import h5py

    chunked: dict[str, Any] = {"chunks": (SIDE, SIDE), "maxshape": (None, None)}
    with h5py.File(folder / "bomb.h5", "w") as file:
        made = file.create_dataset("counts", (64, 64), "u2", compression="gzip", **chunked)
        made.id.write_direct_chunk((0, 0), packed_square())
    return folder / "bomb.h5"


def large_chunk_of_zarr(folder: Path) -> Path:
    """A small array of Zarr in one large packed chunk."""
    path = folder / "bomb.zarr"
    path.mkdir()
    card: dict[str, Any] = {"zarr_format": 2, "shape": [64, 64], "chunks": [SIDE, SIDE]}
    card |= {"dtype": "<u2", "compressor": {"id": "zlib", "level": 9}, "fill_value": 0}
    (path / ".zarray").write_text(json.dumps(card | {"order": "C", "filters": None}))
    (path / "0.0").write_bytes(packed_square())
    return path


def fuller_chunk(folder: Path, suffix: str = ".h5") -> Path:
    """A chunk of HDF5 that unpacks to more than it declares."""
    if not importlib.util.find_spec("h5py"):
        return large_tile(folder)
    import h5py

    with h5py.File(folder / f"bomb{suffix}", "w") as file:
        made = file.create_dataset("counts", (64, 64), "u2", chunks=(64, 64), compression="gzip")
        made.id.write_direct_chunk((0, 0), packed_square())
    return folder / f"bomb{suffix}"


def fuller_chunk_of_emd(folder: Path) -> Path:
    """A chunk of HDF5 that unpacks to more than it declares, which RosettaSciIO reads."""
    return fuller_chunk(folder, ".emd")


def fuller_chunk_of_zarr(folder: Path) -> Path:
    """A chunk of Zarr that unpacks to more than it declares."""
    return _fuller_zarr(folder, "zlib", packed_square())


def fuller_chunk_of_zstd(folder: Path) -> Path:
    """The same in 40 kB."""
    return _fuller_zarr(folder, "zstd", zstd_square())


def _fuller_zarr(folder: Path, method: str, content: bytes) -> Path:
    path = folder / "bomb.zarr"
    path.mkdir()
    card: dict[str, Any] = {"zarr_format": 2, "shape": [64, 64], "chunks": [64, 64]}
    card |= {"dtype": "<u2", "compressor": {"id": method}, "fill_value": 0}
    (path / ".zarray").write_text(json.dumps(card | {"order": "C", "filters": None}))
    (path / "0.0").write_bytes(content)
    return path


LARGE_PIECES = (
    large_tile,
    own_size,
    large_chunk,
    large_chunk_of_zarr,
    fuller_chunk,
    fuller_chunk_of_emd,
    fuller_chunk_of_zarr,
    fuller_chunk_of_zstd,
)
