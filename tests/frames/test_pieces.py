"""Small files whose pieces unpack to much: refused before one is unpacked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from gdn.frames.formats import read_frames
from gdn.frames.source import FrameError
from tests.helpers.needs import needs_formats

PIXELS = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 97
HUGE = 8192  # px, of a side of a piece: 128 MiB


def with_tags(path: Path, content: bytes, **values: int) -> None:
    """A TIFF of PIXELS in one piece whose tags are changed, with `content` behind it."""
    tiled = {"tile": (64, 64)} if "TileWidth" in values else {}
    tifffile.imwrite(path, PIXELS, metadata=None, **tiled)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        for name, value in values.items():
            at = tif.pages.first.tags[name].offset
            data[at + 2 : at + 4] = (4).to_bytes(2, "little")
            data[at + 8 : at + 12] = (value or len(data)).to_bytes(4, "little")
    path.write_bytes(bytes(data) + content)


def large_tile(folder: Path) -> Path:
    path = folder / "case.tif"
    with_tags(path, bytes(100), TileWidth=HUGE, TileLength=HUGE, Compression=8)
    return path


def large_chunk(folder: Path, suffix: str = ".h5") -> Path:
    import h5py

    path = folder / f"case{suffix}"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "counts",
            data=PIXELS,
            chunks=(HUGE, HUGE),
            maxshape=(None, None),
            compression="gzip",
        )
    return path


def large_chunk_of_emd(folder: Path) -> Path:
    return large_chunk(folder, ".emd")


def large_zarr(folder: Path, suffix: str = ".zarr") -> Path:
    path = folder / f"case{suffix}"
    path.mkdir()
    whole: dict[str, Any] = {"zarr_format": 2, "shape": [64, 64], "chunks": [HUGE, HUGE]}
    whole |= {"dtype": "<u2", "compressor": {"id": "zlib", "level": 9}, "fill_value": 0}
    (path / ".zarray").write_text(json.dumps(whole | {"order": "C", "filters": None}))
    return path


def large_zspy(folder: Path) -> Path:
    import zarr

    path = folder / "case.zspy"
    group = zarr.create_group(path, zarr_format=2, attributes={"file_format": "ZSpy"})
    group.create_array("Experiments/a/data", shape=(64, 64), chunks=(HUGE, HUGE), dtype="u2")
    return path


@needs_formats
@pytest.mark.parametrize(
    "write", [large_tile, large_chunk, large_chunk_of_emd, large_zarr, large_zspy]
)
def test_a_small_frame_in_a_large_piece_is_refused(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path)
    with pytest.raises(FrameError, match=rf"{path.name}: an array of 0.0 MB in pieces of 134 MB"):
        read_frames(path).read(0)


@pytest.mark.parametrize(("name", "number"), [("LERC", 34887), ("JPEG2000", 34712)])
def test_compressions_that_say_their_own_size_are_refused(
    tmp_path: Path, name: str, number: int
) -> None:
    encode = imagecodecs.lerc_encode if name == "LERC" else imagecodecs.jpeg2k_encode
    content = encode(np.zeros((512, 512), np.uint16))
    path = tmp_path / "case.tif"
    with_tags(path, content, Compression=number, StripOffsets=0, StripByteCounts=len(content))
    with pytest.raises(FrameError, match=f"case.tif: compressed by {name}, which gdn does not"):
        read_frames(path)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "lzma", "packbits", "jpeg"])
def test_the_usual_compressions_are_read(tmp_path: Path, compression: str) -> None:
    pixels = PIXELS.astype(np.uint8)
    path = tmp_path / "case.tif"
    tifffile.imwrite(path, pixels, compression=compression, metadata=None)
    assert np.abs(read_frames(path).read(0) - pixels).max() < (40 if compression == "jpeg" else 1)


def test_a_picture_of_another_format_is_not_opened_as_png(tmp_path: Path) -> None:
    """Pillow starts Ghostscript for one of them."""
    path = tmp_path / "case.png"
    size = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n"
    path.write_bytes(size)
    with pytest.raises(FrameError, match=r"case\.png: not a readable PNG file \(cannot identify"):
        read_frames(path)
