"""What a frame's own pixels say before anything is searched: which are bad, and how noisy they are.

Of the last frame it is remembered: the choice among generators asks first, the search for the same
frame again.
"""

from __future__ import annotations

import hashlib

import numpy as np

from gdn.frames.bad_pixels import Defects, filled, find_defects
from gdn.frames.noise import Frame, NoiseModel, noise_of


class Examiner:
    """Examines frames, and remembers what it found in the last one, though not its pixels."""

    def __init__(self) -> None:
        self._last: tuple[str, Defects, NoiseModel] | None = None

    def __call__(
        self, frame: Frame, wanted: NoiseModel | None = None
    ) -> tuple[Defects, Frame, NoiseModel]:
        """Defects of a `frame` (rows, columns) float32, the frame with those filled in, and its
        noise model: `wanted` completed, or the simplest that fits. Raises InputError where the
        wanted model contradicts the frame."""
        content = hashlib.sha256(np.ascontiguousarray(frame).data)
        content.update(f"{frame.shape} {frame.dtype} {wanted}".encode())
        key, last = (
            content.hexdigest(),
            self._last,
        )  # taken once: another thread may put its own there
        defects = last[1] if last is not None and last[0] == key else find_defects(frame)
        whole = frame if defects.bad is None else filled(frame, defects.bad)
        noise = last[2] if last is not None and last[0] == key else noise_of(whole, wanted)
        self._last = key, defects, noise
        return defects, whole, noise


examined = Examiner()
