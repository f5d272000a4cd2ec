"""Denoises the files of a batch one after the other, and reports failures at the end."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdn.batch.inputs import Planned
from gdn.batch.printed import note, one_row
from gdn.batch.terminal import in_options, progress_bar
from gdn.errors import GdnError, debugging
from gdn.interruption import check_interrupted
from gdn.storage import json_line

if TYPE_CHECKING:  # the heavy imports wait until the arguments are known to be good
    from gdn.frames.source import FrameFile
    from gdn.models import Model, RestorerModel
    from gdn.pipeline.denoise_file import FileSettings, Witness
    from gdn.pipeline.denoiser import Denoiser
    from gdn.pipeline.options import Options
    from gdn.pipeline.output_files import Outputs
    from gdn.pipeline.recording import RecordingDenoiser


@dataclass(frozen=True, kw_only=True)
class BatchRun:
    """What a batch does with every file: the models and options of its Denoiser, how files are read
    and written, into which folder (None: beside each); what is done with files whose results are
    there: skipped if complete (`resume`), made again (`overwrite`), or refused. It can be pickled,
    for a cluster."""

    models: list[Model | RestorerModel]
    options: Options
    files: FileSettings
    folder: Path | None
    witness: Witness | None = None
    resume: bool = False
    overwrite: bool = False
    as_json: bool = False

    def check_free(self, path: Path, outputs: Outputs, frames: int = 1) -> None:
        """Raises FrameError where results of `path` may not be written."""
        from gdn.pipeline.previous_results import check_free

        judging = self.options.judging
        outputs = outputs.of_method(self.options.method)
        wanted = outputs.wanted(judging.intervals, judging.atoms, frames)
        check_free(outputs, path, wanted, self.resume or self.overwrite)


@dataclass(frozen=True)
class Outcome:
    """What became of a file: a row for each frame, also where it was already complete; or what was
    wrong with it, with the number of the system's error if it was one."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: bool = False
    failure: str | None = None
    errno: int | None = None


