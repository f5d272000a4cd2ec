"""Model folders: what is refused, and with which words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gdn.models import ModelError, find_model, load_model, sha256_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = tmp_path / "model"
    shutil.copytree(find_model("pt-ceo2-64").folder, out)
    return out


def edit(folder: Path, **changes: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_shipped_model_is_whole_and_small() -> None:
    model = find_model("pt-ceo2-64")
    assert sum(p.stat().st_size for p in model.folder.iterdir()) < 16 * 2**20
    assert {"weights.safetensors", "generator.onnx", "gradient.onnx", "encoder.onnx"} <= set(model.card.files)
    assert model.card.vacuum == 1.0


def test_a_changed_byte_is_refused(folder: Path) -> None:
    path = folder / "generator.onnx"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"generator.onnx: its sha256 is not the one"):
        load_model(folder)


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/passwd", "a/../../b.onnx", "..\\x.onnx", "sub/x.onnx"])
def test_paths_that_leave_the_folder_are_refused(folder: Path, name: str) -> None:
    files = json.loads((folder / "model.json").read_text())["files"]
    edit(folder, files=files | {name: "0" * 64})
    with pytest.raises(ModelError, match="refused"):
        load_model(folder)


def test_links_that_leave_the_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere.onnx"
    shutil.move(folder / "generator.onnx", outside)
    (folder / "generator.onnx").symlink_to(outside)
    with pytest.raises(ModelError, match="outside the model folder"):
        load_model(folder)


def test_pickles_are_refused(folder: Path) -> None:
    (folder / "weights.pt").write_bytes(b"x")
    files = json.loads((folder / "model.json").read_text())["files"]
    edit(folder, files=files | {"weights.pt": sha256_of(folder / "weights.pt")})
    with pytest.raises(ModelError, match="a kind of file that no model has"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 9}, "schema 9, this version reads 2"),
        ({"latent": -1}, "latent"),
        ({"surprise": 1}, "surprise"),
        ({"files": {}}, "lists no weights.safetensors"),
    ],
)
def test_bad_cards(folder: Path, changes: dict[str, object], words: str) -> None:
    edit(folder, **changes)
    with pytest.raises(ModelError, match=words):
        load_model(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", "[" * 100_000])
def test_model_json_that_is_no_card(folder: Path, text: str) -> None:
    (folder / "model.json").write_text(text)
    with pytest.raises(ModelError, match=r"model\.json"):
        load_model(folder)


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(ModelError, match="shipped: pt-ceo2-128, pt-ceo2-64"):
        find_model("nonsense")
