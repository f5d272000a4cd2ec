"""Denoises the files of a batch one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdn.batch.faults import failure_words
from gdn.batch.inputs import Planned
from gdn.batch.printed import note
from gdn.batch.settings import BatchRun
from gdn.batch.single_file import attempt
from gdn.batch.tally import Tally
from gdn.batch.terminal import keep_drawing, progress_bar
from gdn.interruption import check_interrupted

if TYPE_CHECKING:  # the heavy imports wait until the arguments are known to be good
    from gdn.search.progress import Reached


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
    from gdn.search.progress import Reached

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
                reached = Reached()
                text = f"{path.name} ({count})"
                drawn = Drawn(update=update, files=tally.files, text=text, reached=reached)
                with keep_drawing(drawn.draw):
                    outcome = attempt(path, outputs, this, denoiser, reached)
                tally.add(outcome, run.as_json, path)
            except KeyboardInterrupt:
                rest = "" if total is None else f" of {total}"
                note(
                    f"interrupted in {path}, which is discarded; {tally.files}{rest} files are "
                    "done. The same command with --resume continues"
                )
                raise


@dataclass(kw_only=True)
class Drawn:
    """A file as the bar shows it.

    - `update`: draws the bar.
    - `files`: how many files come before it.
    - `text`: its name and number.
    - `reached`: how far it is.
    - `last`: the share that was drawn last.
    """

    update: Any
    files: int
    text: str
    reached: Reached
    last: float = 0.0

    def draw(self) -> None:
        """Draw it if it has moved: which of its frames is in hand."""
        share, frames = self.reached.share, self.reached.frames
        if share == self.last:
            return
        self.last = share
        number = min(int(share * frames) + 1, frames)
        within = f", frame {number}/{frames}" if frames > 1 else ""
        self.update(self.files + share, text=f"{self.text}{within}")
