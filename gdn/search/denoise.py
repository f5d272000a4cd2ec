"""One frame from noisy to clean: estimate, bin, search, refine, blend, and back to its own grid."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import Array, Engine, TileData
from gdn.frames.noise import NoiseModel, noise_of
from gdn.frames.sampling import Grids, bin_sum, grids_for, unbin
from gdn.frames.tiling import cut, tile_frame
from gdn.search import refine as refinement
from gdn.search.bank import Bank
from gdn.search.likelihood import bank_scores, pixel_sigma
from gdn.search.posterior import blend
from gdn.search.refine import Candidates
from gdn.search.residual import shrunk_residual

BANK_CHUNK = 2048  # bank images scored at a time: bounds memory
Progress = Callable[[float], None]


@dataclass(frozen=True)
class SearchSettings:
    """Everything that determines a result besides the frame, the model and the restarts."""

    stride: int = 16  # binned px between tiles
    brief_candidates: int = 2  # of the bank, for each tile
    brief_steps: int = 10
    full_candidates: int = 3
    full_steps: int | None = None  # None: by the dose, see `steps_for`
    rate: float = 0.03
    temperature: float = 40.0  # nats
    residual: bool = True
    encoder: bool = True
    estimate: Literal["mean", "map"] = "mean"


@dataclass(frozen=True)
class FrameResult:
    """A denoised frame: `image` and `spread` in the frame's own units and shape, and how they came about."""

    image: Array
    spread: Array
    noise: NoiseModel
    dose: float  # electrons per recorded pixel in vacuum
    objective: float  # mean over tiles of the best restart's objective, nats
    objectives: list[float]
    bank_share: float  # share of tiles whose best restart came from the bank
    residual_share: float  # rms of the added residual over rms of the contrast
    tiles: int
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def denoise_frame(
    frame: Array,
    sampling_angstrom: float,
    engine: Engine,
    bank: Bank,
    settings: SearchSettings,
    noise: NoiseModel | None = None,
    progress: Progress = lambda share: None,
) -> FrameResult:
    """Denoise one frame (rows, columns) float32. Raises ValueError where the noise model contradicts it."""
    clock = _Clock()
    model = noise_of(frame, noise)
    card = engine.model.card
    grids = grids_for((frame.shape[0], frame.shape[1]), sampling_angstrom, card.sampling_angstrom)
    binned = bin_sum(model.electrons(frame), grids)
    dose = float(binned.mean())
    warnings = _warnings(model, dose, grids, card.patch)
    if dose <= 0:
        raise ValueError("the mean signal is not above the detector's offset; say the noise model with --noise")
    tiling = tile_frame(grids.binned_shape, card.patch, settings.stride)
    counts, weights = cut(binned, tiling)
    data = TileData(counts, weights, model.alpha, model.beta * grids.area)
    clock.mark("prepare")
    candidates = _propose(engine, bank, data, dose, settings)
    clock.mark("score")
    progress(0.05)
    candidates = _search(engine, data, candidates, settings, dose, progress)
    clock.mark("refine")
    temperature = 1e-9 if settings.estimate == "map" else settings.temperature
    image, spread = blend(candidates, tiling, temperature)
    added = np.zeros_like(image)
    if settings.residual:
        sigma = np.sqrt(np.maximum(data.alpha * image + data.beta, 1e-6)).astype(np.float32)
        added = shrunk_residual(binned - image, sigma)
    contrast = max(float(image.std()), 1e-12)
    residual_share = float(np.sqrt((added**2).mean())) / contrast
    if residual_share > 0.5:
        warnings.append("the generator explains little of this frame: most of the result is a filtered residual")
    best = _best(candidates, len(tiling.corners))
    area = grids.area
    result = model.units(unbin(image + added, grids) / area)
    # What the residual added is not backed by the generator: its size counts as doubt.
    doubt = np.maximum(unbin(np.hypot(spread, added).astype(np.float32), grids), 0) / area * model.gain
    clock.mark("assemble")
    progress(1.0)
    frame_dose = float(np.median(np.exp(candidates.log_dose[best]))) / area
    objectives = candidates.objective[best]
    return FrameResult(
        result, doubt.astype(np.float32), model, frame_dose, float(objectives.mean()), [float(o) for o in objectives],
        float(candidates.from_bank[best].mean()), residual_share, len(tiling.corners), clock.seconds, warnings,
    )  # fmt: skip


