"""Which part of an opened file is denoised: one channel of several; and the warnings about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gdn.frames.source import FrameError, FrameFile, Pixels
from gdn.frames.units import angstrom_per

CONTRADICTION = 0.01  # between a pixel size that is given and that of the file
_VOLUME = (
    "a volume (tomogram), whose slices are no micrographs, but are denoised as if they were; "
    "better denoise its micrographs"
)


class _Picked:
    """Some of the frames of a file, by their new numbers."""

    def __init__(self, pixels: Pixels, numbers: list[int]) -> None:
        self.pixels, self.numbers = pixels, numbers

    def __getitem__(self, index: int) -> Any:
        return self.pixels[self.numbers[index]]


def select_channel(frames: FrameFile, channel: int | None) -> FrameFile:
    """The frames of one channel (from 0) of a file whose axes count channels (C); any other file
    unchanged. Raises FrameError if it is not clear which channel, or if that channel does not
    exist."""
    axes, shape = frames.calibration.axes, frames.calibration.shape
    at = axes.find("C")
    channels = shape[at] if at >= 0 else 0
    if channel is None and channels <= 1:
        return frames
    if at < 0:
        raise FrameError(f"{frames.path}: has no channels (axes {axes})", "channel")
    if channel is None or not 0 <= channel < channels:
        raise FrameError(
            f"{frames.path}: {channels} channels (axes {axes}, "
            f"{'x'.join(map(str, shape))}); choose the one to denoise, from 0 to {channels - 1}",
            "channel",
        )
    leading = shape[: len(axes) - 2]
    numbers = np.arange(frames.count).reshape(leading).take(channel, axis=at).ravel()
    calibration = replace(
        frames.calibration,
        axes=axes[:at] + axes[at + 1 :],
        shape=(*shape[:at], *shape[at + 1 :]),
        mrc=None,
    )
    return replace(
        frames,
        calibration=calibration,
        count=len(numbers),
        pixels=_Picked(frames.pixels, numbers.tolist()),
    )


def with_warnings(frames: FrameFile, sampling_angstrom: float | None) -> FrameFile:
    """The file with notes on slices of a volume, and on a `sampling_angstrom` (Å per pixel) that
    the user gave and that contradicts the file's own."""
    notes = list(frames.notes)
    own, steps = frames.calibration.sampling_angstrom, frames.calibration.steps
    axes, shape = frames.calibration.axes, frames.calibration.shape
    depth = angstrom_per(steps.get("Z", (0.0, ""))[1])
    if depth and "Z" in axes and shape[axes.index("Z")] > 1:
        notes.append(_VOLUME)
    if sampling_angstrom and own and abs(sampling_angstrom / own - 1) > CONTRADICTION:
        notes.append(
            f"you gave {sampling_angstrom:.4g} Å per pixel, the file says {own:.4g}; gdn uses yours"
        )
    return replace(frames, notes=notes)
