"""From a run of the recipe 'unet' to a comparator's folder: `unet.onnx` and `unet.json`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gdn import __version__
from gdn.engines.onnx_session import open_session
from gdn.generator.onnx_files import OPSET, quiet_onnx_export, round_to_half, store
from gdn.models import sha256_of
from gdn.recipes import Recipe
from gdn.storage import write_json, writing
from gdn.training.state import State
from gdn.training.unet_network import UNet

TOLERANCE = 1e-3  # vacuum units


class _Scaled(nn.Module):
    """Noisy frame with vacuum 1 -> clean frame with vacuum 1."""

    def __init__(self, unet: UNet, intensity_scale: float) -> None:
        super().__init__()
        self.unet, self.intensity_scale = unet, intensity_scale

    def forward(self, image: Tensor) -> Tensor:
        """The denoised frame."""
        y: Tensor = self.unet((image - 1) / self.intensity_scale)
        return 1 + self.intensity_scale * y


def is_unet(run: Path) -> bool:
    """Whether a run folder holds a U-Net."""
    return bool(json.loads((run / "recipe.json").read_text())["recipe"]["loss"]["kind"] == "unet")


def export_unet(run: Path, out: Path) -> float:
    """Write the folder and compare it with torch before it is put in place. Returns the largest
    difference, vacuum units.

    Raises ValueError if the graph disagrees or the run has no checkpoint.
    """
    if not (run / "checkpoint.pt").is_file():
        raise ValueError(f"{run}: no checkpoint.pt in it; 'gdn train' makes one")
    recipe = Recipe.model_validate(json.loads((run / "recipe.json").read_text())["recipe"])
    state = State(recipe, "cpu")
    state.load(run / "checkpoint.pt", "cpu")
    assert isinstance(state.average, UNet)
    network = recipe.network
    graph = _Scaled(state.average.eval().float(), network.intensity_scale)
    round_to_half(graph)
    out.parent.mkdir(parents=True, exist_ok=True)
    with writing(out) as work:
        work.mkdir()
        _write_graph(graph, work / "unet.onnx", 2 ** (network.scales - 1))
        error = _compare(graph, work / "unet.onnx")
        if not error < TOLERANCE:
            raise ValueError(
                f"{run}: the exported U-Net differs from torch by {error:.2g}; not kept"
            )
        if (run / "stats.jsonl").exists():
            shutil.copyfile(run / "stats.jsonl", work / "stats.jsonl")
        description = {
            "schema_version": 1,
            "kind": "unet",
            "scales": network.scales,
            "sampling_angstrom": network.sampling_angstrom,
            "recipe": recipe.model_dump(mode="json"),
            "images": state.images,
            "seconds": round(state.seconds),
            "gdn": __version__,
            "torch": torch.__version__,
            "files": {"unet.onnx": sha256_of(work / "unet.onnx")},
        }
        write_json(work / "unet.json", description)
        return error


def _write_graph(graph: nn.Module, path: Path, multiple: int) -> None:
    """ONNX for frames whose sides are multiples of `multiple` px."""
    rows, columns = (
        multiple * torch.export.Dim(name, min=2, max=4096) for name in ("rows", "columns")
    )
    with quiet_onnx_export():
        program = torch.onnx.export(
            graph,
            (torch.ones(1, 1, 6 * multiple, 8 * multiple),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["clean"],
            dynamic_shapes=({2: rows, 3: columns},),
            verbose=False,
            optimize=False,
        )
    assert program is not None
    program.save(str(path))
    store(path)


def _compare(graph: nn.Module, path: Path) -> float:
    image = torch.rand(1, 1, 160, 96, generator=torch.Generator().manual_seed(0)) + 0.5
    session = open_session(path)
    with torch.no_grad():
        return float(
            np.abs(session.run(None, {"image": image.numpy()})[0] - graph(image).numpy()).max()
        )
