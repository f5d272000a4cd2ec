"""ONNX Runtime: memory bound to a device, and the profiles of its TensorRT provider."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from gdn.engines.base import Graph, onnx_bytes
from gdn.engines.choose import open_engine
from gdn.engines.onnxruntime import OnnxRuntimeEngine, providers_of
from gdn.models import find_model
from gdn.restarts import restart_latents
from tests.helpers.engines import outputs, stepped
from tests.helpers.tiles import poisson_tiles


def test_bound_memory_gives_what_unbound_gives() -> None:
    model = find_model("pt-ceo2-64")
    with (
        open_engine(model, "onnxruntime", "cpu", threads=1) as plain,
        open_engine(model, "onnxruntime", "cpu", 1) as bound,
    ):
        assert isinstance(bound, OnnxRuntimeEngine)
        bound.bound = "cpu"
        for mine, theirs in zip(outputs(bound, 5), outputs(plain, 5), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        gradient = bound.resident["gradient"]
        named = (
            8 * 4 - 2 - 2
        )  # eight inputs of four calls; counts and weights, zeros and ones crossed only once each
        assert gradient.uploads == named
        again = stepped(bound, restart_latents(0, range(5), 128), poisson_tiles(5, 64))
        assert np.isfinite(again[0]).all()
        assert bound.resident["step"].uploads == 8 + 8


def test_profiles_of_onnxruntimes_tensorrt_name_every_free_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GDN_CACHE_DIR", str(tmp_path))
    model = find_model("pt-ceo2-128")
    graphs: tuple[Graph, ...] = ("generator", "gradient", "tangent", "step", "encoder")
    for graph in graphs:
        (provider, options), (other, _) = providers_of(model, "tensorrt", graph)
        assert (provider, other) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
        assert Path(options["trt_engine_cache_path"]).parent == tmp_path / "plans"
        content = onnx_bytes(model, graph)
        inputs = onnxruntime.InferenceSession(
            content, providers=["CPUExecutionProvider"]
        ).get_inputs()
        for word, batch in (("min", 1), ("max", None)):
            named = dict(
                part.split(":") for part in options[f"trt_profile_{word}_shapes"].split(",")
            )
            assert set(named) == {i.name for i in inputs if i.shape}
            for one in inputs:
                sizes = [int(size) for size in named[one.name].split("x")] if one.shape else []
                fixed = [
                    (size, known)
                    for size, known in zip(sizes, one.shape, strict=True)
                    if isinstance(known, int)
                ]
                assert all(size == known for size, known in fixed)
                assert batch is None or not sizes or sizes[0] == batch
