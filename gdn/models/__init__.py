"""Model folders: `model.json`, `weights.safetensors`, and the graphs of a generator or of a
restorer.

A folder is believed only if its schema is known, its file names stay inside it and every hash is
right. Nothing in it is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gdn.errors import GdnError

# 2: gradient graph with `factor` and a shift image; a tangent graph. 3: a step graph; shared
# weights. 4: kinds of models. 5: no graph holds large weights
MODEL_SCHEMA: Final = 5
SLOTS = 5  # frames that a restorer takes: the frame itself and up to four aligned neighbours
READ: Final = (2, 3, 4, 5)
DEFAULT_MODEL = "pt-ceo2-128"
FAMILY = (
    "pt-ceo2-128",
    "pt-ceo2-wide-128",
    "pt-ceo2-64",
)  # what AUTO chooses from, by the size of the frame
RESTORER = "restore"  # the shipped restorer, if there is one
ADAPTED = "adapted"  # a restorer that was tuned to a recording
ANEW = "anew"  # a small one that learned from the recording alone
LEARNED = (ADAPTED, ANEW)  # what `gdn adapt` leaves, each in a folder of its name
AUTO = "auto"
GENERAL = "any crystal"  # the specimen of a model that was trained on crystals of all kinds
_LARGEST_FILE = 64 * 2**20  # bytes; a generator of this program has at most 16 MiB


class ModelError(GdnError, ValueError):
    """A model folder that cannot be used; the message is one line that says why and what to do."""


class SpecimenCard(BaseModel):
    """What the model has seen: `material`, and its microscope's voltage; None where that was not
    one."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    material: str
    voltage_kv: float | None = Field(default=None, gt=0, lt=1e5)


class Card(BaseModel):
    """What `model.json` holds of every kind of model."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)
    sampling_angstrom: float = Field(gt=0, lt=100)
    specimen: SpecimenCard
    recipe: dict[str, Any]
    training: dict[str, Any] = Field(
        description="images and structures seen, seconds, last statistics"
    )
    metrics: dict[str, Any] = Field(default_factory=dict, description="figures on the test split")
    files: dict[str, str] = Field(description="name -> sha256 of every other file of the folder")


class ModelCard(Card):
    """`model.json` of a generator. Intensities: the graphs put out x with the vacuum at
    `vacuum`."""

    schema_version: Literal[2, 3, 4, 5]
    kind: Literal["generator"] = "generator"
    latent: int = Field(ge=1, le=65536)
    patch: int = Field(ge=8, le=4096)
    channels: Literal[1, 3] = 1
    vacuum: float = Field(default=1.0, gt=1e-3, lt=1e3)
    precision: Literal["fp32", "fp16"] = "fp32"


class RestorerCard(Card):
    """`model.json` of a restorer: `shape` of the network as training writes it, `slots` frames in,
    whose sides are multiples of `multiple` px; frames are binned by the whole number that comes
    nearest to `sampling_angstrom`."""

    schema_version: Literal[4, 5]
    kind: Literal["restorer"]
    shape: dict[str, list[int]]
    slots: int = Field(ge=1, le=64)
    multiple: int = Field(ge=1, le=1024)


@dataclass(frozen=True)
class Verified:
    """A verified model folder of either kind."""

    folder: Path
    card: Card

    @cached_property
    def hash(self) -> str:
        """sha256 over the hashes of its files: changes if anything that is evaluated changes."""
        text = "".join(f"{name}:{value}\n" for name, value in sorted(self.card.files.items()))
        return hashlib.sha256(text.encode()).hexdigest()

    def file(self, name: str) -> Path | None:
        """Path of a listed file, or None if the model has no such file."""
        return self.folder / name if name in self.card.files else None


@dataclass(frozen=True)
class Model(Verified):
    """A generator's folder."""

    card: ModelCard


@dataclass(frozen=True)
class RestorerModel(Verified):
    """A restorer's folder."""

    card: RestorerCard


NEEDED = {
    "generator": ("weights.safetensors", "generator.onnx"),
    "restorer": ("weights.safetensors", "restorer.onnx"),
}  # files that no folder of a kind lacks


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def shipped_models() -> dict[str, Path]:
    """Name -> folder of the models inside the package."""
    root = Path(str(resources.files("gdn.models")))
    return {p.parent.name: p.parent for p in sorted(root.glob("*/model.json"))}


