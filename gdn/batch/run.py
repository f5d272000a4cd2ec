"""Denoises the files of a batch one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gdn.batch.faults import failure_words
from gdn.batch.inputs import Planned
from gdn.batch.printed import note
from gdn.batch.settings import BatchRun
from gdn.batch.single_file import attempt
from gdn.batch.tally import Tally
from gdn.batch.terminal import progress_bar
from gdn.interruption import check_interrupted


def refusals(planned: list[Planned], run: BatchRun) -> dict[Path, str]:
    """One line for every input whose results may not be written: found before the work begins."""
    refused = {}
    for path, outputs, _ in planned:
        try:
            run.check_free(path, outputs)
        except Exception as error:
            check_interrupted()  # it may come out as any other fault
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
                note(
                    f"interrupted in {path}, which is discarded; {tally.files}{rest} files are "
                    "done. The same command with --resume continues"
                )
                raise


def _say(update: Any, files: int, text: str, share: float, frames: int = 1) -> None:
    """Progress within a file: which of its frames is in hand."""
    within = f", frame {min(int(share * frames) + 1, frames)}/{frames}" if frames > 1 else ""
    update(files + share, text=f"{text}{within}")
