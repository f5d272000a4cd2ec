"""Channels, colours and pyramids: which of several arrays is the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from gdn.frames.formats import read_frames
from gdn.frames.source import FrameError
from gdn.frames.writing import result_writer
from tests.helpers.commands import gdn
from tests.helpers.frames import noisy_frame, refused
from tests.helpers.needs import needs_formats

STACK = np.stack([noisy_frame((40, 50), seed, dose=5) for seed in range(6)])
FRAME = STACK[0]


def ngff(axes: list[dict[str, str]], levels: list[Any], whole: Any = None) -> dict[str, Any]:
    """Metadata of a pyramid: of every level its transformations."""
    datasets = [
        {"path": str(number), "coordinateTransformations": transforms}
        for number, transforms in enumerate(levels)
    ]
    found: dict[str, Any] = {"version": "0.4", "axes": axes, "datasets": datasets}
    return found | ({"coordinateTransformations": whole} if whole else {})


def scale(*factors: float) -> dict[str, Any]:
    return {"type": "scale", "scale": list(factors)}


@needs_formats
@pytest.mark.parametrize("version", [2, 3])
def test_ngff_scales_multiply(tmp_path: Path, version: int) -> None:
    import zarr

    axes = [{"name": n, "type": "space", "unit": "nanometer"} for n in "yx"]
    group = zarr.create_group(store=tmp_path / "a.zarr", zarr_format=version)
    group.create_array("0", data=FRAME)
    group.create_array("1", data=FRAME[::2, ::2])
    about = ngff(axes, [[scale(2, 2)], [scale(4, 4)]], [scale(0.00306, 0.00306)])
    group.attrs.update(
        {"multiscales": [about]} if version == 2 else {"ome": {"multiscales": [about]}}
    )
    assert read_frames(tmp_path / "a.zarr").sampling(None) == pytest.approx(0.0612)
    assert read_frames(tmp_path / "a.zarr", "1").sampling(None) == pytest.approx(0.1224)
    strange = ngff(axes, [[{"type": "affine", "affine": []}], [scale(4, 4)]])
    group.attrs.update({"multiscales": [strange], "ome": {"multiscales": [strange]}})
    with pytest.raises(FrameError, match=r"transformation \(affine\) that gdn does not know"):
        read_frames(tmp_path / "a.zarr").sampling(None)
    group.attrs.update({"multiscales": [about], "ome": {"multiscales": [about]}})
    labels = group.create_group("labels").create_group("particles")
    labels.create_array("0", data=FRAME)
    labels.attrs["multiscales"] = [ngff(axes, [[scale(1, 1)]])]
    assert read_frames(tmp_path / "a.zarr").sampling(None) == pytest.approx(0.0612)


@needs_formats
def test_ngff_pyramids_below_the_root_and_leading_axes(tmp_path: Path) -> None:
    import zarr

    root = zarr.create_group(store=tmp_path / "a.zarr", zarr_format=2)
    group = root.create_group("0")
    group.create_array("0", data=STACK)
    axes = [
        {"name": "t", "type": "time", "unit": "second"},
        *({"name": n, "type": "space", "unit": "angstrom"} for n in "yx"),
    ]
    group.attrs["multiscales"] = [ngff(axes, [[scale(0.5, 0.07, 0.07)]])]
    source = read_frames(tmp_path / "a.zarr")
    assert source.sampling(None) == pytest.approx(0.07)
    for kind in ("zarr", "tif"):
        with result_writer(tmp_path / f"b.{kind}", source, 0.07, kind=kind) as sink:
            for number in range(source.count):
                sink[number] = source.read(number)
        back = read_frames(tmp_path / f"b.{kind}").calibration
        assert (back.axes, back.sampling_angstrom) == ("TYX", pytest.approx(0.07))
        assert back.steps["T"] == (0.5, "second")


@needs_formats
def test_channels_are_split_and_one_is_named(tmp_path: Path) -> None:
    import zarr

    data = np.stack([STACK[:3], STACK[3:]], axis=1)  # three times two channels
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata={"axes": "TCYX"})
    tifffile.imwrite(
        tmp_path / "b.ome.tif", data, ome=True, photometric="minisblack", metadata={"axes": "TCYX"}
    )
    group = zarr.create_group(store=tmp_path / "c.zarr")
    group.create_array("0", data=data)
    kinds = (("t", "time"), ("c", "channel"), ("y", "space"), ("x", "space"))
    axes = [{"name": name, "type": kind} for name, kind in kinds]
    group.attrs["multiscales"] = [ngff(axes, [[scale(1, 1, 1, 1)]])]
    for name in ("a.tif", "b.ome.tif", "c.zarr"):
        refused(tmp_path / name, "2 channels (axes TCYX", "from 0 to 1")
        refused(tmp_path / name, "2 channels", channel=2)
        source = read_frames(tmp_path / name, channel=1)
        assert (source.count, source.calibration.axes) == (3, "TYX")
        np.testing.assert_array_equal(source.read(2), STACK[5])
    tifffile.imwrite(tmp_path / "d.tif", FRAME)
    refused(tmp_path / "d.tif", "has no channels", channel=0)
    said = gdn("denoise", tmp_path / "a.tif", "--sampling", "0.1", "-o", tmp_path / "out")
    assert (said.returncode, "--channel" in said.stderr) == (1, True)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_planes_of_a_colour_picture_are_no_frames(tmp_path: Path, compression: str | None) -> None:
    options: dict[str, Any] = {
        "photometric": "rgb",
        "planarconfig": "separate",
        "metadata": None,
        "compression": compression,
    }
    tifffile.imwrite(tmp_path / "a.tif", STACK[:3], **options)
    with pytest.raises(FrameError, match=r"a colour picture \(3 samples"):
        read_frames(tmp_path / "a.tif").read(0)
    tifffile.imwrite(tmp_path / "gray.tif", np.stack([FRAME] * 3), **options)
    source = read_frames(tmp_path / "gray.tif")
    assert source.count == 1
    np.testing.assert_array_equal(source.read(0), FRAME)
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        writer.write(STACK[:3], **options)
        writer.write(FRAME.astype(np.uint16), metadata=None, photometric="minisblack")
    source = read_frames(tmp_path / "b.tif")
    assert "series 1 is the one gray image" in source.notes[0]
    np.testing.assert_array_equal(source.read(0), FRAME)


def test_palettes_and_thumbnails(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 65535, (3, 256)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", FRAME, photometric="palette", colormap=colours, metadata=None
    )
    refused(tmp_path / "a.tif", "palette")
    ramp = np.stack([np.arange(256, dtype=np.uint16) * 257] * 3)
    tifffile.imwrite(tmp_path / "b.tif", FRAME, photometric="palette", colormap=ramp, metadata=None)
    np.testing.assert_array_equal(read_frames(tmp_path / "b.tif").read(0), FRAME)
    with tifffile.TiffWriter(tmp_path / "c.tif") as writer:
        writer.write(FRAME[::2, ::2], subfiletype=1, metadata=None, photometric="minisblack")
        writer.write(FRAME, metadata=None, photometric="minisblack")
    np.testing.assert_array_equal(read_frames(tmp_path / "c.tif").read(0), FRAME)
