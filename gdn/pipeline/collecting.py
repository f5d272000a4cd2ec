"""Collects the denoised and tested frames of an image or a stack into a `Result`."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from gdn.frames.axes import leading_axes
from gdn.likelihood import Array
from gdn.pipeline.inputs import Input
from gdn.pipeline.movie import Movie
from gdn.pipeline.record import (
    FrameLeftOut,
    FrameSummary,
    RecordKeeper,
    document,
    key_of,
    signature,
)
from gdn.pipeline.recording import JudgedFrame, RecordingDenoiser
from gdn.pipeline.result import FrameValues, Result


class ResultBuilder:
    """Takes frames in order. Their images go into arrays that are there from the start: a stack is
    in memory once."""

    def __init__(
        self, given: Input, recording: RecordingDenoiser, movie: Movie | None = None
    ) -> None:
        self._given, self._recording, self._keeper = given, recording, RecordKeeper()
        self._movie = movie
        shape = given.frames.shape
        self._image, self._spread = np.empty(shape, np.float32), np.empty(shape, np.float32)
        self._widths = {
            level: np.full(shape, np.nan, np.float32) for level in recording.options.intervals
        }
        self._calibrated = True

    def add(self, judged: JudgedFrame) -> None:
        """The next frame."""
        index, trust = len(self._keeper.frames), judged.trust
        self._image[index], self._spread[index] = judged.result.image, trust.spread
        for level, width in trust.intervals.items():
            self._widths[level][index] = width
        self._calibrated &= trust.calibrated
        self._keeper.add(judged)

    def leave_out(self, reason: str) -> None:
        """Add a frame that could not be denoised: flat, without a spread."""
        index = len(self._keeper.frames)
        frame = self._given.frames[index]
        recorded = frame[np.isfinite(frame)]
        self._image[index] = recorded.mean() if recorded.size else np.nan
        self._spread[index] = np.nan
        self._keeper.leave_out(reason)

    def result(self) -> Result:
        """Of all frames."""
        given, recording = self._given, self._recording
        spread = self._shaped(self._spread)
        records = [
            row | detail
            for row, detail in zip(
                self._keeper.rows(recording, given.sampling_angstrom),
                self._keeper.details(),
                strict=True,
            )
        ]
        return Result(
            image=self._shaped(self._image),
            spread=spread if self._calibrated else None,
            raw_spread=None if self._calibrated else spread,
            intervals={level: self._shaped(width) for level, width in self._widths.items()},
            sampling_angstrom=given.sampling_angstrom,
            values=[
                _values(judged, record)
                for judged, record in zip(self._keeper.frames, records, strict=True)
            ],
            header=self._header(),
            signature=signature(recording),
        )

    def _shaped(self, frames: Array) -> Array:
        """Frames as the input came: one image, or a stack."""
        return frames if self._given.stacked else frames[0]

    def _header(self) -> dict[str, Any]:
        given = self._given
        image = self._shaped(given.frames)
        input_record = {
            "path": None,
            "shape": list(image.shape),
            "axes": leading_axes(image.ndim),
            "dtype": str(given.dtype),
            "format": "array",
            "summed": False,
        }
        content = hashlib.sha256(
            str(image.shape).encode() + np.ascontiguousarray(image).tobytes()
        ).hexdigest()
        key = key_of(content, self._recording, {"sampling": given.sampling_angstrom})
        header = document(key, input_record, given.sampling_angstrom, self._recording, [])
        return header | ({} if self._movie is None else {"movie": self._movie.record()})


def _values(judged: FrameSummary | FrameLeftOut, record: dict[str, Any]) -> FrameValues:
    if isinstance(judged, FrameLeftOut):
        return FrameValues(warnings=record["warnings"], record=record)
    trust = judged.trust
    blur = trust.against_blur
    return FrameValues(
        explained_p=None if trust.fit is None else float(trust.fit.p),
        standing=None if trust.standing is None else trust.standing.name,
        held_out_gain_db=None if blur is None or blur.unresolved else blur.gain_db,
        noise=judged.result.noise,
        dose=float(judged.result.dose),
        warnings=list(trust.warnings),
        atoms=trust.atoms,
        pixel_size=trust.pixel_size,
        record=record,
    )
