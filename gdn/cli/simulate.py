"""`gdn simulate`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import typer

from gdn.cli.common import need, progress_bar, writable_folder
from gdn.cli.help import Grouped


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate", cls=Grouped)(simulate)


def simulate(
    out: Path = typer.Argument(..., metavar="OUT", help="Dataset folder; an unfinished one is continued."),
    count: int = typer.Option(..., min=1, help="Number of structures (one exit wave each, about 0.35 MB)."),
    seed: int = typer.Option(..., min=0, help="Seed of the whole dataset."),
    frames: int = typer.Option(0, min=0, help="Also render this many 850x850 px frames at 0.0612 Å/px as TIFF."),
    energy_kv: float = typer.Option(300.0, "--energy-kv", min=1, max=3000, help="Accelerating voltage of the microscope, kV."),
    workers: int = typer.Option(1, min=1, max=1024, help="Processes of one thread each."),
    cluster: str | None = typer.Option(
        None, metavar="ADDRESS|local:N", help="Share the structures out among Dask workers (docs/scaling.md)."
    ),
) -> int:
    """Simulate Pt on CeO2: random structures, multislice exit waves (abTEM), and rendered frames.

    Training renders its images from the exit waves on the fly, so --frames is only for looking and for
    evaluation. One structure in ten belongs to the test split and one to validation, by its seed.
    dataset.json records seed and voltage; 'gdn train' refuses a data set whose voltage is not its recipe's.

    \b
    Examples:
      gdn simulate data --count 1000 --seed 1 --workers 2
      gdn simulate data --count 1000 --seed 1 --frames 40      (adds frames to it)
      gdn simulate data200 --count 1000 --seed 1 --energy-kv 200
      gdn simulate data --count 20000 --seed 1 --cluster tcp://head:8786
    """
    need("abtem", "train")
    from gdn.training.simulation import SimulationPlan
    from gdn.training.simulation import simulate as run

    writable_folder(out)
    if cluster is not None:
        need("distributed", "cluster")
    with ExitStack() as stack:
        runner = None
        if cluster is not None:
            from gdn.cluster.simulate import runner_on

            runner = stack.enter_context(runner_on(cluster))
        update = stack.enter_context(progress_bar("simulating", count + frames))
        paths = run(SimulationPlan(out.resolve(), count, seed, frames, workers, energy_kv), update, runner)
    print(f"{out}: {len(paths)} exit waves, {frames} frames")
    return 0
