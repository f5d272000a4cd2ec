"""Progress of the search, and the time that its stages took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

Progress = Callable[[float], None]
# What has passed of the time of an estimate of one frame once its tiles are searched, and once the
# mixture is chosen; and of the time of a portion of tiles once its starts are proposed.
SEARCHED, CHOSEN, PROPOSED = 0.6, 0.93, 0.2


def part_of(progress: Progress, first: float, size: float) -> Progress:
    """The progress function of a part of the work. The part begins at the share `first` of the
    whole and has the share `size`."""

    def tell(share: float) -> None:
        progress(first + size * share)

    return tell


class Reached:
    """A progress function that only remembers the `share` it heard last, of the work on a file of
    so many `frames`. Whoever draws it reads both."""

    def __init__(self) -> None:
        self.share, self.frames = 0.0, 1

    def __call__(self, share: float) -> None:
        """So much is done."""
        self.share = share


class Clock:
    """Seconds spent in named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def mark(self, stage: str) -> None:
        """Count the time since the last mark as spent in `stage`."""
        now = time.perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._last, 4)
        self._last = now


@dataclass(frozen=True)
class Watch:
    """A clock, a function to call with the progress, from 0 to 1, and whether `spread` is wanted
    too."""

    clock: Clock = field(default_factory=Clock)
    progress: Progress = lambda share: None
    spread: bool = True

    def ended(self, stage: str, share: float | None = None) -> None:
        """A stage of the work has ended; with it the `share` is done (None: that is not known)."""
        self.clock.mark(stage)
        if share is not None:
            self.progress(share)
