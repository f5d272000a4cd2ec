"""For how long networks learn from a recording. A light module: the command line imports it."""

from __future__ import annotations

from dataclasses import dataclass

SECONDS = 60.0  # of learning, where it is not said


@dataclass(frozen=True)
class Budget:
    """For how long networks learn from a recording: `seconds` of the clock; or exactly so many
    `steps` of the tuned restorer, and `anew` of the network that begins from nothing (None: ten
    times as many)."""

    seconds: float = SECONDS
    steps: int | None = None
    anew: int | None = None
