"""From a run to a model folder: folded graphs in ONNX, checked against torch before they are kept."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from gdn import __version__
from gdn.engines.base import OUTPUTS
from gdn.engines.folded import PullBack, PushForward
from gdn.engines.step import INPUTS as STEP_INPUTS
from gdn.engines.step import GaussNewton
from gdn.models import MODEL_SCHEMA, ModelCard, load_model, sha256_of
from gdn.training.export_check import GRADIENT_INPUTS, compare, example, step_example, tangents
from gdn.training.folding import fold
from gdn.training.graphs import export_graph, replace_folder, round_to_half, share_weights, store
from gdn.training.networks import Encoder, Generator
from gdn.training.recipe import Recipe

GRID_WIDTH = 1200  # px


@dataclass(frozen=True)
class ExportReport:
    """What was compared: the largest differences between onnxruntime and torch."""

    folder: Path
    generator_error: float
    gradient_error: float
    encoder_error: float | None
    size_bytes: int


class EncoderMean(nn.Module):
    """(noisy image with vacuum 1, sigma) -> latent mean, through the inverse of the generator's flow if it has one."""

    def __init__(self, encoder: Encoder, generator: Generator) -> None:
        super().__init__()
        self.encoder, self.intensity_scale = encoder, generator.network.intensity_scale
        self.flow, self.stem_latent = generator.flow, generator.network.stem_latent

    def forward(self, image: Tensor, sigma: Tensor) -> Tensor:
        mean: Tensor = self.encoder((image - 1) / self.intensity_scale, sigma / self.intensity_scale)[0]
        if self.flow is None:
            return mean
        # The flow alone and not the generator: the graph is to hold no more weights than it needs.
        return torch.cat([self.flow.inverse(mean[:, : self.stem_latent])[0], mean[:, self.stem_latent :]], 1)


def export_model(
    generator: Generator,
    encoder: Encoder | None,
    recipe: Recipe,
    training: dict[str, Any],
    out: Path,
    fp16: bool = False,
    history: Path | None = None,
) -> ExportReport:
    """Write, check and only then keep a model folder. Raises ValueError if a graph disagrees with torch.

    `history` is the run (or model) folder whose statistics and last sample grid go along.
    """
    n = recipe.network
    about: dict[str, Any] = {"latent": n.latent, "patch": n.patch, "channels": n.channels}
    work = out.with_name(f".{out.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        _write_weights(work / "weights.safetensors", generator, encoder)
        folded = fold(generator.eval().float().cpu(), n.intensity_scale)
        round_to_half(folded)
        reference = PullBack(folded)
        dtype = torch.float16 if fp16 else torch.float32
        inputs = example(about, 2, dtype)
        graph = PullBack(fold(generator, n.intensity_scale)).to(dtype) if fp16 else reference
        _write_graphs(graph, inputs, work)
        mean = None
        if encoder is not None:
            mean = round_to_half(EncoderMean(encoder.eval().float().cpu(), generator)).eval()
            exported = EncoderMean(encoder, generator).to(dtype) if fp16 else mean
            export_graph(exported, (inputs[1], inputs[3]), ["image", "sigma"], ["z"], work / "encoder.onnx")
            mean = mean.float()
        if n.channels == 1:  # frames have one
            step = GaussNewton(graph.generator, n.patch)
            export_graph(step, step_example(about, 2), list(STEP_INPUTS), list(OUTPUTS["step"]), work / "step.onnx")
        if fp16:  # what may not be rounded: objectives, gradients, final images
            _write_graphs(reference, example(about, 2, torch.float32), work, "exact-")
        for path in work.glob("*.onnx"):
            store(path, halve=not fp16 or path.name.startswith("exact-"))
        share_weights(work)
        errors = compare(work, reference.float(), mean, about, "fp16" if fp16 else "fp32")
        if fp16:
            errors |= {f"exact {k}": v for k, v in compare(work, reference, None, about, "fp32", "exact-").items()}
        _copy_history(history, work)
        _write_card(work, out.name, recipe, training, "fp16" if fp16 else "fp32", errors)
        load_model(work)
        replace_folder(work, out)
        size = sum(p.stat().st_size for p in out.iterdir())
        return ExportReport(out, errors["generator"], errors["gradient"], errors.get("encoder"), size)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_graphs(graph: PullBack, inputs: tuple[Tensor, ...], work: Path, prefix: str = "") -> None:
    """The generator and the products of its Jacobian."""
    export_graph(graph.generator, inputs[:1], ["z"], ["x"], work / f"{prefix}generator.onnx")
    export_graph(graph, inputs, GRADIENT_INPUTS, ["x", "dz"], work / f"{prefix}gradient.onnx")
    push, along = PushForward(graph.generator), (inputs[0], tangents(inputs[0]))
    export_graph(push, along, ["z", "t"], ["jt"], work / f"{prefix}tangent.onnx")


def _copy_history(history: Path | None, work: Path) -> None:
    """The run's `stats.jsonl` and its last sample grid, as `grid.png`, to be looked at: not as large as it was."""
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
def _write_weights(path: Path, generator: Generator, encoder: Encoder | None) -> None:
    """Training weights as float16 safetensors: what a later run starts from, and torch evaluates."""
    from safetensors.torch import save_file

    tensors = {f"generator.{k}": v for k, v in generator.state_dict().items()}
    if encoder is not None:
        tensors |= {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    # Batch norm's buffers stay float32: their variances underflow in half precision.
    stored = {}
    for name, tensor in tensors.items():
        value = tensor.detach().cpu()
        if value.is_floating_point() and value.ndim >= 2:
            tensor.copy_(value.half())  # what is exported is what is stored
            value = value.half()
        stored[name] = value.contiguous()
    save_file(stored, str(path))
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)  # the library writes it for its owner's eyes only


def _write_card(
    work: Path, name: str, recipe: Recipe, training: dict[str, Any], precision: str, errors: dict[str, float]
) -> None:
    files = {p.name: sha256_of(p) for p in sorted(work.iterdir())}
    n = recipe.network
    card = ModelCard(
        schema_version=MODEL_SCHEMA, name=name, latent=n.latent, patch=n.patch, channels=n.channels,
        sampling_angstrom=n.sampling_angstrom,
        specimen=recipe.specimen.card(),
        precision="fp16" if precision == "fp16" else "fp32", recipe=recipe.model_dump(mode="json"),
        training=training | {"gdn": __version__, "torch": torch.__version__, "export_error": errors}, files=files,
    )  # fmt: skip
    (work / "model.json").write_text(json.dumps(card.model_dump(mode="json"), indent=1) + "\n")
