"""A batch of files: named, gathered or watched for, denoised one after the other, failures kept for
the end."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdn.batch.terminal import UsageFault, expand, in_options, progress_bar
from gdn.errors import debugging

if TYPE_CHECKING:  # the heavy imports wait until the arguments are known to be good
    from gdn.models import Model, RestorerModel
    from gdn.pipeline.denoise_file import FileSettings, Witness
    from gdn.pipeline.denoiser import Denoiser
    from gdn.pipeline.options import Options
    from gdn.pipeline.output_files import Outputs

POLL_SECONDS = 2.0


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


@dataclass(frozen=True)
class Outcome:
    """What became of a file: a row for each frame; or it was complete already; or what was wrong
    with it, with the number of the system's error if it was one."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: bool = False
    failure: str | None = None
    errno: int | None = None


@dataclass
class Tally:
    """What became of a batch."""

    files: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome, as_json: bool) -> None:
        """Count a file and print its rows."""
        self.files += 1
        self.skipped += outcome.skipped
        if outcome.failure is not None:
            self.failures.append(outcome.failure)
        for row in outcome.rows:
            print(json.dumps(row) if as_json else _line(row), flush=True)


def gather(names: list[str]) -> list[Path]:
    """Files of the names: globs expanded, '-' read from stdin (one name a line), folders searched.
    Raises UsageFault."""
    from gdn.pipeline.output_files import files_in

    listed: list[str] = []
    for name in names:
        listed += (
            [line.rstrip("\r\n") for line in sys.stdin if line.strip()] if name == "-" else [name]
        )
    found: dict[Path, None] = {}
    for path in expand(listed):
        if path.is_dir():
            inside = files_in(path)
            if not inside:
                raise UsageFault(f"{path}: no file of frames in this folder")
            found.update(dict.fromkeys(inside))
        else:
            found[path] = None
    return list(found)


def plan(paths: list[Path], run: BatchRun) -> list[tuple[Path, Outputs]]:
    """Each input with its outputs. Raises UsageFault where two inputs would share a name."""
    from gdn.pipeline.output_files import outputs_for

    seen: dict[Path, Path] = {}
    found: list[tuple[Path, Outputs]] = []
    for path in paths:
        outputs = outputs_for(path, run.folder, run.files.style)
        other = seen.setdefault(outputs.record, path)
        if other != path:
            raise UsageFault(
                f"{path} and {other} would both be written to {outputs.denoised}; denoise "
                "them in two runs"
            )
        found.append((path, outputs))
    return found


def watched(
    folder: Path,
    run: BatchRun,
    idle_seconds: float | None,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[Any]:
    """Files of a folder with their outputs as they appear, each once it has stopped growing; ends
    when nothing new came for `idle_seconds` (None: never)."""
    from gdn.pipeline.output_files import files_in, outputs_for

    sizes: dict[Path, tuple[int, int]] = {}
    done: set[Path] = set()
    quiet = 0.0
    while idle_seconds is None or quiet < idle_seconds:
        ready = []
        for path in files_in(folder):
            if path in done:
                continue
            about = path.stat()
            now = (about.st_size, about.st_mtime_ns)
            if sizes.get(path) != now:
                quiet = 0.0  # something is being written
            elif about.st_size:
                ready.append(path)
            sizes[path] = now
        for path in ready:
            done.add(path)
            yield path, outputs_for(path, run.folder, run.files.style)
            quiet = 0.0
        if not ready:
            wait(POLL_SECONDS)
            quiet += POLL_SECONDS


def process(files: Iterator[tuple[Path, Outputs]], total: int | None, run: BatchRun) -> Tally:
    """Denoise every file. Raises EngineError or CacheError where no file could be done, and
    KeyboardInterrupt after saying where it stopped."""
    from gdn.pipeline.denoiser import Denoiser

    tally = Tally()

    def say_bank(made: int, of: int) -> None:
        update(tally.files, text=f"bank of restarts: {made} of {of}")

    with (
        progress_bar("denoising", total) as update,
        Denoiser.of(
            run.models, run.options, lambda engine: run.options.open_bank(engine, say_bank)
        ) as denoiser,
    ):
        for path, outputs in files:
            count = f"{tally.files + 1}" + ("" if total is None else f"/{total}")
            update(tally.files, text=f"{path.name} ({count})")
            try:
                tally.add(
                    attempt(
                        path,
                        outputs,
                        run,
                        denoiser,
                        partial(_say, update, tally.files, f"{path.name} ({count})"),
                    ),
                    run.as_json,
                )
            except KeyboardInterrupt:
                rest = "" if total is None else f" of {total}"
                print(
                    f"gdn: interrupted in {path}, which is discarded; {tally.files}{rest} "
                    "files are done. "
                    "The same command with --resume goes on from "
                    "there",
                    file=sys.stderr,
                )
                raise
    return tally


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
    """Denoise one file. Raises EngineError or CacheError where no file could be done."""
    from gdn.engines.base import EngineError
    from gdn.pipeline.denoise_file import denoise_file
    from gdn.pipeline.output_files import check_absent
    from gdn.storage import CacheError

    try:
        frames = run.files.read(path)
        sampling = frames.sampling(run.files.sampling_angstrom)
        possible = denoiser.possible(frames.frame_shape, sampling)
        # The choice among generators follows from what is in each one's key: none need be made
        # again to know a file done.
        if run.resume and any(
            run.files.is_done(path, outputs, recording) for recording in possible
        ):
            return Outcome(skipped=True)
        if not (run.overwrite or run.resume):
            check_absent(outputs, run.options.intervals)
        recording = denoiser.best(possible, lambda: frames.read(0), sampling)
        rows = denoise_file(
            frames,
            outputs,
            recording,
            run.files,
            lambda share: progress(share, frames.count),
            run.witness,
        )
        return Outcome(rows)
    except (ValueError, OSError, MemoryError, EngineError) as error:
        if isinstance(error, EngineError | CacheError) and not denoiser.opened:
            raise  # bad usage: no file could be done
        return Outcome(failure=failure_words(path, error), errno=getattr(error, "errno", None))
    except ImportError:
        raise  # the installation's fault: no file could be done
    except Exception as error:  # gdn's own fault costs one file, not the night's batch
        if debugging():
            traceback.print_exc()
        words = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return Outcome(
            failure=f"{path}: internal error, please report it: {words} (gdn --debug shows where)"
        )


def failure_words(path: Path, error: Exception) -> str:
    """One line for a file that failed."""
    text = " ".join(in_options(error).split())
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename or path}: {error.strerror}"
    return (
        text
        if str(path) in text or isinstance(error, OSError)
        else f"{path}: {text or 'out of memory'}"
    )


def _line(row: dict[str, Any]) -> str:
    noise = row["noise"]
    tail = "".join(f"; warning: {w}" for w in row["warnings"])
    level = (
        f"read noise {noise['read_noise']:.3g}"
        if noise["kind"] == "gaussian"
        else f"{noise['dose']:.3g} e/px in vacuum"
    )
    return (
        f"{row['input']} [{row['frame']}] -> {row['output']} ({noise['kind']}, "
        f"{level}, {row['seconds']} s){tail}"
    )
