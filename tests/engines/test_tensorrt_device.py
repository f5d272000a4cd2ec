"""The half of TensorRT that runs, on a device that is a fake: for its order of calls and its error
paths only."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gdn.engines.base import EngineError, OutOfMemory
from gdn.engines.choose import open_engine
from gdn.engines.tensorrt import TensorRTEngine
from gdn.engines.tensorrt_plan_cache import kept_plans
from gdn.engines.tensorrt_plans import (
    CAPTURED,
    MOST,
    Library,
)
from gdn.likelihood import POISSON, NoiseLaw, TileData
from gdn.models import Model, find_model
from gdn.restarts import restart_latents


class FakeDevice:
    """Host memory under made-up addresses: no card. `room` in bytes; `graphs`: how captures end."""

    name, capability, driver, stream = "fake", "0.0", "0", 7

    def __init__(self, room: int = 2**40) -> None:
        self.blocks: dict[int, np.ndarray] = {}
        self.room, self.next = room, 1000
        self.graphs, self.captured, self.launched, self.capturing = "work", 0, 0, False
        self.sent, self.fetched = [], []  # type: ignore[var-annotated]

    def capture(self, work: Any) -> Any:
        if self.graphs == "fail":
            raise EngineError("CUDA: cudaErrorStreamCaptureUnsupported")
        if self.graphs == "none":
            return None
        self.capturing = True
        work()
        self.capturing = False
        self.captured += 1
        return work

    def launch(self, graph: Any) -> None:
        self.launched += 1
        graph()

    def forget(self, graph: Any) -> None:
        self.captured -= 1

    def allocate(self, size: int) -> int:
        if size > self.room:
            raise OutOfMemory("CUDA: out of memory")
        self.next += 1
        self.blocks[self.next] = np.zeros(size, np.uint8)
        return self.next

    def free(self, address: int) -> None:
        del self.blocks[address]

    def upload(self, address: int, array: np.ndarray) -> None:
        assert not self.capturing  # a copy from host memory has no place in a graph
        self.sent.append(array.nbytes)
        self.blocks[address][: array.nbytes] = array.reshape(-1).view(np.uint8)

    def download(self, address: int, array: np.ndarray) -> None:
        self.fetched.append(array.nbytes)
        array.reshape(-1).view(np.uint8)[:] = self.blocks[address][: array.nbytes]

    def synchronise(self) -> None:
        pass


class FakeContext:
    """Runs the graph by onnxruntime on the fake device's memory."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.shapes, self.addresses, self.profile = engine, {}, {}, -1  # type: ignore[var-annotated]

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        assert stream == FakeDevice.stream
        self.profile = number
        self.engine.profiles.append(number)
        return "profile" not in self.engine.refuses

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = tuple(shape)
        return "shape" not in self.engine.refuses

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return "address" not in self.engine.refuses

    def outputs(self) -> list[np.ndarray]:
        feed = {}
        for name, shape in self.shapes.items():
            flat = self.engine.device.blocks[self.addresses[name]].view(np.float32)
            feed[name] = (
                flat[: int(np.prod(shape, dtype=int))].reshape(shape)
                if shape
                else np.asarray(flat[0])
            )
        self.engine.batches.append(len(next(iter(feed.values()))))
        found: list[np.ndarray] = self.engine.session.run(None, feed)
        return found

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        index = [o.name for o in self.engine.session.get_outputs()].index(name)
        return tuple(self.outputs()[index].shape)

    def execute_async_v3(self, stream: int) -> bool:
        if "run" in self.engine.refuses:
            return False
        if self.engine.device.capturing:  # captured work does not run
            return True
        for one, value in zip(self.engine.session.get_outputs(), self.outputs(), strict=True):
            flat = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
            self.engine.device.blocks[self.addresses[one.name]][: flat.size] = flat
        return True


