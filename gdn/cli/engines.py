"""`gdn engines`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from gdn.batch.terminal import UsageFault
from gdn.cli.help import Grouped
from gdn.models import DEFAULT_MODEL, Model

if TYPE_CHECKING:
    from gdn.engines.cuda_memory import Device
    from gdn.engines.tensorrt_plans import Library

group = typer.Typer(
    help="List, build or remove the TensorRT plans in your cache.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(group, name="engines", context_settings={"help_option_names": ["-h", "--help"]})


@group.command("list", cls=Grouped)
def list_() -> int:
    """List the plans in the cache, one per line.

    \b
    Example:
      gdn engines list
    """
    from gdn.engines.tensorrt_plan_cache import kept_plans

    for plan in kept_plans():
        description = plan.description
        words = (
            "damaged; it will be built again"
            if description is None
            else (
                f"{description['graph']} of {description['model'][:12]}, "
                f"{description['precision']}, "
                f"{description['library']} {description['version']}, "
                f"{description['device']} ({description['capability']})"
            )
        )
        print(f"{plan.path.name}  {plan.size / 2**20:.1f} MiB  {words}")
    return 0


@group.command("build", cls=Grouped)
def build(
    model: str = typer.Argument(
        DEFAULT_MODEL, metavar="NAME|DIR", help="Name of a shipped model, or a model folder."
    ),
    library: str | None = typer.Option(
        None, metavar="NAME", help="tensorrt or tensorrt_rtx [default: the first installed]."
    ),
    device: int = typer.Option(0, min=0, metavar="N", help="CUDA device."),
    dry_run: bool = typer.Option(
        False,
        "--dry-run",
        help="Build the plans but do not keep them. With tensorrt_rtx this needs no GPU.",
    ),
) -> int:
    """Build the plans of a model's graphs for this machine's card now, not at the first denoising.

    A model exported with --fp16 gives plans of half precision.

    \b
    Examples:
      gdn engines build pt-ceo2-128
      gdn engines build models/mine --dry-run
    """
    from gdn.engines.base import EngineError
    from gdn.engines.cuda_memory import open_device
    from gdn.engines.tensorrt_plans import LIBRARIES, load_library
    from gdn.models import ModelError, find_model

    if library is not None and library not in LIBRARIES:
        raise UsageFault(f"--library {library}: {' or '.join(LIBRARIES)}")
    try:
        generator, used = find_model(model), load_library(library)
        card = None if dry_run else open_device(device)
    except (ModelError, EngineError) as error:
        raise UsageFault(str(error)) from None
    build_all(generator, used, card)
    return 0


def build_all(model: Model, library: Library, card: Device | None) -> None:
    """Build every graph's plan, for `card` into the cache, or without one just to see that it can
    be built."""
    from gdn.engines.tensorrt import find_or_build_plan
    from gdn.engines.tensorrt_plans import GRAPHS

    for graph in GRAPHS:
        if model.file(f"{graph}.onnx") is not None:
            plan = find_or_build_plan(model, graph, library, card)
            print(
                f"{graph}: {len(plan) / 2**20:.1f} MiB, {library.name} "
                f"{library.version}{'' if card else ', not kept'}"
            )


@group.command("clear", cls=Grouped)
def clear() -> int:
    """Remove all plans from the cache.

    \b
    Example:
      gdn engines clear
    """
    from gdn.engines.tensorrt_plan_cache import clear_plans

    removed = clear_plans()
    print(f"{len(removed)} plans removed, {sum(plan.size for plan in removed) / 2**20:.1f} MiB")
    return 0
