"""Memory: portions of a frame, what happens when it runs out, and results that do not depend on
either."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdn.engines.base import OutOfMemory, is_out_of_memory
from gdn.engines.choose import open_engine
from gdn.engines.graph_engine import GraphEngine
from gdn.likelihood import POISSON
from gdn.models import find_model
from gdn.search import all_tiles
from gdn.search import portions as memory
from gdn.search.all_tiles import run_in_portions
from gdn.search.bank import bank_for
from gdn.search.denoise_frame import FrameResult, denoise_frame
from gdn.search.portions import BANK_PIXELS, TILE_PIXELS, Portions
from gdn.search.settings import Searcher, SearchSettings
from gdn.trust.columns import find_columns
from gdn.trust.fit import tile_features
from gdn.trust.spread import pixel_features
from tests.helpers.frames import noisy_frame
from tests.helpers.needs import needs_training

PLENTY = 2**40


def denoised(settings: SearchSettings | None = None) -> FrameResult:
    frame = noisy_frame((130, 150)).astype(np.float32)
    with open_engine(find_model("pt-ceo2-64"), threads=1) as engine:
        return denoise_frame(
            frame,
            0.2,
            Searcher(
                engine=engine, bank=bank_for(engine, 0, 32), settings=settings or SearchSettings()
            ),
        )


def test_portions_are_the_same_where_there_is_room_and_shrink_where_there_is_not() -> None:
    assert (
        Portions(lambda: PLENTY).tiles(128)
        == Portions(lambda: 2**31).tiles(128)
        == TILE_PIXELS // 128**2
    )
    assert Portions(lambda: PLENTY).images(64) == BANK_PIXELS // 64**2
    little = Portions(lambda: 2**27)
    assert 1 <= little.tiles(128) < TILE_PIXELS // 128**2
    assert 1 <= little.images(128) < BANK_PIXELS // 128**2
    assert Portions(lambda: 0).tiles(128) == Portions(lambda: 0).images(128) == 1
    assert Portions(lambda: PLENTY).keeps(256, 128)
    assert not Portions(lambda: PLENTY).keeps(4096, 128)
    assert not little.keeps(256, 128)


def test_what_did_not_fit_is_halved_with_one_line_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    portions = Portions(lambda: PLENTY)
    monkeypatch.setattr(all_tiles, "PORTIONS", portions)
    tried: list[int] = []

    def work(index: np.ndarray) -> int:
        tried.append(len(index))
        if len(index) > 40:
            raise MemoryError
        return len(index)

    with caplog.at_level(logging.WARNING):
        parts = list(run_in_portions(300, 128, work))
    np.testing.assert_array_equal(np.concatenate([index for index, _ in parts]), np.arange(300))
    assert tried[:2] == [64, 32]
    assert max(tried[2:]) == 32  # what was too much once is not tried again
    assert len(caplog.records) == 1
    with pytest.raises(MemoryError):
        list(run_in_portions(3, 128, lambda _: (_ for _ in ()).throw(MemoryError)))
    assert not portions.halve()  # as little as can be


@pytest.mark.slow
@pytest.mark.parametrize("laplace", ["none", "sampled"])
def test_a_frame_is_the_same_in_portions(monkeypatch: pytest.MonkeyPatch, laplace: Any) -> None:
    settings = SearchSettings(laplace=laplace)
    whole = denoised(settings)
    monkeypatch.setattr(memory, "TILE_PIXELS", 3 * 64**2)
    parts = denoised(settings)
    assert whole.tiles == parts.tiles > 3
    np.testing.assert_allclose(whole.image, parts.image, rtol=1e-4, atol=1e-4 * whole.image.mean())
    np.testing.assert_allclose(
        whole.raw_spread, parts.raw_spread, rtol=0.02, atol=2e-3 * whole.image.mean()
    )
    np.testing.assert_allclose(whole.objectives, parts.objectives, rtol=1e-5)


def test_the_judgement_is_the_same_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    found = denoised().estimate
    assert found is not None
    features, pixels = tile_features(found, 0.4), pixel_features(found)
    monkeypatch.setattr("gdn.trust.fit.TILE_PIXELS", 2 * 64**2)
    np.testing.assert_allclose(tile_features(found, 0.4), features, rtol=1e-6)
    np.testing.assert_array_equal(pixel_features(found, 13, 71), pixels[13:71])


def test_columns_of_a_large_image_are_those_of_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = np.indices((200, 310)) * 0.4
    image = (1 - 0.1 * (np.cos(2 * np.pi * x / 2.7) * np.cos(2 * np.pi * y / 3.1)) ** 4).astype(
        np.float32
    )
    whole = find_columns(image, 0.4)
    monkeypatch.setattr("gdn.trust.columns.BLOCK", 160)
    blocks = find_columns(image, 0.4)
    assert len(blocks) == len(whole) > 1000

    def ordered(yx: np.ndarray) -> np.ndarray:
        return yx[np.lexsort(np.round(yx, 1).T)]

    np.testing.assert_allclose(ordered(blocks.yx), ordered(whole.yx), atol=0.02)
    assert np.median(blocks.amplitude) == pytest.approx(np.median(whole.amplitude), rel=0.01)


class Card:
    """A device whose memory holds `rows` of a batch."""

    def __init__(self, engine: GraphEngine, rows: int) -> None:
        self.engine, self.rows, self.sizes = engine, rows, []  # type: ignore[var-annotated]
        self.run = engine.run_graph

    def __call__(
        self, graph: Any, feed: dict[str, np.ndarray], outputs: tuple[str, ...]
    ) -> list[list[np.ndarray]]:
        n = len(next(iter(feed.values())))
        self.sizes.append(n)
        if n > self.rows:
            raise OutOfMemory("CUDA failure 2: out of memory")
        return self.run(graph, feed, outputs)


@pytest.mark.parametrize("name", ["onnxruntime", pytest.param("torch", marks=needs_training)])
def test_an_engine_out_of_memory_goes_on_with_smaller_batches(
    name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gdn.likelihood import TileData
    from gdn.restarts import restart_latents

    with open_engine(find_model("pt-ceo2-64"), name, "cpu", threads=1) as engine:
        assert isinstance(engine, GraphEngine)
        z = restart_latents(0, range(21), engine.model.card.latent)
        images = engine.generate(z)
        data = TileData(10 * images, np.ones_like(images), POISSON)
        scale, shift = np.full(21, 9, np.float32), np.zeros_like(images)
        expected = engine.value_and_gradient(z, data, scale, shift)
        tangents = engine.push_forward(z[:5], z[:5, None])
        card = Card(engine, 6)
        monkeypatch.setattr(engine, "run_graph", card)
        with caplog.at_level(logging.WARNING):
            np.testing.assert_allclose(engine.generate(z), images, atol=1e-5)
        assert card.sizes == [21, 10, 5, 5, 5, 5, 1]
        assert len(caplog.records) == 2
        assert "memory ran out" in caplog.text
        found = engine.value_and_gradient(z, data, scale, shift)
        np.testing.assert_allclose(found.gradient, expected.gradient, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(engine.push_forward(z[:5], z[:5, None]), tangents, atol=1e-5)
        card.rows = 0
        with pytest.raises(MemoryError):
            engine.generate(z)


def test_the_runtimes_words_for_no_memory_are_known() -> None:
    for words in (
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "[ONNXRuntimeError] : 6 : std::bad_alloc",
        "Failed to allocate memory for requested buffer of size 8589934592",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate",
    ):
        assert is_out_of_memory(RuntimeError(words))
    assert not is_out_of_memory(RuntimeError("invalid dimensions"))
    assert is_out_of_memory(MemoryError())


def test_a_container_s_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert memory.left_in_group(tmp_path) == [600]
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.left_in_group(tmp_path) == []
    assert memory.left_in_group(tmp_path / "none") == []
    assert memory.free_bytes() > 0
