"""Engines: the hand-written pull-back against autograd, ONNX against torch, errors at the door."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Exported, needs_training

from gdn.engines.base import EngineError, jacobian, onnx_bytes
from gdn.engines.choose import candidates, check, open_engine
from gdn.engines.table import RUNTIMES, Runtime
from gdn.evaluation.metrics import psnr
from gdn.likelihood import POISSON, NoiseLaw, TileData, negative_log_likelihood
from gdn.models import find_model, load_model
from gdn.restarts import restart_latents
from gdn.search.bank import bank_for
from gdn.search.denoise_frame import denoise_frame
from gdn.search.settings import Searcher


def data(n: int, p: int, alpha: float = 1.0, beta: float = 0.0) -> TileData:
    rng = np.random.default_rng(3)
    w = np.ones((n, p, p), np.float32)
    w[0, :5] = 0
    return TileData(rng.poisson(19, (n, p, p)).astype(np.float32), w, NoiseLaw(alpha, beta))


def random_generator(stem: str, residual: int):  # type: ignore[no-untyped-def]
    """A float64 generator of 32 px whose batch-norm statistics, and flow, are not the identity."""
    import torch

    from gdn.generator.networks import Generator, initialise
    from gdn.recipes import Network

    torch.manual_seed(0)
    # The elaborate kind has everything: residual blocks, a flow, latents of a finer grid.
    extra = (
        {"flow": 5, "flow_width": 8, "rungs": (1,), "latent": 96} if residual else {"latent": 32}
    )
    network = Network(
        patch=32, base_channels=8, channel_cap=16, stem=stem, residual=residual, **extra
    )
    generator = Generator(network)
    initialise(generator, "dcgan")
    for name, parameter in generator.named_parameters():
        if name.startswith("flow."):
            torch.nn.init.normal_(parameter, 0, 0.3)
    for _ in range(3):
        generator(torch.randn(16, network.latent))
    return generator.double().eval()


@needs_training
@pytest.mark.parametrize("stem", ["linear", "mlp", "grid"])
@pytest.mark.parametrize("residual", [0, 2])
def test_push_forward_is_autograds_in_float64(stem: str, residual: int) -> None:
    import torch

    from gdn.generator.folded import PushForward
    from gdn.generator.folding import fold

    generator = random_generator(stem, residual)
    z, t = torch.randn(2, generator.latent).double(), torch.randn(2, 3, generator.latent).double()
    found = PushForward(fold(generator, 0.9))(z, t).view(2, 3, 1, 32, 32)
    for n in range(2):
        for k in range(3):
            _, expected = torch.autograd.functional.jvp(
                lambda v: 0.9 * generator(v[None])[0], z[n], t[n, k]
            )
            torch.testing.assert_close(found[n, k], expected, rtol=1e-8, atol=1e-10)


@needs_training
@pytest.mark.parametrize("stem", ["linear", "mlp", "grid"])
@pytest.mark.parametrize("residual", [0, 2])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (1.0, 7.0), (0.0, 3.0)])
def test_pull_back_is_autograds_in_float64(
    stem: str, residual: int, alpha: float, beta: float
) -> None:
    import torch

    from gdn.generator.folded import PullBack
    from gdn.generator.folding import fold

    generator = random_generator(stem, residual)
    graph = PullBack(fold(generator, 0.9))
    z = torch.randn(4, generator.latent, dtype=torch.float64, requires_grad=True)
    x = 1 + 0.9 * generator(z)
    y, w = torch.poisson(19 * x.detach()), (torch.rand_like(x) > 0.1).double()
    scale, shift = torch.full((4,), 20.0).double(), 1.5 + torch.rand_like(x).detach()
    mu = scale.view(-1, 1, 1, 1) * x + shift
    nll = (
        (w * (mu - (y + beta) * torch.log(mu + beta))).sum()
        if alpha
        else (w * (mu - y) ** 2).sum() / (2 * beta)
    )
    (expected,) = torch.autograd.grad(nll, z)
    one = [torch.tensor(v).double() for v in (alpha, beta)]
    found_x, found = graph(z.detach(), y, w, scale, shift, scale, *one)
    torch.testing.assert_close(found_x, x.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@needs_training
def test_engines_agree(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    z = restart_latents(0, range(5), 16)
    tiles = data(5, 32)
    scale, shift = np.full(5, 19, np.float32), np.zeros((5, 32, 32), np.float32)
    with open_engine(model, "onnxruntime") as a, open_engine(model, "torch") as b:
        np.testing.assert_allclose(a.generate(z), b.generate(z), atol=2e-5)
        for found, expected in zip(
            *([e.value_and_gradient(z, tiles, scale, shift)] for e in (a, b)), strict=True
        ):
            np.testing.assert_allclose(found.images, expected.images, atol=2e-5)
            np.testing.assert_allclose(found.value, expected.value, rtol=1e-6)
            np.testing.assert_allclose(
                found.gradient, expected.gradient, atol=1e-3 * np.abs(expected.gradient).max()
            )
        tangents = restart_latents(1, range(10), 16).reshape(5, 2, 16)
        pushed = [e.push_forward(z, tangents) for e in (a, b)]
        np.testing.assert_allclose(*pushed, atol=1e-4 * np.abs(pushed[1]).max())
        v = tiles.counts / 19 - 1
        pulled = [e.pull_back(z, v) for e in (a, b)]
        np.testing.assert_allclose(*pulled, atol=1e-3 * np.abs(pulled[1]).max())
        # <J t, v> = <t, J^T v> ties the two products together.
        left = np.einsum("nkij,nij->nk", pushed[0], v)
        np.testing.assert_allclose(
            left, np.einsum("nkd,nd->nk", tangents, pulled[0]), atol=1e-3 * np.abs(left).max()
        )
        ea, eb = (e.encode(tiles.counts / 19, np.full(5, 0.23, np.float32)) for e in (a, b))
        assert ea is not None
        np.testing.assert_allclose(ea, eb, atol=1e-3)
        for mine, theirs in zip(stepped(a, z, tiles), stepped(b, z, tiles), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-3 * np.abs(theirs).max())


@needs_training
@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("residual", [0, 2])
def test_a_step_is_conjugate_gradients_on_autograds_curvature(residual: int, alpha: float) -> None:
    """In float64, against H = J^T W J + P made of autograd's Jacobian of the mean, and the
    textbook's recurrence."""
    import torch

    from gdn.generator.folding import fold
    from gdn.generator.gauss_newton import GaussNewton

    generator = random_generator("grid", residual)
    n, d, beta, damping = 2, generator.latent, 0.7, 30.0
    folded = fold(generator, 0.8)
    module = GaussNewton(folded, 32).double()
    tiles = data(n, 32)
    y, w = (torch.tensor(a[:, None]).double() for a in (tiles.counts, tiles.weights))
    z, nuisance = (
        torch.randn(n, d).double(),
        torch.tensor([[2.8, 0.1, 0.03, -0.02], [3.1, -0.1, 0, 0.04]]).double(),
    )
    prior = torch.tensor([0.0, 100, 2500, 2500]).double().repeat(n, 1)
    one = [torch.tensor(v).double() for v in (alpha, beta, damping)]
    direction, promised = module(z, nuisance, y, w, *one, prior)
    axis = torch.linspace(-1, 1, 32).double()

    def mean(theta: torch.Tensor) -> torch.Tensor:
        dose, contrast = torch.exp(theta[d]), torch.exp(theta[d + 1])
        x = folded(theta[None, :d])[0, 0]
        return (
            dose
            * (contrast * (x - 1) + 1 + theta[d + 2] * axis[:, None] + theta[d + 3] * axis[None])
        ).flatten()

    for i in range(n):
        theta = torch.cat([z[i], nuisance[i]])
        mu, j = mean(theta), torch.autograd.functional.jacobian(mean, theta)
        weight = w[i].flatten() / (alpha * mu + beta)
        own = torch.cat([torch.ones(d), prior[i]])
        extra = torch.cat([torch.full((d,), damping), torch.zeros(4)])
        h = (j.T * weight) @ j + torch.diag(own + extra)
        gradient = j.T @ (weight * (mu - y[i].flatten())) + own * theta
        scale = torch.cat([own[:d] + damping, torch.diag(h)[d:]])
        p, r = torch.zeros_like(theta), -gradient
        s = r / scale
        for _ in range(3):
            length = (r @ (r / scale)) / (s @ h @ s)
            p, new = p + length * s, r - length * h @ s
            s, r = new / scale + (new @ (new / scale)) / (r @ (r / scale)) * s, new
        torch.testing.assert_close(direction[i], p, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(promised[i], p @ h @ p, rtol=1e-6, atol=1e-8)


@needs_training
def test_engines_give_the_same_frame(tiny_model: Path) -> None:
    from conftest import noisy_frame

    from gdn.search.denoise_frame import denoise_frame
    from gdn.search.settings import Searcher

    model = load_model(tiny_model)
    frame = noisy_frame((150, 170)).astype(np.float32)
    images = []
    for name in ("onnxruntime", "torch"):
        with open_engine(model, name) as engine:
            bank = bank_for(engine, 0, 8, use_cache=False)
            images.append(denoise_frame(frame, 0.1, Searcher(engine=engine, bank=bank)).image)
    error = ((images[0] - images[1]) ** 2).mean()
    assert -10 * np.log10(error) > 60  # dB, data range 1


def test_shapes_are_checked_at_the_door() -> None:
    with open_engine(find_model("pt-ceo2-64")) as engine:
        with pytest.raises(ValueError, match=r"\(n, 128\), got float32 \(2, 7\)"):
            engine.generate(np.zeros((2, 7), np.float32))
        z = np.zeros((2, 128), np.float32)
        one = np.ones(2, np.float32)
        with pytest.raises(ValueError, match="counts must be float32"):
            engine.value_and_gradient(z, data(2, 32), one, np.zeros((2, 64, 64), np.float32))
        with pytest.raises(ValueError, match="scale must be float32"):
            engine.value_and_gradient(z, data(2, 64), one[:1], np.zeros((2, 64, 64), np.float32))
        with pytest.raises(ValueError, match=r"tangents must be float32 \(2, k, 128\)"):
            engine.push_forward(z, np.zeros((2, 3, 7), np.float32))
        with pytest.raises(ValueError, match="sigma must be float32"):
            engine.encode(data(2, 64).counts, np.ones(3, np.float32))


def test_gradient_and_jacobian_are_finite_differences() -> None:
    """Of the shipped model, through its ONNX graphs alone."""
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        z = restart_latents(4, range(1), 128)
        tile, dose = data(1, 64), np.full(1, 19, np.float32)
        dark = np.zeros((1, 64, 64), np.float32)
        found = engine.value_and_gradient(z, tile, dose, dark)
        matrix = jacobian(engine, z[0])
        step = 3e-4
        direction = restart_latents(5, range(1), 128)
        up, down = (engine.generate(z + s * step * direction) for s in (1, -1))
        slope = (up - down)[0] / (2 * step)
        pushed = np.einsum("d,dij->ij", direction[0], matrix)
        assert np.linalg.norm(pushed - slope) < 0.03 * np.linalg.norm(slope)
        values = [negative_log_likelihood(19 * x, tile)[0] for x in (up, down)]
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(
            float(found.gradient[0] @ direction[0]), rel=0.03
        )


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


@needs_training
def test_torch_s_random_numbers_and_threads_stay_the_caller_s() -> None:
    import torch

    torch.manual_seed(7)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    model = find_model("pt-ceo2-64")
    with open_engine(model, "torch", "cpu", threads=threads + 1) as engine:
        engine.generate(np.zeros((2, model.card.latent), np.float32))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_results_do_not_depend_on_threads() -> None:
    model = find_model("pt-ceo2-64")
    z = restart_latents(0, range(21), 128)
    images = []
    for threads in (1, 3):
        with open_engine(model, "onnxruntime", threads=threads) as engine:
            images.append(engine.generate(z))
    np.testing.assert_array_equal(images[0], images[1])


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

    def __init__(self, model: Any, choice: Any, off: float) -> None:
        self.inner = open_engine(model, "onnxruntime", "cpu", threads=1)
        self.name, self.device, self.reason, self.model, self.off = (
            choice.engine,
            choice.device,
            choice.reason,
            model,
            off,
        )
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
    model, plain = find_model("pt-ceo2-64"), module._open
    off = {"tensorrt": np.nan, "onnxruntime": 0.5, "torch": 1e-5}
    strangers = []

    def opened(model: Any, choice: Any, threads: int | None) -> Any:
        if choice.device == "cpu":
            return plain(model, choice, threads)
        strangers.append(Stranger(model, choice, off[choice.engine]))
        return strangers[-1]

    monkeypatch.setattr(module, "_open", opened)
    with open_engine(model) as engine:
        assert [one.closed for one in strangers] == [True, True, False]
        assert (engine.name, engine.device) == ("torch", "cuda")
        assert "tensorrt cannot be used (its images are off by nan" in engine.reason
        assert "onnxruntime cannot be used (its images are off by 0.5" in engine.reason
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


def outputs(engine: Any, n: int) -> list[np.ndarray]:
    """What every graph of an engine gives, with tiles that stay and tiles that change."""
    card = engine.model.card
    z = restart_latents(0, range(n), card.latent)
    images = engine.generate(z)
    tiles, shift = data(n, card.patch), np.zeros_like(images)
    found = [
        images,
        engine.push_forward(z, z[:, None]),
        engine.pull_back(z, images),
        engine.pull_back(z, 2 * images),
    ]
    for scale in (2, 3):
        one = engine.value_and_gradient(z, tiles, np.full(n, scale, np.float32), shift)
        found += [one.value, one.gradient, one.images]
    return [*found, engine.encode(images, np.full(n, 0.3, np.float32)), *stepped(engine, z, tiles)]


def stepped(engine: Any, z: np.ndarray, tiles: TileData, damping: float = 50.0) -> Any:
    """A step from doses and contrasts that are not those of the counts."""
    nuisance = np.tile(np.array([2.7, 0.1, 0.02, -0.03], np.float32), (len(z), 1))
    return engine.step(
        z,
        nuisance,
        tiles,
        damping,
        np.tile(np.array([0, 100, 2500, 2500], np.float32), (len(z), 1)),
    )


def test_bound_memory_gives_what_unbound_gives() -> None:
    model = find_model("pt-ceo2-64")
    with (
        open_engine(model, "onnxruntime", "cpu", threads=1) as plain,
        open_engine(model, "onnxruntime", "cpu", 1) as bound,
    ):
        bound._bound = "cpu"  # type: ignore[attr-defined]
        for mine, theirs in zip(outputs(bound, 5), outputs(plain, 5), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        gradient = bound._resident["gradient"]  # type: ignore[attr-defined]
        named = (
            8 * 4 - 2 - 2
        )  # eight inputs of four calls; counts and weights, zeros and ones crossed only once each
        assert gradient.uploads == named
        again = stepped(bound, restart_latents(0, range(5), 128), data(5, 64))
        assert np.isfinite(again[0]).all()
        assert bound._resident["step"].uploads == 8 + 8  # type: ignore[attr-defined]


def test_profiles_of_onnxruntimes_tensorrt_name_every_free_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GDN_CACHE_DIR", str(tmp_path))
    with open_engine(find_model("pt-ceo2-128"), "onnxruntime", "cpu", threads=1) as engine:
        engine._kind = "tensorrt"  # type: ignore[attr-defined]
        for graph in ("generator", "gradient", "tangent", "step", "encoder"):
            (provider, options), (other, _) = engine._providers(graph)  # type: ignore[attr-defined]
            assert (provider, other) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
            assert Path(options["trt_engine_cache_path"]).parent == tmp_path / "plans"
            import onnxruntime

            content = onnx_bytes(engine.model, graph)
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


def test_a_provider_of_onnxruntime_is_asked_for_with_it() -> None:
    with pytest.raises(EngineError, match="ask for engine onnxruntime too"):
        check("auto", "tensorrt")
    with pytest.raises(
        EngineError,
        match="has no TensorrtExecutionProvider; pip uninstall onnxruntime onnxruntime-gpu, then",
    ):
        open_engine(find_model("pt-ceo2-64"), "onnxruntime", "tensorrt")


@needs_training
def test_half_precision_searches_and_single_decides(tiny_model: Path, tiny_half: Exported) -> None:
    single, half = load_model(tiny_model), load_model(tiny_half.folder)
    with (
        open_engine(single, "onnxruntime", "cpu", 1) as full,
        open_engine(half, "onnxruntime", "cpu", 1) as narrow,
    ):
        assert full.exact is full
        for mine, theirs in zip(outputs(narrow.exact, 3), outputs(full, 3), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-2, atol=1e-2)
        z = restart_latents(0, range(3), single.card.latent)
        np.testing.assert_allclose(narrow.exact.generate(z), full.generate(z), atol=1e-5)
        assert 1e-5 < np.abs(narrow.generate(z) - full.generate(z)).max() < 1e-2
        for tiles in (
            data(3, 32),
            TileData(
                data(3, 32).counts * np.float32(1e4), np.ones((3, 32, 32), np.float32), POISSON
            ),
        ):
            mine, theirs = stepped(narrow, z, tiles)[0], stepped(full, z, tiles)[0]
            apart = np.linalg.norm(mine - theirs, axis=1) / np.linalg.norm(theirs, axis=1)
            assert (apart < 0.05).all()  # also where a gradient is far beyond what half can hold
        # The image of a search in half is one that single precision makes, to its last bits. (Of
        # noise alone the search may go either way at a last bit: one frame in six was 55 dB apart,
        # the others 83 or more.)
        y, x = np.indices((96, 96))
        noisy = (
            np.random.default_rng(0)
            .poisson(5 + 2.5 * np.sin(x / 3) * np.sin(y / 4))
            .astype(np.float32)
        )
        images = [
            denoise_frame(noisy, 0.2, Searcher(engine=e, bank=bank_for(e, 0, 16))).image
            for e in (full, narrow)
        ]
        assert psnr(images[0] / images[0].max(), images[1] / images[0].max()) > 60
    with open_engine(half, "torch", "cpu", 1) as by_torch:
        assert by_torch.exact.generate(z).dtype == np.float32


def test_what_keeps_a_provider_from_starting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from gdn.engines.onnxruntime import _missing

    def load(path: str) -> None:
        raise OSError(
            f"{'libcublasLt.so.13' if 'cuda' in path else path}: cannot open shared object file"
        )

    monkeypatch.setattr("ctypes.CDLL", load)
    assert _missing("cuda").startswith("libcublasLt.so.13 (pip install")
    assert _missing("tensorrt") == "a card that this onnxruntime supports, and NVIDIA's driver"
