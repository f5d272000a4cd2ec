"""`gdn adapt`, and what `gdn denoise --adapt` does with it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import typer

from gdn.batch.inputs import Planned, gather
from gdn.batch.terminal import UsageFault, progress_bar, usage_fault
from gdn.cli.common import need, writable_folder
from gdn.cli.denoise_options import Threads
from gdn.cli.file_options import NOISE, Dataset, Sampling
from gdn.cli.help import INPUT, OUTPUT, SEARCH, Grouped
from gdn.models import RESTORER

if TYPE_CHECKING:  # the heavy imports wait until the arguments are known to be good
    from gdn.adaptation.adapt import Recording
    from gdn.adaptation.learn import LearningSettings
    from gdn.frames.noise import NoiseModel
    from gdn.frames.source import FrameFile
    from gdn.models import RestorerModel
    from gdn.pipeline.denoise_file import FileSettings
    from gdn.pipeline.options import Options

SECONDS = 60.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("adapt", cls=Grouped)(adapt)


def adapt(
    files: list[str] = typer.Argument(
        ...,
        metavar="FILES",
        help="Files of frames of one recording, or folders of such files.",
        rich_help_panel=INPUT,
    ),
    output: Path = typer.Option(
        ..., "-o", "--output", metavar="DIR", help="Folder to write.", rich_help_panel=OUTPUT
    ),
    sampling: Sampling = None,
    dataset: Dataset = None,
    noise: str = typer.Option("auto", help=NOISE, rich_help_panel=SEARCH),
    seed: int = typer.Option(
        0, min=0, help="Seed; give the one that gdn denoise will have.", rich_help_panel=SEARCH
    ),
    seconds: float = typer.Option(
        SECONDS, min=1, help="Learn for so long at most.", rich_help_panel=SEARCH
    ),
    steps: int | None = typer.Option(
        None, min=1, help="Learn exactly so many steps at most.", rich_help_panel=SEARCH
    ),
    threads: Threads = None,
) -> int:
    """Tune the shipped restorer to a recording, from the noisy frames alone.

    DIR then is a model: gdn denoise FILES --adapted DIR mixes it with the other candidates.
    """
    need("torch", "adapt")
    from gdn.frames.noise import parse_noise
    from gdn.pipeline.denoise_file import FileSettings

    try:
        model = parse_noise(noise)
    except ValueError as error:
        raise usage_fault(error) from None
    writable_folder(output.parent)
    if output.exists() and not (output / "model.json").is_file():
        raise UsageFault(f"{output}: exists already and is no model folder; choose another (-o)")
    reading = FileSettings(sampling_angstrom=sampling, dataset=dataset)
    from gdn.adaptation.adapt import recordings_of

    opened = _opened([path for path, _ in gather(files)], reading)
    recordings = recordings_of(opened, reading.read, model)
    if len(recordings) != 1:
        told = [recording.words() for recording in recordings]
        words = "; ".join(told) or "no frame that can be used"
        raise UsageFault(f"one recording is wanted, these are {len(recordings)}: {words}")
    settings = _settings(seconds, steps, seed, threads)
    _learn(recordings[0], model, settings, output)
    print(output)
    return 0


def _settings(
    seconds: float, steps: int | None, seed: int, threads: int | None
) -> LearningSettings:
    from gdn.adaptation.learn import LearningSettings

    return LearningSettings(seconds=seconds, steps=steps, seed=seed, threads=threads)


def _opened(paths: list[Path], reading: FileSettings) -> Iterator[tuple[FrameFile, float]]:
    """The files that can be opened, with their pixel sizes; what is wrong with the others is said
    when they are denoised."""
    for path in paths:
        try:
            frames = reading.read(path)
            yield frames, frames.sampling(reading.sampling_angstrom)
        except (ValueError, OSError) as error:
            print(f"gdn: not learned from: {error}", file=sys.stderr)


def _learn(
    recording: Recording, noise: NoiseModel | None, settings: LearningSettings, out: Path
) -> RestorerModel:
    from gdn.adaptation.adapt import adapt
    from gdn.models import find_any

    base = find_any(RESTORER)
    print(f"gdn: learning from {recording.words()}", file=sys.stderr)
    with progress_bar("learning", 1.0) as update:
        model = adapt(recording, base, noise, settings, out, _teller(update))  # type: ignore[arg-type]
    learned, start = model.card.training["learned"], model.card.training["from"]
    print(
        f"gdn: learned from {start} in {learned['steps']} steps: {learned['gain_nats']:g} nats "
        "gained on electrons kept aside"
        + ("" if learned["best_step"] else "; nothing gained, the restorer stays as it was"),
        file=sys.stderr,
    )
    return model


def _teller(update: Callable[..., None]) -> Callable[[float, float], None]:
    return lambda share, nats: update(share, text=f"learning: {nats:.0f} nats gained")


@contextmanager
def adapted_groups(
    planned: list[Planned],
    reading: FileSettings,
    options: Options,
    learning: tuple[float, int | None, int, int | None],
) -> Iterator[list[tuple[list[Planned], RestorerModel | None]]]:
    """The files of each recording with the restorer tuned to it, those from which nothing can be
    learned with None. The models' folders vanish with the block. `learning`: seconds, steps, seed,
    threads."""
    from gdn.adaptation.adapt import recordings_of

    settings = _settings(*learning)
    noise = options.noise_model
    opened = _opened([entry.path for entry in planned], reading)
    recordings = recordings_of(opened, reading.read, noise, options.mask)
    with TemporaryDirectory(prefix="gdn-adapted-") as folder:
        groups: list[tuple[list[Planned], RestorerModel | None]] = []
        taught: set[Path] = set()
        for number, recording in enumerate(recordings):
            model = _learn(recording, noise, settings, Path(folder) / f"{number}" / "adapted")
            paths = {file.path for file in recording.files}
            taught |= paths
            groups.append(([entry for entry in planned if entry.path in paths], model))
        rest = [entry for entry in planned if entry.path not in taught]
        yield [*groups, (rest, None)] if rest else groups
