"""The methods with which gdn is compared. Each takes a noisy frame in the study's units and returns
an image (docs/method.md, "Metrics").

`blur` and `bm3d-binned` know the truth and choose the best sigma or binning with it. So each
comparator is shown at its best.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from scipy.ndimage import gaussian_filter

from gdn.evaluation.metrics import Image, psnr
from gdn.evaluation.noise_suite import STUDY_VACUUM, Noise
from gdn.evaluation.unet import find_unets, unet_frame
from gdn.frames.resampling import bin_sum, grids_for, unbin
from gdn.likelihood import POISSON
from gdn.search.collaborative import invert_stabilise, stabilise

BINNINGS = (1, 2, 3, 4, 6, 8, 10, 12)  # px a side, tried for BM3D
BINNED_ANGSTROM = (0.2, 0.8)  # Å: the least and the largest binned pixel among them


@dataclass(frozen=True)
class Case:
    """One noisy frame: the `clean` truth, the `noisy` image, its noise and its sampling."""

    clean: Image
    noisy: Image
    noise: Noise
    sampling_angstrom: float


def noisy(case: Case) -> Image:
    """The noisy frame, unchanged."""
    return case.noisy


def constant(case: Case) -> Image:
    """A flat image at the noisy frame's mean."""
    return np.full_like(case.noisy, case.noisy.mean(dtype=np.float64))


def blur(case: Case) -> Image:
    """The best Gaussian blur of 0.5 ... 64 px, chosen with the truth."""
    tried = (gaussian_filter(case.noisy, s, truncate=3) for s in 2.0 ** np.arange(-1, 6.01, 0.25))
    return max(tried, key=lambda image: psnr(case.clean, image))


def anscombe(x: Image) -> Image:
    """2 sqrt(x + 3/8): Poisson counts to nearly unit variance (Anscombe 1948)."""
    return stabilise(np.maximum(x, 0), POISSON)


def inverse_anscombe(y: Image) -> Image:
    """Closed-form unbiased inverse (Mäkitalo & Foi 2011, eq. 10)."""
    return invert_stabilise(y, POISSON)


def binnings(sampling_angstrom: float) -> list[int]:
    """The BINNINGS at which a crystal is still visible in the binned pixels: 4 ... 12 at the
    study's 0.0612 Å/px."""
    low, high = BINNED_ANGSTROM
    return [n for n in BINNINGS if low <= round(n * sampling_angstrom, 9) <= high]


def bm3d_at(case: Case, binning: int) -> Image:
    """BM3D (Dabov et al. 2007) at one binning: sum counts over `binning` x `binning`, apply the
    Anscombe transform, BM3D at unit noise, and its inverse; interpolate back, band-limited."""
    import bm3d

    sampling = case.sampling_angstrom
    grids = grids_for((case.noisy.shape[0], case.noisy.shape[1]), sampling, binning * sampling)
    if case.noise.kind == "gaussian":
        binned = bin_sum(case.noisy, grids) / np.float32(grids.area)
        image = bm3d.bm3d(binned, sigma_psd=case.noise.level / np.sqrt(grids.area))
        return unbin(np.asarray(image, dtype=np.float32), grids)
    counts = bin_sum(case.noisy * np.float32(case.noise.level), grids)
    stable = anscombe(counts)
    # BM3D's filters assume values of order one: scale to [0, 1] and sigma with it.
    low, span = float(stable.min()), float(np.ptp(stable))
    image = bm3d.bm3d((stable - low) / span, sigma_psd=1 / span) * span + low
    return unbin(
        inverse_anscombe(np.asarray(image, dtype=np.float32))
        / np.float32(case.noise.level * grids.area),
        grids,
    )


def bm3d_binned(case: Case) -> Image:
    """The best `bm3d_at` over `binnings`, chosen with the truth like the blur's sigma."""
    tried = (bm3d_at(case, binning) for binning in binnings(case.sampling_angstrom))
    return max(tried, key=lambda image: psnr(case.clean, image))


def unet_comparator(folder: Path) -> Comparator:
    """The U-Net in `folder`. It is told the true vacuum level."""
    return lambda case: unet_frame(case.noisy, STUDY_VACUUM, case.sampling_angstrom, folder)


Comparator = Callable[[Case], Image]
COMPARATORS: MappingProxyType[str, Comparator] = MappingProxyType(
    {"noisy": noisy, "constant": constant, "blur": blur, "bm3d-binned": bm3d_binned}
)
NEEDS = {"bm3d-binned": "bm3d"}


def unet_comparators(folder: Path) -> dict[str, Comparator]:
    """The U-Net in `folder`, or those in its subfolders, by name. Raises ValueError if there is
    none."""
    return {name: unet_comparator(path) for name, path in find_unets(folder).items()}


def available(name: str) -> bool:
    """Whether the package that a comparator needs is installed."""
    return name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None
