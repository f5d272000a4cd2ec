"""Read HDF5: find the image among the arrays of a file, in NeXus and Nion Swift files too."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdn.frames.arrays import of_axes
from gdn.frames.axes import Axis
from gdn.frames.choosing import Arrays, is_detector_array
from gdn.frames.hdf5 import check_linked
from gdn.frames.hdf5_axes import attribute_sizes, axes_of, is_colour
from gdn.frames.hdf5_chunks import NAMES, check_chunks
from gdn.frames.hdf5_links import Links, Place, within_folder
from gdn.frames.microscopes import read_signal
from gdn.frames.source import FrameError, FrameFile

_COLOUR = "a colour picture; save it as one gray channel"


def read_hdf5_by_content(path: Path, dataset: str | None = None) -> FrameFile:
    """Open an HDF5 file by its content. HyperSpy's and EMD files, which RosettaSciIO reads, may
    have any suffix."""
    module = library_of(path)
    if module and importlib.util.find_spec("rsciio") is not None:
        return read_signal(module, path, dataset)
    return read_hdf5(path, dataset)


def read_hdf5(path: Path, dataset: str | None = None) -> FrameFile:
    """Open the only image in an HDF5 file, or `dataset`. The attributes 'sampling_angstrom' or
    'element_size_um', or its axes, give the pixel size. Links are followed within the file's
    folder."""
    arrays, links = Arrays(path=path), Links(path)
    _add_all(arrays, links.datasets())
    for alias, name in links.aliases.items():
        if name in arrays.images and is_detector_array(alias):
            arrays.named_only[name] = arrays.images.pop(name)
    if dataset is not None and not arrays.knows(dataset):
        _add_all(arrays, Links(path).named(dataset.strip("/")))
    if not arrays.images or (dataset or "").strip("/") in links.broken:
        arrays.refused = links.broken | arrays.refused
    image: _Hdf5 = arrays.chosen(dataset)
    trouble = image.missing()
    if trouble:
        raise FrameError(f"{path}: {image.place.name}: {trouble}")
    return of_axes(path, image, image.axes, "hdf5", image.sizes or None)


def linked_files(path: Path) -> list[Path]:
    """Other files in the folder that hold data of this one: through links and virtual data sets."""
    files: set[Path] = set()
    for _, place, dataset in Links(path).datasets():
        files.add(place.path)
        for source in dataset.virtual_sources() if dataset.is_virtual else ():
            other, _ = _source_file(place.path, source.file_name)
            files |= {other} if other else set()
    return sorted(files - {path, path.resolve()})


def _add_all(arrays: Arrays, datasets: Iterable[tuple[str, Place, Any]]) -> None:
    """Add all open data sets to the arrays, by their names."""
    for name, place, dataset in datasets:
        axes = axes_of(dataset) if dataset.shape else []
        wrong = _COLOUR if is_colour(dataset) else ""
        arrays.add(name, _Hdf5.of(place, dataset, axes), axes, wrong=wrong)


def library_of(path: Path) -> str:
    """The module of RosettaSciIO for an HDF5 file of HyperSpy or EMD, '' for any other."""
    import h5py

    with h5py.File(path, "r") as file:
        if "HyperSpy" in str(file.attrs.get("file_format", "")):
            return "hspy"
        velox = isinstance(file.get("Data/Image"), h5py.Group) and "Version" in file
        return "emd" if velox or "version_major" in file.attrs else ""


@dataclass(frozen=True, kw_only=True)
class _Hdf5:
    """A data set in a file that is open only during reading.

    - `place`: the file, and the data set in it.
    - `shape`, `dtype`: of the data set.
    - `axes`: as the file declares them.
    - `sizes`: of a pixel along each axis, with their units.
    """

    place: Place
    shape: tuple[int, ...]
    dtype: Any
    axes: Sequence[Axis]
    sizes: list[tuple[float, str]]

    @classmethod
    def of(cls, place: Place, dataset: Any, axes: Sequence[Axis]) -> _Hdf5:
        """From an open data set."""
        return cls(
            place=place,
            shape=tuple(dataset.shape or ()),
            dtype=dataset.dtype,
            axes=axes,
            sizes=attribute_sizes(dataset.attrs),
        )

    def __getitem__(self, index: Any) -> Any:
        import h5py

        with h5py.File(self.place.path, "r") as file:
            return file[self.place.name][index]

    def missing(self) -> str:
        """What its pixels need but is not there: another file, or a filter; '' if nothing is
        missing. HDF5 itself returns zeros for a missing part of a virtual data set."""
        return _missing(self.place, 0)


def _missing(place: Place, depth: int) -> str:
    import h5py

    with h5py.File(place.path, "r") as file:
        if place.name not in file:
            return f"a part that is missing in {place.path.name}"
        dataset = file[place.name]
        if dataset.external:
            return "its pixels lie in a raw file beside it, which gdn does not read; convert it"
        check_chunks(place.path, dataset)
        trouble = _missing_filter(dataset)
        sources = dataset.virtual_sources() if dataset.is_virtual else []
    for source in sources if depth < 8 else []:
        other, why = _source_file(place.path, source.file_name)
        if other is None:
            return f"a part of it lies in {source.file_name}, {why}"
        if other != place.path:
            check_linked(other)
        if "%" not in source.dset_name:
            trouble = trouble or _missing(Place(other, source.dset_name), depth + 1)
    return trouble


def _source_file(path: Path, name: str) -> tuple[Path | None, str]:
    """The file of a part of a virtual data set; '.' is the file itself, '%b' a number."""
    if name == ".":
        return path, ""
    return within_folder(path, name.replace("%b", "0").replace("%%", "%"))


def _missing_filter(dataset: Any) -> str:
    """The compression filter that is needed and not installed."""
    import h5py

    properties = dataset.id.get_create_plist()
    numbers = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if all(h5py.h5z.filter_avail(number) for number in numbers):
        return ""
    with contextlib.suppress(ImportError):
        __import__("hdf5plugin")
    for number in numbers:
        if not h5py.h5z.filter_avail(number):
            name = NAMES.get(number, "a filter")
            return (
                f"compressed by {name} (HDF5 filter {number}), which is not installed; "
                "pip install hdf5plugin"
            )
    return ""
