"""From a run to a model folder: folded graphs in ONNX, checked against torch before they are kept."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from gdn import __version__
from gdn.engines.base import OUTPUTS
from gdn.engines.folded import PullBack, PushForward
from gdn.engines.step import INPUTS as STEP_INPUTS
from gdn.engines.step import GaussNewton
from gdn.models import MODEL_SCHEMA, ModelCard, Specimen, load_model, sha256_of
from gdn.models.graphs import complete_graph
from gdn.training.folding import fold
from gdn.training.graphs import export_graph, replace_folder, round_to_half, share_weights, store
from gdn.training.networks import Encoder, Generator
from gdn.training.recipe import Recipe

GRID_WIDTH = 1200  # px
CHECKED = 64  # random latents compared with torch
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2}  # largest difference allowed, vacuum units


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


def _example(card: dict[str, Any], n: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Inputs of the gradient graph: random latents and Poisson counts."""
    rng = torch.Generator().manual_seed(11)
    shape = (n, card["channels"], card["patch"], card["patch"])
    z = torch.randn(n, card["latent"], generator=rng)
    y = torch.poisson(torch.full(shape, 19.0), generator=rng)
    scale = torch.full((n,), 19.0)
    # `factor` is another tensor with other values: one tensor given twice would become one input.
    parameters = (scale, torch.zeros(shape), scale - 2, torch.tensor(1.0), torch.tensor(0.0))
    return tuple(t.to(dtype) for t in (z, y, torch.ones(shape), *parameters))


def _tangents(z: Tensor) -> Tensor:
    """Three random directions for each latent, (n, 3, d)."""
    rng = torch.Generator().manual_seed(12)
    return torch.randn(len(z), 3, z.shape[1], generator=rng).to(z.dtype)


def _step_example(card: dict[str, Any], n: int) -> tuple[Tensor, ...]:
    """Inputs of the step graph, single precision always."""
    z, y, w, *_, alpha, beta = _example(card, n, torch.float32)
    nuisance = torch.tensor([np.log(19.0), 0.0, 0.0, 0.0], dtype=torch.float32).repeat(n, 1)
    return z, nuisance, y, w, alpha, beta, torch.tensor(100.0), torch.tensor([0.0, 100.0, 2500.0, 2500.0]).repeat(n, 1)


GRADIENT_INPUTS = ["z", "y", "w", "scale", "shift", "factor", "alpha", "beta"]


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
        inputs = _example(about, 2, dtype)
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
            export_graph(step, _step_example(about, 2), list(STEP_INPUTS), list(OUTPUTS["step"]), work / "step.onnx")
        if fp16:  # what may not be rounded: objectives, gradients, final images
            _write_graphs(reference, _example(about, 2, torch.float32), work, "exact-")
        for path in work.glob("*.onnx"):
            store(path, halve=not fp16 or path.name.startswith("exact-"))
        share_weights(work)
        errors = _compare(work, reference.float(), mean, about, "fp16" if fp16 else "fp32")
        if fp16:
            errors |= {f"exact {k}": v for k, v in _compare(work, reference, None, about, "fp32", "exact-").items()}
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
    push, along = PushForward(graph.generator), (inputs[0], _tangents(inputs[0]))
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


def _compare(
    work: Path, reference: PullBack, mean: nn.Module | None, about: dict[str, Any], precision: str, prefix: str = ""
) -> dict[str, float]:
    """Largest differences of onnxruntime's outputs from torch's on random latents."""
    import onnxruntime

    dtype = torch.float16 if precision == "fp16" else torch.float32
    inputs = _example(about, CHECKED, dtype)
    with torch.no_grad():
        x, dz = reference(*(t.float() for t in inputs))

    def run(name: str, feed: dict[str, Tensor]) -> list[np.ndarray[Any, Any]]:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # of half precision the CPU has not every kernel: it says so of each
        content = complete_graph(work, name, shared=True)
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        found: list[np.ndarray[Any, Any]] = session.run(None, {k: v.numpy() for k, v in feed.items()})
        return [f.astype(np.float32) for f in found]

    feed = dict(zip(GRADIENT_INPUTS, inputs, strict=True))
    errors = {"generator": float(np.abs(run(f"{prefix}generator", {"z": inputs[0]})[0] - x.numpy()).max())}
    got_x, got_dz = run(f"{prefix}gradient", feed)
    # The median over latents: where a ReLU's input is zero to the last bit, the two runtimes may take
    # different sides of the kink, and that latent's gradient jumps without either being wrong.
    apart = np.linalg.norm(got_dz - dz.numpy(), axis=1) / np.linalg.norm(dz.numpy(), axis=1)
    errors["gradient"] = float(np.median(apart))
    errors["gradient_p90"] = float(np.percentile(apart, 90))
    t = _tangents(inputs[0])
    with torch.no_grad():
        pushed = PushForward(reference.generator)(inputs[0].float(), t.float()).numpy().reshape(CHECKED, -1)
    got = run(f"{prefix}tangent", {"z": inputs[0], "t": t})[0].reshape(CHECKED, -1)
    errors["tangent"] = float(np.median(np.linalg.norm(got - pushed, axis=1) / np.linalg.norm(pushed, axis=1)))
    if not prefix and about["channels"] == 1:
        example = _step_example(about, CHECKED)
        with torch.no_grad():
            direction = GaussNewton(reference.generator, about["patch"])(*example)[0].numpy()
        got = run("step", dict(zip(STEP_INPUTS, example, strict=True)))[0]
        errors["step"] = float(np.median(np.linalg.norm(got - direction, axis=1) / np.linalg.norm(direction, axis=1)))
    errors["generator"] = max(errors["generator"], float(np.abs(got_x - x.numpy()).max()))
    if mean is not None:
        image, sigma = inputs[1] / 19, torch.full_like(inputs[3], 0.23)
        with torch.no_grad():
            z = mean(image.float(), sigma.float()).numpy()
        errors["encoder"] = float(np.abs(run("encoder", {"image": image, "sigma": sigma})[0] - z).max())
    worst = max(
        errors["generator"], errors["gradient"], errors["tangent"], errors.get("step", 0.0), 0.01 * errors["gradient_p90"]
    )
    if not worst < TOLERANCE[precision]:
        shown = ", ".join(f"{name} {value:.2g}" for name, value in errors.items())
        raise ValueError(f"the exported graphs differ from torch ({shown}; allowed {TOLERANCE[precision]:g}); not kept")
    return errors


def _write_card(
    work: Path, name: str, recipe: Recipe, training: dict[str, Any], precision: str, errors: dict[str, float]
) -> None:
    files = {p.name: sha256_of(p) for p in sorted(work.iterdir())}
    n = recipe.network
    card = ModelCard(
        schema_version=MODEL_SCHEMA, name=name, latent=n.latent, patch=n.patch, channels=n.channels,
        sampling_angstrom=n.sampling_angstrom, shared_weights=True,
        specimen=Specimen(material="Pt nanoparticles on CeO2", voltage_kv=300.0),
        precision="fp16" if precision == "fp16" else "fp32", recipe=recipe.model_dump(mode="json"),
        training=training | {"gdn": __version__, "torch": torch.__version__, "export_error": errors}, files=files,
    )  # fmt: skip
    (work / "model.json").write_text(json.dumps(card.model_dump(mode="json"), indent=1) + "\n")
