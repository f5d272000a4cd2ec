"""How much of a mixed image's contrast comes from which candidate, at each place. The map is
explained in docs/restorer.md, "The mixture".

A candidate's contribution is its image without the mean, with each band of frequency multiplied by
the candidate's weight there. Its size at a place is the root mean square over about the width of a
column. The local shares are these sizes, divided by their sum. So if a candidate's weight is one
half everywhere, and its image is like the others', its local share is one half everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gdn.likelihood import Array
from gdn.search.band_mixture import Mixing, Values, bands

AROUND_ANGSTROM = 2.0  # standard deviation of the Gaussian over which squares are averaged
LONGEST = 256  # px of a map's longer side, at most
LEAST = 0.005  # of the contrast: candidates of less have no place in the map
FULL = 95  # per cent of the places have less contrast than 1.0


@dataclass(frozen=True, kw_only=True)
class ShareMap:
    """Which candidate contributes where. A pixel of the map stands for several of the image.

    - `names`: the candidates, those with the largest share of the contrast first.
    - `overall`: that share of each.
    - `shares` (candidates, rows, columns): local shares, 255 for all.
    - `contrast` (rows, columns): the image's contrast around each place, 255 where it is strong.
    """

    names: tuple[str, ...]
    overall: tuple[float, ...]
    shares: NDArray[np.uint8]
    contrast: NDArray[np.uint8]


def map_shares(
    images: Sequence[Array], mixing: Mixing, sampling: tuple[float, float]
) -> ShareMap | None:
    """The map of a mixture of `images`, whose pixels measure `sampling` Å along rows and columns.
    None if a single candidate has (nearly) all of the contrast."""
    order = sorted(range(len(images)), key=lambda k: -mixing.share(mixing.names[k]))
    kept = [k for k in order if mixing.share(mixing.names[k]) > LEAST]
    if len(kept) < 2:
        return None
    shape = (images[0].shape[0], images[0].shape[1])
    total, sizes = np.zeros(shape, np.float32), []
    for k in kept:
        filtered = _filtered(images[k], mixing.weights[:, k].tolist(), sampling)
        total += filtered
        sizes.append(_local_size(filtered, sampling))
    whole = np.maximum(np.sum(sizes, 0), 1e-30)
    contrast = _local_size(total, sampling)
    strong = max(float(np.percentile(contrast, FULL)), 1e-30)
    return ShareMap(
        names=tuple(mixing.names[k] for k in kept),
        overall=tuple(mixing.share(mixing.names[k]) for k in kept),
        shares=np.stack([_byte(size / whole) for size in sizes]),
        contrast=_byte(contrast / strong),
    )


def _filtered(image: Array, weights: list[float], sampling: tuple[float, float]) -> Array:
    """The image without its mean, each band times its weight."""
    shape = (image.shape[0], image.shape[1])
    window = np.zeros(shape, np.float32)
    for weight, band in zip(weights, bands(shape, sampling), strict=True):
        window += np.float32(weight) * band.astype(np.float32)
    window[0, 0] = 0
    spectrum = scipy.fft.dctn(image, type=2, norm="ortho")
    return np.asarray(scipy.fft.idctn(window * spectrum, type=2, norm="ortho"))


def _local_size(image: Array, sampling: tuple[float, float]) -> Values:
    """Local root mean square, at the map's pixels: one for several of the image."""
    step = -(-max(image.shape) // LONGEST)
    sigma = [AROUND_ANGSTROM / (step * pixel) for pixel in sampling]
    rows, columns = (-(-n // step) * step for n in image.shape)
    square = np.pad(
        image**2, ((0, rows - image.shape[0]), (0, columns - image.shape[1])), mode="symmetric"
    )
    small = square.reshape(rows // step, step, columns // step, step).mean((1, 3), dtype=np.float64)
    return np.asarray(np.sqrt(gaussian_filter(small, sigma, mode="reflect")))


def _byte(values: Values) -> NDArray[np.uint8]:
    return np.asarray(np.rint(255 * np.clip(values, 0, 1)), dtype=np.uint8)
