"""From a restorer's weights to its model folder: `weights.safetensors` in half precision, and a
graph without weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from gdn import __version__
from gdn.engines.onnx_session import open_session
from gdn.generator.loading import read_restorer, write_restorer
from gdn.generator.onnx_files import OPSET, quiet_onnx_export, round_to_half
from gdn.generator.restorer_network import Restorer, RestorerShape, moments
from gdn.models import (
    GENERAL,
    MODEL_SCHEMA,
    SLOTS,
    RestorerCard,
    SpecimenCard,
    load_any,
    sha256_of,
)
from gdn.models.graphs import restorer_graph
from gdn.storage import write_json, writing

WEIGHTS, ABOUT = "restore.safetensors", "restore.json"  # what a training of a restorer leaves
# largest difference from torch, as a share of the largest difference of the image from its mean
TOLERANCE = 1e-4
SIZES = ((4, 6), (9, 5), (16, 16))  # sides of the images compared, in multiples of the least


class _Standardised(Restorer):
    """The network alone, with frames and images in standardised units. The caller standardises the
    whole frame, because the network may see one window at a time."""

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """See Restorer.restore."""
        return self.restore(frames, mask)


def is_restorer(source: Path) -> bool:
    """Whether a folder contains the result of a restorer's training."""
    return (source / WEIGHTS).is_file() and (source / ABOUT).is_file()


def export_restorer(weights: Path, description: dict[str, Any], out: Path) -> float:
    """Write the model folder and compare it with torch before it is put in place. Returns the
    largest difference, as a share of the image's largest difference from its mean.

    `weights`: safetensors with the names of `Restorer().state_dict()`. `description`: `shape` (of
    `RestorerShape.record`), `sampling_angstrom`, and entries for the record: `recipe`, `seeds`,
    counts. Raises ValueError if they do not belong together or if the graph disagrees with torch.
    """
    network = read_restorer(weights, description, ABOUT)
    round_to_half(network.eval())
    out.parent.mkdir(parents=True, exist_ok=True)
    with writing(out) as work:
        work.mkdir()
        write_restorer(work / "weights.safetensors", network.state_dict())
        _write_graph(network, work / "restorer.onnx")
        error = _compare(network, work)
        if not error < TOLERANCE:
            raise ValueError(
                f"{weights}: the exported graph differs from torch by {error:.2g}; not kept"
            )
        _write_card(network.shape, description, error, work, out.name)
        load_any(work)
        return error


def _write_graph(network: Restorer, path: Path) -> None:
    """ONNX for frames whose sides are any multiples of the least, without the weights, which are
    referred to by their names in torch."""
    multiple = network.shape.multiple
    alone = _Standardised(network.shape).eval()
    alone.load_state_dict(network.state_dict())
    rows, columns = (
        multiple * torch.export.Dim(name, min=2, max=4096) for name in ("rows", "columns")
    )
    inputs = _example(network, (4, 6))
    with quiet_onnx_export():
        program = torch.onnx.export(
            alone,
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=["frames", "mask"],
            output_names=["clean"],
            dynamic_shapes=({2: rows, 3: columns}, {2: rows, 3: columns}),
            verbose=False,
            optimize=False,
        )
    assert program is not None
    model = program.model_proto
    graph, names = model.graph, set(network.state_dict())
    missing = names - {tensor.name for tensor in graph.initializer}
    if missing:
        raise ValueError(
            f"the exporter renamed weights ({', '.join(sorted(missing)[:3])}); the graph "
            "cannot share them"
        )
    own = [tensor for tensor in graph.initializer if tensor.name not in names]
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(own)
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.save(model, str(path))


def _example(network: Restorer, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Counts of a frame of `size` multiples in slot 0, a fainter one with a hole in slot 1, and
    nothing in the other slots."""
    rng = torch.Generator().manual_seed(11)
    shape = [1, SLOTS, *(network.shape.multiple * n for n in size)]
    wave = 1 + 0.3 * torch.sin(torch.arange(shape[3]) / 2.0)
    frames, mask = (
        torch.poisson((20 * wave).expand(shape).contiguous(), generator=rng),
        torch.zeros(shape),
    )
    mask[:, :2] = 1
    mask[:, 1, :4, :4] = 0
    return frames * mask, mask


@torch.no_grad()
def _compare(network: Restorer, work: Path) -> float:
    """Largest difference between onnxruntime and torch over images of several sizes."""
    session = open_session(restorer_graph(work))
    differences = []
    for size in SIZES:
        frames, mask = _example(network, size)
        expected = network(frames, mask).numpy()
        mean, deviation = (value.numpy() for value in moments(frames, mask))
        feed = {"frames": (frames.numpy() - mean) / deviation, "mask": mask.numpy()}
        image = mean + deviation * session.run(None, feed)[0]
        scale = max(
            float(np.abs(expected - expected.mean()).max()), 1e-3 * float(np.abs(expected).max())
        )
        differences.append(float(np.abs(image - expected).max()) / scale)
    return max(differences)


def _write_card(
    shape: RestorerShape, description: dict[str, Any], error: float, work: Path, name: str
) -> None:
    training = {
        key: value
        for key, value in description.items()
        if key not in ("shape", "sampling_angstrom", "recipe", "metrics")
    }
    recipe = description.get("recipe", {})
    card = RestorerCard(
        schema_version=MODEL_SCHEMA,
        kind="restorer",
        name=name,
        shape=shape.record(),
        slots=SLOTS,
        multiple=shape.multiple,
        sampling_angstrom=description.get("sampling_angstrom", 0.35),
        specimen=SpecimenCard(material=GENERAL),
        recipe=recipe if isinstance(recipe, dict) else {"name": str(recipe)},
        training=training | {"gdn": __version__, "torch": torch.__version__, "export_error": error},
        metrics=description.get("metrics", {}),
        files={p.name: sha256_of(p) for p in sorted(work.iterdir())},
    )
    write_json(work / "model.json", card.model_dump(mode="json"))
