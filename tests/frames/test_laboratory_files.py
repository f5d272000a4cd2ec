"""Files as laboratories have them: values and calibration are right, and results keep them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from gdn.frames.axes import Axis
from gdn.frames.formats import read_frames
from gdn.frames.selection import with_warnings
from gdn.frames.source import FrameCalibration, FrameError
from gdn.frames.writing import result_writer, write_tiff
from tests.helpers.commands import gdn, one_line
from tests.helpers.frames import noisy_frame, refused
from tests.helpers.microscope_files import write_dm_images
from tests.helpers.needs import needs_formats

STACK = np.stack([noisy_frame((40, 50), seed, dose=5) for seed in range(6)])
FRAME = STACK[0]


def write_imagej(path: Path, data: np.ndarray, *lines: str) -> None:
    text = "\n".join(["ImageJ=1.54f", "unit=nm", *lines, ""])
    tifffile.imwrite(
        path, data, description=text, metadata=None, resolution=(163.4, 163.4), software=""
    )


@pytest.mark.parametrize(("offset", "factor"), [(-32768.0, 1.0), (0.5, 0.04)])
def test_imagej_s_calibration_of_values(tmp_path: Path, offset: float, factor: float) -> None:
    lines = ("cf=0", f"c0={offset}", f"c1={factor}", "vunit=Gray Value")
    write_imagej(tmp_path / "a.tif", FRAME.astype(np.uint16) + 32760, *lines)
    source = read_frames(tmp_path / "a.tif")
    shown = offset + factor * (FRAME.astype(float) + 32760)
    np.testing.assert_allclose(source.read(0), shown, rtol=1e-6)
    assert "ImageJ's calibration is applied" in source.notes[0]
    write_imagej(tmp_path / "curve.tif", FRAME, "cf=4", "c0=1", "c1=2", "c2=3")
    refused(tmp_path / "curve.tif", "calibrated by a curve")
    write_imagej(tmp_path / "float.tif", FRAME.astype(np.float32), *lines)
    np.testing.assert_array_equal(read_frames(tmp_path / "float.tif").read(0), FRAME)


def write_source(path: Path, style: str, data: np.ndarray) -> Any:
    """A stack in a style, opened."""
    meta: dict[str, Any] = {"axes": "TYX"}
    if style == "imagej":
        tifffile.imwrite(path, data, imagej=True, metadata=meta)
    elif style == "ome":
        tifffile.imwrite(path, data, ome=True, photometric="minisblack", metadata=meta)
    else:
        tifffile.imwrite(path, data, photometric="minisblack", metadata=meta)
    return read_frames(path)


@pytest.mark.parametrize("style", ["imagej", "ome", "plain"])
@pytest.mark.parametrize("kind", ["tif", "mrc", "zarr"])
@pytest.mark.parametrize("dtype", ["float16", "uint16", "uint8"])
def test_number_types_keep_the_values(tmp_path: Path, style: str, kind: str, dtype: str) -> None:
    if kind == "zarr" and importlib.util.find_spec("zarr") is None:
        pytest.skip("needs the formats extra (zarr)")
    source = write_source(tmp_path / "in.tif", style, STACK[:2])
    images = np.random.default_rng(0).normal(0.4, 0.1, (2, 40, 50)).astype(np.float32)
    images[1] -= 0.7  # negative, and beyond the range of the first frame
    spread = np.full((40, 50), 0.06, np.float32)
    with result_writer(tmp_path / f"out.{kind}", source, 0.06, dtype, kind) as sink:
        for number, image in enumerate(images):
            sink[number] = image
            sink.resolve(spread)
    back = read_frames(tmp_path / f"out.{kind}")
    for number, image in enumerate(images):
        np.testing.assert_allclose(back.read(number), image, atol=0.1 * 0.06)
    if (style, kind) == ("imagej", "tif") and dtype != "float16":  # as Fiji shows it
        with tifffile.TiffFile(tmp_path / "out.tif") as tif:
            about = tif.imagej_metadata or {}
            shown = about["c0"] + about["c1"] * tif.asarray()
        assert about["cf"] == 0
        np.testing.assert_allclose(shown, images, atol=0.1 * 0.06)


@pytest.mark.parametrize(
    ("dtype", "values", "words"),
    [
        ("float16", (0.0, 1e5), "float16 ends at 65504"),
        ("float16", (40_000.0, 40_100.0), "one step of float16 would be 32"),
        ("uint8", (0.0, 1e3), "one step of uint8"),
        ("uint16", (0.0, 1e9), "choose float32"),
        ("uint16", (0.0, np.nan), "NaN"),
    ],
)
def test_types_that_squeeze_are_refused(
    tmp_path: Path, dtype: str, values: tuple[float, float], words: str
) -> None:
    source = write_source(tmp_path / "in.tif", "plain", STACK[:2])
    image = np.full((40, 50), values[0], np.float32)
    image[0] = values[1]

    def write() -> None:
        with result_writer(tmp_path / "out.tif", source, 0.06, dtype) as sink:
            sink[0] = image
            sink.resolve(np.full((40, 50), 10.0, np.float32))

    with pytest.raises(FrameError, match=words):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


def denoise_nothing(source: Any, out: Path, kind: str) -> Any:
    """A result with the frames as they are."""
    with result_writer(out, source, source.sampling(None), kind=kind) as sink:
        for number in range(source.count):
            sink[number] = source.read(number)
    return read_frames(out)


def test_frame_interval_and_depth_are_kept(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        STACK.reshape(2, 3, 40, 50),
        imagej=True,
        resolution=(1e4 / 0.0612,) * 2,
        metadata={"unit": "micron", "axes": "TZYX", "finterval": 0.25, "spacing": 5e-4},
    )
    denoise_nothing(read_frames(tmp_path / "a.tif"), tmp_path / "a_out.tif", "tif")
    with tifffile.TiffFile(tmp_path / "a_out.tif") as tif:
        about = tif.imagej_metadata or {}
    assert (about["finterval"], about["unit"]) == (0.25, "micron")
    assert about["spacing"] == pytest.approx(5e-4)
    pixels = {"PhysicalSizeX": 61.2, "PhysicalSizeY": 61.2, "PhysicalSizeZ": 500.0}
    units = {f"PhysicalSize{axis}Unit": "pm" for axis in "XYZ"}
    times = {"TimeIncrement": 40.0, "TimeIncrementUnit": "ms"}
    tifffile.imwrite(
        tmp_path / "b.ome.tif",
        STACK.reshape(2, 3, 40, 50),
        ome=True,
        photometric="minisblack",
        metadata={"axes": "TZYX"} | pixels | units | times,
    )
    source = read_frames(tmp_path / "b.ome.tif")
    assert source.sampling(None) == pytest.approx(0.612)
    back = denoise_nothing(source, tmp_path / "b_out.ome.tif", "tif").calibration
    assert back.steps == {"Z": (500.0, "pm"), "T": (40.0, "ms")}
    assert (back.sampling_angstrom, back.unit) == (pytest.approx(0.612), "pm")
    assert "a volume" in with_warnings(source, None).notes[0]
    assert not with_warnings(source.summed(), None).notes


def test_an_mrc_volume_stays_one_and_a_stack_too(tmp_path: Path) -> None:
    import mrcfile

    for name, volume in (("volume", True), ("stack", False)):
        with mrcfile.new(tmp_path / f"{name}.mrc", STACK.astype(np.int16)) as file:
            (file.set_volume if volume else file.set_image_stack)()
            file.voxel_size = (0.5, 0.5, 0.7)
        source = read_frames(tmp_path / f"{name}.mrc")
        assert source.calibration.axes == ("ZYX" if volume else "TYX")
        assert bool(with_warnings(source, None).notes) == volume
        out = tmp_path / f"{name}_out.mrc"
        denoise_nothing(source, out, "mrc")
        with mrcfile.open(out) as back, mrcfile.open(tmp_path / f"{name}.mrc") as given:
            for field in ("ispg", "mz", "mx", "my"):
                assert back.header[field] == given.header[field], field
            assert back.voxel_size == given.voxel_size
        if volume:
            back = denoise_nothing(source, tmp_path / "volume_out.tif", "tif").calibration
            assert back.steps["Z"] == (pytest.approx(0.7), "Å")


def test_unsigned_bytes_of_imod(tmp_path: Path) -> None:
    import mrcfile

    bright = (FRAME + 120).astype(np.uint8)
    with mrcfile.new(tmp_path / "a.mrc", bright.view(np.int8)):
        pass
    content = bytearray((tmp_path / "a.mrc").read_bytes())
    content[152:160] = (1146047817).to_bytes(4, "little") + bytes(4)
    (tmp_path / "a.mrc").write_bytes(content)
    np.testing.assert_array_equal(read_frames(tmp_path / "a.mrc").read(0), bright)


def test_pixel_sizes_that_no_model_covers_are_said_at_once(tmp_path: Path) -> None:
    import mrcfile

    for name, size in (("cryo", 1.06), ("overview", 3.84), ("pattern", 1e18), ("fine", 1e-4)):
        with mrcfile.new(tmp_path / f"{name}.mrc", FRAME.astype(np.float32)) as file:
            file.voxel_size = size
    said = gdn("denoise", *sorted(tmp_path.glob("*.mrc")), "-o", tmp_path / "out")
    for name, words in (
        ("cryo", "its pixel size is 1.06 Å"),
        ("overview", "its pixel size is 3.84 Å"),
        ("pattern", "its pixel size is 1e+18 Å"),
        ("fine", "smaller than any microscope records"),
    ):
        one_line(said, 1, f"{name}.mrc", words, "(--sampling)")


def test_a_sampling_that_contradicts_the_file_is_noted(frame_file: Path) -> None:
    source = read_frames(frame_file)
    assert with_warnings(source, 0.0612).notes == []
    (note,) = with_warnings(source, 0.07).notes
    assert note == "you gave 0.07 Å per pixel, the file says 0.061; gdn uses yours"


@pytest.mark.parametrize("suffix", [".eer", ".mib", ".tvips", ".gtg", ".jpg"])
def test_formats_that_are_not_read_say_what_to_do(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    tifffile.imwrite(path, FRAME)
    refused(path, "which gdn does not read; ")


@needs_formats
def test_every_name_of_an_hdf5_array_can_be_given(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/image"] = FRAME
        file["b/hard"] = file["a/image"]
        file["soft"] = h5py.SoftLink("/a/image")
        file["group"] = h5py.SoftLink("/b")
        file["x/unnamed"] = np.ones((40, 50))
        file["pixel_mask"] = h5py.SoftLink("/x/unnamed")
    for name in (None, "a/image", "/b/hard", "soft", "group/hard", "a"):
        np.testing.assert_array_equal(read_frames(tmp_path / "a.h5", name).read(0), FRAME)
    refused(tmp_path / "a.h5", "no image nothing; there are: a/image (40x50)", dataset="nothing")


def test_images_of_a_dm4_by_their_names(tmp_path: Path) -> None:
    pytest.importorskip("rsciio")
    images = [(STACK[n], [0.006] * 2, ["nm"] * 2, name) for n, name in enumerate(("BF", "ADF"))]
    spectra = (STACK, [0.5, 0.006, 0.006], ["eV", "nm", "nm"], "EELS")
    write_dm_images(tmp_path / "a.dm4", 4, [*images, spectra])
    refused(tmp_path / "a.dm4", "2 images; name one of them: BF (40x50), ADF (40x50)")
    np.testing.assert_array_equal(read_frames(tmp_path / "a.dm4", "ADF").read(0), STACK[1])
    refused(tmp_path / "a.dm4", "EELS: a spectrum image", dataset="EELS")


def test_values_on_a_large_offset_are_not_rounded_away(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FRAME + 1e9)
    with pytest.raises(FrameError, match="subtract the offset"):
        read_frames(tmp_path / "a.npy").read(0)
    np.save(tmp_path / "b.npy", FRAME + 1e4)
    assert read_frames(tmp_path / "b.npy").read(0).std() == pytest.approx(FRAME.std(), rel=1e-3)


def test_integers_of_a_run_are_what_the_record_says(frame_file: Path, tmp_path: Path) -> None:
    fast = ("--restarts", 8, "--no-score", "--model", "pt-ceo2-64")
    for dtype in ("float32", "uint16"):
        out = tmp_path / dtype
        assert gdn("denoise", frame_file, *fast, "--dtype", dtype, "-o", out).returncode == 0
    stored = json.loads((tmp_path / "uint16" / "frame_gdn.json").read_text())["input"]["stored"]
    for name in ("frame_denoised.tif", "frame_spread.tif"):
        exact = tifffile.imread(tmp_path / "float32" / name)
        values = stored[name]
        whole = tifffile.imread(tmp_path / "uint16" / name)
        assert whole.dtype == np.uint16
        shown = values["offset"] + values["scale"] * whole.astype(float)
        np.testing.assert_allclose(shown, exact, atol=0.51 * values["scale"])


def test_axes_that_nothing_describes_are_said(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STACK.reshape(2, 3, 40, 50))
    source = read_frames(tmp_path / "a.npy")
    assert (source.count, source.calibration.axes) == (6, "TZYX")
    assert "takes them for 6 frames" in source.notes[0]
    np.save(tmp_path / "b.npy", STACK)
    assert read_frames(tmp_path / "b.npy").notes == []
    focus = Axis(size=6, name="defocus", scale=2.0, unit="nm")
    assert focus.kind == "unknown"
    np.savez(tmp_path / "c.npz", thumbnail=FRAME, counts=STACK)
    assert read_frames(tmp_path / "c.npz").count == 6


@pytest.mark.parametrize("style", ["plain", "imagej"])
def test_a_result_has_the_tags_of_digitalmicrograph(tmp_path: Path, style: str) -> None:
    path = tmp_path / "a.tif"
    calibration = FrameCalibration(sampling_angstrom=0.061, style=style, shape=(20, 20))
    write_tiff(path, np.zeros((20, 20), np.float32), calibration)
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        assert [tags[number].value for number in (65003, 65004)] == ["nm", "nm"]
        assert [tags[number].value for number in (65009, 65010)] == pytest.approx([0.0061] * 2)
        assert [tags[number].value for number in (65006, 65007)] == [0, 0]


@needs_formats
def test_hyperspy_finds_the_pixel_size_of_a_result(tmp_path: Path) -> None:
    from rsciio.tiff import file_reader

    path = tmp_path / "a.tif"
    calibration = FrameCalibration(sampling_angstrom=0.061, shape=(20, 20))
    write_tiff(path, np.ones((20, 20), np.float32), calibration)
    (read,) = file_reader(str(path))
    assert [axis["units"] for axis in read["axes"]] == ["nm", "nm"]
    assert [axis["scale"] for axis in read["axes"]] == pytest.approx([0.0061] * 2)