def find_model(name_or_folder: str) -> Model:
    """A shipped generator by name, or a generator's folder. Raises ModelError."""
    return _generator(find_any(name_or_folder))


def find_any(name_or_folder: str) -> Model | RestorerModel:
    """A shipped model of either kind by name, or a model folder. Raises ModelError."""
    shipped = shipped_models()
    if name_or_folder in shipped:
        return load_any(shipped[name_or_folder])
    folder = Path(name_or_folder)
    if not folder.exists():
        raise ModelError(
            f"{name_or_folder}: no such model; choose a shipped one "
            f"({', '.join(shipped) or 'none'}) or give a model folder"
        )
    return load_any(folder)


def learned_folders(folder: Path) -> list[Path]:
    """The model folders in what `gdn adapt` wrote; none where it did not."""
    places = [*(folder / name for name in LEARNED), folder]
    return [place for place in places if (place / "model.json").is_file()]


def learned_models(folder: Path) -> list[RestorerModel]:
    """What `gdn adapt` left in a folder: one model or several. Raises ModelError."""
    models = [load_any(each) for each in learned_folders(folder) or [folder]]
    restorers = [model for model in models if isinstance(model, RestorerModel)]
    if len(restorers) < len(models):
        raise ModelError(f"{folder}: a generator; a folder that 'gdn adapt' wrote is wanted here")
    return restorers


def load_model(folder: Path) -> Model:
    """Read and verify a generator's folder. Raises ModelError for anything that is not exactly
    right."""
    return _generator(load_any(folder))


def _generator(model: Model | RestorerModel) -> Model:
    if isinstance(model, RestorerModel):
        raise ModelError(
            f"{model.folder}: is a restorer; a generator is needed here "
            f"({', '.join(FAMILY)}, or a folder)"
        )
    return model


def load_any(folder: Path) -> Model | RestorerModel:
    """Read and verify a model folder of either kind. Raises ModelError for anything that is not
    exactly right."""
    card = _read_card(folder / "model.json")
    for name, expected in card.files.items():
        _verify(folder, name, expected)
    for needed in NEEDED[card.kind]:
        if needed not in card.files:
            raise ModelError(f"{folder / 'model.json'}: lists no {needed}; export the model again")
    return Model(folder, card) if isinstance(card, ModelCard) else RestorerModel(folder, card)


def _read_card(path: Path) -> ModelCard | RestorerCard:
    """The card in a `model.json`, of the kind that it names. Raises ModelError."""
    if not path.is_file():
        raise ModelError(
            f"{path.parent}: not a model folder (it has no model.json); make one with 'gdn export'"
        )
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > 2**20:
            raise ModelError(f"{path}: larger than 1 MiB, so it is not a model.json of gdn")
        content = json.loads(text)
        if isinstance(content, dict) and content.get("schema_version") not in READ:
            raise ModelError(
                f"{path}: schema {content.get('schema_version')!r}, this version reads "
                f"{READ[0]} to {READ[-1]}; export it again"
            )
        restorer = isinstance(content, dict) and content.get("kind") == "restorer"
        return (
            RestorerCard.model_validate(content) if restorer else ModelCard.model_validate(content)
        )
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _verify(folder: Path, name: str, expected: str) -> None:
    pure = PurePosixPath(name)
    if (
        len(pure.parts) != 1
        or pure.is_absolute()
        or "\\" in name
        or name in ("..", ".", "model.json")
    ):
        raise ModelError(
            f"{folder}: model.json lists '{name}', which is not a file inside the folder; refused"
        )
    path = folder / name
    if path.suffix not in (".onnx", ".safetensors", ".json", ".jsonl", ".png"):
        raise ModelError(
            f"{folder}: model.json lists '{name}', a kind of file that does not belong in "
            "a model; refused"
        )
    if not path.is_file() or (
        path.is_symlink() and not path.resolve().is_relative_to(folder.resolve())
    ):
        raise ModelError(
            f"{path}: missing, or outside the model folder; export or copy the model again"
        )
    if path.stat().st_size > _LARGEST_FILE:
        raise ModelError(
            f"{path}: larger than {_LARGEST_FILE >> 20} MiB, so it is not part of a model of gdn"
        )
    if sha256_of(path) != expected:
        raise ModelError(
            f"{path}: its sha256 is not the one in model.json: damaged or altered; copy "
            "the model again"
        )
