"""`gdn export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from gdn.batch.printed import note
from gdn.batch.terminal import UsageFault, progress_bar
from gdn.cli.common import need
from gdn.cli.help import Grouped

if TYPE_CHECKING:
    from gdn.engines.tensorrt_plans import Library


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export", cls=Grouped)(export)


def export(
    source: Path = typer.Argument(
        ...,
        metavar="RUN|MODEL",
        help="Run folder of 'gdn train', a model folder, or a folder with "
        "restore.safetensors and restore.json.",
    ),
    output: Path = typer.Option(
        ...,
        "-o",
        "--output",
        metavar="DIR",
        help="Model folder to write. Its name becomes the name of the model.",
    ),
    fp16: bool = typer.Option(
        False,
        "--fp16",
        help="Make graphs of half precision for the search. The objective and the final "
        "images stay in single precision.",
    ),
    engine: str = typer.Option(
        "onnx",
        help="onnx; or tensorrt: also build plans for this machine's card, or, without a "
        "card, check that they can be built.",
    ),
    calibrate: Path | None = typer.Option(
        None,
        metavar="DATA",
        help="Data set of 'gdn simulate'. Spread, p-values and columns are calibrated on "
        "its validation split (about 5 s of one core per frame). If -o is the model "
        "itself, only its calibration changes.",
    ),
    frames: int = typer.Option(450, min=20, help="Number of frames for --calibrate."),
    workers: int = typer.Option(
        1, min=1, max=1024, help="Processes of one thread each, for --calibrate."
    ),
    whole: bool = typer.Option(
        False,
        "--whole",
        help="Write only the graphs of a model, each with its weights, for other "
        "programs, and rdf.yaml, which describes it in the format of the BioImage Model Zoo. Needs "
        "no torch.",
    ),
) -> int:
    """Make a model folder from a training run.

    The networks are written as ONNX graphs. Nothing is kept unless they agree with torch. A run of
    the recipe unet gives a U-Net's folder for 'gdn evaluate --unet'. The files restore.safetensors
    and restore.json, which the training of a restorer writes, give a restorer's folder.

    \b
    Examples:
      gdn export runs/range -o models/mine --calibrate data --workers 2
      gdn export models/mine -o models/mine --calibrate data      (calibrates in place)
      gdn export runs/range -o models/half --fp16 --engine tensorrt
      gdn export sitting -o models/restore                        (a restorer)
      gdn export pt-ceo2-128 -o graphs --whole                    (for onnxruntime alone)
    """
    if engine not in ("onnx", "tensorrt"):
        raise UsageFault(f"--engine {engine}: onnx or tensorrt")
    if whole:
        if fp16 or calibrate is not None or engine != "onnx":
            raise UsageFault(
                "--whole writes a model's graphs unchanged; it cannot be used with --fp16, "
                "--calibrate or --engine"
            )
        _whole(str(source), output)
        return 0
    library = _library() if engine == "tensorrt" else None  # before the work, not after it
    need("torch", "train")
    need("onnxscript", "train")
    if calibrate is not None and source.resolve() == output.resolve():
        _calibrate(output, calibrate, frames, workers)
        if library is not None:
            _plans(output, library)
        return 0
    from gdn.training.export_restorer import is_restorer
    from gdn.training.export_unet import export_unet, is_unet
    from gdn.training.state import is_run

    if is_restorer(source):
        _restorer(source, output)
        return 0
    if is_run(source) and is_unet(source):
        error = export_unet(source, output)
        print(
            f"{output}: a U-Net comparator; onnxruntime differs from torch by at most "
            f"{error:.2g} of the vacuum level"
        )
        return 0
    _generator(source, output, fp16)
    if calibrate is not None:
        _calibrate(output, calibrate, frames, workers)
    if library is not None:
        _plans(output, library)
    return 0


def _generator(source: Path, output: Path, fp16: bool) -> None:
    """Make a generator's folder of a run's, or of a model's. Raises UsageFault for another
    folder."""
    from gdn.generator.loading import networks_of_model
    from gdn.training.export import Trained, export_model
    from gdn.training.state import networks_of_run

    if (source / "model.json").exists():
        from gdn.models import load_model

        generator, encoder, recipe = networks_of_model(source)
        training = dict(load_model(source).card.training)
    elif (source / "recipe.json").exists():
        generator, encoder, recipe, training = networks_of_run(source, print)
    else:
        raise UsageFault(
            f"{source}: neither a run folder (recipe.json) nor a model folder (model.json)"
        )
    report = export_model(generator, encoder, Trained(recipe, training, source), output, fp16)
    print(
        f"{report.folder}: {report.size_bytes / 2**20:.1f} MiB; onnxruntime against "
        "torch on random latents:"
    )
    print(f"  images differ by at most {report.generator_error:.2g} of the vacuum level")
    print(f"  gradients by {report.gradient_error:.2g} of their length (median over latents)")
    if report.encoder_error is not None:
        print(f"  encoded latents by at most {report.encoder_error:.2g}")


def _whole(source: str, output: Path) -> None:
    """Write the graphs of a model, by folder or name, with their weights."""
    from gdn.engines.base import EngineError, Graph, onnx_bytes
    from gdn.engines.bioimage import describe_model
    from gdn.models import Model, ModelError, find_any
    from gdn.models.graphs import restorer_graph
    from gdn.storage import writing

    if (output / "model.json").exists():
        raise UsageFault(f"{output}: is a model folder; --whole needs another folder (-o)")
    try:
        model = find_any(source)
        for name in sorted(n for n in model.card.files if n.endswith(".onnx")):
            graph = cast("Graph", name.removesuffix(".onnx"))
            content = (
                onnx_bytes(model, graph)
                if isinstance(model, Model)
                else restorer_graph(model.folder)
            )
            output.mkdir(parents=True, exist_ok=True)
            with writing(output / name) as temporary:
                temporary.write_bytes(content)
            print(f"{output / name}: {len(content) / 2**20:.1f} MiB")
        print(f"{describe_model(model, output)}: what a BioImage Model Zoo needs to know")
    except (ModelError, EngineError) as fault:
        raise UsageFault(str(fault)) from None
    except ValueError as fault:
        raise UsageFault(f"{source}: {fault}; export the model again") from None


def _restorer(source: Path, output: Path) -> None:
    """Make a restorer's folder."""
    import json

    from gdn.training.export_restorer import ABOUT, WEIGHTS, export_restorer

    try:
        description = json.loads((source / ABOUT).read_text(encoding="utf-8"))
        error = export_restorer(source / WEIGHTS, description, output)
    except ValueError as fault:
        raise UsageFault(f"{source}: {fault}") from None
    size = sum(path.stat().st_size for path in output.iterdir())
    print(
        f"{output}: a restorer, {size / 2**20:.1f} MiB; onnxruntime differs from "
        f"torch by at most {error:.2g} of the contrast"
    )


