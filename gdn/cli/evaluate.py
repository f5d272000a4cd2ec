"""`gdn evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gdn.batch.printed import note
from gdn.batch.terminal import UsageFault, expand, in_options, progress_bar, usage_fault
from gdn.cli.help import COMPARED, INPUT, MACHINE, OUTPUT, SEARCH, Grouped
from gdn.engines.table import ENGINE_HELP
from gdn.environment import install_command
from gdn.models import AUTO
from gdn.storage import json_line

if TYPE_CHECKING:
    from gdn.evaluation.comparators import Comparator


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate", cls=Grouped)(evaluate)


def evaluate(
    clean: list[str] = typer.Argument(
        ...,
        metavar="CLEAN",
        help="Clean TIFF frames; 'gdn simulate --frames' makes some.",
        rich_help_panel=INPUT,
    ),
    noise: str = typer.Option(
        "poisson:1",
        help="poisson:S and gaussian:S, separated by commas, or 'suite' for the six noise "
        "levels of the original study.",
        rich_help_panel=INPUT,
    ),
    against: str = typer.Option(
        "noisy,constant,blur,bm3d-binned",
        help="Methods to compare with. Also possible: unet (those of --unet) and original "
        "(takes hours).",
        rich_help_panel=COMPARED,
    ),
    unet: list[Path] = typer.Option(
        [],
        metavar="DIR",
        help="Folder of a U-Net that 'gdn export' made, or of several U-Nets, such as the "
        "repository's benchmarks/unets. May be repeated.",
        rich_help_panel=COMPARED,
    ),
    vacuum: float = typer.Option(
        1.0, help="Vacuum level of the clean files (simulated frames: 1).", rich_help_panel=INPUT
    ),
    model: str = typer.Option(
        AUTO,
        metavar="NAME|DIR",
        help="Name of a shipped model, or a model folder; auto as in 'gdn denoise'.",
        rich_help_panel=SEARCH,
    ),
    restarts: int = typer.Option(
        256,
        min=1,
        max=1_000_000,
        help="Number of random starting points of the search.",
        rich_help_panel=SEARCH,
    ),
    sampling: float | None = typer.Option(
        None,
        metavar="Å/px",
        help="Pixel size in Å. Needed if the files do not say it.",
        rich_help_panel=INPUT,
    ),
    engine: str = typer.Option("auto", help=ENGINE_HELP, rich_help_panel=MACHINE),
    device: str = typer.Option("auto", help="auto, cpu, cuda.", rich_help_panel=MACHINE),
    seed: int = typer.Option(
        0,
        min=0,
        help="Seed of the noise and of the random starting points.",
        rich_help_panel=SEARCH,
    ),
    original_steps: str = typer.Option(
        "10,1500,10000",
        help="For --against original: number of restarts, steps of each restart, further "
        "steps of the best.",
        rich_help_panel=COMPARED,
    ),
    as_json: bool = typer.Option(
        False,
        "--json",
        help="Print one JSON object per frame, noise and method on standard output.",
        rich_help_panel=OUTPUT,
    ),
) -> int:
    """Add noise to clean frames, denoise them, and print a table that compares gdn with other
    methods.

    Values are given on the original study's scale (vacuum 0.45, range 1).

    \b
    Examples:
      gdn evaluate data/frames/test_*.tif --noise suite
      gdn evaluate clean.tif --noise poisson:1,gaussian:0.5 --against blur
    """
    from gdn.engines.base import EngineError
    from gdn.evaluation.comparators import COMPARATORS
    from gdn.evaluation.evaluate import Rivals, evaluate_frame, table
    from gdn.evaluation.noise_suite import SUITE, parse_suite
    from gdn.models import ModelError
    from gdn.pipeline.denoiser import Denoiser
    from gdn.search.settings import parse_steps
    from gdn.storage import CacheError

    try:
        noises = parse_suite(SUITE if noise == "suite" else noise)
        unets = unets_in(unet)
        rivals = Rivals(
            methods_named(against, unets), COMPARATORS | unets, parse_steps(original_steps)
        )
        denoiser = Denoiser(model, restarts, seed, engine, device=device)
    except (ModelError, EngineError, ValueError) as error:
        raise usage_fault(error) from None
    if vacuum <= 0:
        raise UsageFault(f"--vacuum {vacuum:g}: must be positive")
    paths = expand(clean)
    rows: list[dict[str, Any]] = []
    failures = 0
    with (
        denoiser,
        progress_bar("evaluating", len(paths) * len(noises)) as update,
    ):
        for number, path in enumerate(paths):
            try:
                frames = list(_frames(path, vacuum, sampling))
            except ValueError as error:
                note(in_options(error))
                failures += 1
                continue
            for frame in frames:
                for n, frame_noise in enumerate(noises):
                    try:
                        recording = denoiser.for_recording(
                            frame_noise.apply(frame.image, seed + frame.frame),
                            frame.sampling_angstrom,
                        )
                    except (EngineError, CacheError) as error:
                        raise usage_fault(error) from None
                    done = evaluate_frame(frame, frame_noise, recording, seed + frame.frame, rivals)
                    rows += done.rows
                    update(number * len(noises) + n + 1, text=f"{path.name} {frame_noise}")
                    if as_json:
                        for row in done.rows:
                            print(json_line(row), flush=True)
    if not as_json and rows:
        print(table(rows))
    return 1 if failures else 0


def methods_named(text: str, unets: dict[str, Comparator]) -> tuple[str, ...]:
    """Names of comparators, in order; the user's U-Nets stand where 'unet' does, else last. Those
    whose package is missing are left out, saying so."""
    from gdn.evaluation.comparators import COMPARATORS, NEEDS, available

    names = [part.strip() for part in text.split(",") if part.strip()]
    wanted = [name for name in names if name == "unet" or name.startswith("unet-")]
    if wanted and not unets:
        raise UsageFault(
            f"--against {wanted[0]}: give --unet DIR, the folder of one U-Net or of "
            "several; gdn's repository has two, in benchmarks/unets"
        )
    chosen = []
    for name in (
        each
        for part in (names if wanted else [*names, "unet"])
        for each in (unets if part == "unet" else [part])
    ):
        if name not in COMPARATORS and name not in unets and name != "original":
            raise UsageFault(
                f"--against {name}: choose from "
                f"{', '.join([*COMPARATORS, *(unets or ['unet']), 'original'])}"
            )
        if not available(name):
            how = install_command("bench")
            note(f"{name} left out: {NEEDS[name]} is not installed ({how})")
            continue
        chosen.append(name)
    return tuple(chosen)


def unets_in(folders: list[Path]) -> dict[str, Comparator]:
    """The user's U-Nets by name."""
    from gdn.evaluation.comparators import unet_comparators

    try:
        named = [pair for folder in folders for pair in unet_comparators(folder).items()]
    except ValueError as error:
        raise UsageFault(f"--unet {error}") from None
    if len(dict(named)) < len(named):
        raise UsageFault(
            f"--unet: two of these have the same name: {', '.join(name for name, _ in named)}; "
            "rename a folder"
        )
    return dict(named)


def _frames(path: Path, vacuum: float, sampling: float | None) -> Any:
    import numpy as np

    from gdn.evaluation.evaluate import CleanFrame
    from gdn.evaluation.noise_suite import STUDY_VACUUM
    from gdn.frames.formats import read_frames

    source = read_frames(path)
    pixel = source.sampling(sampling)
    for index in range(source.count):
        image = source.read(index, whole=True) * np.float32(STUDY_VACUUM / vacuum)
        yield CleanFrame(str(path), index, image, pixel)
