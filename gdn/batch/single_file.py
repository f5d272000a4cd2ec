"""Denoises one file of a batch, if its results are not complete. Whatever goes wrong costs this
file alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdn.batch.faults import failure_words
from gdn.batch.settings import BatchRun
from gdn.batch.tally import Outcome
from gdn.interruption import check_interrupted

if TYPE_CHECKING:  # the heavy imports wait until the arguments are known to be good
    from gdn.frames.source import FrameFile
    from gdn.pipeline.denoiser import Denoiser
    from gdn.pipeline.output_files import Outputs
    from gdn.pipeline.recording import RecordingDenoiser
    from gdn.search.progress import Reached


def attempt(
    path: Path,
    outputs: Outputs,
    run: BatchRun,
    denoiser: Denoiser,
    reached: Reached,
) -> Outcome:
    """Denoise one file; `reached` is how far that is. Whatever goes wrong costs this file, and
    nothing else: raises only KeyboardInterrupt, and EngineError, CacheError or ImportError before
    any model could be opened, where no file can be done."""
    from gdn.engines.base import EngineError
    from gdn.pipeline.denoise_file import denoise_file
    from gdn.storage import CacheError

    try:
        frames = run.files.read(path)
        sampling = frames.sampling(run.files.sampling_angstrom)
        possible = denoiser.possible(frames.frame_shape, sampling)
        # The choice among generators follows from what is in each one's key: none need be made
        # again to know a file done.
        if run.resume and any_done(path, outputs, run, possible):
            return Outcome(rows_of_record(outputs), skipped=True)
        run.check_free(path, outputs, frames.count)
        if run.files.summed and run.options.movie != "off":
            frames = sum_aligned_file(path, run, sampling, possible[0])
        recording = chosen_recording(denoiser, possible, frames, sampling)
        reached.frames = frames.count
        return Outcome(denoise_file(frames, outputs, recording, run.files, reached, run.witness))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a library may even exit, or panic
        check_interrupted()  # an interruption may come out as any other fault
        if isinstance(error, EngineError | CacheError | ImportError) and not denoiser.opened:
            raise  # bad usage, or a part of gdn is not installed
        return Outcome(failure=failure_words(path, error), errno=getattr(error, "errno", None))


def sum_aligned_file(
    path: Path, run: BatchRun, sampling: float, recording: RecordingDenoiser
) -> FrameFile:
    """The sum of a movie's frames, aligned. Raises FrameError."""
    from gdn.pipeline.align import estimate_file_drift, sum_aligned
    from gdn.pipeline.movie import inner_of

    frames = replace(run.files, summed=False).read(path)
    if frames.count < 2:
        return frames
    drift = estimate_file_drift(frames, sampling, inner_of(recording), run.options.noise_model)
    return sum_aligned(frames, drift, sampling)


def chosen_recording(
    denoiser: Denoiser, possible: list[RecordingDenoiser], frames: FrameFile, sampling: float
) -> RecordingDenoiser:
    """The recording whose generator explains the first frame best that can be denoised. Raises
    FrameError where none can."""
    for index in range(frames.count):
        try:
            return denoiser.best(possible, partial(frames.read, index), sampling)
        except ValueError as error:
            reason = error
    raise reason


def any_done(
    path: Path, outputs: Outputs, run: BatchRun, possible: list[RecordingDenoiser]
) -> bool:
    """Whether the file's results are complete, by any of the `possible` recordings."""
    from gdn.pipeline.output_files import content_hash

    if not (outputs.record.exists() or outputs.former_record.exists()):
        return False
    content = content_hash(path)
    return any(run.files.is_done(path, content, outputs, recording) for recording in possible)


def rows_of_record(outputs: Outputs) -> list[dict[str, Any]]:
    """The rows of a file whose results are complete, for the table of the run. What an earlier gdn
    did not judge is None."""
    from gdn.pipeline.previous_results import read_record
    from gdn.pipeline.record import NO_JUDGEMENT

    record = read_record(outputs.record) or {}
    rows = [row for row in record.get("frames", []) if "sampling_angstrom" in row]
    return [dict.fromkeys(NO_JUDGEMENT) | row for row in rows]