def _library() -> Library:
    """TensorRT, or UsageFault."""
    from gdn.engines.base import EngineError
    from gdn.engines.tensorrt_plans import load_library

    try:
        return load_library()
    except EngineError as error:
        raise UsageFault(str(error)) from None


def _plans(folder: Path, library: Library) -> None:
    """Build the model's plans: for the card here, or, where there is none, to see that they can be
    built."""
    from gdn.cli.engines import build_all
    from gdn.engines.base import EngineError
    from gdn.engines.cuda_memory import open_device
    from gdn.models import load_model

    try:
        card = open_device()
    except EngineError as error:
        card = None
        note(f"{error}: the plans are built but not kept")
    build_all(load_model(folder), library, card)


def _calibrate(folder: Path, data: Path, frames: int, workers: int) -> None:
    """Calibrate the model in `folder`, in place."""
    from gdn.evaluation.calibration_run import calibrate_folder
    from gdn.evaluation.small_fields import calibrate_small_fields

    with progress_bar("calibrating", frames) as update:
        calibration = calibrate_folder(folder, data, frames, workers, progress=update)
    with progress_bar("calibrating for small fields", frames) as update:
        calibrate_small_fields(folder, data, frames, workers, progress=update)
    factors = ", ".join(f"{factor:.3f}" for factor in calibration.spread.factors)
    print(
        f"{folder}: calibrated on {calibration.frames} frames of {calibration.structures} "
        f"structures; conformal factors {factors}"
    )
