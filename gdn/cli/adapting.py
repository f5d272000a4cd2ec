"""`gdn adapt`, and what `gdn denoise --adapt` does with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import typer

from gdn.batch.faults import failure_words
from gdn.batch.inputs import Planned, gather
from gdn.batch.printed import note
from gdn.batch.terminal import UsageFault, progress_bar, usage_fault
from gdn.cli.common import need, writable_folder
from gdn.cli.denoise_options import STEPS, Threads
from gdn.cli.file_options import NOISE, Dataset, Sampling
from gdn.cli.help import INPUT, OUTPUT, SEARCH, Grouped
from gdn.models import RESTORER, learned_folders
from gdn.pipeline.budget import SECONDS, Budget

if TYPE_CHECKING:  # the heavy imports wait until the arguments are known to be good
    from gdn.adaptation.adapt import Recording
    from gdn.adaptation.learn import Learning, LearningSettings
    from gdn.frames.noise import NoiseModel
    from gdn.frames.source import FrameFile
    from gdn.models import RestorerModel
    from gdn.pipeline.denoise_file import FileSettings
    from gdn.pipeline.options import Options


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("adapt", cls=Grouped)(adapt)


def adapt(
    files: list[str] = typer.Argument(
        ...,
        metavar="FILES",
        help="Files of frames of one recording, or folders of them.",
        rich_help_panel=INPUT,
    ),
    output: Path = typer.Option(
        ..., "-o", "--output", metavar="DIR", help="Model folder to write.", rich_help_panel=OUTPUT
    ),
    sampling: Sampling = None,
    dataset: Dataset = None,
    noise: str = typer.Option("auto", help=NOISE, rich_help_panel=SEARCH),
    seed: int = typer.Option(
        0, min=0, help="Seed. Use the same one for 'gdn denoise'.", rich_help_panel=SEARCH
    ),
    seconds: float = typer.Option(
        SECONDS, min=1, help="Longest training time, in seconds.", rich_help_panel=SEARCH
    ),
    steps: str | None = typer.Option(None, metavar="N[,M]", help=STEPS, rich_help_panel=SEARCH),
    threads: Threads = None,
) -> int:
    """Train two networks on the noisy frames of a recording: the shipped restorer, and a small
    network that starts from nothing.

    'gdn denoise FILES --adapted DIR' mixes them with the other candidates.
    """
    budget = parse_budget(seconds, steps, "--steps")
    need("torch", "adapt")
    from gdn.frames.noise import parse_noise
    from gdn.pipeline.denoise_file import FileSettings

    try:
        model = parse_noise(noise)
    except ValueError as error:
        raise usage_fault(error) from None
    writable_folder(output.parent)
    if output.exists() and not learned_folders(output):
        raise UsageFault(
            f"{output}: exists already, and 'gdn adapt' did not write it; choose another (-o)"
        )
    reading = FileSettings(sampling_angstrom=sampling, dataset=dataset)
    from gdn.adaptation.adapt import recordings_of
    from gdn.pipeline.learning import settings_for
    from gdn.pipeline.options import Options

    opened = _opened([path for path, _ in gather(files)], reading)
    recordings = recordings_of(opened, reading.read, model)
    if len(recordings) != 1:
        words = "; ".join(entry.words() for entry in recordings) or "no frame that can be used"
        raise UsageFault(
            "the files must be one recording, with one pixel size and one noise; these "
            f"are {len(recordings)}: {words}"
        )
    settings = settings_for(budget, Options(seed=seed, threads=threads))
    _learn(recordings[0], model, settings, output)
    print(output)
    return 0


def parse_budget(seconds: float, steps: str | None, option: str) -> Budget:
    """What the options say. Raises UsageFault."""
    if steps is None:
        return Budget(seconds)
    counts = re.fullmatch(r"(\d{1,9})(?:,(\d{1,9}))?", steps.replace(" ", ""))
    if counts is None or not any(int(n) for n in counts.groups() if n):
        raise UsageFault(
            f"{option} {steps}: wanted a number of steps, as 96, or two, as 96,840: of the tuned "
            "and of the small network"
        )
    first, second = counts.groups()
    return Budget(seconds, int(first), None if second is None else int(second))


def _opened(paths: list[Path], reading: FileSettings) -> Iterator[tuple[FrameFile, float]]:
    """The files that can be opened, with their pixel sizes; what is wrong with the others is said
    when they are denoised."""
    for path in paths:
        try:
            frames = reading.read(path)
            yield frames, frames.sampling(reading.sampling_angstrom)
        except Exception as error:
            note(f"not learned from: {failure_words(path, error)}")


def _learn(
    recording: Recording, noise: NoiseModel | None, settings: LearningSettings, out: Path
) -> list[RestorerModel]:
    from gdn.adaptation.adapt import adapt
    from gdn.models import find_any

    base = find_any(RESTORER)
    note(f"learning from {recording.words()}")
    with progress_bar("learning", 1.0) as update:
        models = adapt(recording, base, noise, settings, out, _teller(update))  # type: ignore[arg-type]
    counts = [str(n) for n in models[0].card.training["steps"]]
    gained = "; ".join(map(_gained, models))
    # With a comma alone it would read as one large number.
    steps = f"{' and '.join(counts)} steps (--adapt-steps {','.join(counts)} repeats them)"
    note(f"learned in {steps}: {gained}")
    for words in dict.fromkeys(line for model in models for line in model.card.training["notes"]):
        note(words)
    return models


def _gained(model: RestorerModel) -> str:
    """What a network gained on electrons kept aside, in words."""
    training = model.card.training
    learned, start = training["learned"], training["from"]
    if not learned["best_step"]:
        return "nothing was gained, so the restorer is kept unchanged"
    name = start if start == RESTORER else "a network from nothing"
    decibels = learned["gain_db"]
    much = f"{learned['gain_nats']:.0f} nats" + ("" if decibels is None else f", {decibels:.1f} dB")
    return f"{name} gained {much}"


def _teller(update: Callable[..., None]) -> Callable[[float, Learning], None]:
    def tell(share: float, best: Learning) -> None:
        decibels = best.gain_db
        much = f"{max(best.nats, 0):.0f} nats" if decibels is None else f"{decibels:.1f} dB"
        update(share, text=f"learning: {much} gained")

    return tell


@contextmanager
def adapted_groups(
    planned: list[Planned],
    reading: FileSettings,
    options: Options,
    budget: Budget,
) -> Iterator[list[tuple[list[Planned], list[RestorerModel]]]]:
    """The files of each recording with what was learned from it, nothing for those from which
    nothing can be learned. The models' folders vanish with the block."""
    from gdn.adaptation.adapt import recordings_of
    from gdn.pipeline.learning import settings_for

    settings = settings_for(budget, options)
    noise = options.noise_model
    opened = _opened([entry.path for entry in planned], reading)
    recordings = recordings_of(opened, reading.read, noise, options.mask)
    with TemporaryDirectory(prefix="gdn-adapted-") as folder:
        groups: list[tuple[list[Planned], list[RestorerModel]]] = []
        taught: set[Path] = set()
        for number, recording in enumerate(recordings):
            try:
                models = _learn(recording, noise, settings, Path(folder) / f"{number}")
            except Exception as error:  # the frames can be denoised all the same
                first = recording.files[0].path
                note(f"not learned from: {failure_words(first, error)}")
                models = []
            paths = {file.path for file in recording.files}
            taught |= paths
            groups.append(([entry for entry in planned if entry.path in paths], models))
        rest = [entry for entry in planned if entry.path not in taught]
        yield [*groups, (rest, [])] if rest else groups
