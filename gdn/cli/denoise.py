"""`gdn denoise`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gdn.batch.faults import failure_words
from gdn.batch.inputs import Named, Planned, gather, plan
from gdn.batch.inputs import watch as watch_folder
from gdn.batch.printed import note
from gdn.batch.run import process, refusals
from gdn.batch.settings import BatchRun
from gdn.batch.tally import Tally
from gdn.batch.terminal import UsageFault, usage_fault
from gdn.cli import denoise_file_options as on_files
from gdn.cli import denoise_options as option
from gdn.cli.adapting import adapted_groups, parse_budget
from gdn.cli.common import writable_folder
from gdn.cli.config import text_of
from gdn.cli.denoise_checks import check_adapt, check_source, check_written
from gdn.cli.file_options import Dataset, Sampling
from gdn.cli.help import Grouped
from gdn.cli.hints import say_end
from gdn.cli.run_files import RunFiles
from gdn.models import AUTO
from gdn.pipeline.budget import SECONDS

if TYPE_CHECKING:  # the heavy imports wait until the arguments are known to be good
    from gdn.report.ledger import Ledger


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("denoise", cls=Grouped)(denoise)


def denoise(
    context: typer.Context,
    files: on_files.Files = None,
    sampling: Sampling = None,
    find_sampling: on_files.FindSampling = False,
    dataset: Dataset = None,
    channel: on_files.Channel = None,
    summed: on_files.Summed = False,
    movie: on_files.Movie = "off",
    recursive: on_files.Recursive = False,
    null: on_files.Null = False,
    partial: on_files.Partial = False,
    mask: on_files.Mask = None,
    watch: on_files.Watch = None,
    idle: on_files.Idle = None,
    output: on_files.Output = None,
    kind: on_files.Kind = "tif",
    dtype: on_files.Dtype = "float32",
    fill: on_files.Fill = "model",
    png: on_files.Png = False,
    movie_file: on_files.MovieFile = "",
    report: on_files.Report = False,
    as_json: on_files.AsJson = False,
    overwrite: on_files.Overwrite = False,
    resume: on_files.Resume = False,
    restarts: option.Restarts = 256,
    model: option.Model = AUTO,
    noise: option.Noise = "auto",
    straighten: option.Straighten = "auto",
    estimate: option.Estimate = "mean",
    adapt: option.Adapt = False,
    adapt_seconds: option.AdaptSeconds = SECONDS,
    adapt_steps: option.AdaptSteps = None,
    adapted: option.Adapted = None,
    candidate: option.Candidate = None,
    seed: option.Seed = 0,
    residual: option.Residual = True,
    laplace: option.Laplace = "none",
    method: option.Method = "gdn",
    original_steps: option.OriginalSteps = "10,1500,10000",
    score: option.Score = True,
    atoms: option.Atoms = False,
    fdr: option.Fdr = 0.05,
    intervals: option.Intervals = "",
    strict: option.Strict = False,
    engine: option.Engine = "auto",
    device: option.Device = "auto",
    require_gpu: option.RequireGpu = False,
    threads: option.Threads = None,
    cluster: option.Cluster = None,
    no_cache: option.NoCache = False,
    config: option.Config = None,
) -> int:
    """Denoise frames: writes NAME_denoised.tif, NAME_spread.tif and NAME_gdn.json for NAME.tif.

    The spread is the half-width of the interval that holds the truth in 68 of 100 pixels. The JSON
    says whether the generator explains the frame, and whether the result is better than a plain
    filter on electrons that were held out. gdn-summary.csv has one line for every frame. gdn
    replaces only its own results of the same input.

    \b
    Examples:
      gdn denoise night1/*.tif -o clean
      gdn denoise frame.dm4 --atoms --report -o clean
      gdn denoise movie.tif --movie on --sampling 0.061
      gdn denoise --watch /data/today -o clean
      gdn denoise night1 -o clean --resume          (continues after an interruption)
      gdn denoise night1 -o clean --cluster tls://head:8786
    """
    from gdn.engines.base import EngineError
    from gdn.frames.pixel_mask import read_mask
    from gdn.models import ModelError, learned_models
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
    check_source(files, watch, cluster)
    check_written(fill, dtype, movie_file)
    if adapt:
        budget = parse_budget(adapt_seconds, adapt_steps, "--adapt-steps")
        check_adapt(watch, adapted, method)
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
            find_sampling=find_sampling,
            mask=None if mask is None else read_mask(mask),
            fill=fill,
            estimate=estimate,
            residual=residual,
            laplace=laplace,
            movie=movie,
            straighten=straighten,
            method=method,
            original_steps=original_steps,
            score=score,
            atoms=atoms,
            fdr=fdr,
            intervals=levels_of(intervals),
            candidates=tuple(candidate or ()),
        )
        reading = FileSettings(
            sampling_angstrom=sampling,
            dataset=dataset,
            channel=channel,
            summed=summed,
            partial=partial,
            style=OutputStyle(kind, dtype, png, movie_file),
            straightener=options.straightener,
        )
        models = models_named(model)
        if adapted is not None:
            models += learned_models(adapted)
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
    with own.repeatable():
        try:
            if watch is not None:
                _process(watch_folder(watch, output, reading.style, idle), None, run, ledger, tally)
            elif adapt:
                with adapted_groups(planned, reading, options, budget) as groups:
                    for files_of_group, learned in groups:
                        its = replace(run, models=[*models, *learned])
                        _process(files_of_group, cluster, its, ledger, tally)
            else:
                _process(planned, cluster, run, ledger, tally)
        finally:  # also of what was done before Ctrl-C
            written = _written(lambda: own.write_summary(tally.rows))
    has_learned = adapt or adapted is not None
    say_end(tally, ledger, options, has_learned)
    written &= _written(lambda: own.write_report(ledger, run, tally, has_learned))
    if strict and ledger.unlike:
        note(f"--strict: the generator cannot explain {ledger.unlike} of {ledger.frames} frames")
    return 1 if tally.failed or not written or (strict and ledger.unlike) else 0


def _written(write: Callable[[], None]) -> bool:
    """Whether a file of the run could be written; if not, it is said why: the disk may be full."""
    try:
        write()
    except OSError as error:
        note(failure_words(Path(), error))
        return False
    return True


def _planned(inputs: list[Named], run: BatchRun, tally: Tally) -> list[Planned]:
    """Each input with its results. Those that may not be written are said and counted at once,
    before the work begins. Raises UsageFault."""
    planned = plan(inputs, run.folder, run.files.style)
    refused = refusals(planned, run)
    for line in refused.values():
        note(line)
    tally.refuse(len(refused))
    return [entry for entry in planned if entry.path not in refused]


def _process(
    files: Iterable[Planned],
    cluster: str | None,
    run: BatchRun,
    ledger: Ledger,
    tally: Tally,
) -> None:
    """Denoise every file, on a cluster or here; of a folder that is watched they come one by one.
    Raises UsageFault."""
    from gdn.engines.base import EngineError
    from gdn.storage import CacheError

    try:
        if cluster is not None:
            from gdn.cluster.denoise_files import process_on

            process_on(cluster, list(files), run, ledger, tally)
        else:
            process(files, run, tally)
    except (EngineError, CacheError) as error:
        raise usage_fault(error) from None