class FakeEngine:
    """A 'plan' that is the ONNX file itself."""

    def __init__(self, plan: bytes, device: FakeDevice, refuses: set[str]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # its own threads wait by spinning
        self.session = onnxruntime.InferenceSession(
            plan, options, providers=["CPUExecutionProvider"]
        )
        self.device, self.refuses, self.profiles, self.batches = device, refuses, [], []  # type: ignore[var-annotated]
        self.names = [t.name for t in (*self.session.get_inputs(), *self.session.get_outputs())]
        self.num_io_tensors = len(self.names)

    def create_execution_context(self) -> FakeContext | None:
        return None if "context" in self.refuses else FakeContext(self)

    def get_tensor_name(self, number: int) -> str:
        return self.names[number]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name in {t.name for t in self.session.get_inputs()} else "out"

    def get_tensor_dtype(self, name: str) -> str:
        return "float32"


@pytest.fixture
def fake(cache: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """An engine of the small shipped model on a fake device, through a fake library."""
    made = SimpleNamespace(device=FakeDevice(), refuses=set(), engines=[])

    class Logger:
        ERROR = 1

        def __init__(self, severity: int) -> None: ...

    class Runtime:
        def __init__(self, logger: Logger) -> None: ...

        def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine | None:
            if "plan" in made.refuses:
                return None
            made.engines.append(FakeEngine(plan, made.device, made.refuses))
            return made.engines[-1]

    module = SimpleNamespace(
        Logger=Logger,
        Runtime=Runtime,
        TensorIOMode=SimpleNamespace(OUTPUT="out"),
        nptype=lambda kind: np.dtype(kind),
    )
    monkeypatch.setattr("gdn.engines.tensorrt.build_plan", lambda library, onnx, graph: onnx)
    made.library = Library("tensorrt", "0", module)
    made.open = lambda model: TensorRTEngine(
        model, "cuda", None, "a test", made.library, made.device
    )
    return made


def evaluated(engine: Any, model: Model, n: int) -> list[np.ndarray]:
    z = restart_latents(0, range(n), model.card.latent)
    images = engine.generate(z)
    shift, scale = np.zeros_like(images), np.full(n, 2, np.float32)
    result = engine.value_and_gradient(
        z, TileData(3 * images, np.ones_like(images), NoiseLaw(1.0, 0.5)), scale, shift
    )
    codes = engine.encode(images, np.full(n, 0.3, np.float32))
    nuisance, prior = np.zeros((2, n, 4), np.float32)
    step = engine.step(
        z, nuisance, TileData(3 * images, np.ones_like(images), NoiseLaw(1.0, 0.5)), 100.0, prior
    )
    return [images, result.gradient, engine.push_forward(z, z[:, None]), codes, *step]


def test_fake_device_gives_what_onnxruntime_gives_in_any_batch(
    fake: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MOST, "generator", 300)
    model = find_model("pt-ceo2-64")
    with (
        fake.open(model) as engine,
        open_engine(model, "onnxruntime", "cpu", threads=1) as reference,
    ):
        for n in (1, 9):
            for mine, theirs in zip(
                evaluated(engine, model, n), evaluated(reference, model, n), strict=True
            ):
                np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-3)
        seventy = restart_latents(0, range(70), model.card.latent)
        np.testing.assert_allclose(
            engine.generate(seventy), reference.generate(seventy), rtol=1e-3, atol=1e-3
        )
        many = engine.generate(restart_latents(0, range(MOST["generator"] + 5), model.card.latent))
        assert len(many) == MOST["generator"] + 5
        generator = fake.engines[0]
        assert max(generator.batches) == MOST["generator"]
        assert generator.profiles == [
            1,
            0,
        ]  # refinement's profile for one, the search's for seventy
    assert fake.device.blocks == {}
    assert len(kept_plans()) == 5


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("plan", "refuses the plan of generator"),
        ("context", "an execution context"),
        ("profile", "profile 1"),
        ("shape", "the shape"),
        ("address", "the address of z"),
        ("run", "to run"),
    ],
)
def test_fake_device_every_refusal_is_an_error(
    fake: SimpleNamespace, what: str, words: str
) -> None:
    model = find_model("pt-ceo2-64")
    fake.refuses.add(what)
    with fake.open(model) as engine, pytest.raises(EngineError, match=words):
        engine.generate(restart_latents(0, range(2), model.card.latent))


def test_fake_device_out_of_memory_halves_the_batch(fake: SimpleNamespace) -> None:
    model = find_model("pt-ceo2-64")
    fake.device.room = 10 * 4 * model.card.patch**2
    z = restart_latents(0, range(30), model.card.latent)
    with (
        fake.open(model) as engine,
        open_engine(model, "onnxruntime", "cpu", threads=1) as reference,
    ):
        np.testing.assert_allclose(engine.generate(z), reference.generate(z), atol=1e-3)
        assert max(fake.engines[0].batches) > 5


