"""Files as laboratories have them: what is no image of real space is refused, what is one has the
right values and calibration, and results keep them."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from conftest import gdn, noisy_frame

from gdn.frames.axes import Axis, image_axes, objection
from gdn.frames.choosing import is_detector_array
from gdn.frames.formats import files_beside, read_frames
from gdn.frames.selection import with_warnings
from gdn.frames.source import FrameError
from gdn.frames.units import angstrom_per, unit_kind
from gdn.frames.writing import result_writer

needs_formats = pytest.mark.skipif(
    importlib.util.find_spec("rsciio") is None, reason="needs the formats extra (rosettasciio)"
)
STACK = np.stack([noisy_frame((40, 50), seed, dose=5) for seed in range(6)])
FRAME = STACK[0]


def refused(path: Path, *words: str, **options: Any) -> None:
    with pytest.raises(FrameError) as caught:
        read_frames(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def write_hyperspy(
    path: Path, data: np.ndarray, axes: list[tuple[str, str, float, bool]], kind: str = ""
) -> None:
    """`axes`: name, unit, scale, and whether it is of navigation, in the order of the array."""
    from importlib import import_module

    kind_of_file = "hspy" if path.suffix == ".zspy" else path.suffix[1:]
    writer = import_module(f"rsciio.{kind_of_file}").file_writer
    described = [
        {
            "name": name,
            "size": size,
            "scale": scale,
            "offset": 0.0,
            "units": unit,
            "navigate": navigate,
            "index_in_array": number,
            "_type": "UniformDataAxis",
            "is_binned": False,
        }
        for number, ((name, unit, scale, navigate), size) in enumerate(
            zip(axes, data.shape, strict=True)
        )
    ]
    signal = {
        "data": data,
        "axes": described,
        "metadata": {"General": {"title": "one"}, "Signal": {"signal_type": kind}},
        "package_info": {"package": "test", "package_version": "0"},
        "attributes": {"_lazy": False, "ragged": False},
    }
    parts = ("original_metadata", "learning_results", "models", "tmp_parameters")
    signal |= {name: {} for name in parts}
    if path.suffix != ".zspy":
        writer(str(path), signal)
        return
    # RosettaSciIO 0.15 reads .zspy by zarr 3, but cannot write them: the layout is that of .hspy.
    import h5py
    import zarr

    writer(str(path.with_suffix(".hspy")), signal)
    root = zarr.create_group(store=path, zarr_format=2)

    found: list[tuple[str, Any, dict[str, Any]]] = []

    def collect(name: str, one: Any) -> None:
        content = np.atleast_1d(one[()]) if isinstance(one, h5py.Dataset) else None
        about = {k: v.item() if hasattr(v, "item") else v for k, v in one.attrs.items()}
        found.append((name, content, about))

    with h5py.File(path.with_suffix(".hspy"), "r") as file:
        root.attrs.update({k: str(v) for k, v in file.attrs.items()})
        file.visititems(collect)
    # Written when HDF5's lock is free: zarr's thread may need it to collect garbage.
    for name, content, about in found:
        one: Any = (
            root.require_group(name) if content is None else root.create_array(name, data=content)
        )
        one.attrs.update(about)


def test_units() -> None:
    for unit in ("1/nm", "nm^-1", "nm-1", "Å⁻¹", "1 / Å", "1/µm", "1/pm", "1/(nm)", "per nm"):
        assert unit_kind(unit) == "reciprocal", unit
    for unit, kind in (("mrad", "angle"), ("keV", "energy"), ("1/cm", "energy"), ("ms", "time")):
        assert unit_kind(unit) == kind
    assert unit_kind("furlong") == "unknown"
    assert angstrom_per("\u212b") == angstrom_per("A\u030a") == 1
    assert angstrom_per("nanometre") == 10
    assert angstrom_per("µm") == angstrom_per("\u03bcm") == 1e4


def test_the_image_s_axes_are_those_of_real_space() -> None:
    y, x = (Axis(size=40, name=name, scale=0.01, unit="nm") for name in "yx")
    time = Axis(size=6, name="t", scale=0.5, unit="s")
    assert image_axes([time, y, x]) == (1, 2)
    assert image_axes([y, x, time]) == (0, 1)
    assert objection([y, x, time]) == ""
    depth = Axis(size=6, name="z", scale=1.0, unit="nm")
    assert objection([depth, y, x]) == ""
    assert "spectrum image" in objection([y, x, Axis(size=30, unit="eV")])
    assert "spectrum image" in objection([Axis(size=30, name="Energy"), y, x])
    patterns = [Axis(size=20, unit="mrad")] * 2
    assert "a scan of patterns (4D-STEM)" in objection([y, x, *patterns])
    assert "4D-STEM" in objection([y, x, *[Axis(size=20)] * 2])
    assert "an axis of no known kind behind" in objection([y, x, Axis(size=20)])
    assert "a diffraction pattern" in objection(patterns)
    assert "diffraction" in objection([Axis(size=20)] * 2, "electron_diffraction")


@needs_formats
@pytest.mark.parametrize("suffix", [".hspy", ".zspy", ".emd", ".h5"])
@pytest.mark.parametrize(
    ("last", "unit"), [("Wavelength", "nm"), ("Energy loss", "eV"), ("X-ray energy", "keV")]
)
def test_spectrum_images_are_refused(tmp_path: Path, suffix: str, last: str, unit: str) -> None:
    path = tmp_path / f"si{'.hspy' if suffix == '.h5' else suffix}"
    axes = [("y", "nm", 0.04, True), ("x", "nm", 0.04, True), (last, unit, 0.1, False)]
    write_hyperspy(path, STACK, axes)
    if suffix == ".h5":
        path = path.rename(tmp_path / "si.h5")
    refused(path, "a spectrum image (axes ", f"50 in {unit}", "sum over an energy window")
    one = gdn("denoise", path, "--sampling", "0.04", "-o", tmp_path / "out")
    assert (one.returncode, one.stderr.count("\n")) == (1, 1)
    assert "a spectrum image" in one.stderr


@needs_formats
def test_4d_and_diffraction_are_refused(tmp_path: Path) -> None:
    scan = [("y", "nm", 0.1, True), ("x", "nm", 0.1, True)]
    data = np.tile(FRAME, (2, 3, 1, 1))
    for name, unit in (("a", "1/nm"), ("b", "mrad"), ("c", "")):
        write_hyperspy(
            tmp_path / f"{name}.hspy",
            data,
            [*scan, ("ky", unit, 0.1, False), ("kx", unit, 0.1, False)],
        )
        refused(tmp_path / f"{name}.hspy", "4D-STEM", "real space")
    uncalibrated = [(name, "", 1.0, name in "xy") for name in "yxba"]
    write_hyperspy(tmp_path / "d.hspy", data, uncalibrated)
    refused(tmp_path / "d.hspy", "4D-STEM")
    pixels = [("y", "", 1.0, False), ("x", "", 1.0, False)]
    write_hyperspy(tmp_path / "e.hspy", FRAME, pixels, "electron_diffraction")
    refused(tmp_path / "e.hspy", "a diffraction pattern")
    tifffile.imwrite(
        tmp_path / "f.tif",
        FRAME,
        imagej=True,
        resolution=(10.0, 10.0),
        metadata={"unit": "1/nm", "axes": "YX"},
    )
    refused(tmp_path / "f.tif", "a diffraction pattern", "1/nm")


@needs_formats
def test_a_time_series_of_any_order_keeps_its_calibration(tmp_path: Path) -> None:
    axes = [("y", "nm", 0.005, False), ("x", "nm", 0.005, False), ("time", "s", 0.4, True)]
    write_hyperspy(tmp_path / "a.hspy", np.moveaxis(STACK, 0, -1), axes)
    source = read_frames(tmp_path / "a.hspy")
    assert (source.calibration.axes, source.count) == ("TYX", 6)
    assert source.calibration.steps == {"T": (0.4, "s")}
    np.testing.assert_array_equal(source.read(4), STACK[4])


@needs_formats
def test_detector_arrays_are_no_images(tmp_path: Path) -> None:
    import h5py

    names = ("flatfield", "pixel_mask", "darkfield", "dark", "gain", "bad_pixels", "gain_map")
    for name in (*names, "entry/data/mask", "pixel_mask_applied", "flat_field", "dark_field_image"):
        assert is_detector_array(name), name
    for name in ("data", "image", "entry/data/data_000001", "HAADF", "bright field", "masked"):
        assert not is_detector_array(name), name
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/data/data"] = FRAME
        for name in names:
            file[f"entry/instrument/detector/{name}"] = np.ones((40, 50), np.float32)
    np.testing.assert_array_equal(read_frames(tmp_path / "a.h5").read(0), FRAME)
    flat = read_frames(tmp_path / "a.h5", "entry/instrument/detector/flatfield")
    assert flat.dtype == np.float32
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["entry/data/data"]
    refused(tmp_path / "a.h5", "only arrays of a detector", "detector/flatfield (40x50)")
    np.savez(tmp_path / "b.npz", mask=FRAME > 3, flat=FRAME * 0.5, counts=FRAME)
    np.testing.assert_array_equal(read_frames(tmp_path / "b.npz").read(0), FRAME)
    np.savez(tmp_path / "c.npz", one=FRAME, two=STACK)
    refused(tmp_path / "c.npz", "2 images; say which: one (40x50), two (6x40x50)")
    assert read_frames(tmp_path / "c.npz", "two").count == 6


@needs_formats
def test_links_are_followed_within_the_folder(tmp_path: Path) -> None:
    import h5py

    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "night").mkdir()
    for name in ("night/data.h5", "elsewhere/data.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["entry/data/data"] = FRAME
            file["entry/again"] = h5py.SoftLink("/entry")
    master = tmp_path / "night" / "master.h5"
    with h5py.File(master, "w") as file:
        file["entry/data/data_000001"] = h5py.ExternalLink("data.h5", "entry/data/data")
        file["entry/flatfield"] = np.ones((40, 50))
        file["alias"] = h5py.SoftLink("/entry/data/data_000001")
        file["loop"] = h5py.SoftLink("/loop")
    np.testing.assert_array_equal(read_frames(master).read(0), FRAME)
    outside = tmp_path / "night" / "outside.h5"
    for target in ("../elsewhere/data.h5", str(tmp_path / "elsewhere" / "data.h5")):
        with h5py.File(outside, "w") as file:
            file["data"] = h5py.ExternalLink(target, "entry/data/data")
        refused(outside, target, "outside of the folder")
    with h5py.File(outside, "w") as file:
        file["data"] = h5py.ExternalLink("gone.h5", "entry/data/data")
    refused(outside, "gone.h5", "not there")
    refused(outside, "gone.h5", "not there", dataset="data")
    write_hyperspy(outside.with_suffix(".hspy"), FRAME, [("y", "nm", 0.01, False)] * 2)
    with h5py.File(outside.with_suffix(".hspy"), "a") as file:
        del file["Experiments/one/data"]
        target = str(tmp_path / "elsewhere" / "data.h5")
        file["Experiments/one/data"] = h5py.ExternalLink(target, "entry/data/data")
    refused(outside.with_suffix(".hspy"), "outside of the folder")


@needs_formats
def test_virtual_data_sets(tmp_path: Path) -> None:
    import h5py

    for number in range(2):
        with h5py.File(tmp_path / f"part{number}.h5", "w") as file:
            file["data"] = STACK[number]
    layout = h5py.VirtualLayout((2, 40, 50), STACK.dtype)
    for number in range(2):
        layout[number] = h5py.VirtualSource(f"part{number}.h5", "data", (40, 50))
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    source = read_frames(tmp_path / "all.h5")
    np.testing.assert_array_equal(source.read(1), STACK[1])
    # A change in a part is a change of the file.
    assert [path.name for path in files_beside(tmp_path / "all.h5")] == ["part0.h5", "part1.h5"]
    (tmp_path / "part1.h5").unlink()
    refused(tmp_path / "all.h5", "part1.h5", "not there")


@needs_formats
def test_a_filter_that_is_not_installed_is_named(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((40, 50))
        properties.set_filter(32999, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((40, 50))
        h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_UINT8, space, properties)
    refused(path, "HDF5 filter 32999", "hdf5plugin")


@needs_formats
def test_nexus_axes_and_colour(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "a.nxs"
    with h5py.File(path, "w") as file:
        group = file.create_group("entry")
        group.attrs["axes"] = ["time", "y", "x"]
        group["data"] = STACK
        for name, unit, step, size in (
            ("time", "s", 0.5, 6),
            ("y", "nm", 0.01, 40),
            ("x", "nm", 0.01, 50),
        ):
            group[name] = np.arange(size) * step
            group[name].attrs["units"] = unit
    source = read_frames(path)
    assert source.sampling(None) == pytest.approx(0.1)
    assert source.calibration.steps["T"] == (pytest.approx(0.5), "s")
    with h5py.File(path, "a") as file:
        file["entry/x"].attrs["units"] = "eV"
    refused(path, "a spectrum image (axes time 6 in s, y 40 in nm, x 50 in eV)")
    with h5py.File(tmp_path / "rgb.h5", "w") as file:
        file["picture"] = STACK[:3]
        file["picture"].attrs["IMAGE_SUBCLASS"] = np.bytes_(b"IMAGE_TRUECOLOR")
    refused(tmp_path / "rgb.h5", "a colour picture")


@needs_formats
def test_nion_files(tmp_path: Path) -> None:
    import h5py

    calibrations = [{"offset": 0, "scale": 0.006, "units": "nm"}] * 2
    about: dict[str, Any] = {"data_source": {"dimensional_calibrations": calibrations}}
    np.save(tmp_path / "data.npy", FRAME)
    with zipfile.ZipFile(tmp_path / "a.ndata", "w") as archive:
        archive.write(tmp_path / "data.npy", "data.npy")
        archive.writestr("metadata.json", json.dumps(about))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = FRAME
        file["data"].attrs["properties"] = json.dumps(about)
    for name in ("a.ndata", "a.h5"):
        source = read_frames(tmp_path / name)
        assert source.sampling(None) == pytest.approx(0.06)
        np.testing.assert_array_equal(source.read(0), FRAME)
    spectrum = {"units": "eV", "scale": 0.5}
    old = {
        "data_sources": [
            {
                "dimensional_calibrations": [*calibrations, spectrum],
                "collection_dimension_count": 2,
                "datum_dimension_count": 1,
            }
        ]
    }
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"] = STACK
        file["data"].attrs["properties"] = json.dumps(old)
    refused(tmp_path / "b.h5", "a spectrum image")
    with h5py.File(tmp_path / "c.nhdf", "w") as file:  # as Swift exports several items
        for number in range(2):
            file[f"data/{number}"] = STACK[number]
            file[f"data/{number}"].attrs["properties"] = json.dumps(about["data_source"])
    refused(tmp_path / "c.nhdf", "say which: data/0 (40x50), data/1 (40x50)")
    assert read_frames(tmp_path / "c.nhdf", "data/1").sampling(None) == pytest.approx(0.06)
    scan = {
        "dimensional_calibrations": [{"units": ""}] * 4,
        "collection_dimension_count": 2,
        "datum_dimension_count": 2,
    }
    with h5py.File(tmp_path / "d.nhdf", "w") as file:
        file["data/0"] = np.tile(FRAME, (2, 3, 1, 1))
        file["data/0"].attrs["properties"] = json.dumps(scan)
    refused(tmp_path / "d.nhdf", "4D-STEM")


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
    refused(tmp_path / "d.tif", "no axis of channels", channel=0)
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
        ("uint16", (0.0, 1e9), "take float32"),
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
    assert said.returncode == 1
    for name, words in (
        ("cryo", "its pixel size is 1.06 Å"),
        ("overview", "its pixel size is 3.84 Å"),
        ("pattern", "its pixel size is 1e+18 Å"),
        ("fine", "finer than any microscope records"),
    ):
        line = next(one for one in said.stderr.splitlines() if f"{name}.mrc" in one)
        assert words in line
        assert "(--sampling)" in line


def test_a_sampling_that_contradicts_the_file_is_noted(frame_file: Path) -> None:
    source = read_frames(frame_file)
    assert with_warnings(source, 0.0612).notes == []
    (note,) = with_warnings(source, 0.07).notes
    assert note == "0.07 Å per pixel was given, and the file says 0.061; the given one is used"


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
    from microscope_files import write_dm_images

    pytest.importorskip("rsciio")
    images = [(STACK[n], [0.006] * 2, ["nm"] * 2, name) for n, name in enumerate(("BF", "ADF"))]
    spectra = (STACK, [0.5, 0.006, 0.006], ["eV", "nm", "nm"], "EELS")
    write_dm_images(tmp_path / "a.dm4", 4, [*images, spectra])
    refused(tmp_path / "a.dm4", "2 images; say which: BF (40x50), ADF (40x50)")
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
    stored = json.loads((tmp_path / "uint16" / "frame.json").read_text())["input"]["stored"]
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
    assert "taken for 6 frames" in source.notes[0]
    np.save(tmp_path / "b.npy", STACK)
    assert read_frames(tmp_path / "b.npy").notes == []
    focus = Axis(size=6, name="defocus", scale=2.0, unit="nm")
    assert focus.kind == "unknown"
    np.savez(tmp_path / "c.npz", thumbnail=FRAME, counts=STACK)
    assert read_frames(tmp_path / "c.npz").count == 6
