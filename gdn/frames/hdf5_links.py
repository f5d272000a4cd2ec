"""The data sets of an HDF5 file. Soft and external links are followed only within the file's own
folder."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gdn.frames.hdf5 import check_linked
from gdn.frames.hdf5_chunks import check_chunks
from gdn.frames.source import FrameError, one_line

DEEPEST = 32  # groups within groups, and links to links


@dataclass(frozen=True)
class Place:
    """Where a data set lies: the file, and the name there."""

    path: Path
    name: str


@dataclass
class Links:
    """A walk through a file. Objects that were `visited` are not walked again; `aliases` gives the
    first name of an object that has several. `broken` says, for links by name, why they were not
    followed."""

    path: Path
    visited: dict[tuple[Path, Any], str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def datasets(self) -> Iterator[tuple[str, Place, Any]]:
        """Name, place and open data set of each data set. One with several names comes once."""
        import h5py

        with h5py.File(self.path, "r") as file:
            yield from self._walk(file, self.path, "", 0)

    def named(self, name: str) -> Iterator[tuple[str, Place, Any]]:
        """The data set that a name leads to, even if it has other names too."""
        import h5py

        with h5py.File(self.path, "r") as file:
            yield from self._inside(file, f"/{name}", name, self.path, 0)

    def _walk(
        self, group: Any, path: Path, prefix: str, depth: int
    ) -> Iterator[tuple[str, Place, Any]]:
        import h5py

        if depth > DEEPEST:
            return
        # Hard links first: an object's own name is the one that is listed.
        links = sorted(
            ((key, group.get(key, getlink=True)) for key in group),
            key=lambda entry: not isinstance(entry[1], h5py.HardLink),
        )
        for key, link in links:
            name = posixpath.join(prefix, key)
            if isinstance(link, h5py.ExternalLink):
                yield from self._external(link, path, name, depth)
                continue
            target = posixpath.join(group.name, key)
            if isinstance(link, h5py.SoftLink):
                target = posixpath.normpath(posixpath.join(group.name, link.path))
                datasets = self._inside(group.file, target, name, path, depth)
            else:
                datasets = self._object(group[key], path, name, depth)
            yield from datasets

    def _inside(
        self, file: Any, target: str, name: str, path: Path, depth: int
    ) -> Iterator[tuple[str, Place, Any]]:
        """The target of a soft link. If the path contains an external link, this class follows it
        itself, because the library would follow it out of the folder."""
        import h5py

        group, parts = file["/"], [part for part in target.split("/") if part]
        for number, part in enumerate(parts):
            link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
            if isinstance(link, h5py.ExternalLink):
                rest = posixpath.join(link.path, *parts[number + 1 :])
                yield from self._external(h5py.ExternalLink(link.filename, rest), path, name, depth)
                return
            if isinstance(link, h5py.SoftLink) and depth < DEEPEST:
                way = posixpath.join(posixpath.dirname("/" + "/".join(parts[: number + 1])), "")
                way = posixpath.normpath(posixpath.join(way, link.path, *parts[number + 1 :]))
                yield from self._inside(file, way, name, path, depth + 1)
                return
            if not isinstance(link, h5py.HardLink):
                self.broken[name] = f"a link to {target}, which is not there"
                return
            group = group[part]
        yield from self._object(group, path, name, depth)

    def _external(
        self, link: Any, path: Path, name: str, depth: int
    ) -> Iterator[tuple[str, Place, Any]]:
        """The target of a link into another file."""
        import h5py

        other, trouble = within_folder(path, link.filename)
        if trouble or other is None:
            self.broken[name] = f"a link into another file, {link.filename}, {trouble}"
            return
        if depth >= DEEPEST:
            return
        check_linked(other)
        try:
            with h5py.File(other, "r") as file:
                yield from self._inside(
                    file, posixpath.join("/", link.path), name, other, depth + 1
                )
        except OSError as error:
            self.broken[name] = f"a link into {link.filename}, which cannot be read: " + one_line(
                error
            )

    def _object(
        self, item: Any, path: Path, name: str, depth: int
    ) -> Iterator[tuple[str, Place, Any]]:
        import h5py

        info = h5py.h5o.get_info(item.id)
        # A data set is listed once; a group reached again may lie on a cycle.
        first = self.visited.setdefault((path, info.addr), name)
        if first != name:
            self.aliases[name] = first
            return
        if isinstance(item, h5py.Dataset):
            yield name, Place(path, item.name), item
        elif isinstance(item, h5py.Group):
            yield from self._walk(item, path, name, depth + 1)


def check_links(path: Path) -> None:
    """Raises FrameError for a file with a link that leaves its folder or leads nowhere, or whose
    pixels lie in other files. Needed by readers that let the library follow links."""
    links = Links(path)
    for name, _, dataset in links.datasets():
        if dataset.external or dataset.is_virtual:
            raise FrameError(
                f"{path}: {name}: its pixels lie in other files, which gdn does not read here; "
                "write it as one file"
            )
        check_chunks(path, dataset)
    for name, why in links.broken.items():
        raise FrameError(f"{path}: {name}: {why}")


def within_folder(path: Path, filename: str) -> tuple[Path | None, str]:
    """The file that `path` calls `filename`; or None and why it is not opened: it is missing, or
    lies outside the folder of `path`."""
    folder = path.resolve().parent
    other = (folder / filename).resolve()
    if not other.is_relative_to(folder):
        return None, "which lies outside of the folder; only links within it are followed"
    if not other.is_file():
        return None, "which is not there; copy it beside this one"
    return other, ""
