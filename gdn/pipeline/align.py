"""Aligns the frames of a movie, and adds them up (docs/method.md, "Movies", "Drift")."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gdn.blas import one_blas_thread
from gdn.errors import InputError
from gdn.frames.noise import NoiseModel
from gdn.frames.resampling import grids_for
from gdn.frames.source import FrameFile
from gdn.likelihood import Array
from gdn.movies.drift import add_moved
from gdn.movies.frames import MovieFrames
from gdn.movies.shift import Shifts
from gdn.pipeline.movie import drift_of
from gdn.search.band_mixture import Candidate
from gdn.storage import writing


@one_blas_thread()
def estimate_file_drift(
    frames: FrameFile,
    sampling_angstrom: float,
    inner: Candidate,
    noise: NoiseModel | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Shifts:
    """The drift (frames, 2) Å of a file's frames, with pixels of `sampling_angstrom`. `inner`
    restores the reference with which they are compared. Raises InputError for a file of one
    frame."""
    if frames.count < 2:
        raise InputError(f"{frames.path}: has only one frame; there is nothing to align")
    movie = MovieFrames(
        read=frames.read,
        count=frames.count,
        grids=grids_for(frames.frame_shape, sampling_angstrom, sampling_angstrom),
        seed=0,
        noise=noise,
    )
    return drift_of(movie, inner, progress)


def sum_aligned(frames: FrameFile, drift: Shifts, sampling_angstrom: float) -> FrameFile:
    """The sum of a file's frames as a file of one frame, moved by whole pixels, so that counts stay
    counts, to where the frame in the middle of the `drift` (frames, 2) Å is. NaN where not all
    frames have recorded something: their sum would have another dose there."""
    shifts = drift / sampling_angstrom
    middle = (shifts.max(0) + shifts.min(0)) / 2
    at = int(np.square(shifts - middle).sum(1).argmin())
    summed = frames.summed()
    return replace(summed, pixels=_AlignedSum(frames, shifts - shifts[at]))


@dataclass(frozen=True)
class _AlignedSum:
    """The sum, made when it is asked for, one frame of it in memory at a time."""

    source: FrameFile
    shifts: Shifts

    def __getitem__(self, index: int) -> Array:
        total, exposure = (np.zeros(self.source.frame_shape, np.float32) for _ in range(2))
        for number, shift in enumerate(self.shifts):
            frame = np.asarray(self.source.pixels[number]).astype(np.float32)
            add_moved(total, exposure, frame, shift)
        return np.where(exposure == len(self.shifts), total, np.float32(np.nan))


def write_drift(path: Path, drift: Shifts, sampling_angstrom: float) -> None:
    """A table of the drift, a line for each frame: Å and px along rows and columns."""
    with writing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["frame", "row_angstrom", "column_angstrom", "row_px", "column_px"])
        for index, (row, column) in enumerate(drift.tolist()):
            px = row / sampling_angstrom, column / sampling_angstrom
            table.writerow([index, *(f"{value:.4f}" for value in (row, column, *px))])


def drift_in_words(drift: Shifts) -> str:
    """The motion of the specimen as words for a line about a movie; `drift` (frames, 2) Å."""
    steps = np.sqrt(np.square(np.diff(drift, axis=0)).sum(1).mean())
    return f"{steps:.2f} Å rms from frame to frame, {np.ptp(drift, axis=0).max():.2f} Å at most"
