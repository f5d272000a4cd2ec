"""The description of a model for the BioImage Model Zoo: `rdf.yaml` beside its whole graph.

Format 0.5 (Ouyang et al. 2022). The file is JSON, which is YAML too, so that no package is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn import __version__
from gdn.models import Model, RestorerModel, sha256_of
from gdn.storage import write_json, write_text, writing

Tensors = dict[str, NDArray[np.float32]]

FILE = "rdf.yaml"
FORMAT_VERSION = "0.5.4"
OPSET = 20
SIDE = 64  # px, of the restorer's test image
SEED = 0
HOME = "https://bioimage.io"  # whose tools read the file


@dataclass(frozen=True, kw_only=True)
class _Described:
    """A graph as the model zoo describes it.

    - `graph`: its name.
    - `page`: the text of its page.
    - `inputs`, `outputs`: without test tensors.
    - `test`: inputs to test it with.
    """

    graph: str
    page: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    test: Tensors


def describe_model(model: Model | RestorerModel, folder: Path) -> Path:
    """Write `rdf.yaml`, the page README.md, and test tensors into the `folder` that holds the
    model's whole graphs. Returns the path of `rdf.yaml`."""
    from gdn.engines.onnx_session import open_session

    described = _restorer(model) if isinstance(model, RestorerModel) else _generator(model)
    path = folder / f"{described.graph}.onnx"
    results = open_session(path).run(None, described.test)
    names = [output["id"] for output in described.outputs]
    tensors = described.test | dict(zip(names, results, strict=True))
    for row in [*described.inputs, *described.outputs]:
        source = folder / f"test_{row['id']}.npy"
        with writing(source) as temporary:
            np.save(temporary, np.asarray(tensors[row["id"]], np.float32))
        row["test_tensor"] = {"source": source.name, "sha256": sha256_of(source)}
        row["data"] = {"type": "float32"}
    write_text(folder / "README.md", described.page)
    content = {
        "type": "model",
        "format_version": FORMAT_VERSION,
        "name": f"gdn {model.card.name}",
        "description": described.page.splitlines()[2],
        "version": __version__,
        "license": "MIT",
        "authors": [{"name": "the gdn authors"}],
        "cite": [{"text": "gdn", "url": HOME}],
        "documentation": "README.md",
        "tags": [
            "denoising",
            "electron-microscopy",
            "transmission-electron-microscopy",
            "crystals",
        ],
        "inputs": described.inputs,
        "outputs": described.outputs,
        "weights": {
            "onnx": {"source": path.name, "sha256": sha256_of(path), "opset_version": OPSET}
        },
    }
    write_json(folder / FILE, content)
    return folder / FILE


def _page(name: str, line: str, text: str) -> str:
    validation = "gdn's documentation compares it with other methods, on frames of known truth."
    parts = [
        f"# {name}",
        line,
        text,
        "## Validation",
        validation,
        f"Made by gdn {__version__}, MIT.",
    ]
    return "\n\n".join(parts) + "\n"


def _space(name: str, size: Any) -> dict[str, Any]:
    # In pixels: bioimageio.core rounds a size down that refers to another by scales such as 0.35.
    return {"type": "space", "id": name, "size": size}


def _batch(count: int | None) -> dict[str, Any]:
    return {"type": "batch"} if count is None else {"type": "batch", "size": count}


def _channel(names: list[str]) -> dict[str, Any]:
    return {"type": "channel", "channel_names": names}


def _restorer(model: RestorerModel) -> _Described:
    card = model.card
    multiple, sampling = card.multiple, card.sampling_angstrom
    frames = ["frame", *(f"neighbour{n}" for n in range(1, card.slots))]
    free = {"min": multiple, "step": multiple}
    like = [_space(n, {"tensor_id": "frames", "axis_id": n}) for n in "yx"]
    inputs = [
        {
            "id": "frames",
            "description": "frame, and aligned neighbours or zeros",
            "axes": [_batch(1), _channel(frames), *(_space(n, free) for n in "yx")],
        },
        {
            "id": "mask",
            "description": "1 where a pixel of frames is valid",
            "axes": [_batch(1), _channel(frames), *like],
        },
    ]
    outputs = [
        {
            "id": "clean",
            "description": "expected clean frame",
            "axes": [_batch(1), _channel(["clean"]), *like],
        }
    ]
    rng = np.random.default_rng(SEED)
    shape = (1, card.slots, SIDE, SIDE)
    noisy, mask = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    y, x = np.indices((SIDE, SIDE)) * sampling
    lattice = np.sin(np.pi * y) * np.sin(np.pi * x)  # columns 2 Å apart
    frame = lattice + 0.5 * rng.standard_normal((SIDE, SIDE))
    noisy[0, 0], mask[0, 0] = (frame - frame.mean()) / frame.std(), 1
    page = _page(
        f"gdn {card.name}",
        "Restores electron micrographs of crystals from few electrons.",
        f"Pixels of about {sampling:g} Å. The frame is scaled to mean 0 and standard deviation 1 "
        "over its valid pixels; neighbours are scaled alike. The result has the same scale. Frames "
        "that are not there are zeros with mask 0.",
    )
    test = {"frames": noisy, "mask": mask}
    return _Described(graph="restorer", page=page, inputs=inputs, outputs=outputs, test=test)


def _generator(model: Model) -> _Described:
    card = model.card
    size = card.latent
    inputs = [
        {
            "id": "z",
            "description": "latents, N(0, I)",
            "axes": [_batch(None), _channel([f"z{n}" for n in range(size)])],
        }
    ]
    outputs = [
        {
            "id": "x",
            "description": "image, vacuum 1",
            "axes": [
                _batch(None),
                _channel(["image"]),
                *(_space(n, card.patch) for n in "yx"),
            ],
        }
    ]
    z = np.random.default_rng(SEED).standard_normal((1, size)).astype(np.float32)
    material = card.specimen.material
    page = _page(
        f"gdn {card.name}",
        f"Makes clean electron micrographs of {material} from latents.",
        f"Images of {card.patch} px of {card.sampling_angstrom:g} Å, in units of the vacuum level. "
        "To denoise a frame, gdn searches its latents.",
    )
    return _Described(graph="generator", page=page, inputs=inputs, outputs=outputs, test={"z": z})
