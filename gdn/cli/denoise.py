"""`gdn denoise`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gdn.batch.run import BatchRun, Tally, gather, plan, process, watched
from gdn.batch.terminal import UsageFault, usage_fault
from gdn.cli.common import need, writable_folder
from gdn.cli.config import NAME, load, text_of
from gdn.cli.help import INPUT, MACHINE, OUTPUT, SEARCH, TRUST, Grouped
from gdn.engines.table import ENGINE_HELP
from gdn.models import AUTO

if TYPE_CHECKING:  # the heavy imports wait until the arguments are known to be good
    from gdn.report.ledger import Ledger


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("denoise", cls=Grouped)(denoise)


def denoise(
    context: typer.Context,
    files: list[str] | None = typer.Argument(
        None,
        metavar="FILES",
        help="Files of frames, or folders of such files. Wildcards are expanded; - reads "
        "names from standard input.",
        rich_help_panel=INPUT,
    ),
    sampling: float | None = typer.Option(
        None,
        metavar="Å/px",
        help="Pixel size: needed where the file has none, used instead where it has one.",
        rich_help_panel=INPUT,
    ),
    dataset: str | None = typer.Option(
        None,
        metavar="NAME",
        help="Name of the image to read, where a file holds several; in a TIFF, the "
        "number of the series.",
        rich_help_panel=INPUT,
    ),
    summed: bool = typer.Option(
        False,
        "--sum",
        help="Denoise the sum of a movie's frames instead of each frame.",
        rich_help_panel=INPUT,
    ),
    mask: Path | None = typer.Option(
        None,
        metavar="FILE",
        help="Image of the frames' shape, not zero where a pixel is no count (beam stop, "
        "dead part of the detector): left out of every frame.",
        rich_help_panel=INPUT,
    ),
    watch: Path | None = typer.Option(
        None,
        metavar="DIR",
        help="Denoise the files that are written into a folder, each once it is complete, "
        "until Ctrl-C.",
        rich_help_panel=INPUT,
    ),
    idle: float | None = typer.Option(
        None,
        "--watch-idle",
        min=0,
        metavar="SECONDS",
        help="End --watch when no new file has come for so long.",
        rich_help_panel=INPUT,
    ),
    output: Path | None = typer.Option(
        None,
        "-o",
        "--output",
        metavar="DIR",
        help="Folder for results [default: beside each input].",
        rich_help_panel=OUTPUT,
    ),
    kind: str = typer.Option(
        "tif",
        "--format",
        help="File format of the results: tif, mrc, zarr, or same (as the input).",
        rich_help_panel=OUTPUT,
    ),
    dtype: str = typer.Option(
        "float32",
        help="Number type of the results: float32, float16, uint16 or uint8 (rounded, clipped).",
        rich_help_panel=OUTPUT,
    ),
    fill: str = typer.Option(
        "model",
        help="What the results hold where pixels were left out: model (as the search fills "
        "them in), or nan.",
        rich_help_panel=OUTPUT,
    ),
    report: bool = typer.Option(
        False,
        "--report",
        help="Write report.html, one file for the run, into the output folder.",
        rich_help_panel=OUTPUT,
    ),
    as_json: bool = typer.Option(
        False,
        "--json",
        help="Print one JSON object per frame on standard output, and nothing else.",
        rich_help_panel=OUTPUT,
    ),
    overwrite: bool = typer.Option(
        False,
        "--overwrite",
        help="Replace existing results; without it they are kept.",
        rich_help_panel=OUTPUT,
    ),
    resume: bool = typer.Option(
        False,
        help="Skip files that have complete results of the same settings.",
        rich_help_panel=OUTPUT,
    ),
    restarts: int = typer.Option(
        256,
        min=1,
        max=1_000_000,
        help="Random starting points of the search, compared with every part of the frame.",
        rich_help_panel=SEARCH,
    ),
    model: str = typer.Option(
        AUTO,
        metavar="NAME|DIR",
        help="Shipped model or model folder, or several with commas between. auto: the "
        "shipped generator that explains the frame "
        "best, mixed with filters and the shipped restorer as far as they help on "
        "electrons held out.",
        rich_help_panel=SEARCH,
    ),
    noise: str = typer.Option(
        "auto",
        help="auto, poisson, gaussian, gaussian:S or poisson-gaussian; S is the standard "
        "deviation in the file's units.",
        rich_help_panel=SEARCH,
    ),
    estimate: str = typer.Option(
        "mean",
        help="mean: the average over what the search finds, the better image. map: the "
        "single best find, refined longer.",
        rich_help_panel=SEARCH,
    ),
    seed: int = typer.Option(0, min=0, help="Seed of the restarts.", rich_help_panel=SEARCH),
    residual: bool = typer.Option(
        True,
        help="Add what the counts clearly show and the generator cannot draw.",
        rich_help_panel=SEARCH,
    ),
    laplace: str = typer.Option(
        "none",
        help="Add the Laplace variance to the spread before calibration: none, sampled or "
        "exact (slow).",
        rich_help_panel=SEARCH,
    ),
    method: str = typer.Option(
        "gdn",
        help="gdn, or original: the search of the study that gdn began with, to compare "
        "with (hours a frame).",
        rich_help_panel=SEARCH,
    ),
    original_steps: str = typer.Option(
        "10,1500,10000",
        help="For --method original: restarts, steps of each, steps of the best.",
        rich_help_panel=SEARCH,
    ),
    score: bool = typer.Option(
        True,
        help="Score the result against a blur and a flat image on counts held out; takes "
        "half as long again.",
        rich_help_panel=TRUST,
    ),
    atoms: bool = typer.Option(
        False,
        "--atoms",
        help="Find atom columns and test each: NAME_atoms.csv and a picture.",
        rich_help_panel=TRUST,
    ),
    fdr: float = typer.Option(
        0.05,
        min=0.001,
        max=0.5,
        help="False-discovery rate of the columns called present.",
        rich_help_panel=TRUST,
    ),
    intervals: str = typer.Option(
        "",
        metavar="LEVELS",
        help="Also write the half-widths of these intervals, in per cent: any of 50,68,90,99.",
        rich_help_panel=TRUST,
    ),
    strict: bool = typer.Option(
        False,
        "--strict",
        help="Exit code 1 if the generator cannot explain a frame (p < 0.01).",
        rich_help_panel=TRUST,
    ),
    engine: str = typer.Option("auto", help=ENGINE_HELP, rich_help_panel=MACHINE),
    device: str = typer.Option(
        "auto",
        help="auto, cpu, cuda or tensorrt. One that you ask for is used, or it is an error.",
        rich_help_panel=MACHINE,
    ),
    require_gpu: bool = typer.Option(
        False, "--require-gpu", help="Fail rather than run on the CPU.", rich_help_panel=MACHINE
    ),
    threads: int | None = typer.Option(
        None, min=1, help="CPU threads [default: all cores].", rich_help_panel=MACHINE
    ),
    cluster: str | None = typer.Option(
        None,
        metavar="ADDRESS|local:N",
        help="Share the files out among Dask workers (docs/scaling.md).",
        rich_help_panel=MACHINE,
    ),
    no_cache: bool = typer.Option(
        False,
        "--no-cache",
        help="Do not keep the bank of restarts on disk, nor use one kept there.",
        rich_help_panel=MACHINE,
    ),
    config: Path | None = typer.Option(
        None,
        metavar="FILE",
        is_eager=True,
        callback=load,
        help="Read settings from a TOML file, such as the gdn-run.toml that every run writes.",
        rich_help_panel=MACHINE,
    ),
) -> int:
    """Denoise frames: writes NAME_denoised.tif, NAME_spread.tif and NAME.json for each NAME.tif.

    The spread is the half-width of the interval that holds the truth in 68 of 100 pixels. NAME.json
    says whether the generator explains the frame, and whether the result beats a plain filter on
    counts that it has not seen.

    \b
    Examples:
      gdn denoise night1/*.tif --restarts 4096 -o clean
      gdn denoise frame.dm4 --atoms --report -o clean
      gdn denoise movie.tif --sum --sampling 0.061
      gdn denoise --watch /data/today -o clean
      gdn denoise night1 -o clean --resume          (goes on where it stopped)
      gdn denoise night1 -o clean --cluster tcp://head:8786
    """
    from gdn.engines.base import EngineError
    from gdn.frames.pixel_mask import read_mask
    from gdn.models import ModelError
    from gdn.pipeline.denoise_file import FileSettings
    from gdn.pipeline.open_models import models_named
    from gdn.pipeline.options import Options
    from gdn.pipeline.output_files import OutputStyle
    from gdn.report.ledger import Ledger
    from gdn.storage import writing
    from gdn.trust.judge import levels_of

    if sampling is not None and not 0 < sampling < 1000:
        raise UsageFault(f"--sampling {sampling:g}: must be positive, in Å per pixel")
    if fill == "nan" and dtype.startswith("uint"):
        raise UsageFault(
            f"--fill nan: {dtype} holds no NaN; choose --dtype float32, or --fill model"
        )
    _check_source(files, watch, cluster)
    paths = gather(files) if files else []
    try:
        options = Options(
            restarts=restarts,
            seed=seed,
            engine=engine,
            device=device,
            threads=threads,
            require_gpu=require_gpu,
            cache=not no_cache,
            noise=noise,
            mask=None if mask is None else read_mask(mask),
            fill=fill,
            estimate=estimate,
            residual=residual,
            laplace=laplace,
            method=method,
            original_steps=original_steps,
            score=score,
            atoms=atoms,
            fdr=fdr,
            intervals=levels_of(intervals),
        )
        reading = FileSettings(
            sampling_angstrom=sampling,
            dataset=dataset,
            summed=summed,
            style=OutputStyle(kind, dtype),
        )
        models = models_named(model)
        options.check_models(models)
    except (ModelError, EngineError, ValueError) as error:
        raise usage_fault(error) from None
    if output is not None:
        writable_folder(output)
    ledger = Ledger(keep=report)

    run = BatchRun(
        models=models,
        options=options,
        files=reading,
        folder=output,
        witness=ledger,
        resume=resume,
        overwrite=overwrite,
        as_json=as_json,
    )
    place = output or watch or paths[0].parent
    with writing(place / NAME) as temporary:
        temporary.write_text(text_of(context), encoding="utf-8")
    tally = _processed(paths, watch, idle, cluster, run, ledger)
    _say(tally, ledger)
    if report and ledger.frames:  # after --resume with nothing left to do the former page stays
        _report(place / "report.html", ledger, run, tally.skipped)
    if strict and ledger.unlike:
        print(
            f"gdn: --strict: the generator cannot explain {ledger.unlike} of "
            f"{ledger.frames} frames",
            file=sys.stderr,
        )
    return 1 if tally.failures or (strict and ledger.unlike) else 0


def _check_source(files: list[str] | None, watch: Path | None, cluster: str | None) -> None:
    """Raises UsageFault where it is not clear what is to be denoised, or it cannot be done
    there."""
    if bool(files) == (watch is not None):
        raise UsageFault("nothing to denoise: give FILES, or --watch DIR, and not both")
    if cluster is not None:
        need("distributed", "cluster")
        if watch is not None:
            raise UsageFault("--watch waits for files on this machine: not together with --cluster")
    if watch is not None and not watch.is_dir():
        raise UsageFault(f"--watch {watch}: no such folder")


def _processed(
    paths: list[Path],
    watch: Path | None,
    idle: float | None,
    cluster: str | None,
    run: BatchRun,
    ledger: Ledger,
) -> Tally:
    """Every file denoised: those of a folder as they come, on a cluster, or here. Raises
    UsageFault."""
    from gdn.engines.base import EngineError
    from gdn.storage import CacheError

    try:
        if watch is not None:
            return process(watched(watch, run, idle), None, run)
        if cluster is not None:
            from gdn.cluster.denoise_files import process_on

            return process_on(cluster, plan(paths, run), run, ledger)
        return process(iter(plan(paths, run)), len(paths), run)
    except (EngineError, CacheError) as error:
        raise usage_fault(error) from None


def _say(tally: Tally, ledger: Ledger) -> None:
    """What became of the files, on stderr."""
    failures = tally.failures
    for line in failures:
        print(f"gdn: {line}", file=sys.stderr)
    if failures and tally.files > 1:
        print(
            f"gdn: {len(failures)} of {tally.files} files failed; the others are done",
            file=sys.stderr,
        )
    if tally.skipped:
        print(f"gdn: {tally.skipped} of {tally.files} files were complete already", file=sys.stderr)
    for words in ledger.words():
        print(f"gdn: {words}", file=sys.stderr)


def _report(path: Path, ledger: Ledger, run: BatchRun, skipped: int) -> None:
    """Write the page of the run."""
    import platform
    import shlex

    from gdn import __version__
    from gdn.report import html

    facts = [
        ("command", shlex.join(["gdn", *sys.argv[1:]])),
        ("model", "; ".join(f"{m.card.name}, sha256 {m.hash}" for m in run.models)),
        ("seed and restarts", f"{run.options.seed}, {run.options.bank_size}"),
        ("search", str(run.options.search)),
        ("judgement", str(run.options.judging)),
        (
            "versions",
            f"gdn {__version__}, Python {platform.python_version()}, {platform.platform()}",
        ),
    ]
    if skipped:
        facts.insert(
            0,
            (
                "not on this page",
                f"{skipped} files whose results were complete before this run (--resume)",
            ),
        )
    html.write_report(path, html.ReportedRun(f"gdn: {ledger.frames} frames", facts), ledger)
    print(f"gdn: report: {path}", file=sys.stderr)
