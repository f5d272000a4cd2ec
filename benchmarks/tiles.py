"""Tiles of validation frames with their noise and their truth: what the search benchmarks run
on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from suite import clean_frames

from gdn.evaluation.noise_suite import STUDY_VACUUM
from gdn.frames.resampling import bin_sum, grids_for
from gdn.likelihood import POISSON, TileData
from gdn.search.tiles import cut, tile_frame

Images = NDArray[np.float32]


@dataclass(frozen=True)
class TileSet:
    """Noisy tiles, their clean means in electrons per binned pixel, and the mean count per pixel
    (`dose`)."""

    data: TileData
    clean: Images
    dose: float
    vacuum: float  # electrons per binned pixel at the vacuum level

    def psnr(self, mean: Images, tile: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """dB per tile (n,) in the study's units (vacuum 0.45, data range 1)."""
        clean = self.clean if tile is None else self.clean[tile]
        error = (mean - clean) / self.vacuum * STUDY_VACUUM
        return np.asarray(
            -10 * np.log10(np.maximum((error.astype(np.float64) ** 2).mean((1, 2)), 1e-12))
        )


def frame_tiles(
    clean: Images,
    sampling_angstrom: float,
    seed: list[int],
    level: float,
    sampling: float,
    patch: int,
) -> TileSet:
    """Tiles side by side of one clean frame (vacuum 0.45) at poisson:`level`."""
    noisy = np.random.default_rng(seed).poisson(clean * level).astype(np.float32)
    grids = grids_for((clean.shape[0], clean.shape[1]), sampling_angstrom, sampling)
    tiling = tile_frame(grids.binned_shape, patch, patch)
    counts, weights = cut(bin_sum(noisy, grids), tiling)
    truth = cut(bin_sum(clean * np.float32(level), grids), tiling)[0]
    return TileSet(
        TileData(counts, weights, POISSON),
        truth,
        float(counts.mean()),
        level * STUDY_VACUUM * grids.area,
    )


def tile_set(data: Path, frames: int, level: float, sampling: float, patch: int) -> TileSet:
    """Tiles side by side of the first `frames` validation frames at poisson:`level`."""
    parts = [
        frame_tiles(frame.image, frame.sampling_angstrom, [number, 0x711E], level, sampling, patch)
        for number, frame in enumerate(clean_frames(data, frames, "validation"))
    ]
    groups = zip(*((p.data.counts, p.data.weights, p.clean) for p in parts), strict=True)
    counts, weights, clean = (np.concatenate(group) for group in groups)
    return TileSet(
        TileData(counts, weights, POISSON), clean, float(counts.mean()), parts[-1].vacuum
    )
