"""How much is searched at once: fixed portions where memory allows, smaller ones where little is
free, halved when it ran out.

Portions are the same on every machine with a gigabyte or two to spare, so that its rounding is the
same too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import psutil

TILE_PIXELS = 2**20  # of tiles searched at a time: 64 tiles of 128 px
BANK_PIXELS = 2**24  # of bank images scored at a time
KEPT_PIXELS = 2**25  # of the largest bank whose images stay in memory from frame to frame
# Measured peaks (docs/measurements/robustness.md). A tile has eight guesses and a few starts from
# the bank and the neighbours, each with its tile and mean.
BYTES_PER_TILE_PIXEL = 200
BYTES_PER_BANK_PIXEL = 14  # half precision in, single precision and its logarithm
LEAST_PIXELS = 2**12
_CGROUP = Path("/sys/fs/cgroup")

log = logging.getLogger("gdn")


def free_bytes() -> int:
    """Memory this process may still take: what the machine has free, within its control group and
    its address space."""
    limits: list[int] = [psutil.virtual_memory().available, *left_in_group(_CGROUP)]
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            limits.append(limit - psutil.Process().memory_info().vms)
    except ImportError:  # Windows has no such limit
        pass
    return max(min(limits), 0)


def left_in_group(folder: Path) -> list[int]:
    """What a container's control group (version 2) leaves, if it has a limit."""
    try:
        limit, used = (
            (folder / name).read_text().strip() for name in ("memory.max", "memory.current")
        )
        return [] if limit == "max" else [int(limit) - int(used)]
    except (OSError, ValueError):
        return []


class Portions:
    """Sizes of what is done at once. Halved for good where memory ran out: it would run out
    again."""

    def __init__(self, free: Callable[[], int] = free_bytes) -> None:
        self._free = free
        self._halvings = 0

    def tiles(self, patch: int) -> int:
        """Tiles of `patch` px searched together."""
        return max(1, self._pixels(TILE_PIXELS, BYTES_PER_TILE_PIXEL) // patch**2)

    def images(self, patch: int) -> int:
        """Bank images scored together."""
        return max(1, self._pixels(BANK_PIXELS, BYTES_PER_BANK_PIXEL) // patch**2)

    def keeps(self, images: int, patch: int) -> bool:
        """Whether a bank of so many images stays in memory in single precision."""
        pixels = images * patch**2
        return (
            not self._halvings
            and pixels <= KEPT_PIXELS
            and pixels * BYTES_PER_BANK_PIXEL <= self._free() // 4
        )

    def _pixels(self, usual: int, cost: int) -> int:
        pixels, budget = usual >> self._halvings, self._free() // 2
        while pixels > LEAST_PIXELS and pixels * cost > budget:
            pixels //= 2
        return max(pixels, LEAST_PIXELS)

    def halve(self) -> bool:
        """Take half as much from now on; False where that is as little as can be."""
        if TILE_PIXELS >> self._halvings <= LEAST_PIXELS:
            return False
        self._halvings += 1
        log.warning(
            "memory ran out; continuing with 1/%d of the tiles at a time", 2**self._halvings
        )
        return True


PORTIONS = Portions()  # memory belongs to the process, and so does what was learned of it
