"""PSNR, SSIM, and atom columns that are found and matched (docs/method.md, "Metrics"). Images are
in the study's units: vacuum near 0.45, range 1."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.spatial import cKDTree

from gdn.trust.columns import locate_extrema

Image = NDArray[np.float32]

MATCH_ANGSTROM = 0.5


def psnr(clean: Image, other: Image) -> float:
    """Peak signal-to-noise ratio in dB with data range 1, nothing clamped."""
    error = float(np.mean((clean.astype(np.float64) - other) ** 2))
    return -10 * math.log10(max(error, 1e-20))


def ssim(clean: Image, other: Image) -> float:
    """Structural similarity (Wang et al. 2004): 7x7 uniform window, sample covariance, data range
    1.

    Equal to scikit-image's `structural_similarity(clean, other, data_range=1)`, by test.
    """
    a, b = clean.astype(np.float64), other.astype(np.float64)
    size, c1, c2 = 7, 0.01**2, 0.03**2
    correct = size**2 / (size**2 - 1)
    mean_a, mean_b = uniform_filter(a, size), uniform_filter(b, size)
    var_a = correct * (uniform_filter(a * a, size) - mean_a**2)
    var_b = correct * (uniform_filter(b * b, size) - mean_b**2)
    cov = correct * (uniform_filter(a * b, size) - mean_a * mean_b)
    value = (
        (2 * mean_a * mean_b + c1)
        * (2 * cov + c2)
        / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    )
    edge = size // 2
    return float(value[edge:-edge, edge:-edge].mean())


@dataclass(frozen=True, kw_only=True)
class ColumnScore:
    """Agreement of two sets of atom columns.

    - `precision`: share of the other's columns that are matched.
    - `recall`: share of the reference's columns that are matched.
    - `f1`: harmonic mean of both.
    - `bias_pm`: length of the mean displacement of matched columns, pm.
    - `rms_pm`: root of their mean squared distance, pm.
    """

    precision: float
    recall: float
    f1: float
    bias_pm: float = math.nan
    rms_pm: float = math.nan


def column_score(clean: Image, other: Image, sampling_angstrom: float) -> ColumnScore:
    """Columns of `other` against those of `clean`. Both are found in the same way and matched
    within 0.5 Å.

    The reference is the clean image itself: a denoiser can be expected to show its maxima or minima
    (whichever are stronger). NaN if neither image has a column.
    """
    centred = clean - np.median(clean)
    dark = bool(np.abs(np.percentile(centred, 0.5)) > np.abs(np.percentile(centred, 99.5)))
    contrast = 0.15 * float(np.percentile(np.abs(centred), 99.5))
    if contrast < 0.004:  # vacuum: nothing to find, at less than 1 % of the vacuum level
        return ColumnScore(precision=math.nan, recall=math.nan, f1=math.nan)
    a, b = (locate_extrema(i, sampling_angstrom, dark, contrast) for i in (clean, other))
    if not len(a) or not len(b):
        empty = math.nan if not len(a) and not len(b) else 0.0
        return ColumnScore(precision=empty, recall=empty, f1=empty)
    moved = matched_displacements(a, b)
    precision, recall = len(moved) / len(b), len(moved) / len(a)
    f1 = 2 * precision * recall / max(precision + recall, 1e-12)
    if not len(moved):
        return ColumnScore(precision=precision, recall=recall, f1=f1)
    bias, rms = np.hypot(*moved.mean(0)), np.sqrt((moved**2).sum(1).mean())
    return ColumnScore(
        precision=precision,
        recall=recall,
        f1=f1,
        bias_pm=100 * float(bias),
        rms_pm=100 * float(rms),
    )


def matched_displacements(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """b - a (m, 2), Å, of the places of `a` and `b` (n, 2), Å, that are nearest to each other and
    within 0.5 Å."""
    distance, index = cKDTree(a).query(b, distance_upper_bound=MATCH_ANGSTROM)
    _, back = cKDTree(b).query(a)
    near = np.flatnonzero(np.isfinite(distance))
    near = near[back[index[near]] == near]
    return np.asarray(b[near] - a[index[near]])
