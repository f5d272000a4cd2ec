"""An adapted restorer as a model folder: the graph of the one that it began from, weights of its
own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from gdn import __version__
from gdn.generator.restorer_network import Restorer, RestorerShape
from gdn.models import MODEL_SCHEMA, RestorerCard, RestorerModel, load_any, sha256_of
from gdn.storage import writing

NAME = "adapted"


def network_of(model: RestorerModel) -> Restorer:
    """The network of a restorer's folder, in single precision. Raises ValueError where its weights
    are of another shape."""
    from safetensors.torch import load_file

    shape = RestorerShape(**{name: tuple(value) for name, value in model.card.shape.items()})
    network = Restorer(shape)
    weights = load_file(str(model.folder / "weights.safetensors"))
    try:
        network.load_state_dict({name: value.float() for name, value in weights.items()})
    except RuntimeError as error:
        words = " ".join(str(error).split())[:160]
        raise ValueError(f"{model.folder}: not the weights of its shape ({words})") from None
    return network


def write_adapted(
    base: RestorerModel, weights: dict[str, Tensor], learned: dict[str, Any], out: Path
) -> RestorerModel:
    """The folder `out` with the graph of `base`, `weights` in half precision, and in its model.json
    what was `learned` from what. Raises OSError."""
    from safetensors.torch import save

    with writing(out) as work:
        work.mkdir(parents=True)
        half = {name: value.detach().half().contiguous() for name, value in weights.items()}
        (work / "weights.safetensors").write_bytes(save(half))
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
