"""How much is searched at once: fixed portions where memory allows, smaller ones where little is
free, half of them after memory ran out.

On every machine with a gigabyte or two of free memory the portions are the same, so rounding is the
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
    """Memory that this process can still use: the machine's free memory, within the limits of its
    control group and its address space."""
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
    """Free memory within a container's control group (version 2), if that has a limit."""
    try:
        limit, used = (
            (folder / name).read_text().strip() for name in ("memory.max", "memory.current")
        )
        return [] if limit == "max" else [int(limit) - int(used)]
    except (OSError, ValueError):
        return []


class Portions:
    """Sizes of the portions. After memory ran out they stay halved, because it would run out
    again."""

    def __init__(self, free: Callable[[], int] = free_bytes) -> None:
        self._free = free
        self._halvings = 0

    def tiles(self, patch: int) -> int:
        """How many tiles of `patch` px are searched together."""
        return max(1, self._pixels(TILE_PIXELS, BYTES_PER_TILE_PIXEL) // patch**2)

    def images(self, patch: int) -> int:
        """How many bank images are scored together."""
        return max(1, self._pixels(BANK_PIXELS, BYTES_PER_BANK_PIXEL) // patch**2)

    def keeps(self, images: int, patch: int) -> bool:
        """Whether a bank of that many images stays in memory in single precision."""
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
        """Halve the portions from now on. Returns False if they cannot be smaller."""
        if TILE_PIXELS >> self._halvings <= LEAST_PIXELS:
            return False
        self._halvings += 1
        log.warning(
            "memory ran out; continuing with 1/%d of the tiles at a time", 2**self._halvings
        )
        return True


PORTIONS = Portions()  # memory belongs to the process, and so does what was learned of it
