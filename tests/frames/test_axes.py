"""Files as laboratories have them: what is no image of real space is refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from gdn.frames.axes import Axis, image_axes, objection
from gdn.frames.choosing import is_detector_array
from gdn.frames.formats import files_beside, read_frames
from gdn.frames.units import angstrom_per, unit_kind
from tests.helpers.commands import gdn, messages, one_line
from tests.helpers.frames import noisy_frame, refused
from tests.helpers.microscope_files import write_hyperspy
from tests.helpers.needs import needs_formats

STACK = np.stack([noisy_frame((40, 50), seed, dose=5) for seed in range(6)])
FRAME = STACK[0]


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
    assert "an axis of unknown kind after" in objection([y, x, Axis(size=20)])
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
    one_line(one, 1, "a spectrum image")
    assert messages(one) == 1


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
    refused(tmp_path / "a.h5", "only data of a detector", "detector/flatfield (40x50)")
    np.savez(tmp_path / "b.npz", mask=FRAME > 3, flat=FRAME * 0.5, counts=FRAME)
    np.testing.assert_array_equal(read_frames(tmp_path / "b.npz").read(0), FRAME)
    np.savez(tmp_path / "c.npz", one=FRAME, two=STACK)
    refused(tmp_path / "c.npz", "2 images; name one of them: one (40x50), two (6x40x50)")
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
        properties.set_filter(32008, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((40, 50))
        h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_UINT8, space, properties)
    refused(path, "bitshuffle (HDF5 filter 32008)", "hdf5plugin")


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
    refused(tmp_path / "c.nhdf", "name one of them: data/0 (40x50), data/1 (40x50)")
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
