"""Power spectra of a frame and its result, as pictures."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gdn.likelihood import Array
from gdn.pipeline.scale_bar import in_words

SIDE = 360  # px of the picture
FINEST = 0.8  # Å: finer spacings are not shown
RINGS = (2.0, 1.0)  # Å
RING = (86, 180, 233)


def spectrum_picture(image: Array, sampling_angstrom: float) -> Image.Image:
    """The logarithm of the power spectrum of an image (rows, columns), the zero frequency in the
    middle, up to 1 / FINEST or the Nyquist frequency. Rings mark spacings of RINGS Å.

    A Hann window keeps the frame's edges out of it. Missing pixels are the mean."""
    filled = np.nan_to_num(image - np.nanmean(image)).astype(np.float32)
    rows, columns = filled.shape
    filled *= np.outer(np.hanning(rows), np.hanning(columns)).astype(np.float32)
    power = np.abs(scipy.fft.fftshift(scipy.fft.fft2(filled))) ** 2
    limit = min(1 / FINEST, 0.5 / sampling_angstrom)
    half = [max(4, round(limit * n * sampling_angstrom)) for n in (rows, columns)]
    middle = power[
        max(0, rows // 2 - half[0]) : rows // 2 + half[0],
        max(0, columns // 2 - half[1]) : columns // 2 + half[1],
    ]
    return _with_rings(_gray(np.log(middle + power.max() * 1e-12)), limit)


def _gray(values: NDArray[np.float64]) -> Image.Image:
    """Between the median and all but the strongest 0.1 %."""
    low, high = np.percentile(values, [30, 99.9])
    scaled = (255 * np.clip((values - low) / max(high - low, 1e-9), 0, 1)).astype(np.uint8)
    return Image.fromarray(scaled).resize((SIDE, SIDE), Image.Resampling.BOX)


def _with_rings(picture: Image.Image, limit: float) -> Image.Image:
    picture = picture.convert("RGB")
    draw, middle = ImageDraw.Draw(picture), SIDE / 2
    for spacing in RINGS:
        radius = middle / spacing / limit
        if radius < middle:
            box = (middle - radius, middle - radius, middle + radius, middle + radius)
            draw.ellipse(box, outline=RING)
            font = ImageFont.load_default(12)
            draw.text((middle + 3, middle - radius + 1), in_words(spacing), fill=RING, font=font)
    return picture
