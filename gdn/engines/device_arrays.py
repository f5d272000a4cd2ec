"""Inputs that stay on a device: an array that nobody can write to and that was uploaded before is
not uploaded again.

Refinement gives a graph the same counts and weights many times. Arrays are recognised by their
address in memory. Each array is kept alive, so that another cannot get its address.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

# arrays of each input: of a batch of tiles and of the one before, and the blank ones of a pull-back
KEPT = 4

Placed = TypeVar("Placed")
Where = tuple[int, tuple[int, ...], tuple[int, ...], str]


class Resident(Generic[Placed]):
    """The inputs that lie on the device. `place(name, array, former)` uploads an array, if possible
    to the place of a `former` one."""

    def __init__(self, place: Callable[[str, NDArray[Any], Placed | None], Placed]) -> None:
        self._place = place
        self._kept: dict[str, OrderedDict[Where, tuple[NDArray[Any], Placed]]] = {}
        self._passing: dict[str, Placed] = {}
        self.uploads = 0

    def of(self, name: str, array: NDArray[Any]) -> Placed:
        """The place of an input's array. The array is uploaded if needed."""
        if array.flags.writeable:
            self.uploads += 1
            former = self._passing.pop(name, None)  # gone, should placing fail
            self._passing[name] = self._place(name, array, former)
            return self._passing[name]
        kept = self._kept.setdefault(name, OrderedDict())
        where = (array.ctypes.data, array.shape, array.strides, array.dtype.str)
        if where not in kept:
            self.uploads += 1
            former = kept.popitem(last=False)[1][1] if len(kept) >= KEPT else None
            kept[where] = (array, self._place(name, array, former))
        kept.move_to_end(where)
        return kept[where][1]

    def drain(self) -> Iterator[Placed]:
        """Return everything that was placed and forget it."""
        yield from self._passing.values()
        for kept in self._kept.values():
            yield from (placed for _, placed in kept.values())
        self._passing.clear()
        self._kept.clear()
