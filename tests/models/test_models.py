"""Model folders: what is refused, and with which words."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdn.engines.base import Engine, EngineError, onnx_bytes
from gdn.engines.choose import open_engine
from gdn.likelihood import POISSON, TileData
from gdn.models import FAMILY, ModelError, find_model, load_model, sha256_of
from gdn.models.graphs import (
    KEY,
    METADATA,
    SHARED,
    VALUE,
    WEIGHTS,
    encoded_field,
    weights_of,
    without_sources,
)
from tests.helpers.commands import gdn, one_line


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
    assert {"weights.safetensors", "generator.onnx", "gradient.onnx", "encoder.onnx"} <= set(
        model.card.files
    )
    assert model.card.vacuum == 1.0


@pytest.mark.parametrize("name", FAMILY)
def test_weights_lie_in_a_model_once(name: str) -> None:
    """No graph has any, and what is put together without ONNX's package is a graph to ONNX's
    package."""
    onnx = pytest.importorskip("onnx")
    model = find_model(name)
    weights = (model.folder / "weights.safetensors").stat().st_size
    for graph in ("generator", "gradient", "tangent", "step", "encoder"):
        bare = onnx.load(model.folder / f"{graph}.onnx")
        assert (
            max(len(t.raw_data) for t in bare.graph.initializer) <= 2**17
        )  # what the step graph has of its own
        whole = onnx.load_from_string(onnx_bytes(model, graph))
        onnx.checker.check_model(whole)
        assert not whole.metadata_props
        assert sum(len(t.raw_data) for t in whole.graph.initializer) > 0.4 * weights
        names = [t.name for t in whole.graph.initializer]
        assert len(names) == len(set(names))
        assert {n for n in names if n.startswith(SHARED)} <= {
            i for node in whole.graph.node for i in node.input
        }


def older(folder: Path, schema: int) -> None:
    """Make the model one of an earlier schema: generator and encoder whole, the others without the
    generator's weights (or, of schema 2, whole too and without a step)."""
    model = load_model(folder)
    whole = {
        graph: onnx_bytes(model, graph)
        for graph in ("generator", "encoder", "gradient", "tangent", "step")
    }
    for graph, content in whole.items():
        bare = without_sources((folder / f"{graph}.onnx").read_bytes())[0]
        put(
            folder,
            f"{graph}.onnx",
            content if schema == 2 or graph in ("generator", "encoder") else bare,
        )
    edit(folder, schema_version=schema)
    if schema == 2:
        files = json.loads((folder / "model.json").read_text())["files"]
        del files["step.onnx"]
        edit(folder, files=files)


def products(folder: Path) -> list[np.ndarray | None]:
    """What an engine makes of a model: images, products of the Jacobian, a step, codes."""
    rng = np.random.default_rng(0)
    z, cotangent = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((3, 128), (3, 64, 64))
    )
    four = np.zeros((3, 4), np.float32)
    with open_engine(load_model(folder), threads=1) as engine:
        images = engine.generate(z)
        found = [images, engine.pull_back(z, cotangent), engine.push_forward(z, z[:, None])]
        step = engine.step(z, four, blank_tiles(3), 1.0, four + 1)
        return [*found, engine.encode(images, four[:, 0] + 0.1), None if step is None else step[0]]


@pytest.mark.parametrize("schema", [2, 3, 4])
def test_models_of_earlier_schemas_give_the_same(folder: Path, schema: int) -> None:
    expected = products(folder)
    older(folder, schema)
    found = products(folder)
    for mine, theirs in zip(found[:4] if schema == 2 else found, expected, strict=schema != 2):
        np.testing.assert_array_equal(mine, theirs)
    assert (found[4] is None) == (schema == 2)


def blank_tiles(n: int) -> TileData:
    return TileData(np.ones((n, 64, 64), np.float32), np.ones((n, 64, 64), np.float32), POISSON)


@pytest.mark.parametrize(
    "content",
    [b"\xff" * 12, b"\x3a\xff\xff\xff\xff\x0f", b"\x0f\x01", b"\x39\x00", b"\x3a\x02\x2a\x09"],
)
def test_a_generator_whose_weights_cannot_be_found_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not an ONNX graph"):
        weights_of(content)


def other_weights(folder: Path, **changes: np.ndarray | None) -> None:
    """Put other tensors (None: none) into weights.safetensors, and its hash."""
    from safetensors.numpy import load, save

    tensors = load((folder / "weights.safetensors").read_bytes())
    kept = {name: value for name, value in (tensors | changes).items() if value is not None}
    put(folder, "weights.safetensors", save(kept))


STEM = "generator.stem.conv.weight"  # (128, 8, 3, 3)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, rf"has no tensor '{STEM}', which generator\.onnx needs"),
        (
            np.zeros((128, 8, 3, 3), np.float16),
            f"'{STEM}' has another shape or other numbers than generator.onnx was made with",
        ),
        (np.full((128, 8, 3, 3), np.nan, np.float32), "other numbers"),
        (np.zeros((128, 0), np.int64), "another shape"),
        (np.zeros((), np.float32), "another shape"),
    ],
)
def test_weights_that_a_graph_was_not_made_with_are_refused(
    folder: Path, value: np.ndarray | None, words: str
) -> None:
    other_weights(folder, **{STEM: value})
    assert re.search(
        rf"model: weights\.safetensors: .*{words}.*; copy or export the model again$",
        refused(folder),
    )


