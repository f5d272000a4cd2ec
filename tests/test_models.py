"""Model folders: what is refused, and with which words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdn.engines.base import Engine, EngineError, onnx_bytes
from gdn.engines.choose import open_engine
from gdn.likelihood import TileData
from gdn.models import ModelError, find_model, load_model, sha256_of
from gdn.models.graphs import SHARED, weights_of


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


def test_graphs_share_the_generators_weights(folder: Path) -> None:
    """Each weight lies in a model once, and what is put together without ONNX's package is a graph to ONNX's package."""
    onnx = pytest.importorskip("onnx")
    model = load_model(folder)
    held = {t.name for t in onnx.load(folder / "generator.onnx").graph.initializer if t.name.startswith(SHARED)}
    for graph in ("gradient", "tangent", "step"):
        assert (folder / f"{graph}.onnx").stat().st_size < 0.1 * (folder / "generator.onnx").stat().st_size
        whole = onnx.load_from_string(onnx_bytes(model, graph))
        onnx.checker.check_model(whole)
        names = [t.name for t in whole.graph.initializer]
        assert held < set(names)
        assert len(names) == len(set(names))


def test_a_model_of_schema_2_with_whole_graphs_is_read(folder: Path) -> None:
    z = np.random.default_rng(0).standard_normal((3, 128)).astype(np.float32)
    cotangent = np.random.default_rng(1).standard_normal((3, 64, 64)).astype(np.float32)
    with open_engine(load_model(folder), threads=1) as engine:
        expected = engine.pull_back(z, cotangent)
    for graph in ("gradient", "tangent", "encoder"):
        put(folder, f"{graph}.onnx", onnx_bytes(find_model("pt-ceo2-64"), graph))
    card = json.loads((folder / "model.json").read_text())
    del card["files"]["step.onnx"]
    (folder / "model.json").write_text(json.dumps(card | {"schema_version": 2}))
    with open_engine(load_model(folder), threads=1) as engine:
        np.testing.assert_allclose(engine.pull_back(z, cotangent), expected, rtol=1e-5, atol=1e-5)
        assert engine.step(z, np.zeros((3, 4), np.float32), blank_tiles(3), 1.0, np.zeros((3, 4), np.float32)) is None


def blank_tiles(n: int) -> TileData:
    return TileData(np.ones((n, 64, 64), np.float32), np.ones((n, 64, 64), np.float32), 1.0, 0.0)


@pytest.mark.parametrize("content", [b"\xff" * 12, b"\x3a\xff\xff\xff\xff\x0f", b"\x0f\x01", b"\x39\x00", b"\x3a\x02\x2a\x09"])
def test_a_generator_whose_weights_cannot_be_found_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not an ONNX graph"):
        weights_of(content)


def test_a_graph_whose_weights_are_not_there_is_refused(folder: Path) -> None:
    put(folder, "generator.onnx", find_model("pt-ceo2-128").file("generator.onnx").read_bytes())  # type: ignore[union-attr]
    words = r"gradient\.onnx: onnxruntime cannot load it"
    with pytest.raises(EngineError, match=words) as caught, open_engine(load_model(folder), threads=1) as engine:
        engine.pull_back(np.zeros((1, 128), np.float32), np.zeros((1, 64, 64), np.float32))
    assert "\n" not in str(caught.value)


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
        ({"schema_version": 9}, "schema 9, this version reads 2 to 4"),
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


def put(folder: Path, name: str, content: bytes) -> None:
    """A file of the model with a hash that fits."""
    (folder / name).write_bytes(content)
    files = json.loads((folder / "model.json").read_text())["files"]
    edit(folder, files=files | {name: sha256_of(folder / name)})


def refused(folder: Path) -> str:
    """The one line with which a model is refused before it has made an image."""
    with pytest.raises((ModelError, EngineError)) as caught, open_engine(load_model(folder), threads=1) as engine:
        engine.generate(np.zeros((1, engine.model.card.latent), np.float32))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("place", ["secret.bin", "../secret.bin", "/etc/passwd"])
def test_graphs_that_keep_their_numbers_elsewhere_are_refused(folder: Path, place: str) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(folder / "generator.onnx")
    big = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    (folder / "secret.bin").write_bytes(big.raw_data)
    (folder.parent / "secret.bin").write_bytes(big.raw_data)
    big.ClearField("raw_data")
    big.data_location = onnx.TensorProto.EXTERNAL
    entry = big.external_data.add()
    entry.key, entry.value = "location", place
    put(folder, "generator.onnx", model.SerializeToString())
    assert "generator.onnx" in refused(folder)


def test_graphs_of_huge_declared_shapes_are_refused(folder: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(folder / "generator.onnx")
    big = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    big.dims[0] = 2**40
    put(folder, "generator.onnx", model.SerializeToString())
    assert "generator.onnx" in refused(folder)


def test_a_patch_or_latent_that_the_graph_does_not_have_is_refused(folder: Path) -> None:
    for changes in ({"latent": 64}, {"patch": 4096}, {"latent": 65536}):
        card = json.loads((folder / "model.json").read_text())
        edit(folder, **changes)
        with pytest.raises((ModelError, EngineError, ValueError)) as caught, open_engine(load_model(folder), threads=1) as engine:
            engine.value_and_gradient(*_tile(engine))
        assert "\n" not in str(caught.value)
        edit(folder, **card)


def _tile(engine: Engine) -> tuple[Any, ...]:
    patch = min(engine.model.card.patch, 512)
    ones = np.ones((1, patch, patch), np.float32)
    z = np.zeros((1, engine.model.card.latent), np.float32)
    return z, TileData(ones, ones, 1.0, 0.0), np.ones(1, np.float32), 0 * ones


def test_weights_that_are_no_safetensors_are_refused(folder: Path) -> None:
    pytest.importorskip("torch")
    for content in (b"", b"\x80\x04K\x01.", b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{}"):
        put(folder, "weights.safetensors", content)
        with pytest.raises((ModelError, EngineError)) as caught, open_engine(load_model(folder), "torch", "cpu"):
            pass
        assert "weights.safetensors" in str(caught.value)


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(ModelError, match="shipped: pt-ceo2-128, pt-ceo2-64"):
        find_model("nonsense")
