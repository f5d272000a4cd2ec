"""`gdn denoise`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gdn.batch.inputs import Named, Planned, gather, plan
from gdn.batch.inputs import watch as watch_folder
from gdn.batch.run import BatchRun, Tally, process, refusals
from gdn.batch.terminal import UsageFault, usage_fault
from gdn.cli.adapting import SECONDS, adapted_groups
from gdn.cli.common import need, writable_folder
from gdn.cli.config import load, text_of, typed_or_loaded
from gdn.cli.help import INPUT, MACHINE, OUTPUT, SEARCH, TRUST, Grouped
from gdn.cli.run_files import RunFiles
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
        callback=typed_or_loaded,
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
    channel: int | None = typer.Option(
        None,
        min=0,
        metavar="N",
        help="Channel to denoise, from 0, where a file has several (TIFF, OME, Zarr, HDF5).",
        rich_help_panel=INPUT,
    ),
    summed: bool = typer.Option(
        False,
        "--sum",
        help="Denoise the sum of a movie's frames instead of each frame.",
        rich_help_panel=INPUT,
    ),
    recursive: bool = typer.Option(
        False,
        "--recursive",
        help="Look for files in the subfolders of a folder too; results go into subfolders of the "
        "same names.",
        rich_help_panel=INPUT,
    ),
    null: bool = typer.Option(
        False,
        "-0",
        "--null",
        help="Names on standard input end with a zero byte, as 'find -print0' writes them.",
        rich_help_panel=INPUT,
    ),
    partial: bool = typer.Option(
        False,
        "--partial",
        help="Take the frames that are there of a file that is cut off; without it such a file "
        "fails.",
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
        help="Number type of the results: float32, float16, or uint16 or uint8 with a scale; "
        "refused where it is too coarse for the spread.",
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
    adapt: bool = typer.Option(
        False,
        "--adapt",
        help="First learn from the frames themselves: a network tuned on them joins the "
        "candidates. Files of one pixel size and noise are one recording, each stack is one.",
        rich_help_panel=SEARCH,
    ),
    adapt_seconds: float = typer.Option(
        SECONDS, min=1, help="Learn from a recording for so long.", rich_help_panel=SEARCH
    ),
    adapt_steps: int | None = typer.Option(
        None, min=1, help="Learn exactly so many steps instead.", rich_help_panel=SEARCH
    ),
    adapted: Path | None = typer.Option(
        None,
        metavar="DIR",
        help="Use what 'gdn adapt' left, in place of --adapt; needs no torch.",
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
    """Denoise frames: writes NAME_denoised.tif, NAME_spread.tif and NAME_gdn.json for NAME.tif.

    The spread is the half-width of the interval that holds the truth in 68 of 100 pixels. The JSON
    says whether the generator explains the frame, and whether the result beats a plain filter on
    counts that it has not seen. gdn-summary.csv has a line for every frame. Only results of gdn's
    own of the same input are ever replaced.

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
    from gdn.models import ModelError, find_any
    from gdn.pipeline.denoise_file import FileSettings
    from gdn.pipeline.open_models import models_named
    from gdn.pipeline.options import Options
    from gdn.pipeline.output_files import OutputStyle
    from gdn.pipeline.pixel_sizes import COARSEST, FINEST
    from gdn.report.ledger import Ledger
    from gdn.trust.judge import levels_of

    if sampling is not None and not FINEST <= sampling <= COARSEST:
        raise UsageFault(
            f"--sampling {sampling:g}: Å per pixel, from {FINEST:g} to {COARSEST:g} (1 nm is 10 Å)"
        )
    _check_source(files, watch, cluster)
    _check_fill(fill, dtype)
    if adapt:
        _check_adapt(watch, adapted, method)
    inputs = gather(files, recursive, null) if files else []
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
            channel=channel,
            summed=summed,
            partial=partial,
            style=OutputStyle(kind, dtype),
        )
        models = models_named(model)
        if adapted is not None:
            models.append(find_any(str(adapted)))
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
    tally = Tally()
    planned = _planned(inputs, run, tally)
    if watch is None and not planned:
        return 1
    own = RunFiles(
        output or watch or inputs[0].path.parent,
        text_of(context),
        [watch] if watch is not None else [path for path, _ in inputs],
        resume or overwrite,
        report,
    )
    own.write_settings()
    try:
        if watch is not None:
            found = watch_folder(watch, output, reading.style, idle)
            _process(found, None, cluster, run, ledger, tally)
        elif adapt:
            learning = adapt_seconds, adapt_steps, seed, threads
            with adapted_groups(planned, reading, options, learning) as groups:
                for files_of_group, tuned in groups:
                    its = replace(run, models=[*models, tuned]) if tuned is not None else run
                    _process(iter(files_of_group), files_of_group, cluster, its, ledger, tally)
        else:
            _process(iter(planned), planned, cluster, run, ledger, tally)
    finally:  # also of what was done before Ctrl-C
        own.write_summary(tally.rows)
    _say(tally, ledger)
    own.write_report(ledger, run, tally.skipped)
    if strict and ledger.unlike:
        print(
            f"gdn: --strict: the generator cannot explain {ledger.unlike} of "
            f"{ledger.frames} frames",
            file=sys.stderr,
        )
    return 1 if tally.failed or (strict and ledger.unlike) else 0


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