def test_factors_that_do_not_fit_are_refused(folder: Path) -> None:
    other_weights(
        folder, **{"generator.layers.0.layers.2.weight": np.zeros((64, 128, 3, 3), np.float16)}
    )
    assert (
        "weights.safetensors: 'generator.layers.0.layers.2.weight' does not fit "
        "generator.onnx (128 factors" in refused(folder)
    )


def test_weights_of_another_model_are_refused(folder: Path) -> None:
    put(
        folder,
        "weights.safetensors",
        (find_model("pt-ceo2-128").folder / "weights.safetensors").read_bytes(),
    )
    assert (
        "weights.safetensors: 'generator.stem.conv.weight' has another shape or other numbers"
        in refused(folder)
    )


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"[]", b'{"weight_0": 3}', b'{"weight_0": {"tensor": "a", "axis": -1}}', b"\xff"],
)
def test_a_list_of_weights_that_is_none_is_refused(folder: Path, value: bytes) -> None:
    bare = without_sources((folder / "generator.onnx").read_bytes())[0]
    entry = encoded_field(
        METADATA, encoded_field(KEY, WEIGHTS.encode()) + encoded_field(VALUE, value)
    )
    put(folder, "generator.onnx", bare + entry)
    assert "generator.onnx: its list of weights cannot be read" in refused(folder)


def test_whole_graphs_are_written_for_other_programs(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    done = gdn("export", "pt-ceo2-64", "-o", tmp_path / "graphs", "--whole")
    assert done.returncode == 0, done.stderr
    graphs = {p.stem for p in (tmp_path / "graphs").glob("*.onnx")}
    assert graphs == {"generator", "gradient", "tangent", "step", "encoder"}
    session = onnxruntime.InferenceSession(
        tmp_path / "graphs" / "generator.onnx", providers=["CPUExecutionProvider"]
    )
    z = np.random.default_rng(0).standard_normal((3, 128)).astype(np.float32)
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        np.testing.assert_array_equal(session.run(["x"], {"z": z})[0][:, 0], engine.generate(z))
    assert gdn("export", "restore", "-o", tmp_path / "restorer", "--whole").returncode == 0
    onnxruntime.InferenceSession(
        tmp_path / "restorer" / "restorer.onnx", providers=["CPUExecutionProvider"]
    )


def test_whole_graphs_go_into_no_models_folder(folder: Path, tmp_path: Path) -> None:
    before = sha256_of(folder / "generator.onnx")
    one_line(gdn("export", "pt-ceo2-64", "-o", folder, "--whole"), 2, "a model folder")
    one_line(gdn("export", "pt-ceo2-64", "-o", tmp_path / "a", "--whole", "--fp16"), 2, "--whole")
    one_line(gdn("export", "nonsense", "-o", tmp_path / "a", "--whole"), 2, "no such model")
    assert sha256_of(folder / "generator.onnx") == before
    assert not (tmp_path / "a").exists()


def test_a_changed_byte_is_refused(folder: Path) -> None:
    path = folder / "generator.onnx"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"generator.onnx: its sha256 is not the one"):
        load_model(folder)


@pytest.mark.parametrize(
    "name", ["../outside.onnx", "/etc/passwd", "a/../../b.onnx", "..\\x.onnx", "sub/x.onnx"]
)
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
    with pytest.raises(ModelError, match="a kind of file that does not belong in a model"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 9}, "schema 9, this version reads 2 to 5"),
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
    with (
        pytest.raises((ModelError, EngineError)) as caught,
        open_engine(load_model(folder), threads=1) as engine,
    ):
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
        with (
            pytest.raises((ModelError, EngineError, ValueError)) as caught,
            open_engine(load_model(folder), threads=1) as engine,
        ):
            engine.value_and_gradient(*one_tile(engine))
        assert "\n" not in str(caught.value)
        edit(folder, **card)


def one_tile(engine: Engine) -> tuple[Any, ...]:
    patch = min(engine.model.card.patch, 512)
    ones = np.ones((1, patch, patch), np.float32)
    z = np.zeros((1, engine.model.card.latent), np.float32)
    return z, TileData(ones, ones, POISSON), np.ones(1, np.float32), 0 * ones


def test_weights_that_are_no_safetensors_are_refused(folder: Path) -> None:
    pytest.importorskip("torch")
    for content in (b"", b"\x80\x04K\x01.", b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{}"):
        put(folder, "weights.safetensors", content)
        with (
            pytest.raises((ModelError, EngineError)) as caught,
            open_engine(load_model(folder), "torch", "cpu"),
        ):
            pass
        assert "weights.safetensors" in str(caught.value)


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(ModelError, match=r"a shipped one \(pt-ceo2-128, pt-ceo2-64"):
        find_model("nonsense")
