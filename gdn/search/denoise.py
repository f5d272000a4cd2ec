"""One frame from noisy to clean: estimate, bin, search, refine, blend, and back to its own grid."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from gdn.engines.base import Engine
from gdn.engines.observation import Array, TileData
from gdn.frames.noise import NoiseModel, noise_of
from gdn.frames.sampling import Grids, bin_sum, grids_for, unbin
from gdn.frames.tiling import Tiling, cut, tile_frame
from gdn.search.bank import Bank
from gdn.search.heldout import Choice, choose, plain_filter, split
from gdn.search.laplace import laplace
from gdn.search.posterior import blend
from gdn.search.residual import shrunk_residual
from gdn.search.tiles import SearchSettings, best_of_each, exchanged, propose, search

Progress = Callable[[float], None]


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
    held_out: Choice  # what counts held out chose, and the scores
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
    card = engine.model.card
    model, grids, binned = binned_frame(frame, sampling_angstrom, engine, noise)
    dose = float(binned.mean())
    warnings = _warnings(model, dose, grids, card.patch)
    tiling = tile_frame(grids.binned_shape, card.patch, settings.stride or card.patch // 2)
    counts, weights = cut(binned, tiling)
    data = TileData(counts, weights, model.alpha, model.beta * grids.area)
    clock.mark("prepare")
    starts = propose(engine, bank, data, dose, settings)
    clock.mark("score")
    progress(0.1)
    candidates = search(engine, data, starts, settings)
    if settings.exchange and settings.encoder and settings.estimate == "mean":
        merged, _ = blend(candidates, tiling, settings.temperature)
        candidates = exchanged(engine, data, cut(merged, tiling)[0], candidates, settings)
    clock.mark("refine")
    progress(0.95)
    temperature = 1e-9 if settings.estimate == "map" else settings.temperature
    best = best_of_each(candidates)
    variance = None
    if settings.laplace:
        variance = laplace(engine, data, candidates.take(best))[1]
        clock.mark("laplace")
    image, spread = blend(candidates, tiling, temperature, variance)
    choice = _choose(engine, bank, binned, data, tiling, settings) if settings.residual else Choice(threshold=np.inf)
    added = _beyond(binned, image, data, choice)
    residual_share = float(np.sqrt((added**2).mean())) / max(float(image.std()), 1e-12)
    warnings += _doubts(choice, residual_share)
    clock.mark("beyond")
    area = grids.area
    result = model.units(unbin(image + added, grids) / area)
    # What the residual added is not backed by the generator: its size counts as doubt.
    doubt = np.maximum(unbin(np.hypot(spread, added).astype(np.float32), grids), 0) / area * model.gain
    clock.mark("assemble")
    progress(1.0)
    frame_dose = float(np.median(np.exp(candidates.nuisance[best, 0]))) / area
    objectives = candidates.objective[best]
    return FrameResult(
        result, doubt.astype(np.float32), model, frame_dose, float(objectives.mean()), [float(o) for o in objectives],
        float(candidates.from_bank[best].mean()), residual_share, choice, len(tiling.corners), clock.seconds, warnings,
    )  # fmt: skip


def binned_frame(
    frame: Array, sampling_angstrom: float, engine: Engine, noise: NoiseModel | None
) -> tuple[NoiseModel, Grids, Array]:
    """Noise model, grids, and the frame in electrons on the generator's grid. Raises ValueError where the
    noise model contradicts the frame."""
    model = noise_of(frame, noise)
    grids = grids_for((frame.shape[0], frame.shape[1]), sampling_angstrom, engine.model.card.sampling_angstrom)
    binned = bin_sum(model.electrons(frame), grids)
    if binned.mean() <= 0:
        raise ValueError("the mean signal is not above the detector's offset; say the noise model with --noise")
    return model, grids, binned


def _choose(engine: Engine, bank: Bank, binned: Array, data: TileData, tiling: Tiling, settings: SearchSettings) -> Choice:
    """Amounts of residual and plain filter, chosen with the encoder's image of thinned counts."""
    parts = split(binned, data.alpha, data.beta, bank.seed)
    counts, weights = cut(parts.first, tiling)
    thinned = TileData(counts, weights, parts.alpha, parts.beta)
    quick = replace(settings, symmetries=min(4, settings.symmetries), brief_candidates=0)
    dose = float(parts.first.mean())
    guess, _ = blend(propose(engine, bank, thinned, dose, quick), tiling, settings.temperature)
    return choose(parts, guess)


def _beyond(binned: Array, image: Array, data: TileData, choice: Choice) -> Array:
    """What is added to the generator's `image`: its shrunk residual, and the chosen share of the plain filter."""
    sigma = np.sqrt(np.maximum(data.alpha * image + data.beta, 1e-6)).astype(np.float32)
    added = shrunk_residual(binned - image, sigma, choice.threshold)
    if choice.share == 0:
        return added
    filtered = plain_filter(binned, sigma, choice.width)
    return np.asarray((1 - choice.share) * added + choice.share * (filtered - image), dtype=np.float32)


def _doubts(choice: Choice, residual_share: float) -> list[str]:
    """Warnings that the generator does not hold this frame."""
    found = []
    if choice.filter_wins:
        found.append(
            f"a plain filter explains held-out counts better than the generator; {choice.share:.0%} of the result is the filter's"
        )
    if residual_share > 0.5:
        found.append("the generator explains little of this frame: most of the result is a filtered residual")
    return found


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
