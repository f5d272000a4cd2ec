"""Files that hold arrays: MRC, HDF5, Zarr, PNG, NumPy."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gdn.frames.source import MINIMUM_SIDE, FrameError, FrameFile, gray, of_array

LEADING = "TZQWVU"  # letters for axes that count frames, the last of them next to Y


def leading_axes(dimensions: int) -> str:
    """Axes of an array of which only the last two are known: 'YX', 'TYX', 'TZYX', ..."""
    if dimensions - 2 > len(LEADING):
        return "?" * dimensions
    return LEADING[: max(dimensions - 2, 0)] + "YX"


def read_mrc(path: Path, dataset: str | None = None) -> FrameFile:
    """MRC2014 (mrcfile); the voxel size is in Å. Compressed files are read whole, others mapped."""
    import mrcfile

    packed = path.suffix.lower() in (".gz", ".bz2")
    with (mrcfile.open if packed else mrcfile.mmap)(path, mode="r") as file:
        data, voxel = file.data, file.voxel_size
        if data is None:
            raise FrameError(f"{path}: an MRC file without data")
        sizes = [(float(voxel.x), "Å"), (float(voxel.y), "Å")]
        return of_array(path, data, leading_axes(data.ndim), sizes, "mrc")


def read_png(path: Path, dataset: str | None = None) -> FrameFile:
    """8 or 16-bit gray PNG, or one whose channels are equal. It carries no pixel size."""
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()
        mode = picture.mode
        data = np.asarray(picture.convert("RGB") if mode in ("P", "RGBA") else picture)
    if mode in ("P", "RGBA", "RGB", "LA"):
        data = data[..., 0] if mode == "LA" else gray(path, data)
    data = (
        data.astype(np.uint16) if data.dtype.kind == "i" else data
    )  # Pillow's 16-bit mode is 32-bit integers
    return of_array(path, data, "YX", [], "png")


def read_npy(path: Path, dataset: str | None = None) -> FrameFile:
    """A NumPy array, mapped; pickled objects are refused."""
    data = np.load(path, mmap_mode="r", allow_pickle=False)
    return of_array(path, data, leading_axes(data.ndim), [], "npy")


def read_hdf5(path: Path, dataset: str | None = None) -> FrameFile:
    """The one image in an HDF5 file, or `dataset`. An attribute 'sampling_angstrom' or
    'element_size_um' is its pixel size."""
    import h5py

    found: dict[str, _Hdf5] = {}

    def look(name: str, one: Any) -> None:
        if isinstance(one, h5py.Dataset) and image_like(one):
            found[name] = _Hdf5(
                path=path,
                name=name,
                shape=tuple(one.shape),
                dtype=one.dtype,
                sizes=_attribute_sizes(one.attrs),
            )

    with h5py.File(path, "r") as file:
        file.visititems(look)
    data: _Hdf5 = chosen(path, found, dataset)
    return of_array(path, data, leading_axes(len(data.shape)), data.sizes, "hdf5")


@dataclass(frozen=True, kw_only=True)
class _Hdf5:
    """A data set of a file that is opened only while it is read."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: Any
    sizes: list[tuple[float, str]]

    def __getitem__(self, index: Any) -> Any:
        import h5py

        with h5py.File(self.path, "r") as file:
            return file[self.name][index]


def _attribute_sizes(attributes: Any) -> list[tuple[float, str]]:
    for name, unit in (("sampling_angstrom", "Å"), ("element_size_um", "um")):
        if name in attributes:
            return [(float(size), unit) for size in np.atleast_1d(attributes[name])[-2:]]
    return []


def image_like(data: Any) -> bool:
    """Whether an array, by its shape and dtype, can be frames."""
    shape = tuple(data.shape)
    return (
        len(shape) >= 2
        and min(shape[-2:]) >= MINIMUM_SIDE
        and np.dtype(data.dtype).kind in "uif"
        and 0 not in shape
    )


def chosen(path: Path, candidates: dict[str, Any], dataset: str | None) -> Any:
    """The candidate meant. Raises FrameError where it is not clear, listing them."""
    listed = ", ".join(
        f"{name} ({'x'.join(map(str, one.shape))})" for name, one in list(candidates.items())[:8]
    )
    if dataset is not None:
        if dataset.strip("/") not in candidates:
            raise FrameError(
                f"{path}: no image {dataset}; there are: {listed or 'none'}", "dataset"
            )
        return candidates[dataset.strip("/")]
    if not candidates:
        raise FrameError(f"{path}: holds no image")
    if len(candidates) > 1:
        raise FrameError(f"{path}: holds {len(candidates)} images; say which: {listed}", "dataset")
    return next(iter(candidates.values()))


def read_zarr(path: Path, dataset: str | None = None) -> FrameFile:
    """A Zarr array, or the one image in a group (the finest of an OME-Zarr pyramid), or
    `dataset`."""
    import zarr

    opened: Any = zarr.open(path, mode="r")
    if not isinstance(opened, zarr.Group):
        return of_array(
            path, opened, leading_axes(opened.ndim), _attribute_sizes(opened.attrs), "zarr"
        )
    attributes: Any = dict(opened.attrs)
    pyramid = (attributes.get("ome", attributes).get("multiscales") or [None])[0]
    if pyramid and dataset is None:
        return _ome_zarr(path, opened, pyramid)
    data = chosen(
        path, {name: one for name, one in _zarr_arrays(opened) if image_like(one)}, dataset
    )
    return of_array(path, data, leading_axes(data.ndim), _attribute_sizes(data.attrs), "zarr")


def _zarr_arrays(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, one in group.arrays():
        yield posixpath.join(prefix, name), one
    for name, one in group.groups():
        yield from _zarr_arrays(one, posixpath.join(prefix, name))


def _ome_zarr(path: Path, group: Any, pyramid: Any) -> FrameFile:
    """The first level of an OME-Zarr image (NGFF 0.4 and 0.5), with the scale of its axes."""
    finest = pyramid["datasets"][0]
    data = group[finest["path"]]
    scales = [
        t["scale"] for t in finest.get("coordinateTransformations", []) if t.get("type") == "scale"
    ]
    names = [a if isinstance(a, str) else a.get("name", "") for a in pyramid.get("axes", [])]
    units = [{} if isinstance(a, str) else a for a in pyramid.get("axes", [])]
    sizes = []
    if scales and len(names) == data.ndim:
        sizes = [
            (float(s), str(u.get("unit", "")))
            for s, u in zip(scales[0][-2:], units[-2:], strict=True)
            if u.get("unit")
        ]
    axes = (
        "".join(names).upper()
        if len(names) == data.ndim and all(len(n) == 1 for n in names)
        else leading_axes(data.ndim)
    )
    return of_array(path, data, axes, sizes, "zarr")
