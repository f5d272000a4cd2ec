"""The original study's search, kept as the baseline: mean-squared error, one latent at a time
(docs/method.md, "The original method").

10 random restarts get 1,500 Adam steps each, at a rate of 1e-2. The best one then gets 10,000
steps, with a tenth of that rate from step 10,000 on. Latents are clamped to [-5, 5]; the batch is
one.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from gdn.blas import one_blas_thread
from gdn.engines.base import Engine
from gdn.frames.examined import examine
from gdn.frames.noise import NoiseModel
from gdn.frames.resampling import unbin
from gdn.likelihood import Array, NoiseLaw, TileData
from gdn.restarts import restart_latents
from gdn.search.denoise_frame import FrameResult, bin_frame
from gdn.search.held_out_shares import Choice
from gdn.search.progress import Progress, part_of
from gdn.search.settings import OriginalSettings
from gdn.search.tiles import cut, merge, tile_frame


@one_blas_thread()
def original_frame(
    frame: Array,
    sampling_angstrom: float,
    engine: Engine,
    settings: OriginalSettings,
    noise: NoiseModel | None = None,
    progress: Progress = lambda share: None,
) -> FrameResult:
    """The study's result for a frame (rows, columns), in the frame's units. Its spread is NaN,
    because the method has none.

    `objective` is the mean over tiles of the summed squared error, for vacuum 1. The frame's mean
    stands for its vacuum level. Raises ValueError where the noise model contradicts the frame.
    """
    begun = time.perf_counter()
    defects = examine(frame, noise, sampling_angstrom)[0]
    model, grids, binned = bin_frame(frame, sampling_angstrom, engine, noise)
    level = float(binned.mean())
    image, losses = _denoise(binned / np.float32(level), engine, settings, progress)
    area = grids.area
    result = model.units(unbin(image * np.float32(level), grids) / area)
    seconds = {"search": round(time.perf_counter() - begun, 4)}
    return FrameResult(
        image=result,
        raw_spread=np.full_like(result, np.nan),
        noise=model,
        grids=grids,
        dose=level / area,
        objective=float(losses.mean()),
        objectives=[float(v) for v in losses],
        bank_share=1.0,
        residual_share=0.0,
        held_out=Choice(threshold=np.inf),
        tiles=len(losses),
        estimate=None,
        seconds=seconds,
        warnings=[*defects.notes, "the original method has no spread and no trust map"],
        bad=defects.bad,
    )


def _denoise(
    image: Array,
    engine: Engine,
    settings: OriginalSettings,
    progress: Progress,
) -> tuple[Array, NDArray[np.float64]]:
    """Denoise a binned frame with vacuum near 1, tile by tile, and put the tiles side by side: the
    image, and the tiles' squared errors."""
    patch = engine.model.card.patch
    tiling = tile_frame((image.shape[0], image.shape[1]), patch, patch)
    tiles, weights = cut(image, tiling)
    images, losses = np.empty_like(tiles), np.empty(len(tiles))
    for i in range(len(tiles)):
        its = part_of(progress, i / len(tiles), 1 / len(tiles))
        z, losses[i] = search_original(engine, tiles[i : i + 1], weights[i : i + 1], settings, its)
        images[i] = engine.generate(z)[0]
    progress(1.0)
    return merge(images, tiling), losses


def search_original(
    engine: Engine,
    tile: Array,
    weight: Array,
    settings: OriginalSettings,
    progress: Progress = lambda share: None,
) -> tuple[Array, float]:
    """The clamped latent (1, d) with which the study's search ends, for a tile (1, h, w) of vacuum
    1; and its squared error."""
    # Gaussian noise of variance 1/2 makes the objective the sum of squares.
    data = TileData(tile, weight, NoiseLaw(0.0, 0.5))
    starts = restart_latents(settings.seed, range(settings.restarts), engine.model.card.latent)
    best, best_loss = starts[:1], np.inf
    steps = settings.restarts * settings.restart_steps + settings.final_steps
    each = settings.restart_steps / steps
    for number, start in enumerate(starts):
        its = part_of(progress, number * each, each)
        z, loss = _adam(engine, data, start[None], settings.restart_steps, settings, its)
        if loss < best_loss:
            best, best_loss = z, loss
    last = part_of(progress, settings.restarts * each, settings.final_steps / steps)
    z, loss = _adam(engine, data, best, settings.final_steps, settings, last)
    return np.clip(z, -settings.clamp, settings.clamp), loss


def _adam(
    engine: Engine,
    data: TileData,
    z: Array,
    steps: int,
    settings: OriginalSettings,
    progress: Progress,
) -> tuple[Array, float]:
    """Adam with PyTorch's default settings. Returns the last latent and its sum of squared
    errors."""
    scale, dark = np.ones(1, np.float32), np.zeros_like(data.counts)
    first, second = np.zeros_like(z), np.zeros_like(z)
    loss = np.inf
    for step in range(1, steps + 1):
        progress((step - 1) / steps)
        inside = np.abs(z) <= settings.clamp
        evaluation = engine.value_and_gradient(
            np.clip(z, -settings.clamp, settings.clamp), data, scale, dark
        )
        loss = float(evaluation.value[0])
        # The mean over pixels, and a clamp that passes no gradient outside.
        gradient = evaluation.gradient * inside / data.counts[0].size
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        rate = settings.rate * (0.1 if step >= 10_000 else 1.0)
        z = z - rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return z.astype(np.float32), loss
