"""Denoises one file and writes its results: a denoised image, a spread image, a JSON record, and
the table of its columns."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gdn.engines.base import EngineError
from gdn.errors import CandidateError, debugging
from gdn.frames.formats import files_beside, read_frames
from gdn.frames.selection import with_warnings
from gdn.frames.source import FrameError, FrameFile
from gdn.frames.writing import result_writer
from gdn.likelihood import Array
from gdn.pipeline.column_picture import save_atoms
from gdn.pipeline.movie import for_frame, open_movie
from gdn.pipeline.output_files import Outputs, OutputStyle, content_hash
from gdn.pipeline.previous_results import is_complete, own_files
from gdn.pipeline.record import FrameLeftOut, RecordKeeper, document, key_of, signature
from gdn.pipeline.recording import JudgedFrame, RecordingDenoiser, check_field
from gdn.search.progress import Progress
from gdn.storage import CacheError, writing
from gdn.trust.atoms import Atoms

Witness = Callable[
    [Path, int, Array, JudgedFrame], None
]  # sees every frame of a file with its result


@dataclass(frozen=True, kw_only=True)
class FileSettings:
    """How the files of a run are read and written. `sampling_angstrom` overrides the files' own;
    `dataset` names the image in a file of several; `channel`, from 0, of several channels;
    `summed`: the sum of a movie's frames instead of each; `partial`: a file that is cut off is read
    as far as it goes."""

    sampling_angstrom: float | None = None
    dataset: str | None = None
    channel: int | None = None
    summed: bool = False
    partial: bool = False
    style: OutputStyle = field(default_factory=OutputStyle)

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
        frames = frames.summed() if self.summed else frames
        return with_warnings(frames, self.sampling_angstrom)

    def key(self, source: Path, content: str, recording: RecordingDenoiser) -> str:
        """Hash of everything that determines the results of a file with this content hash."""
        reading = {
            "sampling": self.sampling_angstrom,
            "style": asdict(self.style),
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
        images = outputs.images(judging.intervals)
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
    sampling = frames.sampling(settings.sampling_angstrom)
    try:
        check_field(frames.frame_shape, sampling)
    except ValueError as error:
        raise FrameError(f"{source}: {error}") from None
    keeper = RecordKeeper()
    levels = recording.options.intervals
    movie = open_movie(recording, frames.read, count, sampling, progress)
    with ResultFiles(
        outputs,
        frames,
        sampling,
        settings.style.dtype,
        levels,
        signature(recording),
        own_files(outputs, source),
    ) as written:
        for index in range(count):
            its, part = for_frame(recording, movie, index, count, progress)
            try:
                frame = frames.read(index)
                judged = its.denoise(frame, sampling, part, frames.notes, frames.dtype)
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
                written.leave_out(index, frames)
                continue
            trust = judged.trust
            written.set(index, judged.result.image, trust.spread, trust.intervals, trust.atoms)
            if witness is not None:
                witness(source, index, frame, judged)
            keeper.add(judged)
        left_out = [one.reason for one in keeper.frames if isinstance(one, FrameLeftOut)]
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


class ResultFiles:
    """The files of one result, written frame by frame; a context manager. All of them get their
    names when the block ends well, none does if it does not.

    The record gets its name twice: before the others it claims them (`complete` is false), after
    them it says that they are there. `former`: files of an earlier result of the same input, which
    the new record owns from then on as far as they stay.
    """

    def __init__(
        self,
        outputs: Outputs,
        frames: FrameFile,
        sampling_angstrom: float,
        dtype: str,
        levels: tuple[int, ...],
        signature: str,
        former: set[Path] | frozenset[Path] = frozenset(),
    ) -> None:
        self._outputs, self._former, self._levels = outputs, former, levels
        self._count = frames.count
        provenance = f"{signature}; details: {outputs.record.name}"
        self._opened = [
            (path, result_writer(path, frames, sampling_angstrom, dtype, outputs.kind, provenance))
            for path in outputs.images(levels)
        ]
        self._stack, self._record = ExitStack(), dict[str, Any]()
        self._names: list[str] = []

    def __enter__(self) -> ResultFiles:
        with ExitStack() as stack:
            self._images = [stack.enter_context(writer) for _, writer in self._opened]
            self._names = [path.name for path, _ in self._opened]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        if raised[0] is not None:
            self._stack.__exit__(*raised)
            return
        try:
            with self._stack:
                self._save(complete=False)
        except BaseException:
            if not any((self._outputs.folder / name).exists() for name in self._names):
                self._outputs.record.unlink(missing_ok=True)  # it claims what is not there
            raise
        self._save(complete=True)
        if self._outputs.former_record in self._former:
            self._outputs.former_record.unlink(missing_ok=True)

    def set(
        self,
        index: int,
        image: Array,
        spread: Array,
        intervals: dict[int, Array],
        atoms: Atoms | None,
    ) -> None:
        """Write frame `index`; half-widths that are not there become NaN."""
        denoised, doubt, *widths = self._images
        denoised[index], doubt[index] = image, spread
        for width, level in zip(widths, self._levels, strict=True):
            width[index] = intervals.get(level, np.full_like(image, np.nan))
        for written in self._images:
            written.resolve(spread)
        if atoms is not None:
            paths = self._outputs.atoms(index if self._count > 1 else None)
            table, picture = (self._stack.enter_context(writing(path)) for path in paths)
            self._names += [path.name for path in paths]
            save_atoms(table, picture, image, atoms)

    def leave_out(self, index: int, frames: FrameFile) -> None:
        """Write a frame that could not be denoised: flat, at its own mean, with a spread of NaN."""
        denoised, *others = self._images
        denoised[index] = np.full(frames.frame_shape, frames.mean(index), np.float32)
        for image in others:
            image[index] = np.full(frames.frame_shape, np.nan, np.float32)

    def stored(self) -> dict[str, dict[str, float]]:
        """Of images of integers, by name: value = offset + scale * what is stored."""
        names = [path.name for path in self._outputs.images(self._levels)]
        values = {name: sink.values for name, sink in zip(names, self._images, strict=True)}
        return {name: asdict(one) for name, one in values.items() if not one.plain}

    def finish(self, record: dict[str, Any]) -> None:
        """What the record says."""
        self._record = record

    def _save(self, complete: bool) -> None:
        """Write the record under its name."""
        mine = {*self._names, self._outputs.record.name, self._outputs.former_record.name}
        former = {path.name for path in self._former if path.exists()} - mine
        content = self._record | {
            "complete": complete,
            "outputs": sorted(self._names),
            "former_outputs": sorted(former),
        }
        with writing(self._outputs.record) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
