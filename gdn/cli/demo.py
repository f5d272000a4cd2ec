"""`gdn demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from gdn.batch.printed import note
from gdn.batch.terminal import UsageFault, progress_bar, usage_fault
from gdn.cli.common import writable_folder
from gdn.cli.help import Grouped
from gdn.engines.table import ENGINE_HELP
from gdn.models import AUTO
from gdn.storage import json_line


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", cls=Grouped)(demo)


def demo(
    output: Path = typer.Option(
        Path("gdn-demo"),
        "-o",
        "--output",
        metavar="DIR",
        help="Folder for frames, results and the picture.",
    ),
    model: str = typer.Option(
        AUTO,
        metavar="NAME|DIR",
        help="Name of a shipped model, or a model folder; auto as in 'gdn denoise'.",
    ),
    restarts: int = typer.Option(
        256, min=1, max=1_000_000, help="Number of random starting points of the search."
    ),
    seed: int = typer.Option(0, min=0, help="Seed of the noise and of the random starting points."),
    engine: str = typer.Option("auto", help=ENGINE_HELP),
    as_json: bool = typer.Option(
        False,
        "--json",
        help="Print the rows of 'gdn evaluate' on standard output, and nothing else.",
    ),
) -> int:
    """Denoise shipped low-dose frames (0.45 electrons per pixel) and compare with their ground
    truth.

    The frames are simulated test structures: the shipped generator has never seen them.

    \b
    Examples:
      gdn demo
      gdn demo -o out --json
    """
    from gdn.engines.base import EngineError
    from gdn.evaluation.comparators import available
    from gdn.evaluation.demo import DEMO_NOISE, demo_frames
    from gdn.evaluation.evaluate import DEFAULT_AGAINST, Rivals, evaluate_frame, table
    from gdn.models import ModelError
    from gdn.pipeline.denoiser import Denoiser
    from gdn.pipeline.open_models import models_named
    from gdn.pipeline.options import Options
    from gdn.report.figure import save_panels

    try:
        options = Options(restarts=restarts, seed=seed, engine=engine, atoms=True, intervals=(90,))
        models = models_named(model)
    except (ModelError, EngineError) as error:
        raise usage_fault(error) from None
    if all(shipped.card.kind == "restorer" for shipped in models):
        raise UsageFault(
            f"--model {model}: the demonstration needs a generator; only 'gdn denoise' "
            "can use a restorer alone"
        )
    writable_folder(output)
    frames = demo_frames()
    methods = tuple(name for name in DEFAULT_AGAINST if available(name))
    rows: list[dict[str, Any]] = []
    pictures, words = [], []
    with (
        progress_bar("denoising", len(frames)) as update,
        Denoiser.of(
            models,
            options,
            lambda made: options.open_bank(
                made, lambda n, of: update(0, text=f"bank of restarts: {n} of {of}")
            ),
        ) as denoiser,
    ):
        for number, frame in enumerate(frames):
            update(number, text=frame.file)
            recording = denoiser.for_recording(
                DEMO_NOISE.apply(frame.image, seed + number), frame.sampling_angstrom
            )
            done = evaluate_frame(frame, DEMO_NOISE, recording, seed + number, Rivals(methods))
            rows += done.rows
            assert done.result is not None
            trust = recording.judge(done.images["noisy"], done.result)
            pictures.append(_write(output, frame, done, trust))
            words.append(_trust_words(frame, done, trust))
            if as_json:
                for row in done.rows:
                    print(json_line(row), flush=True)
    picture = output / "demo.png"
    save_panels(picture, pictures, frames[0].sampling_angstrom)
    note(f"picture: {picture}; frames and results as TIFF beside it")
    if not as_json:
        print(table(rows), *words, sep="\n")
    return 0


def _trust_words(frame: Any, done: Any, trust: Any) -> str:
    """What gdn says of a frame without its truth, and what the truth says of that."""
    from gdn.report.ledger import sentence

    error = abs(done.images["gdn"] - frame.image)
    inside = " / ".join(
        f"{100 * (error <= width).mean():.0f}"
        for width in (trust.spread, trust.intervals.get(90, trust.spread))
    )
    words = f"{frame.file}: on counts held out {sentence(trust.scores[0])}"
    if trust.fit is None or trust.atoms is None:
        return words
    columns = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in trust.atoms.counts().items())
    return (
        f"{words}; p = {trust.fit.p:.2g}; truth inside the 68 / 90 % interval in "
        f"{inside} % of pixels; columns: {columns}"
    )


def _write(output: Path, frame: Any, done: Any, trust: Any) -> list[Any]:
    """Write one frame's TIFFs and its columns; returns its row of panels: noisy, denoised, spread,
    truth."""
    from gdn.frames.source import FrameCalibration
    from gdn.frames.writing import write_tiff
    from gdn.pipeline.column_picture import save_atoms, span
    from gdn.report.figure import Panel
    from gdn.storage import writing

    calibration = FrameCalibration(sampling_angstrom=frame.sampling_angstrom)
    noisy, image, spread = done.images["noisy"], done.images["gdn"], trust.spread
    for name, array in (
        ("", noisy),
        ("_denoised", image),
        ("_spread", spread),
        ("_truth", frame.image),
    ):
        write_tiff(output / f"{frame.file}{name}.tif", array, calibration)
    if trust.atoms is not None:
        with (
            writing(output / f"{frame.file}_atoms.csv") as table,
            writing(output / f"{frame.file}_atoms.png") as picture,
        ):
            save_atoms(table, picture, image, trust.atoms)
    low, high = span(frame.image)
    score = next(r for r in done.rows if r["method"] == "gdn")
    return [
        Panel(noisy, "noisy: 0.45 electrons per pixel", 0, 3),
        Panel(image, f"denoised: {score['psnr_db']:.1f} dB, SSIM {score['ssim']:.3f}", low, high),
        Panel(
            spread,
            f"spread: white = {100 * span(spread)[1] / 0.45:.1f} % of vacuum",
            0,
            span(spread)[1],
        ),
        Panel(frame.image, "truth", low, high),
    ]