def _check_fill(fill: str, dtype: str) -> None:
    """Raises UsageFault where the results cannot hold what is to stand for pixels left out."""
    if fill == "nan" and dtype.startswith("uint"):
        raise UsageFault(
            f"--fill nan: {dtype} holds no NaN; choose --dtype float32, or --fill model"
        )


def _check_adapt(watch: Path | None, adapted: Path | None, method: str) -> None:
    """Raises UsageFault where there is nothing to learn from yet, or no use for it."""
    need("torch", "adapt")
    if watch is not None:
        raise UsageFault("--adapt learns from all frames first: not together with --watch")
    if adapted is not None:
        raise UsageFault("--adapt learns, --adapted takes what was learned: one of them")
    if method != "gdn":
        raise UsageFault(f"--adapt: not with --method {method}, which mixes nothing")


def _planned(inputs: list[Named], run: BatchRun, tally: Tally) -> list[Planned]:
    """Each input with its results. Those that may not be written are said and counted at once,
    before the work begins. Raises UsageFault."""
    planned = plan(inputs, run.folder, run.files.style)
    refused = refusals(planned, run)
    for line in refused.values():
        print(f"gdn: {line}", file=sys.stderr)
    tally.refuse(len(refused))
    return [one for one in planned if one.path not in refused]


def _process(
    found: Iterator[Planned],
    planned: list[Planned] | None,
    cluster: str | None,
    run: BatchRun,
    ledger: Ledger,
    tally: Tally,
) -> None:
    """Denoise every file: those of a folder as they come (`planned` is None), on a cluster, or
    here. Raises UsageFault."""
    from gdn.engines.base import EngineError
    from gdn.storage import CacheError

    try:
        if cluster is not None and planned is not None:
            from gdn.cluster.denoise_files import process_on

            process_on(cluster, planned, run, ledger, tally)
            return
        total = None if planned is None else tally.files + len(planned)
        process(found, total, run, tally)
    except (EngineError, CacheError) as error:
        raise usage_fault(error) from None


def _say(tally: Tally, ledger: Ledger) -> None:
    """What became of the files, on stderr."""
    for line in tally.failures:
        print(f"gdn: {line}", file=sys.stderr)
    if tally.failed and tally.files > 1:
        print(
            f"gdn: {tally.failed} of {tally.files} files failed; the others are done",
            file=sys.stderr,
        )
    if tally.skipped:
        print(f"gdn: {tally.skipped} of {tally.files} files were complete already", file=sys.stderr)
    left_out = sum(row["noise"] is None for row in tally.rows)
    if left_out:
        print(
            f"gdn: {left_out} of {len(tally.rows)} frames could not be denoised; they are flat in "
            "the results",
            file=sys.stderr,
        )
    for words in ledger.words():
        print(f"gdn: {words}", file=sys.stderr)
