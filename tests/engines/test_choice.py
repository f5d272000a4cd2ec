"""Which engine and device are taken, and what is said of those that are not."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from gdn.engines.base import EngineError
from gdn.engines.choose import candidates, check, open_engine
from gdn.engines.table import RUNTIMES, Runtime
from gdn.models import Model, find_model
from tests.helpers.needs import needs_training


def test_a_device_that_cannot_be_had_is_an_error() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has a CUDA provider")
    with pytest.raises(EngineError, match="CUDAExecutionProvider"):
        open_engine(find_model("pt-ceo2-64"), "onnxruntime", "cuda")
    with pytest.raises(EngineError, match="no device 'tpu'"):
        open_engine(find_model("pt-ceo2-64"), "onnxruntime", "tpu")
    with pytest.raises(EngineError, match="unknown engine"):
        check("numpy")


def test_auto_uses_the_cpu_where_cuda_is_installed_but_cannot_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import onnxruntime

    monkeypatch.setattr(
        onnxruntime,
        "get_available_providers",
        lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr("gdn.engines.choose.has_driver", lambda: True)
    monkeypatch.setattr("gdn.engines.tensorrt.installed_libraries", list)
    with open_engine(find_model("pt-ceo2-64")) as engine:
        assert engine.device == "cpu"
        assert "onnxruntime cannot be used" in engine.reason
    with pytest.raises(EngineError, match="CUDAExecutionProvider"):
        open_engine(find_model("pt-ceo2-64"), "onnxruntime", "cuda")


def test_an_unknown_device_is_refused_by_auto_too() -> None:
    with pytest.raises(EngineError, match="no device 'tpu'"):
        check("auto", "tpu")


class Stranger:
    """An engine on a 'GPU' that draws something else, or fails."""

    def __init__(self, name: str, model: Model, device: str, reason: str, off: float) -> None:
        self.inner = open_engine(model, "onnxruntime", "cpu", threads=1)
        self.name, self.device, self.reason, self.model, self.off = name, device, reason, model, off
        self.closed = False

    def generate(self, z: np.ndarray) -> np.ndarray:
        if np.isinf(self.off):
            raise EngineError("the card fell off the bus")
        return self.inner.generate(z) + np.float32(self.off)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.inner.__exit__(None, None, None)
        self.closed = True


@needs_training
def test_auto_takes_the_first_that_is_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    from gdn.engines import choose as module

    monkeypatch.setattr(module, "has_driver", lambda: True)
    monkeypatch.setattr(Runtime, "installed", True)
    for runtime in RUNTIMES:
        monkeypatch.setattr(f"{runtime.module}.card_reason", lambda: "there is a card")
    names = [(c.engine, c.device) for c in candidates()]
    assert names == [
        ("tensorrt", "cuda"),
        ("onnxruntime", "cuda"),
        ("torch", "cuda"),
        ("onnxruntime", "cpu"),
        ("torch", "cpu"),
    ]
    assert [c.device for c in candidates("cuda:1")] == ["cuda:1"] * 3
    assert [c.device for c in candidates("cpu")] == ["cpu"] * 2
    model = find_model("pt-ceo2-64")
    off = {"tensorrt": np.nan, "onnxruntime": 0.5, "torch": 1e-5}
    strangers: list[Stranger] = []

    def patched(runtime: Runtime) -> None:
        place = importlib.import_module(runtime.module)
        plain = getattr(place, runtime.engine_class)

        def made(model: Model, device: str, *, threads: int | None, reason: str) -> Any:
            if device == "cpu":
                return plain(model, device, threads=threads, reason=reason)
            strangers.append(Stranger(runtime.name, model, device, reason, off[runtime.name]))
            return strangers[-1]

        monkeypatch.setattr(place, runtime.engine_class, made)

    for runtime in RUNTIMES:
        patched(runtime)
    with open_engine(model) as engine:
        assert [one.closed for one in strangers] == [True, True, False]
        assert (engine.name, engine.device) == ("torch", "cuda")
        assert "tensorrt cannot be used (its images are wrong by nan" in engine.reason
        assert "onnxruntime cannot be used (its images are wrong by 0.5" in engine.reason
    off["torch"] = np.inf
    with open_engine(model) as engine:
        assert (engine.name, engine.device) == ("onnxruntime", "cpu")
        assert "fell off the bus" in engine.reason
        assert all(one.closed for one in strangers)
    with pytest.raises(
        EngineError, match=r"require_gpu: no GPU that gdn can use .*fell off the bus"
    ):
        open_engine(model, require_gpu=True)
    with pytest.raises(EngineError, match="device cuda: no GPU that gdn can use"):
        open_engine(model, device="cuda")
    with pytest.raises(EngineError, match="onnxruntime runs on the CPU here"):
        open_engine(model, "onnxruntime", require_gpu=True)


def test_a_provider_of_onnxruntime_is_asked_for_with_it() -> None:
    with pytest.raises(EngineError, match="choose engine onnxruntime too"):
        check("auto", "tensorrt")
    with pytest.raises(
        EngineError,
        match="has no TensorrtExecutionProvider; pip uninstall onnxruntime onnxruntime-gpu, then",
    ):
        open_engine(find_model("pt-ceo2-64"), "onnxruntime", "tensorrt")


def test_what_keeps_a_provider_from_starting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from gdn.engines.onnxruntime import what_is_missing

    def load(path: str) -> None:
        raise OSError(
            f"{'libcublasLt.so.13' if 'cuda' in path else path}: cannot open shared object file"
        )

    monkeypatch.setattr("ctypes.CDLL", load)
    assert what_is_missing("cuda").startswith("libcublasLt.so.13 (pip install")
    assert (
        what_is_missing("tensorrt") == "a card that this onnxruntime supports, and NVIDIA's driver"
    )
