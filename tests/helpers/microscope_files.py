"""Writers of microscopes' formats for tests, where no library writes them: DigitalMicrograph 3 and
4 after the published description of their tags (Jefferis; Schaffer), Velox EMD after its HDF5
layout."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

_DATA, _GROUP, _ARRAY = 21, 20, 20
_TYPES = {
    "i2": (2, 1),
    "i4": (3, 7),
    "u2": (4, 10),
    "u4": (5, 11),
    "f4": (6, 2),
    "f8": (7, 12),
    "u1": (10, 6),
}  # of tags, images


class Dm:
    """Tags of version 3 or 4; a file's numbers are little-endian, its structure big-endian."""

    def __init__(self, version: int) -> None:
        self.version = version

    def size(self, value: int) -> bytes:
        """A length, 32 or 64 bits."""
        return struct.pack(">i" if self.version == 3 else ">q", value)

    def tag(self, kind: int, name: str, body: bytes) -> bytes:
        """One entry of a group."""
        head = struct.pack(">BH", kind, len(name)) + name.encode()
        return head + (self.size(len(body)) if self.version == 4 else b"") + body

    def data(self, name: str, info: list[int], content: bytes) -> bytes:
        """An entry that holds data."""
        return self.tag(
            _DATA, name, b"%%%%" + self.size(len(info)) + b"".join(map(self.size, info)) + content
        )

    def number(self, name: str, value: float, kind: str) -> bytes:
        """A number."""
        return self.data(name, [_TYPES[kind][0]], np.array(value, f"<{kind}").tobytes())

    def text(self, name: str, value: str) -> bytes:
        """Text: an array of 16-bit characters."""
        return self.data(name, [_ARRAY, 4, len(value)], value.encode("utf-16-le"))

    def group(self, name: str, entries: list[bytes]) -> bytes:
        """A group of entries."""
        return self.tag(
            _GROUP, name, struct.pack(">BB", 1, 0) + self.size(len(entries)) + b"".join(entries)
        )

    def image(self, array: np.ndarray, sizes: list[float], units: list[str], title: str) -> bytes:
        """An entry of ImageList; axes from the fastest on."""
        kind = array.dtype.str[1:]
        axes = [
            self.group(
                "",
                [
                    self.number("Origin", 0.0, "f4"),
                    self.number("Scale", s, "f4"),
                    self.text("Units", u),
                ],
            )
            for s, u in zip(sizes, units, strict=True)
        ]
        brightness = [
            self.number("Origin", 0.0, "f4"),
            self.number("Scale", 1.0, "f4"),
            self.text("Units", ""),
        ]
        content = array.astype(f"<{kind}").tobytes()
        about = [
            self.group(
                "Calibrations",
                [self.group("Brightness", brightness), self.group("Dimension", axes)],
            ),
            self.data("Data", [_ARRAY, _TYPES[kind][0], array.size], content),
            self.number("DataType", _TYPES[kind][1], "u4"),
            self.group("Dimensions", [self.number("", n, "u4") for n in array.shape[::-1]]),
            self.number("PixelDepth", array.itemsize, "u4"),
        ]
        return self.group(
            "",
            [self.group("ImageData", about), self.group("ImageTags", []), self.text("Name", title)],
        )


DmImage = tuple[np.ndarray, list[float], list[str], str]  # scales and units, fastest axis first


def write_dm(
    path: Path, array: np.ndarray, version: int, sampling_nm: float, unit: str = "nm"
) -> None:
    """A file with one image or stack."""
    sizes, units = (
        [sampling_nm] * 2 + [1.0] * (array.ndim - 2),
        [unit] * 2 + [""] * (array.ndim - 2),
    )
    write_dm_images(path, version, [(array, sizes, units, "frames")])


def write_dm_images(path: Path, version: int, images: list[DmImage]) -> None:
    """A file with a thumbnail and images, as DigitalMicrograph saves them."""
    dm = Dm(version)
    thumbnail = dm.image(np.zeros((20, 20), np.int32), [1.0, 1.0], ["", ""], "thumbnail")
    entries = [
        dm.group("ImageList", [thumbnail, *(dm.image(*image) for image in images)]),
        dm.group("Thumbnails", [dm.group("", [dm.number("ImageIndex", 0, "u4")])]),
    ]
    body = struct.pack(">BB", 1, 0) + dm.size(len(entries)) + b"".join(entries)
    path.write_bytes(
        struct.pack(">i", version) + dm.size(len(body)) + struct.pack(">i", 1) + body + bytes(8)
    )


def write_velox(path: Path, stack: np.ndarray, sampling_m: float, unit: str = "m") -> None:
    """Frames (n, rows, columns) as Velox stores them: frames last, metadata as JSON in bytes."""
    import h5py

    about: dict[str, Any] = {
        "Core": {"MetadataDefinitionVersion": "7.9"},
        "Instrument": {"InstrumentModel": "test"},
        "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1700000000"}, "BeamType": ""},
        "BinaryResult": {
            "DetectorIndex": "0",
            "Detector": "BM-Ceta",
            "PixelUnitX": unit,
            "PixelUnitY": unit,
            "PixelSize": {"width": str(sampling_m), "height": str(sampling_m)},
            "Offset": {"x": "0", "y": "0"},
        },
        "Detectors": {
            "Detector-0": {
                "DetectorName": "BM-Ceta",
                "DetectorType": "ImagingDetector",
                "ExposureTime": "0.5",
            }
        },
        "Scan": {},
        "CustomProperties": {},
        "Optics": {"AccelerationVoltage": "300000"},
        "Stage": {},
    }
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    padded = np.zeros((len(text) + 200, len(stack)), np.uint8)
    padded[: len(text)] = text[:, None]
    with h5py.File(path, "w") as file:
        file["Version"] = [json.dumps({"format": "Velox", "version": "11"}).encode()]
        group = file.create_group("Data/Image/0123456789abcdef0123456789abcdef")
        group.create_dataset("Data", data=np.moveaxis(stack, 0, -1), chunks=(*stack.shape[1:], 1))
        group["Metadata"] = padded


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
