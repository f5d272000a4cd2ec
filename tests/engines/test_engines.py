"""Engines: ONNX against torch, errors at the door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gdn.engines.base import jacobian
from gdn.engines.choose import open_engine
from gdn.evaluation.metrics import psnr
from gdn.likelihood import POISSON, TileData, negative_log_likelihood
from gdn.models import find_model, load_model
from gdn.restarts import restart_latents
from gdn.search.bank import bank_for
from gdn.search.denoise_frame import denoise_frame
from gdn.search.settings import Searcher
from tests.helpers.engines import outputs, stepped
from tests.helpers.frames import noisy_frame
from tests.helpers.models import Exported
from tests.helpers.needs import needs_training
from tests.helpers.tiles import poisson_tiles


@needs_training
def test_engines_agree(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    z = restart_latents(0, range(5), 16)
    tiles = poisson_tiles(5, 32)
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
def test_engines_give_the_same_frame(tiny_model: Path) -> None:

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
            engine.value_and_gradient(
                z, poisson_tiles(2, 32), one, np.zeros((2, 64, 64), np.float32)
            )
        with pytest.raises(ValueError, match="scale must be float32"):
            engine.value_and_gradient(
                z, poisson_tiles(2, 64), one[:1], np.zeros((2, 64, 64), np.float32)
            )
        with pytest.raises(ValueError, match=r"tangents must be float32 \(2, k, 128\)"):
            engine.push_forward(z, np.zeros((2, 3, 7), np.float32))
        with pytest.raises(ValueError, match="sigma must be float32"):
            engine.encode(poisson_tiles(2, 64).counts, np.ones(3, np.float32))


def test_gradient_and_jacobian_are_finite_differences() -> None:
    """Of the shipped model, through its ONNX graphs alone."""
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        z = restart_latents(4, range(1), 128)
        tile, dose = poisson_tiles(1, 64), np.full(1, 19, np.float32)
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
            poisson_tiles(3, 32),
            TileData(
                poisson_tiles(3, 32).counts * np.float32(1e4),
                np.ones((3, 32, 32), np.float32),
                POISSON,
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
