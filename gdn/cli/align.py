"""`gdn align`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gdn.batch.inputs import gather
from gdn.batch.printed import note
from gdn.batch.terminal import UsageFault, progress_bar, usage_fault
from gdn.cli.common import writable_folder
from gdn.cli.denoise_options import Threads
from gdn.cli.file_options import NOISE, Dataset, Sampling
from gdn.cli.help import INPUT, OUTPUT, Grouped
from gdn.models import RESTORER

if TYPE_CHECKING:  # the heavy imports wait until the arguments are known to be good
    from gdn.engines.restorer import RestorerSession
    from gdn.frames.noise import NoiseModel
    from gdn.pipeline.denoise_file import FileSettings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("align", cls=Grouped)(align)


def align(
    files: list[str] = typer.Argument(
        ..., metavar="FILES", help="Movies, or folders of them.", rich_help_panel=INPUT
    ),
    output: Path = typer.Option(
        Path(), "-o", "--output", metavar="DIR", help="Folder to write.", rich_help_panel=OUTPUT
    ),
    overwrite: bool = typer.Option(
        False, help="Replace existing files of these names.", rich_help_panel=OUTPUT
    ),
    sampling: Sampling = None,
    dataset: Dataset = None,
    channel: int | None = typer.Option(
        None,
        min=0,
        help="Channel to read if a file has several. The first is 0.",
        rich_help_panel=INPUT,
    ),
    noise: str = typer.Option("auto", help=NOISE, rich_help_panel=INPUT),
    threads: Threads = None,
) -> int:
    """Find how far the specimen drifted between the frames of a movie, and add the frames up.

    Writes NAME_drift.csv, the drift of each frame against the first in Å and in pixels, and
    NAME_aligned.tif, the sum of the aligned frames. Frames are moved by whole pixels, so counts
    stay counts and 'gdn denoise' can read the sum. Pixels along the edges that some frames have not
    recorded are NaN.
    """
    from gdn.engines.base import EngineError
    from gdn.engines.restorer import open_restorer
    from gdn.frames.noise import parse_noise
    from gdn.models import ModelError, RestorerModel, find_any
    from gdn.pipeline.denoise_file import FileSettings

    try:
        model = parse_noise(noise)
        base = find_any(RESTORER)
        assert isinstance(base, RestorerModel)
        session = open_restorer(base, threads=threads)
    except (ModelError, EngineError, ValueError) as error:
        raise usage_fault(error) from None
    writable_folder(output)
    reading = FileSettings(sampling_angstrom=sampling, dataset=dataset, channel=channel)
    planned = [(path, *_names(path, output)) for path, _ in gather(files)]
    taken = [name for _, *names in planned for name in names if name.exists()]
    if taken and not overwrite:
        raise UsageFault(
            f"{taken[0]}: exists already; choose another folder (-o), or give --overwrite"
        )
    failed = 0
    for path, table, picture in planned:
        try:
            _align(path, table, picture, reading, model, session)
        except (ValueError, OSError, MemoryError) as error:
            failed += 1
            note(" ".join(str(error).split()))
    return 1 if failed else 0


def _names(path: Path, folder: Path) -> tuple[Path, Path]:
    from gdn.pipeline.output_files import outputs_for

    stem = outputs_for(path, folder).stem
    return folder / f"{stem}_drift.csv", folder / f"{stem}_aligned.tif"


def _align(
    path: Path,
    table: Path,
    picture: Path,
    reading: FileSettings,
    noise: NoiseModel | None,
    session: RestorerSession,
) -> None:
    """One file. Raises ValueError, OSError."""
    from gdn.frames.writing import write_tiff
    from gdn.pipeline.align import drift_in_words, estimate_file_drift, sum_aligned, write_drift
    from gdn.search.restored import RestorerCandidate

    frames, inner = reading.read(path), RestorerCandidate(session)
    sampling = frames.sampling(reading.sampling_angstrom)
    with progress_bar("aligning", 1.0) as update:
        drift = estimate_file_drift(
            frames, sampling, inner, noise, lambda share: update(share, text=path.name)
        )
    summed = sum_aligned(frames, drift, sampling)
    calibration = replace(summed.calibration, sampling_angstrom=sampling)
    write_tiff(picture, summed.read(0), calibration)
    write_drift(table, drift, sampling)
    print(f"{path} -> {picture} ({frames.count} frames, {drift_in_words(drift)})")
