"""Files as microscopes and other programs write them: read, with their calibration; results in
other formats."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from gdn.frames.formats import read_frames, suffix_of
from gdn.frames.source import FrameError
from gdn.frames.units import pixel_size
from gdn.frames.writing import result_writer
from gdn.pipeline.output_files import OutputStyle
from tests.helpers.commands import gdn, messages, one_line
from tests.helpers.frames import noisy_frame, write_hspy
from tests.helpers.needs import needs_formats, needs_shared
from tests.helpers.places import SHARED

STACK = np.stack([noisy_frame((40, 50), seed) for seed in range(3)])


@pytest.mark.parametrize("data", [STACK[0], STACK])
@pytest.mark.parametrize("name", ["a.mrc", "a.mrc.gz"])
def test_mrc(tmp_path: Path, data: np.ndarray, name: str) -> None:
    import mrcfile

    with mrcfile.new(
        tmp_path / name, data.astype(np.int16), compression="gzip" if name.endswith("gz") else None
    ) as file:
        file.voxel_size = 0.061
    source = read_frames(tmp_path / name)
    assert (source.count, source.frame_shape, source.format) == (
        3 if data.ndim == 3 else 1,
        (40, 50),
        "mrc",
    )
    assert source.sampling(None) == pytest.approx(0.061)
    np.testing.assert_array_equal(
        source.read(source.count - 1), data[-1] if data.ndim == 3 else data
    )


def test_png_and_npy(tmp_path: Path) -> None:
    from PIL import Image

    wide = (STACK[0].astype(np.uint16) * 700).astype(np.uint16)
    Image.fromarray(STACK[0]).save(tmp_path / "a.png")
    Image.fromarray(wide).save(tmp_path / "b.png")
    np.save(tmp_path / "c.npy", STACK)
    np.testing.assert_array_equal(read_frames(tmp_path / "a.png").read(0), STACK[0])
    np.testing.assert_array_equal(read_frames(tmp_path / "b.png").read(0), wide)
    np.testing.assert_array_equal(read_frames(tmp_path / "c.npy").read(2), STACK[2])
    np.save(tmp_path / "d.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(FrameError, match="not a readable NumPy file"):
        read_frames(tmp_path / "d.npy")


@needs_formats
def test_hspy_units_are_normalised(tmp_path: Path) -> None:
    write_hspy(tmp_path / "a.hspy", STACK)
    source = read_frames(tmp_path / "a.hspy")
    assert (source.count, source.frame_shape) == (3, (40, 50))
    assert source.sampling(None) == pytest.approx(0.061)
    np.testing.assert_array_equal(source.read(1), STACK[1])
    write_hspy(tmp_path / "b.hspy", STACK[0], unit="1/nm")
    with pytest.raises(FrameError, match=r"a diffraction pattern \(axes y 40 in 1/nm, x 50"):
        read_frames(tmp_path / "b.hspy")


@needs_formats
def test_zspy_and_ome_zarr_and_plain_zarr(tmp_path: Path) -> None:
    import zarr

    group = zarr.create_group(store=tmp_path / "g.zarr")
    group.create_array("0", data=STACK)
    axes = [
        {"name": "t", "type": "time"},
        *({"name": n, "type": "space", "unit": "nanometer"} for n in "yx"),
    ]
    scale: Any = {"type": "scale", "scale": [1, 0.0061, 0.0061]}
    group.attrs["multiscales"] = [
        {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": [scale]}]}
    ]
    source = read_frames(tmp_path / "g.zarr")
    assert (source.count, source.calibration.axes, source.sampling(None)) == (
        3,
        "TYX",
        pytest.approx(0.061),
    )
    np.testing.assert_array_equal(source.read(2), STACK[2])
    zarr.create_array(store=tmp_path / "p.zarr", data=STACK[0])
    np.testing.assert_array_equal(read_frames(tmp_path / "p.zarr").read(0), STACK[0])


@needs_formats
def test_hdf5_says_which_images_there_are(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["counts/raw"] = STACK
        file["counts/raw"].attrs["sampling_angstrom"] = 0.061
        file["table"] = np.arange(5.0)
    source = read_frames(tmp_path / "a.h5")
    assert (source.count, source.sampling(None)) == (3, 0.061)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["sum"] = STACK[0]
    with pytest.raises(
        FrameError, match=r"2 images; name one of them: counts/raw \(3x40x50\), sum"
    ):
        read_frames(tmp_path / "a.h5")
    np.testing.assert_array_equal(read_frames(tmp_path / "a.h5", "sum").read(0), STACK[0])
    with pytest.raises(FrameError, match="no image other"):
        read_frames(tmp_path / "a.h5", "other")


@needs_formats
def test_ncem_emd(tmp_path: Path) -> None:
    from rsciio.emd import file_writer

    axes = [
        {
            "name": n,
            "size": s,
            "scale": 0.0061,
            "offset": 0.0,
            "units": "nm",
            "navigate": False,
            "index_in_array": i,
        }
        for i, (n, s) in enumerate(zip("yx", (40, 50), strict=True))
    ]
    signal = {
        "data": STACK[0],
        "axes": axes,
        "metadata": {"General": {"title": "one"}, "Signal": {}},
        "original_metadata": {},
    }
    file_writer(str(tmp_path / "a.emd"), signal)
    source = read_frames(tmp_path / "a.emd")
    assert (source.frame_shape, source.sampling(None)) == ((40, 50), pytest.approx(0.061))
    np.testing.assert_array_equal(source.read(0), STACK[0])


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.dm4").write_bytes(b"\0\0\0\4" + bytes(500))
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "rsciio" else real(name, *a)
    )
    with pytest.raises(
        FrameError, match=r"DigitalMicrograph files need rsciio; pip install 'gdn\[formats\]'"
    ):
        read_frames(tmp_path / "a.dm4")


@pytest.mark.parametrize(
    "name",
    ["a.tif", "a.mrc", "a.npy", "a.png", "a.dm4", "a.ser", "a.emd", "a.h5", "a.hspy", "a.dat"],
)
@pytest.mark.parametrize(
    "content", [b"", b"\x89HDF\r\n\x1a\n" + bytes(50), b"II*\0" + bytes(60), bytes(3000)]
)
def test_damaged_files_give_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FrameError) as caught:
        read_frames(path).read(0)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_content_wins_over_a_wrong_suffix(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.mrc", STACK[0])
    assert read_frames(tmp_path / "a.mrc").format == "tif"
    assert suffix_of(Path("x.y.mrc.gz")) == ".mrc.gz"
    assert suffix_of(Path("night.TIFF")) == ".TIFF"


def test_series_of_a_tiff(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(STACK[0], metadata={"sampling_angstrom": 0.061})
        writer.write(STACK[1:, :30, :30].astype(np.uint16), photometric="minisblack")
    with pytest.raises(FrameError, match=r"2 images; name one of them: 0 \(40x50\), 1 \(2x30x30\)"):
        read_frames(tmp_path / "a.tif")
    other = read_frames(tmp_path / "a.tif", "1")
    assert (other.count, other.frame_shape, other.notes) == (2, (30, 30), [])
    np.testing.assert_array_equal(other.read(1), STACK[2, :30, :30])
    with pytest.raises(FrameError, match="series from 0 to 1"):
        read_frames(tmp_path / "a.tif", "2")


@pytest.mark.parametrize("tile", [None, (32, 32)])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_tiled_compressed_big_tiff(
    tmp_path: Path, tile: tuple[int, int] | None, compression: str | None
) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        STACK,
        bigtiff=True,
        tile=tile,
        compression=compression,
        photometric="minisblack",
    )
    source = read_frames(tmp_path / "a.tif")
    for number in range(3):
        np.testing.assert_array_equal(source.read(number), STACK[number])


def test_dose_fractions_are_summed(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        STACK,
        imagej=True,
        resolution=(10 / 0.061,) * 2,
        metadata={"unit": "nm", "axes": "TYX"},
    )
    source = read_frames(tmp_path / "a.tif").summed()
    assert (source.count, source.calibration.axes, source.sampling(None)) == (
        1,
        "YX",
        pytest.approx(0.061),
    )
    np.testing.assert_array_equal(source.read(0), STACK.astype(int).sum(0))


def test_pixel_sizes() -> None:
    assert pixel_size([(0.01, "nm"), (0.01, "nm")]) == (pytest.approx(0.1), "")
    assert pixel_size([(6.1, "pm"), (6.1, "pm")]) == (pytest.approx(0.061), "")
    assert pixel_size([]) == (None, "")
    assert "not square" in pixel_size([(0.1, "Å"), (0.2, "Å")])[1]
    assert "in px" in pixel_size([(1.0, "px")])[1]


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["tif", "mrc", "zarr"]),
    dtype=st.sampled_from(["float32", "float16", "uint16", "uint8"]),
    leading=st.sampled_from([(), (2,), (2, 2)]),
    sampling=st.floats(0.02, 1),
)
def test_a_result_reads_back(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    dtype: str,
    leading: tuple[int, ...],
    sampling: float,
) -> None:
    if kind == "zarr" and importlib.util.find_spec("zarr") is None:
        return
    folder = tmp_path_factory.mktemp("kinds")
    data = np.random.default_rng(0).poisson(5, (*leading, 20, 24)).astype(np.uint16)
    axes = "TZ"[: len(leading)] + "YX"
    tifffile.imwrite(
        folder / "a.tif",
        data,
        photometric="minisblack",
        metadata={"axes": axes, "sampling_angstrom": sampling},
    )
    source = read_frames(folder / "a.tif")
    out = folder / f"out.{kind}"
    with result_writer(out, source, sampling, dtype, kind) as sink:
        for number in range(source.count):
            sink[number] = source.read(number) + np.float32(0.25)
    back = read_frames(out)
    assert (back.count, back.frame_shape, back.format) == (source.count, (20, 24), kind)
    assert back.sampling(None) == pytest.approx(sampling, rel=1e-5)
    assert OutputStyle("same").of(out) == kind
    # Integers carry the scale that holds the range of all frames.
    step = 0 if dtype.startswith("float") else np.ptp(data) / np.iinfo(dtype).max
    for number in range(back.count):
        expected = source.read(number) + 0.25
        np.testing.assert_allclose(back.read(number), expected, atol=0.51 * step, rtol=1e-6)
    assert not [p for p in folder.iterdir() if ".part" in p.name]


# Real files: name, data set, axes, shape, Å per pixel, and mean of the last frame.
REAL = [
    ("sto_stem/Acquisition_18.emd", None, "YX", (1024, 1024), 0.12247, 10663.5),
    ("sto_stem/16_STOimage_1.ser", None, "YX", (1024, 1024), 0.10013, 18748.3),
    ("sto_stem/16_STOimage.emi", None, "YX", (1024, 1024), 0.10013, 18748.3),
    ("au_haadf/Au_NP_Atom_Lattice.hdf5", "image_data0", "YX", (479, 504), None, None),
    ("nanoparticle_hrtem/frames.tif", None, "QYX", (5, 488, 512), None, None),
    ("adf_stem_png/10_dso_8nm_none_none.png", None, "YX", (1024, 1024), None, 78.1066),
    ("adf_stem_png/Si110_5nmX25us_03_none_none.png", None, "YX", (512, 512), None, 98.3118),
    ("abf_stem_stack/stem_abf_data_imagestack.hspy", None, "TYX", (5, 512, 512), 0.09202, None),
    ("pt_haadf/021_HAADF_15nm_Sample_PtNC_21Oct20.tif", None, "YX", (512, 512), 0.29297, 502647.6),
    ("pt_haadf/Ptporph0.tif", None, "YX", (512, 512), None, 26846.4),
    ("dm3_dm4/multi_signal.dm3", None, "YX", (512, 512), 0.17752, 3622.02),
    ("dm3_dm4/JEOL_HAADF_Image.dm4", None, "YX", (112, 112), 12.490, 45734310),
    ("velox_emd/STEM_HAADF_Micro.emd", None, "YX", (128, 128), 873.708, 9994.93),
    ("velox_emd/Camera_Ceta_Imaging_Micro.emd", None, "YX", (512, 512), 31.3884, -1.57054),
]
# Real files that hold no image that can be denoised, and words of the line that says so.
REAL_REFUSED = [
    ("au_haadf/Au_NP_Atom_Lattice.hdf5", ("3 images; name one of them", "image_data0 (479x504)")),
    ("dm3_dm4/08_carbon.dm3", ("spectra", "Energy loss 2048 in eV")),
    ("velox_emd/fei_example_tem_stack.emd", ("2x3x3", "at least 16x16 px")),
    ("soot_hrtem/ExampleImage.tif", ("a colour picture", "save it as one gray channel")),
]


@needs_shared
@needs_formats
@pytest.mark.parametrize(("name", "dataset", "axes", "shape", "sampling", "mean"), REAL)
def test_real_files(
    name: str,
    dataset: str | None,
    axes: str,
    shape: tuple[int, ...],
    sampling: float | None,
    mean: float | None,
) -> None:
    source = read_frames(SHARED / "real" / name, dataset)
    assert (source.calibration.axes, source.calibration.shape) == (axes, shape)
    assert source.calibration.sampling_angstrom == (
        None if sampling is None else pytest.approx(sampling, rel=1e-4)
    )
    frame = source.read(source.count - 1)
    assert frame.shape == shape[-2:]
    assert frame.std() > 0
    if mean is not None:
        assert frame.mean(dtype=np.float64) == pytest.approx(mean, rel=1e-4)


@needs_shared
@needs_formats
@pytest.mark.parametrize(("name", "words"), REAL_REFUSED)
def test_real_files_without_an_image(name: str, words: tuple[str, ...]) -> None:
    def read() -> None:
        read_frames(SHARED / "real" / name).read(0)

    with pytest.raises(FrameError) as caught:
        read()
    for word in (name, *words):
        assert word in str(caught.value)


@needs_shared
def test_every_real_file_is_read_by_a_test() -> None:
    real = SHARED / "real"
    there = {path.relative_to(real).as_posix() for path in real.rglob("*") if path.is_file()}
    tested = {row[0] for row in REAL} | {row[0] for row in REAL_REFUSED}
    assert {name for name in there if not name.endswith("SOURCE.txt")} <= tested


@needs_shared
@needs_formats
@pytest.mark.parametrize(
    "name", ["dm3_dm4/JEOL_HAADF_Image.dm4", "velox_emd/Camera_Ceta_Imaging_Micro.emd"]
)
def test_real_files_that_are_too_coarse_are_refused_at_once(name: str, tmp_path: Path) -> None:
    said = gdn("denoise", SHARED / "real" / name, "-o", tmp_path)
    one_line(said, 1, "its pixel size is")
    assert messages(said) == 1
