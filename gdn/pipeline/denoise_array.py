"""Denoises an image or a stack in memory, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from gdn.errors import InputError
from gdn.likelihood import Array
from gdn.pipeline.collecting import ResultBuilder
from gdn.pipeline.inputs import Input
from gdn.pipeline.recording import RecordingDenoiser
from gdn.pipeline.result import Result
from gdn.search.progress import Progress


def denoise_array(
    given: Input, recording: RecordingDenoiser, progress: Progress, notes: Sequence[str] = ()
) -> Result:
    """Every frame of an input; `notes` become warnings of each. Raises InputError where none can be
    denoised."""
    count = len(given.frames)
    movie = recording.open_movie(partial(_usable, given), count, given.sampling_angstrom, progress)
    builder = ResultBuilder(given, recording, movie)
    left_out = dict(given.unusable)
    for index, frame in enumerate(given.frames):
        its, share = recording.for_frame(movie, index, count, progress)
        if index not in left_out:
            try:
                scan, pixel = given.scans.get(index), given.sampling_angstrom
                builder.add(its.denoise(frame, pixel, share, notes, given.dtype, scan))
                continue
            except InputError as error:
                left_out[index] = f"{given.name(index)}: {error}"
        if len(left_out) == count:
            raise InputError(left_out[0])
        builder.leave_out(left_out[index])
    return builder.result()


def _usable(given: Input, index: int) -> Array:
    """Frame `index` of an input. Raises InputError where it cannot be used."""
    if index in given.unusable:
        raise InputError(given.unusable[index])
    return np.asarray(given.frames[index], dtype=np.float32)
