"""What was learned as model folders: the graph of the restorer that it began from, or that of the
small network, and weights of their own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from gdn import __version__
from gdn.generator.loading import read_restorer, write_restorer
from gdn.generator.restorer_network import Restorer, RestorerShape
from gdn.models import ADAPTED, ANEW, MODEL_SCHEMA, RestorerCard, RestorerModel, sha256_of
from gdn.storage import write_json

NOTHING = "nothing"  # what a network came from that was not tuned but began anew
SMALL = RestorerShape((48, 64), (1, 1))  # begins from nothing
SMALL_ANGSTROM = 0.18  # a pixel of it
SMALL_GRAPH = Path(__file__).with_name("small.onnx")  # of SMALL, without weights


def network_of(model: RestorerModel) -> Restorer:
    """The network of a restorer's folder, in single precision. Raises ValueError where its weights
    are of another shape."""
    weights = model.folder / "weights.safetensors"
    return read_restorer(weights, {"shape": model.card.shape}, "model.json")


def write_adapted(
    folder: Path, base: RestorerModel, weights: dict[str, Tensor], description: dict[str, Any]
) -> None:
    """A new `folder` with `weights` in half precision and the graph that they belong to, that of
    `base`, or the small network's where `description` says that it came "from" NOTHING; in its
    model.json what was learned from what (`description`). Raises OSError."""
    small = description["from"] == NOTHING
    folder.mkdir(parents=True)
    write_restorer(folder / "weights.safetensors", weights)
    graph = SMALL_GRAPH if small else base.folder / "restorer.onnx"
    shutil.copyfile(graph, folder / "restorer.onnx")
    origin = {} if small else {"sha256": base.hash}
    changed = {
        "schema_version": MODEL_SCHEMA,
        "name": ANEW if small else ADAPTED,
        "training": origin | {"gdn": __version__} | description,
        "metrics": {},
        "files": {path.name: sha256_of(path) for path in sorted(folder.iterdir())},
    }
    if small:
        changed |= {
            "shape": SMALL.record(),
            "multiple": SMALL.multiple,
            "sampling_angstrom": SMALL_ANGSTROM,
            "recipe": {},
        }
    card = RestorerCard.model_validate(base.card.model_dump() | changed)
    write_json(folder / "model.json", card.model_dump(mode="json"))
