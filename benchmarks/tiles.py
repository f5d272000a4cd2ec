"""Tiles of validation frames with their noise and their truth: what the search benchmarks run on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from suite import clean_frames

from gdn.engines.observation import TileData
from gdn.evaluation.suite import STUDY_VACUUM
from gdn.frames.sampling import bin_sum, grids_for
from gdn.frames.tiling import cut, tile_frame

Images = NDArray[np.float32]


@dataclass(frozen=True)
class TileSet:
    """Noisy tiles, their clean means in electrons per binned pixel, and the mean count per pixel (`dose`)."""

    data: TileData
    clean: Images
    dose: float
    vacuum: float  # electrons per binned pixel at the vacuum level

    def psnr(self, mean: Images, tile: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """dB per tile (n,) in the study's units (vacuum 0.45, data range 1)."""
        clean = self.clean if tile is None else self.clean[tile]
        error = (mean - clean) / self.vacuum * STUDY_VACUUM
        return np.asarray(-10 * np.log10(np.maximum((error.astype(np.float64) ** 2).mean((1, 2)), 1e-12)))


def tile_set(data: Path, frames: int, level: float, sampling: float, patch: int) -> TileSet:
    """Tiles side by side of the first `frames` validation frames at poisson:`level`."""
    parts: list[tuple[Images, Images, Images]] = []
    area = 1.0
    for number, frame in enumerate(clean_frames(data, frames, "validation")):
        noisy = np.random.default_rng([number, 0x711E]).poisson(frame.image * level).astype(np.float32)
        grids = grids_for((frame.image.shape[0], frame.image.shape[1]), frame.sampling_angstrom, sampling)
        tiling = tile_frame(grids.binned_shape, patch, patch)
        counts, weights = cut(bin_sum(noisy, grids), tiling)
        parts.append((counts, weights, cut(bin_sum(frame.image * np.float32(level), grids), tiling)[0]))
        area = grids.area
    counts, weights, clean = (np.concatenate(group) for group in zip(*parts, strict=True))
    return TileSet(TileData(counts, weights, 1.0, 0.0), clean, float(counts.mean()), level * STUDY_VACUUM * area)
