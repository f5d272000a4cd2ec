"""`gdn train`."""

from __future__ import annotations

from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import typer

from gdn.batch.terminal import UsageFault, progress_bar
from gdn.cli.common import need
from gdn.cli.help import INPUT, MACHINE, NETWORK, OUTPUT, Grouped


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train", cls=Grouped)(train)


def train(
    recipe: str = typer.Option(
        "range",
        metavar="NAME|FILE",
        help="Name of a shipped recipe, such as range, range-128, dcgan, unet or "
        "unet-poisson1, or a TOML file.",
        rich_help_panel=NETWORK,
    ),
    data: Path = typer.Option(
        Path("data"),
        help="Data set of 'gdn simulate', or an .npz file with the arrays 'train' and 'test'.",
        rich_help_panel=INPUT,
    ),
    run: Path | None = typer.Option(
        None,
        "-o",
        "--output",
        metavar="DIR",
        help="Run folder [default: runs/RECIPE]. The same command continues a run.",
        rich_help_panel=OUTPUT,
    ),
    resume: bool = typer.Option(
        False, "--resume", help="Stop if there is no run to continue.", rich_help_panel=OUTPUT
    ),
    start: str | None = typer.Option(
        None,
        "--from",
        metavar="MODEL|RUN",
        help="Start from the weights of a model, of a run, or of a folder that "
        "benchmarks/sitting.py wrote.",
        rich_help_panel=NETWORK,
    ),
    latent: int | None = typer.Option(
        None, min=1, help="Override the number of latents.", rich_help_panel=NETWORK
    ),
    patch: int | None = typer.Option(
        None, help="Override the patch size: 32, 64, 128, 256 or 512 px.", rich_help_panel=NETWORK
    ),
    channels: int | None = typer.Option(
        None, help="Override the number of channels: 1 or 3.", rich_help_panel=NETWORK
    ),
    images: int | None = typer.Option(
        None,
        min=1,
        help="Override the length of the run, in images.",
        rich_help_panel=NETWORK,
    ),
    batch: int | None = typer.Option(
        None,
        min=2,
        help="Override the batch size, summed over all processes.",
        rich_help_panel=NETWORK,
    ),
    minutes: float | None = typer.Option(
        None, min=0, help="Save a checkpoint and stop after this time.", rich_help_panel=MACHINE
    ),
    device: str = typer.Option("auto", help="auto, cpu, cuda.", rich_help_panel=MACHINE),
    workers: int = typer.Option(
        0,
        min=0,
        help="Number of further processes that make patches. 0: this process makes them.",
        rich_help_panel=MACHINE,
    ),
    threads: int | None = typer.Option(
        None, min=1, help="CPU threads for the networks.", rich_help_panel=MACHINE
    ),
    status_every: int = typer.Option(
        20_000,
        min=1,
        help="Number of images between two lines of stats.jsonl and between two sample grids.",
        rich_help_panel=OUTPUT,
    ),
    dry_run: bool = typer.Option(
        False,
        "--dry-run",
        help="Print the settings of the run as JSON, and stop.",
        rich_help_panel=OUTPUT,
    ),
) -> int:
    """Train a generator. The run folder has recipe.json, stats.jsonl, grids/ and checkpoint.pt.

    \b
    Examples:
      gdn train --recipe range --data data -o runs/range --minutes 60
      gdn train --recipe range-128 --data data --from pt-ceo2-128 --images 100000
      torchrun --nproc-per-node 4 -m gdn train --data data      (several GPUs)
    """
    chosen = _recipe(recipe, latent, patch, channels, images, batch)
    if dry_run:
        print(chosen.model_dump_json(indent=1))
        return 0
    need("torch", "train")
    import torch

    from gdn.training.loop import RunOptions
    from gdn.training.loop import train as run_training

    folder = run or Path("runs") / chosen.name
    if resume and not (folder / "checkpoint.pt").exists():
        raise UsageFault(f"{folder}: nothing to resume (no checkpoint.pt)")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageFault("--device cuda: torch sees no CUDA device")
    with ExitStack() as stack:

        @cache
        def bar() -> Any:
            # From the first step on, which also makes the first patches: its time tells nothing.
            return stack.enter_context(progress_bar("training", chosen.optimiser.images))

        options = RunOptions(
            run=folder,
            data=data,
            device=device,
            workers=workers,
            threads=threads,
            minutes=minutes,
            status_every=status_every,
            report=lambda row: print(_line(row), flush=True),
            progress=lambda images: bar()(images),
            start_from=_start_folder(start),
        )
        state = run_training(chosen, options)
    print(
        f"{folder}: {state.images:,} images seen; 'gdn export {folder} -o MODEL' "
        "makes a model of it"
    )
    return 0


def _start_folder(start: str | None) -> Path | None:
    """The folder of what to start from: a model by name or folder, a run, or what a sitting left.
    Raises UsageFault."""
    from gdn.models import ModelError, find_model, shipped_models
    from gdn.training.state import is_run

    if start is not None and start not in shipped_models() and is_run(Path(start)):
        return Path(start)
    try:
        return None if start is None else find_model(start).folder
    except ModelError as error:
        raise UsageFault(str(error)) from None


def _recipe(
    name: str,
    latent: int | None,
    patch: int | None,
    channels: int | None,
    images: int | None,
    batch: int | None,
) -> Any:
    """The recipe with the command line's overrides. Raises UsageFault."""
    from pydantic import ValidationError

    from gdn.recipes import Recipe, load_recipe

    try:
        content = load_recipe(name).model_dump()
    except ValueError as error:
        raise UsageFault(str(error)) from None
    for section, key, value in (
        ("network", "latent", latent),
        ("network", "patch", patch),
        ("network", "channels", channels),
        ("optimiser", "images", images),
        ("optimiser", "batch", batch),
    ):
        if value is not None:
            content[section][key] = value
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageFault(f"--{first['loc'][-1]}: {first['msg']}") from None


def _line(row: dict[str, Any]) -> str:
    parts = [f"{row['images']:>10,} images", f"{row['seconds']:>7.0f} s"]
    parts += [f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, float) and k != "seconds"]
    return "  ".join(parts) + "".join(f"\n  WARNING: {w}" for w in row["warnings"])
