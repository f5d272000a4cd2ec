"""Files in, files out: one input becomes a denoised image, a spread image, a JSON record, and the
table of its columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gdn.frames.formats import files_beside, read_frames
from gdn.frames.selection import with_warnings
from gdn.frames.source import FrameError, FrameFile
from gdn.frames.writing import result_writer
from gdn.likelihood import Array
from gdn.pipeline.column_picture import save_atoms
from gdn.pipeline.output_files import Outputs, OutputStyle, content_hash, is_done
from gdn.pipeline.record import RecordKeeper, document, key_of, signature
from gdn.pipeline.recording import JudgedFrame, RecordingDenoiser, check_field
from gdn.search.progress import Progress, part_of
from gdn.storage import writing
from gdn.trust.atoms import Atoms

Witness = Callable[
    [Path, int, Array, JudgedFrame], None
]  # sees every frame of a file with its result


@dataclass(frozen=True, kw_only=True)
class FileSettings:
    """How the files of a run are read and written. `sampling_angstrom` overrides the files' own;
    `dataset` names the image in a file of several; `channel`, from 0, of several channels;
    `summed`: the sum of a movie's frames instead of each."""

    sampling_angstrom: float | None = None
    dataset: str | None = None
    channel: int | None = None
    summed: bool = False
    style: OutputStyle = field(default_factory=OutputStyle)

    def read(self, path: Path) -> FrameFile:
        """The frames of a file, or their sum. Raises FrameError."""
        frames = read_frames(path, self.dataset, self.channel)
        frames = frames.summed() if self.summed else frames
        return with_warnings(frames, self.sampling_angstrom)

    def key(self, source: Path, recording: RecordingDenoiser) -> str:
        """Hash of all that determines the results of a file."""
        about = {
            "sampling": self.sampling_angstrom,
            "style": asdict(self.style),
            "dataset": self.dataset,
            "channel": self.channel,
            "summed": self.summed,
            "beside": [content_hash(other) for other in files_beside(source)],
        }
        return key_of(content_hash(source), recording, about)

    def is_done(self, source: Path, outputs: Outputs, recording: RecordingDenoiser) -> bool:
        """Whether a file's results are complete and those that `recording` would make."""
        judging = recording.options.judging
        return is_done(outputs, judging.intervals, judging.atoms, self.key(source, recording))


def denoise_file(
    frames: FrameFile,
    outputs: Outputs,
    recording: RecordingDenoiser,
    settings: FileSettings,
    progress: Progress,
    witness: Witness | None = None,
) -> list[dict[str, Any]]:
    """Denoise every one of `frames`; returns one row per frame. Nothing is left behind on failure.

    Raises FrameError (with the file's name) for what is wrong with the file or a frame in it.
    """
    source, count = frames.path, frames.count
    sampling = frames.sampling(settings.sampling_angstrom)
    try:
        check_field(frames.frame_shape, sampling)
    except ValueError as error:
        raise FrameError(f"{source}: {error}") from None
    keeper = RecordKeeper()
    levels = recording.options.intervals
    with ResultFiles(
        outputs, frames, sampling, settings.style.dtype, levels, signature(recording)
    ) as written:
        for index in range(count):
            frame = frames.read(index)
            try:
                judged = recording.denoise(
                    frame,
                    sampling,
                    part_of(progress, index / count, 1 / count),
                    frames.notes,
                    frames.dtype,
                )
            except ValueError as error:
                raise FrameError(f"{source}: frame {index}: {error}") from None
            trust = judged.trust
            written.set(index, judged.result.image, trust.spread, trust.intervals, trust.atoms)
            if witness is not None:
                witness(source, index, frame, judged)
            keeper.add(judged)
        rows = keeper.rows(recording, source, outputs)
        about = {
            "path": str(source),
            "shape": list(frames.calibration.shape),
            "axes": frames.calibration.axes,
            "dtype": str(frames.dtype),
            "format": frames.format,
            "summed": settings.summed,
            "stored": written.stored(),
        }
        merged = [row | detail for row, detail in zip(rows, keeper.details(), strict=True)]
        written.finish(
            document(settings.key(source, recording), about, sampling, recording, merged)
        )
    return rows


class ResultFiles:
    """The files of one result, written frame by frame; a context manager. All of them get their
    names when the block ends well, the record last, so that where the record is everything is; none
    does if it does not."""

    def __init__(
        self,
        outputs: Outputs,
        frames: FrameFile,
        sampling_angstrom: float,
        dtype: str,
        levels: tuple[int, ...],
        signature: str,
    ) -> None:
        self._outputs, self._frames, self._sampling, self._dtype = (
            outputs,
            frames,
            sampling_angstrom,
            dtype,
        )
        self._levels, self._provenance = levels, f"{signature}; details: {outputs.record.name}"
        self._stack = ExitStack()

    def __enter__(self) -> ResultFiles:
        with ExitStack() as stack:
            # First in, so that it gets its name last.
            self._record = stack.enter_context(writing(self._outputs.record))
            self._images = [
                stack.enter_context(
                    result_writer(
                        path,
                        self._frames,
                        self._sampling,
                        self._dtype,
                        self._outputs.kind,
                        self._provenance,
                    )
                )
                for path in self._outputs.images(self._levels)
            ]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)

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
            table, picture = (
                self._stack.enter_context(writing(path)) for path in self._outputs.atoms(index)
            )
            save_atoms(table, picture, image, atoms)

    def stored(self) -> dict[str, dict[str, float]]:
        """Of images of integers, by name: value = offset + scale * what is stored."""
        names = [path.name for path in self._outputs.images(self._levels)]
        values = {name: sink.values for name, sink in zip(names, self._images, strict=True)}
        return {name: asdict(one) for name, one in values.items() if not one.plain}

    def finish(self, record: dict[str, Any]) -> None:
        """Write the record."""
        self._record.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
