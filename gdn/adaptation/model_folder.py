"""An adapted restorer as a model folder: the graph of the one that it began from, weights of its
own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from gdn import __version__
from gdn.generator.loading import read_restorer, write_restorer
from gdn.generator.restorer_network import Restorer
from gdn.models import MODEL_SCHEMA, RestorerCard, RestorerModel, load_any, sha256_of
from gdn.storage import writing

NAME = "adapted"


def network_of(model: RestorerModel) -> Restorer:
    """The network of a restorer's folder, in single precision. Raises ValueError where its weights
    are of another shape."""
    weights = model.folder / "weights.safetensors"
    return read_restorer(weights, {"shape": model.card.shape}, "model.json")


def write_adapted(
    base: RestorerModel, weights: dict[str, Tensor], learned: dict[str, Any], out: Path
) -> RestorerModel:
    """The folder `out` with the graph of `base`, `weights` in half precision, and in its model.json
    what was `learned` from what. Raises OSError."""
    with writing(out) as work:
        work.mkdir(parents=True)
        write_restorer(work / "weights.safetensors", weights)
        shutil.copyfile(base.folder / "restorer.onnx", work / "restorer.onnx")
        about = base.card.model_dump() | {
            "schema_version": MODEL_SCHEMA,
            "name": NAME,
            "training": {"from": base.card.name, "sha256": base.hash, "gdn": __version__} | learned,
            "metrics": {},
            "files": {path.name: sha256_of(path) for path in sorted(work.iterdir())},
        }
        card = RestorerCard.model_validate(about)
        (work / "model.json").write_text(json.dumps(card.model_dump(mode="json"), indent=1) + "\n")
    model = load_any(out)
    assert isinstance(model, RestorerModel)
    return model
