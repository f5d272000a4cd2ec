"""From a run to a model folder: folded graphs in ONNX, checked against torch before they are
stored."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from gdn import __version__
from gdn.engines.base import OUTPUTS
from gdn.generator.encoder_mean import EncoderMean
from gdn.generator.folded import PullBack, PushForward
from gdn.generator.folding import fold
from gdn.generator.gauss_newton import INPUTS as STEP_INPUTS
from gdn.generator.gauss_newton import GaussNewton
from gdn.generator.loading import round_weights, write_weights
from gdn.generator.networks import Encoder, Generator
from gdn.generator.onnx_files import (
    export_graph,
    round_to_half,
    share_weights,
    store,
)
from gdn.models import MODEL_SCHEMA, ModelCard, load_model, sha256_of
from gdn.recipes import Recipe
from gdn.storage import write_json, writing
from gdn.training.export_check import GRADIENT_INPUTS, compare, example, step_example, tangents

GRID_WIDTH = 1200  # px


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """An exported model.

    - `folder`: of the model.
    - `generator_error`, `gradient_error`, `encoder_error`: largest differences between onnxruntime
      and torch (None: there is no encoder).
    - `size_bytes`: of the folder.
    """

    folder: Path
    generator_error: float
    gradient_error: float
    encoder_error: float | None
    size_bytes: int


@dataclass(frozen=True)
class Trained:
    """How a model was trained: its `recipe`; `training`, as on its card; and `history`, the folder
    of the run (or model) from which statistics and the last sample grid are copied."""

    recipe: Recipe
    training: dict[str, Any]
    history: Path | None = None


def export_model(
    generator: Generator, encoder: Encoder | None, trained: Trained, out: Path, fp16: bool = False
) -> ExportReport:
    """Write and check a model folder, and put it in place only if it is right. Raises ValueError if
    a graph disagrees with torch."""
    recipe = trained.recipe
    n = recipe.network
    sizes: dict[str, Any] = {"latent": n.latent, "patch": n.patch, "channels": n.channels}
    out.parent.mkdir(parents=True, exist_ok=True)
    with writing(out) as work:
        work.mkdir()
        round_weights(generator, encoder)
        write_weights(work / "weights.safetensors", generator, encoder)
        folded = fold(generator.eval().float().cpu(), n.intensity_scale)
        round_to_half(folded)
        reference = PullBack(folded)
        dtype = torch.float16 if fp16 else torch.float32
        inputs = example(sizes, 2, dtype)
        graph = PullBack(fold(generator, n.intensity_scale)).to(dtype) if fp16 else reference
        _write_graphs(graph, inputs, work)
        mean = None
        if encoder is not None:
            mean = round_to_half(EncoderMean(encoder.eval().float().cpu(), generator)).eval()
            exported = EncoderMean(encoder, generator).to(dtype) if fp16 else mean
            export_graph(
                exported, (inputs[1], inputs[3]), ["image", "sigma"], ["z"], work / "encoder.onnx"
            )
            mean = mean.float()
        if n.channels == 1:  # frames have one
            step = GaussNewton(graph.generator, n.patch)
            export_graph(
                step,
                step_example(sizes, 2),
                list(STEP_INPUTS),
                list(OUTPUTS["step"]),
                work / "step.onnx",
            )
        if fp16:  # what may not be rounded: objectives, gradients, final images
            _write_graphs(reference, example(sizes, 2, torch.float32), work, "exact-")
        for path in work.glob("*.onnx"):
            store(path, halve=not fp16 or path.name.startswith("exact-"))
        share_weights(work)
        errors = compare(work, reference.float(), mean, sizes, "fp16" if fp16 else "fp32")
        if fp16:
            errors |= {
                f"exact {k}": v
                for k, v in compare(work, reference, None, sizes, "fp32", "exact-").items()
            }
        _copy_history(trained.history, work)
        _write_card(work, out.name, trained, "fp16" if fp16 else "fp32", errors)
        load_model(work)
        size = sum(p.stat().st_size for p in work.iterdir())
        return ExportReport(
            folder=out,
            generator_error=errors["generator"],
            gradient_error=errors["gradient"],
            encoder_error=errors.get("encoder"),
            size_bytes=size,
        )


def _write_graphs(
    graph: PullBack, inputs: tuple[Tensor, ...], work: Path, prefix: str = ""
) -> None:
    """The generator and the products of its Jacobian."""
    export_graph(graph.generator, inputs[:1], ["z"], ["x"], work / f"{prefix}generator.onnx")
    export_graph(graph, inputs, GRADIENT_INPUTS, ["x", "dz"], work / f"{prefix}gradient.onnx")
    push, along = PushForward(graph.generator), (inputs[0], tangents(inputs[0]))
    export_graph(push, along, ["z", "t"], ["jt"], work / f"{prefix}tangent.onnx")


def _copy_history(history: Path | None, work: Path) -> None:
    """Copy the run's `stats.jsonl` and its last sample grid, as `grid.png` of reduced size, for the
    reader."""
    if history is None:
        return
    if (history / "stats.jsonl").exists():
        shutil.copyfile(history / "stats.jsonl", work / "stats.jsonl")
    grids = sorted(history.glob("grids/*.png")) or sorted(history.glob("grid.png"))
    for path in grids[-1:]:
        with Image.open(path) as grid:
            grid.thumbnail((GRID_WIDTH, GRID_WIDTH))
            grid.save(work / "grid.png", optimize=True)


@torch.no_grad()
def _write_card(
    work: Path, name: str, trained: Trained, precision: str, errors: dict[str, float]
) -> None:
    files = {p.name: sha256_of(p) for p in sorted(work.iterdir())}
    recipe = trained.recipe
    n = recipe.network
    card = ModelCard(
        schema_version=MODEL_SCHEMA,
        name=name,
        latent=n.latent,
        patch=n.patch,
        channels=n.channels,
        sampling_angstrom=n.sampling_angstrom,
        specimen=recipe.specimen.card(),
        precision="fp16" if precision == "fp16" else "fp32",
        recipe=recipe.model_dump(mode="json"),
        training=trained.training
        | {"gdn": __version__, "torch": torch.__version__, "export_error": errors},
        files=files,
    )
    write_json(work / "model.json", card.model_dump(mode="json"))
