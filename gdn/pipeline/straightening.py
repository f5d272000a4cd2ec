"""Straightens the rows of scans as frames are read: every later stage sees straight rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from gdn.frames.noise import NoiseModel
from gdn.frames.scan import Scan
from gdn.frames.source import Frame, FrameError, FrameFile
from gdn.search.straighten import straighten

if TYPE_CHECKING:
    from gdn.frames.pixel_mask import PixelMask
    from gdn.pipeline.inputs import Input

KEPT = 2  # frames in memory


@dataclass(frozen=True)
class Straightener:
    """Straightens frames with the user's `noise` model (None: it is estimated) and pixel `mask`."""

    noise: NoiseModel | None = None
    mask: PixelMask | None = None

    def __call__(self, frame: Frame, sampling_angstrom: float) -> tuple[Frame, Scan | None]:
        """See `gdn.search.straighten.straighten`. Masked pixels of a straightened frame are NaN."""
        recorded = frame if self.mask is None else self.mask.apply(frame)
        straight, scan = straighten(recorded, sampling_angstrom, self.noise)
        return (frame, None) if scan is None else (straight, scan)

    def of_file(self, frames: FrameFile, sampling_angstrom: float) -> FrameFile:
        """A file whose frames are straightened when they are read."""
        pixels = _StraightRows(frames, sampling_angstrom, self)
        return replace(frames, pixels=pixels, scan_of=pixels.scan_of)

    def of_input(self, given: Input) -> Input:
        """An image or a stack whose frames are straightened. The input is not changed."""
        frames, scans = given.frames, dict[int, Scan]()
        for index, frame in enumerate(given.frames):
            if index in given.unusable:
                continue
            straight, scan = self(frame, given.sampling_angstrom)
            if scan is not None:
                frames = frames.copy() if frames is given.frames else frames
                frames[index], scans[index] = straight, scan
        return replace(given, frames=frames, scans=scans)


class _StraightRows:
    """Frames of a file with straight rows. A few of them are kept, since a stack's frames are read
    more than once."""

    def __init__(
        self, source: FrameFile, sampling_angstrom: float, straightener: Straightener
    ) -> None:
        self._source, self._sampling = source, sampling_angstrom
        self._straightener = straightener
        self._straight = lru_cache(KEPT)(self._read)

    def _read(self, index: int) -> tuple[Any, Scan | None]:
        try:
            frame = self._source.read(index)
        except FrameError:  # blank, as a frame of a sum may be; or said again by who reads it
            return np.asarray(self._source.pixels[index]), None
        return self._straightener(frame, self._sampling)

    def __getitem__(self, index: int) -> Any:
        return self._straight(index)[0]

    def scan_of(self, index: int) -> Scan | None:
        """What was taken off a frame."""
        return self._straight(index)[1]
