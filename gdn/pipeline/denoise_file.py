"""Denoises one file and writes its results: a denoised image, a spread image, a JSON record, and
the table of its columns."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gdn.engines.base import EngineError
from gdn.errors import CandidateError, debugging
from gdn.frames.formats import files_beside, read_frames
from gdn.frames.selection import with_warnings
from gdn.frames.source import FrameError, FrameFile
from gdn.likelihood import Array
from gdn.pipeline.output_files import Outputs, OutputStyle, content_hash
from gdn.pipeline.previous_results import is_complete, own_files
from gdn.pipeline.record import FrameLeftOut, RecordKeeper, document, key_of, signature
from gdn.pipeline.recording import JudgedFrame, RecordingDenoiser, check_field
from gdn.pipeline.result_files import ResultFiles, image_opener
from gdn.pipeline.straightening import Straightener
from gdn.search.progress import Progress
from gdn.storage import CacheError

Witness = Callable[
    [Path, int, Array, JudgedFrame], None
]  # sees every frame of a file with its result


@dataclass(frozen=True, kw_only=True)
class FileSettings:
    """How the files of a run are read and written.

    - `sampling_angstrom`: Å per pixel, instead of the files' own.
    - `dataset`: the name of the image in a file of several.
    - `channel`: which of several channels, from 0.
    - `summed`: the sum of a movie's frames instead of each.
    - `partial`: a file that is cut off is read as far as it goes.
    - `style`: how results are written.
    - `straightener`: of the rows of scans (None: they are read as they are).
    """

    sampling_angstrom: float | None = None
    dataset: str | None = None
    channel: int | None = None
    summed: bool = False
    partial: bool = False
    style: OutputStyle = field(default_factory=OutputStyle)
    straightener: Straightener | None = None

    def read(self, path: Path) -> FrameFile:
        """The frames of a file, or their sum. Raises FrameError."""
        frames = read_frames(path, self.dataset, self.channel)
        if frames.cut_off and not self.partial:
            raise FrameError(
                f"{path}: {frames.cut_off}; the file is cut off: copy it again, or denoise "
                "the frames that are there",
                "partial",
            )
        if frames.cut_off:
            note = f"{frames.cut_off}; the file is cut off"
            frames = replace(frames, notes=[*frames.notes, note])
        sampling = self.sampling_angstrom or frames.calibration.sampling_angstrom
        if self.straightener is not None and sampling is not None:
            frames = self.straightener.of_file(frames, sampling)
        frames = frames.summed() if self.summed else frames
        return with_warnings(frames, self.sampling_angstrom)

    def key(self, source: Path, content: str, recording: RecordingDenoiser) -> str:
        """Hash of everything that determines the results of a file with this content hash."""
        reading = {
            "sampling": self.sampling_angstrom,
            "style": self.style.record(),
            "dataset": self.dataset,
            "channel": self.channel,
            "summed": self.summed,
            "partial": self.partial,
            "beside": [content_hash(other) for other in files_beside(source)],
        }
        return key_of(content, recording, reading)

    def is_done(
        self, source: Path, content: str, outputs: Outputs, recording: RecordingDenoiser
    ) -> bool:
        """Whether the results of a file of this content hash are complete and those that
        `recording` would make."""
        judging = recording.options.judging
        images = outputs.of_method(recording.options.method).images(judging.intervals)
        return is_complete(outputs, images, judging.atoms, self.key(source, content, recording))


def denoise_file(
    frames: FrameFile,
    outputs: Outputs,
    recording: RecordingDenoiser,
    settings: FileSettings,
    progress: Progress,
    witness: Witness | None = None,
) -> list[dict[str, Any]]:
    """Denoise every one of `frames`; returns one row per frame. Nothing is left behind on failure.

    A frame of a stack that cannot be denoised is left out: flat in the result, and its row says
    why. Raises FrameError (with the file's name) for what is wrong with the file, its only frame,
    or every frame in it.
    """
    source, count = frames.path, frames.count
    outputs = outputs.of_method(recording.options.method)
    sampling = frames.sampling(settings.sampling_angstrom)
    try:
        check_field(frames.frame_shape, sampling)
    except ValueError as error:
        raise FrameError(f"{source}: {error}") from None
    keeper = RecordKeeper()
    levels = recording.options.intervals
    movie = recording.open_movie(frames.read, count, sampling, progress)
    opener = image_opener(outputs, frames, sampling, settings.style.dtype, signature(recording))
    former = own_files(outputs, source)
    outputs.folder.mkdir(parents=True, exist_ok=True)  # that of a subfolder, with --recursive
    with ResultFiles(outputs, levels, opener, several=count > 1, former=former) as written:
        for index in range(count):
            its, part = recording.for_frame(movie, index, count, progress)
            try:
                frame = frames.read(index)
                scan = frames.scan_of(index)
                judged = its.denoise(frame, sampling, part, frames.notes, frames.dtype, scan)
            except (EngineError, CacheError, CandidateError, ImportError, MemoryError, OSError):
                raise  # no fault of this frame's
            except Exception as error:
                reason = _words(error, source, index)
                if count == 1 and isinstance(error, ValueError):
                    raise FrameError(reason) from None
                if count == 1:
                    raise
                # The beam was blanked, a page does not decode: the other frames are good.
                keeper.leave_out(reason)
                written.leave_out(index, frames.frame_shape, frames.mean(index))
                continue
            trust = judged.trust
            written.set(index, judged.result.image, trust.spread, trust.intervals, trust.atoms)
            written.show(index, frame, judged.result)
            if witness is not None:
                witness(source, index, frame, judged)
            keeper.add(judged)
        left_out = [entry.reason for entry in keeper.frames if isinstance(entry, FrameLeftOut)]
        if len(left_out) == count:
            raise FrameError(left_out[0])
        rows = keeper.rows(recording, sampling, source, outputs)
        content = content_hash(source)
        input_record = {
            "path": str(source),
            "folder": str(Path.cwd()),
            "sha256": content,
            "shape": list(frames.calibration.shape),
            "axes": frames.calibration.axes,
            "dtype": str(frames.dtype),
            "format": frames.format,
            "summed": settings.summed,
            "stored": written.stored(),
        }
        merged = [row | detail for row, detail in zip(rows, keeper.details(), strict=True)]
        record = document(
            settings.key(source, content, recording), input_record, sampling, recording, merged
        )
        written.finish(record | ({} if movie is None else {"movie": movie.record()}))
    return rows


def _words(error: Exception, source: Path, index: int) -> str:
    """Why a frame could not be denoised, in one line."""
    if isinstance(error, FrameError):
        return str(error)
    words = " ".join(str(error).split())[:200]
    if not isinstance(error, ValueError):
        if debugging():
            traceback.print_exc()
        words = f"internal error, please report it: {type(error).__name__}: {words}"
    return f"{source}: frame {index}: {words}"
