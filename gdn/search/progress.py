"""Who wants to know how far the search is, and how long its stages took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

Progress = Callable[[float], None]


def part_of(progress: Progress, first: float, size: float) -> Progress:
    """The progress of a part of the work, which begins at `first` and is `size` of it, both as
    shares."""

    def tell(share: float) -> None:
        progress(first + size * share)

    return tell


class Clock:
    """Seconds spent in named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def mark(self, stage: str) -> None:
        """The time since the last mark was spent in `stage`."""
        now = time.perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._last, 4)
        self._last = now


@dataclass(frozen=True)
class Watch:
    """Who wants to know how far the search is, from 0 to 1, and whether of its `spread` too."""

    clock: Clock = field(default_factory=Clock)
    progress: Progress = lambda share: None
    spread: bool = True