def test_fake_device_the_banks_batch_runs_as_one_captured_graph(
    fake: SimpleNamespace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = find_model("pt-ceo2-64")
    batch = 40
    monkeypatch.setitem(CAPTURED, "generator", batch)
    z = [restart_latents(seed, range(batch), model.card.latent) for seed in range(3)]
    with open_engine(model, "onnxruntime", "cpu", threads=2) as reference:
        expected = [reference.generate(one) for one in z]
    with fake.open(model) as engine:
        found = [
            engine.generate(z[0]),
            engine.generate(z[1]),
            engine.generate(z[1][:30]),
            engine.generate(z[2]),
        ]
        assert (fake.device.captured, fake.device.launched) == (
            1,
            2,
        )  # the first ran before the capture, the thirty without
        for mine, theirs in zip(
            found, [expected[0], expected[1], expected[1][:30], expected[2]], strict=True
        ):
            np.testing.assert_allclose(mine, theirs, atol=1e-3)
    assert fake.device.captured == 0
    assert fake.device.blocks == {}
    for ending in ("none", "fail"):
        fake.device.graphs, fake.device.launched = ending, 0
        with fake.open(model) as engine:
            for one, theirs in zip(z, expected, strict=True):
                np.testing.assert_allclose(engine.generate(one), theirs, atol=1e-3)
        assert fake.device.launched == 0
    assert (
        caplog.text.count(
            "continuing without a CUDA graph (CUDA: cudaErrorStreamCaptureUnsupported)"
        )
        == 1
    )


def test_fake_device_counts_cross_to_it_once_and_only_wanted_outputs_come_back(
    fake: SimpleNamespace,
) -> None:
    model = find_model("pt-ceo2-64")
    n, tile = 6, 6 * 4 * model.card.patch**2
    z = restart_latents(0, range(n), model.card.latent)
    scale, shift = (
        np.full(n, 2, np.float32),
        np.zeros((n, model.card.patch, model.card.patch), np.float32),
    )
    with fake.open(model) as engine:
        data = TileData(np.abs(shift) + 3, shift + 1, NoiseLaw(1.0, 0.5))
        first = engine.value_and_gradient(z, data, scale, shift)
        pulled = [engine.pull_back(z, first.images * k) for k in (1, 2, 3)]
        np.testing.assert_allclose(pulled[2], 3 * pulled[0], rtol=1e-3, atol=1e-3)
        again = engine.value_and_gradient(z, data, scale, shift)
        np.testing.assert_array_equal(first.gradient, again.gradient)
        # counts, weights and a shift; zeros and ones and a cotangent, then two cotangents; a shift
        assert sum(size == tile for size in fake.device.sent) == 3 + 3 + 2 + 1
        assert fake.device.fetched.count(tile) == 2  # the images of a pull-back stay where they are
        other = TileData(data.counts * 2, data.weights, NoiseLaw(1.0, 0.5))
        assert not np.allclose(
            engine.value_and_gradient(z, other, scale, shift).gradient, first.gradient
        )
        for k in range(8):  # more kinds of counts than are kept
            engine.value_and_gradient(
                z, TileData(data.counts + k, data.weights, NoiseLaw(1.0, 0.5)), scale, shift
            )
        again = engine.value_and_gradient(z, data, scale, shift)
        np.testing.assert_array_equal(first.gradient, again.gradient)
    assert fake.device.blocks == {}


def test_fake_device_no_image_comes_back_of_a_step(fake: SimpleNamespace) -> None:
    from gdn.search.candidates import evaluate, start
    from gdn.search.refine import take_newton_steps

    model = find_model("pt-ceo2-64")
    n, tile = 6, 6 * 4 * model.card.patch**2
    z = restart_latents(0, range(n), model.card.latent)
    with (
        fake.open(model) as engine,
        open_engine(model, "onnxruntime", "cpu", threads=1) as reference,
    ):
        counts = np.random.default_rng(0).poisson(5 * engine.generate(z)).astype(np.float32)
        data = TileData(counts, np.ones_like(counts), POISSON)
        starts = [
            start(0.9 * z, np.arange(n), np.zeros(n, int), 5, np.zeros(n, bool)) for _ in range(2)
        ]
        mine, theirs = (
            evaluate(e, data, s) for e, s in zip((engine, reference), starts, strict=True)
        )
        fake.device.sent.clear()
        fake.device.fetched.clear()
        mine, theirs = (
            take_newton_steps(e, data, c, 1, 3, 100.0)
            for e, c in ((engine, mine), (reference, theirs))
        )
        np.testing.assert_allclose(mine.mean, theirs.mean, rtol=1e-3, atol=1e-3)
        assert fake.device.sent.count(tile) == 2  # counts and weights
        assert fake.device.fetched.count(tile) == 1  # of what the step led to
        assert max(fake.device.sent + fake.device.fetched) == tile


def test_tiles_cannot_be_written_once_a_device_may_hold_them() -> None:
    model = find_model("pt-ceo2-64")
    counts = np.ones((1, model.card.patch, model.card.patch), np.float32)
    data = TileData(counts, counts.copy(), POISSON)
    z = np.zeros((1, model.card.latent), np.float32)
    with open_engine(model, "onnxruntime", threads=1) as engine:
        engine.value_and_gradient(z, data, np.ones(1, np.float32), 0 * counts)
        for array in (data.counts, data.weights):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 2