@dataclass(kw_only=True)
class Tally:
    """What became of a batch."""

    files: int = 0
    skipped: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    _failed: dict[Path, str] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Files without results."""
        return len(self.failures) + self.refused

    def refuse(self, files: int) -> None:
        """Count files that were not begun, of which it was said why."""
        self.files += files
        self.refused += files

    def withdraw(self, path: Path) -> None:
        """Forget what became of a file that is denoised again: it has changed."""
        self.files -= 1
        self.rows = [row for row in self.rows if row["input"] != str(path)]
        failure = self._failed.pop(path, None)
        if failure is not None:
            self.failures.remove(failure)

    def add(self, outcome: Outcome, as_json: bool, path: Path | None = None) -> None:
        """Count a file, keep its rows and print those of its frames that were denoised now."""
        self.files += 1
        self.skipped += outcome.skipped
        if outcome.failure is not None:
            self.failures.append(outcome.failure)
            if path is not None:
                self._failed[path] = outcome.failure
        self.rows += outcome.rows
        for row in () if outcome.skipped else outcome.rows:
            print(json_line(row) if as_json else one_row(_line(row)), flush=True)
        if not (as_json or outcome.skipped):
            for words in warnings_of(outcome.rows):
                note(one_row(words))


def refusals(planned: list[Planned], run: BatchRun) -> dict[Path, str]:
    """One line for every input whose results may not be written: found before the work begins."""
    refused = {}
    for path, outputs, _ in planned:
        try:
            run.check_free(path, outputs)
        except Exception as error:
            refused[path] = failure_words(path, error)
    return refused


def process(files: Iterable[Planned], run: BatchRun, tally: Tally) -> None:
    """Denoise every file, and tally; of a list it is known how many are to come. Raises EngineError
    or CacheError where no file could be done, and KeyboardInterrupt after saying where it
    stopped."""
    from gdn.pipeline.denoiser import Denoiser

    total = tally.files + len(files) if isinstance(files, list) else None

    def say_bank(made: int, of: int) -> None:
        update(tally.files, text=f"bank of restarts: {made} of {of}")

    with (
        progress_bar("denoising", total) as update,
        Denoiser.of(
            run.models, run.options, partial(run.options.open_bank, progress=say_bank)
        ) as denoiser,
    ):
        for path, outputs, again in files:
            try:
                check_interrupted()
                this = replace(run, overwrite=True, resume=False) if again else run
                count = f"{tally.files + 1}" + ("" if total is None else f"/{total}")
                update(tally.files, text=f"{path.name} ({count})")
                if again:
                    tally.withdraw(path)
                say = partial(_say, update, tally.files, f"{path.name} ({count})")
                tally.add(attempt(path, outputs, this, denoiser, say), run.as_json, path)
            except KeyboardInterrupt:
                rest = "" if total is None else f" of {total}"
                print(
                    f"gdn: interrupted in {path}, whose results are discarded; "
                    f"{tally.files}{rest} files are done. The same command with --resume continues",
                    file=sys.stderr,
                )
                raise


def _say(update: Any, files: int, text: str, share: float, frames: int = 1) -> None:
    """Progress within a file: which of its frames is in hand."""
    within = f", frame {min(int(share * frames) + 1, frames)}/{frames}" if frames > 1 else ""
    update(files + share, text=f"{text}{within}")


def attempt(
    path: Path,
    outputs: Outputs,
    run: BatchRun,
    denoiser: Denoiser,
    progress: Callable[[float, int], None],
) -> Outcome:
    """Denoise one file. Whatever goes wrong costs this file, and nothing else: raises only
    KeyboardInterrupt, and EngineError, CacheError or ImportError before any model could be opened,
    where no file can be done."""
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
        rows = denoise_file(
            frames,
            outputs,
            recording,
            run.files,
            lambda share: progress(share, frames.count),
            run.witness,
        )
        return Outcome(rows)
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


def failure_words(path: Path, error: BaseException) -> str:
    """One line for a file that failed; what gdn does not raise on purpose is gdn's own fault."""
    if not isinstance(error, ValueError | OSError | MemoryError | GdnError):
        if debugging():
            traceback.print_exception(error)
        words = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return one_row(
            f"{path}: internal error, please report it: {words} (gdn --debug shows where)"
        )
    text = " ".join(in_options(error).split())
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename or path}: {error.strerror}"
    named = str(path) in text or isinstance(error, OSError)
    return one_row(text if named else f"{path}: {text or 'out of memory'}")


def warnings_of(rows: list[dict[str, Any]]) -> list[str]:
    """The warnings of a file's frames, each once, with the number of frames that have it. Warnings
    that differ in their numbers only are one, in the words of the first frame."""
    frames: dict[str, list[int]] = {}
    words: dict[str, str] = {}
    for row in rows:
        if row["noise"] is None:
            continue  # its own line says why
        for warning in dict.fromkeys(row["warnings"]):
            kind = re.sub(r"[0-9.]+", "0", warning)
            frames.setdefault(kind, []).append(row["frame"])
            words.setdefault(kind, warning)
    said = []
    for kind, those in frames.items():
        name, several = rows[0]["input"], len(rows) > 1
        where = f"{len(those)} of {len(rows)} frames" if len(those) > 1 else f"frame {those[0]}"
        said.append(f"{name}: {where}: {words[kind]}" if several else f"{name}: {words[kind]}")
    return said


def _line(row: dict[str, Any]) -> str:
    noise = row["noise"]
    head = f"{row['input']} [{row['frame']}] -> {row['output']}"
    if noise is None:
        return f"{head} {'; '.join(row['warnings'])}"
    level = (
        f"read noise {noise['read_noise']:.3g}"
        if noise["kind"] == "gaussian"
        else f"{noise['dose']:.3g} e/px in vacuum"
    )
    size = row.get("pixel_size")
    # A size that contradicts the given one is among the warnings.
    tail = "" if size is None or size["contradicts"] else f"; {size['words']}"
    return f"{head} ({noise['kind']}, {level}, {row['seconds']} s){tail}"
