"""Model folders: `model.json`, `weights.safetensors`, `generator.onnx` and their companions.

A folder is believed only if its schema is known, its file names stay inside it and every hash is
right. Nothing in it is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MODEL_SCHEMA: Final = 3  # 2: gradient graph with `factor` and a shift image; a tangent graph. 3: a step graph; shared weights
READ: Final = (2, 3)
DEFAULT_MODEL = "pt-ceo2-128"
FAMILY = ("pt-ceo2-128", "pt-ceo2-64")  # what AUTO chooses from, by the size of the frame
AUTO = "auto"
_LARGEST_FILE = 64 * 2**20  # bytes; a generator of this program has at most 16 MiB


class ModelError(ValueError):
    """A model folder that cannot be used; the message is one line that says why and what to do."""


class Specimen(BaseModel):
    """What the generator has seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    material: str
    voltage_kv: float = Field(gt=0)


class ModelCard(BaseModel):
    """Contents of `model.json`. Intensities: the graphs put out x with the vacuum at `vacuum`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: Literal[2, 3]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)
    latent: int = Field(ge=1, le=65536)
    patch: int = Field(ge=8, le=4096)
    channels: Literal[1, 3] = 1
    sampling_angstrom: float = Field(gt=0, lt=100)
    vacuum: float = 1.0
    specimen: Specimen
    precision: Literal["fp32", "fp16"] = "fp32"
    recipe: dict[str, Any]
    training: dict[str, Any] = Field(description="images and structures seen, seconds, last statistics")
    metrics: dict[str, Any] = Field(default_factory=dict, description="figures on the test split")
    files: dict[str, str] = Field(description="name -> sha256 of every other file of the folder")


@dataclass(frozen=True)
class Model:
    """A verified model folder."""

    folder: Path
    card: ModelCard

    @property
    def hash(self) -> str:
        """sha256 over the hashes of its files: changes if anything that is evaluated changes."""
        text = "".join(f"{name}:{value}\n" for name, value in sorted(self.card.files.items()))
        return hashlib.sha256(text.encode()).hexdigest()

    def file(self, name: str) -> Path | None:
        """Path of a listed file, or None if the model has no such file."""
        return self.folder / name if name in self.card.files else None


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def shipped_models() -> dict[str, Path]:
    """Name -> folder of the models inside the package."""
    root = Path(str(resources.files("gdn.models")))
    return {p.parent.name: p.parent for p in sorted(root.glob("*/model.json"))}


def find_model(name_or_folder: str) -> Model:
    """A shipped model by name, or a model folder. Raises ModelError."""
    shipped = shipped_models()
    if name_or_folder in shipped:
        return load_model(shipped[name_or_folder])
    folder = Path(name_or_folder)
    if not folder.exists():
        raise ModelError(f"{name_or_folder}: no such model; shipped: {', '.join(shipped) or 'none'}; or give a model folder")
    return load_model(folder)


def load_model(folder: Path) -> Model:
    """Read and verify a model folder. Raises ModelError for anything that is not exactly right."""
    path = folder / "model.json"
    if not path.is_file():
        raise ModelError(f"{folder}: not a model folder (it has no model.json); make one with 'gdn export'")
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > 2**20:
            raise ModelError(f"{path}: larger than 1 MiB; not a model.json of this program")
        content = json.loads(text)
        if isinstance(content, dict) and content.get("schema_version") not in READ:
            raise ModelError(
                f"{path}: schema {content.get('schema_version')!r}, this version reads {READ[0]} to {READ[-1]}; export it again"
            )
        card = ModelCard.model_validate(content)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    for name, expected in card.files.items():
        _verify(folder, name, expected)
    for needed in ("weights.safetensors", "generator.onnx"):
        if needed not in card.files:
            raise ModelError(f"{path}: lists no {needed}; export the model again")
    return Model(folder, card)


def _verify(folder: Path, name: str, expected: str) -> None:
    pure = PurePosixPath(name)
    if len(pure.parts) != 1 or pure.is_absolute() or "\\" in name or name in ("..", ".", "model.json"):
        raise ModelError(f"{folder}: model.json lists '{name}', which is not a file inside the folder; refused")
    path = folder / name
    if path.suffix not in (".onnx", ".safetensors", ".json", ".jsonl", ".png"):
        raise ModelError(f"{folder}: model.json lists '{name}', a kind of file that no model has; refused")
    if not path.is_file() or (path.is_symlink() and not path.resolve().is_relative_to(folder.resolve())):
        raise ModelError(f"{path}: missing, or outside the model folder; export or copy the model again")
    if path.stat().st_size > _LARGEST_FILE:
        raise ModelError(f"{path}: larger than {_LARGEST_FILE >> 20} MiB; not a model of this program")
    if sha256_of(path) != expected:
        raise ModelError(f"{path}: its sha256 is not the one in model.json: damaged or altered; copy the model again")
