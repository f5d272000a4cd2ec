"""`gdn denoise`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gdn.cli.common import UsageFault, expand, progress_bar, writable_folder
from gdn.models import AUTO

if TYPE_CHECKING:  # the heavy imports wait until the arguments are known to be good
    from gdn.engines.base import Engine
    from gdn.models import Model
    from gdn.report.files import Job, Outputs
    from gdn.report.ledger import Ledger
    from gdn.search.bank import Bank
    from gdn.trust.judge import JudgeSettings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("denoise")(denoise)


def denoise(
    files: list[str] = typer.Argument(..., metavar="FILES", help="TIFF frames or stacks; globs are expanded."),
    output: Path | None = typer.Option(
        None, "-o", "--output", metavar="DIR", help="Folder for results [default: beside each input]."
    ),
    restarts: int = typer.Option(
        256, min=1, max=1_000_000, help="Random latents scored against every tile, each turned eight ways."
    ),
    model: str = typer.Option(
        AUTO, metavar="NAME|DIR", help="Shipped model or model folder; auto: the largest field that the frame covers."
    ),
    noise: str = typer.Option("auto", help="auto, poisson, gaussian, gaussian:S, poisson-gaussian (S in the file's units)."),
    sampling: float | None = typer.Option(None, metavar="Å/px", help="Pixel size where the file carries none, or another."),
    engine: str = typer.Option("auto", help="auto, onnxruntime, torch."),
    device: str = typer.Option("auto", help="auto, cpu, cuda; what is asked for is never replaced."),
    seed: int = typer.Option(0, min=0, help="Seed of the restarts."),
    estimate: str = typer.Option("mean", help="mean over distinct restarts, or map: the single best, refined longer."),
    score: bool = typer.Option(True, help="Score the result against a blur and a flat image on counts held out (as long again)."),
    intervals: str = typer.Option("", metavar="LEVELS", help="Also write half-widths of these intervals, of 50,90,99 per cent."),
    atoms: bool = typer.Option(False, "--atoms", help="Find atom columns and test each: NAME_atoms.csv and a picture."),
    fdr: float = typer.Option(0.05, min=0.001, max=0.5, help="False-discovery rate of the columns called present."),
    report: bool = typer.Option(False, "--report", help="Write report.html, one file for the run, into the output folder."),
    strict: bool = typer.Option(False, "--strict", help="Exit code 1 if the generator cannot explain a frame (p < 0.01)."),
    laplace: str = typer.Option("none", help="Laplace variance in the raw spread: none, sampled or exact (slow)."),
    method: str = typer.Option("gdn", help="gdn, or original: the study's search, for comparison (hours a frame)."),
    original_steps: str = typer.Option("10,1500,10000", help="Restarts, steps of each, final steps of --method original."),
    residual: bool = typer.Option(True, help="Add what the data significantly say beyond the generator."),
    resume: bool = typer.Option(False, help="Skip files whose results are complete and from the same settings."),
    no_cache: bool = typer.Option(False, "--no-cache", help="Neither read nor write the bank of restarts on disk."),
    threads: int | None = typer.Option(None, min=1, help="CPU threads [default: all cores]."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object per frame on stdout, nothing else there."),
) -> int:
    """Denoise frames: writes NAME_denoised.tif, NAME_spread.tif and NAME.json for each NAME.tif.

    The spread is the half-width of the interval that holds the truth in 68 of 100 pixels. NAME.json says whether the
    generator explains the frame, and whether the result beats a plain filter on counts that it has not seen.

    Example: gdn denoise night1/*.tif --restarts 4096 -o clean
    """
    from gdn.engines.base import EngineError
    from gdn.engines.choose import choose, open_engine
    from gdn.frames.noise import parse_noise
    from gdn.models import ModelError
    from gdn.report.files import Job
    from gdn.report.ledger import Ledger
    from gdn.search.bank import CacheError, bank_for
    from gdn.search.family import members
    from gdn.search.original import parse_steps
    from gdn.search.tiles import settings_for
    from gdn.trust.fit import REFUSED
    from gdn.trust.judge import JudgeSettings, levels_of

    if sampling is not None and not 0 < sampling < 1000:
        raise UsageFault(f"--sampling {sampling:g}: must be positive, in Å per pixel")
    if method not in ("gdn", "original"):
        raise UsageFault(f"--method {method}: gdn or original")
    paths = expand(files)
    try:
        noise_model = parse_noise(noise)
        settings = settings_for(estimate, residual, laplace)
        judging = JudgeSettings(score and method == "gdn", atoms, fdr, seed, levels_of(intervals))
        original = parse_steps(original_steps) if method == "original" else None
        models = members(model)
        choose(engine, device)
    except (ModelError, EngineError, ValueError) as error:
        raise UsageFault(str(error)) from None
    if output is not None:
        writable_folder(output)
    plan = _plan(paths, output)
    ledger = Ledger(report)
    # The original method draws its own few restarts.
    count = restarts if original is None else 1
    run = Run(
        models,
        lambda found: open_engine(found, engine, device, threads),
        lambda opened, progress: bank_for(opened, seed, count, use_cache=not no_cache, progress=progress),
        partial(
            Job, seed=seed, settings=settings, noise=noise_model, noise_text=noise, sampling_angstrom=sampling, original=original,
            judging=judging, witness=ledger,
        ),
    )  # fmt: skip
    try:
        failures = _run(plan, run, sampling, resume, as_json)
    except (EngineError, CacheError) as error:
        raise UsageFault(str(error)) from None
    for line in failures:
        print(f"gdn: {line}", file=sys.stderr)
    if len(failures) and len(paths) > 1:
        print(f"gdn: {len(failures)} of {len(paths)} files failed; the others are done", file=sys.stderr)
    for words in ledger.words():
        print(f"gdn: {words}", file=sys.stderr)
    if report and ledger.entries:  # after --resume with nothing left to do the former page stays
        _report((output or paths[0].parent) / "report.html", ledger, run, judging, seed, count)
    unlike = sum(e.row["explained_p"] is not None and e.row["explained_p"] < REFUSED for e in ledger.entries)
    if strict and unlike:
        print(f"gdn: --strict: the generator cannot explain {unlike} of {len(ledger.entries)} frames", file=sys.stderr)
    return 1 if failures or (strict and unlike) else 0


def _report(path: Path, ledger: Ledger, run: Run, judging: JudgeSettings, seed: int, restarts: int) -> None:
    """Write the page of the run."""
    import platform
    import shlex

    from gdn import __version__
    from gdn.report import html

    facts = [
        ("command", shlex.join(["gdn", *sys.argv[1:]])),
        ("model", "; ".join(f"{m.card.name}, sha256 {m.hash}" for m in run.models)),
        ("seed and restarts", f"{seed}, {restarts}"),
        ("search", str(run.job.keywords["settings"])),
        ("judgement", str(judging)),
        ("versions", f"gdn {__version__}, Python {platform.python_version()}, {platform.platform()}"),
    ]
    html.write_report(path, html.Run(f"gdn: {len(ledger.entries)} frames", facts), ledger)
    print(f"gdn: report: {path}", file=sys.stderr)


@dataclass(frozen=True)
class Run:
    """How the engine, the bank and the job of a file are made, once they are needed."""

    models: list[Model]
    open_engine: Callable[[Model], Engine]
    open_bank: Callable[[Engine, Callable[[int, int], None]], Bank]
    job: partial[Job]  # wants the engine and the bank


def _plan(paths: list[Path], output: Path | None) -> list[tuple[Path, Outputs]]:
    """Each input with its outputs. Raises UsageFault where two inputs would share a name."""
    from gdn.report.files import outputs_for

    seen: dict[Path, Path] = {}
    plan: list[tuple[Path, Outputs]] = []
    for path in paths:
        outputs = outputs_for(path, output)
        other = seen.setdefault(outputs.denoised, path)
        if other != path:
            raise UsageFault(f"{path} and {other} would both be written to {outputs.denoised}; denoise them in two runs")
        plan.append((path, outputs))
    return plan


def _run(plan: list[tuple[Path, Outputs]], run: Run, sampling: float | None, resume: bool, as_json: bool) -> list[str]:
    """Denoise every file; returns a line for each that failed. Raises EngineError or CacheError: no file could be done."""
    from gdn.engines.base import EngineError
    from gdn.frames.files import read_frames
    from gdn.report.files import denoise_file, is_done
    from gdn.search.bank import CacheError
    from gdn.search.family import Family

    failures = []
    with (
        progress_bar("denoising", len(plan)) as update,
        Family(
            run.models,
            run.open_engine,
            lambda e: run.open_bank(e, lambda n, of: update(0, text=f"bank of restarts: {n} of {of}")),
        ) as family,
    ):
        for number, (path, outputs) in enumerate(plan):
            text = f"{path.name} ({number + 1}/{len(plan)})"
            update(number, text=text)
            try:
                frames = read_frames(path)
                job = run.job(*family.fitting(frames.frame_shape, frames.sampling(sampling)))
                update(number, text=text)
                if resume and is_done(path, outputs, job):
                    continue
                rows = denoise_file(frames, outputs, job, lambda share, n=number: update(n + share))  # type: ignore[misc]
            except (ValueError, OSError, MemoryError, EngineError) as error:
                if isinstance(error, EngineError | CacheError) and not family.opened:
                    raise  # bad usage: no file could be done
                failures.append(_failure(path, error))
                continue
            for row in rows:
                print(json.dumps(row) if as_json else _line(row), flush=True)
    return failures


def _failure(path: Path, error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename or path}: {error.strerror}"
    return text if str(path) in text or isinstance(error, OSError) else f"{path}: {text or 'out of memory'}"


def _line(row: dict[str, object]) -> str:
    noise = row["noise"]
    assert isinstance(noise, dict)
    warnings = row["warnings"]
    assert isinstance(warnings, list)
    tail = "".join(f"; warning: {w}" for w in warnings)
    level = f"read noise {noise['read_noise']:.3g}" if noise["kind"] == "gaussian" else f"{noise['dose']:.3g} e/px in vacuum"
    return f"{row['input']} [{row['frame']}] -> {row['output']} ({noise['kind']}, {level}, {row['seconds']} s){tail}"
