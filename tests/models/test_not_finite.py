"""Numbers that are not finite: refused in a model, never in a record, never from the cache."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gdn.engines.base import EngineError
from gdn.engines.choose import open_engine
from gdn.models import ModelError, find_any, find_model, load_any, sha256_of, shipped_models
from gdn.pipeline.open_models import check_generator, check_restorer
from gdn.search.bank import bank_for
from gdn.storage import json_line
from tests.helpers.commands import FAST, gdn, one_line


def changed(folder: Path, name: str = "pt-ceo2-64", **entries: object) -> Path:
    shutil.copytree(shipped_models()[name], folder)
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | entries))
    return folder


@pytest.mark.parametrize("vacuum", [0, -1.0, float("nan"), float("inf"), 1e9])
def test_a_vacuum_out_of_bounds_is_refused(tmp_path: Path, vacuum: float) -> None:
    with pytest.raises(ModelError, match=r"model\.json: vacuum"):
        load_any(changed(tmp_path / "m", vacuum=vacuum))


def test_a_model_of_nan_is_refused_when_it_is_opened() -> None:
    generator, restorer = (
        load_any(shipped_models()["pt-ceo2-64"]),
        load_any(find_any("restore").folder),
    )
    nan = SimpleNamespace(
        model=generator,
        generate=lambda z: np.full((len(z), 64, 64), np.nan, np.float32),
        restore=lambda frames: frames * np.float32("nan"),
    )
    with pytest.raises(EngineError, match="pt-ceo2-64: the model makes images of NaN; export"):
        check_generator(nan)
    # Finite only at the origin.
    nan.generate = lambda z: np.where(z.any(1)[:, None, None], np.nan, np.ones((1, 64, 64)))
    with pytest.raises(EngineError, match="pt-ceo2-64: the model makes images of NaN; export"):
        check_generator(nan)
    with pytest.raises(EngineError, match="restore: the model makes images of NaN; export"):
        check_restorer(nan, restorer)


def with_nan(folder: Path, name: str, file: str) -> Path:
    """A copy of a shipped model whose graph multiplies its image by NaN, with the hash that
    fits."""
    onnx = pytest.importorskip("onnx")
    path = changed(folder, name) / file
    model = onnx.load(path, load_external_data=False)
    image = model.graph.output[0].name
    (maker,) = (node for node in model.graph.node if image in node.output)
    maker.output[list(maker.output).index(image)] = "finite"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32("nan"), "nan"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["finite", "nan"], [image]))
    onnx.save(model, path)
    card = json.loads((folder / "model.json").read_text())
    card["files"][path.name] = sha256_of(path)
    (folder / "model.json").write_text(json.dumps(card))
    return folder


@pytest.mark.parametrize(
    ("name", "file", "code"),
    [("pt-ceo2-64", "generator.onnx", 2), ("restore", "restorer.onnx", 1)],
)
def test_a_run_with_a_model_of_nan_ends_before_the_search(
    frame_file: Path, tmp_path: Path, name: str, file: str, code: int
) -> None:
    folder = with_nan(tmp_path / "m", name, file)
    done = gdn("denoise", frame_file, "--model", folder, "-o", tmp_path / "out", *FAST)
    one_line(done, code, f"{folder}: the model makes images of NaN; export it again")
    assert not list((tmp_path / "out").glob("*denoised*"))


def test_a_damaged_bank_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDN_CACHE_DIR", str(tmp_path))
    with open_engine(find_model("pt-ceo2-64")) as engine:
        right = np.array(bank_for(engine, 0, 20).images)
        assert bank_for(engine, 0, 20).cached
        (path,) = tmp_path.rglob("*.npy")
        content = bytearray(path.read_bytes())
        for damage in (slice(5000, 5002), slice(-3, None)):
            damaged = bytearray(content)
            damaged[damage] = bytes(len(damaged[damage]) * [0xFF])
            path.unlink()
            path.write_bytes(damaged)
            again = bank_for(engine, 0, 20)
            assert not again.cached
            np.testing.assert_array_equal(again.images, right)
        path.unlink()
        os.mkfifo(path)
        np.testing.assert_array_equal(bank_for(engine, 0, 20).images, right)


def test_json_has_no_nan() -> None:
    content = {"a": float("nan"), "b": [1.0, float("-inf")], "c": "NaN"}
    assert json.loads(json_line(content)) == {"a": None, "b": [1.0, None], "c": "NaN"}
    assert "NaN," not in json_line(content)