class _Clock:
    """Seconds spent in named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def mark(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._last, 4)
        self._last = now


def _warnings(model: NoiseModel, dose: float, grids: Grids, patch: int) -> list[str]:
    found = []
    if min(grids.binned_shape) < patch:
        found.append(f"the frame covers {grids.binned_shape[0]}x{grids.binned_shape[1]} generator px, less than one tile")
    if grids.area < 1:
        found.append("the frame is sampled more coarsely than the generator: its finest detail is not in the data")
    if model.alpha == 1 and dose < 1:
        found.append(f"{dose:.2g} electrons per generator pixel: next to no information")
    return found


def steps_for(effective_dose: float) -> int:
    """Steps of the full refinement for electrons per generator pixel (squared signal over variance).

    Stopping early keeps the latent near the encoder's guess, which knows more of real images than the
    N(0, I) prior does: at 19 electrons more than 20 steps fit noise, at 190 sixty still gain
    (measured on validation frames, docs/search.md).
    """
    return int(np.clip(18 * np.sqrt(max(effective_dose, 0.1) / 19), 10, 80))


def _best(candidates: Candidates, tiles: int) -> NDArray[np.int64]:
    """Index of each tile's candidate of least objective."""
    order = np.lexsort((candidates.objective, candidates.tile))
    first = np.searchsorted(candidates.tile[order], np.arange(tiles))
    return order[first]


def best_of_bank(bank: Bank, data: TileData, dose: float, keep: int) -> NDArray[np.int64]:
    """Indices (tiles, keep) of the bank images that explain each tile best, best first."""
    n = len(bank.images)
    keep = min(keep, n)
    scores = np.empty((len(data.counts), 0), np.float32)
    index = np.empty((len(data.counts), 0), np.int64)
    for first in range(0, n, BANK_CHUNK):
        chunk = np.asarray(bank.images[first : first + BANK_CHUNK], dtype=np.float32)
        here = bank_scores(chunk, data, dose)
        scores = np.concatenate([scores, here], 1)
        index = np.concatenate([index, np.tile(np.arange(first, first + len(chunk)), (len(scores), 1))], 1)
        order = np.argsort(scores, 1, kind="stable")[:, :keep]
        scores, index = np.take_along_axis(scores, order, 1), np.take_along_axis(index, order, 1)
    return index


def _propose(engine: Engine, bank: Bank, data: TileData, dose: float, settings: SearchSettings) -> Candidates:
    """Starts for every tile: the best of the bank, and the encoder's guess where the model has one."""
    tiles = len(data.counts)
    chosen = best_of_bank(bank, data, dose, settings.brief_candidates)
    z = bank.latents[chosen.ravel()]
    tile = np.repeat(np.arange(tiles), chosen.shape[1])
    if settings.encoder:
        # Beyond the frame's edge there is nothing: the encoder is shown vacuum there.
        images = np.where(data.weights > 0, data.counts / dose, 1).astype(np.float32)
        sigma = np.full(tiles, pixel_sigma(dose, data), np.float32)
        guess = engine.encode(images, sigma)
        if guess is not None:
            z = np.concatenate([z, guess])
            tile = np.concatenate([tile, np.arange(tiles)])
    return refinement.start(z, tile, np.full(len(z), np.log(dose), np.float32), np.arange(len(z)) < chosen.size)


def _search(
    engine: Engine, data: TileData, candidates: Candidates, settings: SearchSettings, dose: float, progress: Progress
) -> Candidates:
    """Brief refinement of all candidates, full refinement of each tile's best few."""
    brief = refinement.refine(engine, data, candidates, settings.brief_steps, settings.rate)
    progress(0.4)
    order = np.lexsort((brief.objective, brief.tile))
    rank = np.arange(len(order)) - np.searchsorted(brief.tile[order], brief.tile[order])
    kept = np.sort(order[rank < settings.full_candidates])
    steps = settings.full_steps
    if steps is None:
        steps = max(0, steps_for(float(pixel_sigma(dose, data)) ** -2) - settings.brief_steps)
    full = refinement.refine(engine, data, brief.take(kept), steps, settings.rate)
    progress(0.95)
    return full
