"""The pictures of a frame in a report, each with its scale bar and what its colours stand for."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from gdn.frames.noise import NoiseModel
from gdn.likelihood import Array
from gdn.pipeline.column_picture import gray_picture, overlay, span
from gdn.pipeline.scale_bar import with_scale_bar
from gdn.report.colours import CIVIDIS, DIVERGING, GRAY, Scale, coloured
from gdn.report.shares import CAPTION, share_picture
from gdn.report.spectra import FINEST, spectrum_picture
from gdn.search.denoise_frame import FrameResult
from gdn.search.estimate import Estimate
from gdn.search.share_map import ShareMap
from gdn.trust.judge import Trust

PIXELS = 512  # of a picture, longer side
SMOOTH_PIXELS = 640  # of one without noise, which takes little room
FEWEST_PIXELS = 280  # of a picture of few pixels, enlarged to hold its scale bar
QUALITY = 82


@dataclass(frozen=True)
class Picture:
    """A `caption`, the picture as a data `uri`, and the `scale` of its colours."""

    caption: str
    uri: str
    scale: Scale | None = None


def data_uri(picture: Image.Image, kind: str = "JPEG") -> str:
    """The picture as text inside a page: in base64, as JPEG, or as PNG if areas have few
    colours."""
    stream = io.BytesIO()
    picture.save(stream, format=kind, quality=QUALITY)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(stream.getvalue()).decode()


def whitened_residual(estimate: Estimate) -> Array:
    """(counts - result) / standard deviation of the noise, on the generator's grid."""
    sigma = estimate.binned.law.deviation(estimate.image)
    return np.asarray((estimate.binned.counts - estimate.image) / sigma, dtype=np.float32)


def share_map(result: FrameResult) -> ShareMap | None:
    """The map of the candidates' local shares, if the frame is a mixture."""
    mixed = None if result.estimate is None else result.estimate.mixed
    return None if mixed is None else mixed.map


def unit_of(noise: NoiseModel) -> str:
    """What a gray value of the frame counts."""
    return "e/px" if noise.gain == 1 and noise.offset == 0 else "units of the file"


def pictures_of(frame: Array, result: FrameResult, trust: Trust) -> list[Picture]:
    """The pictures of a `frame` as recorded: noisy and denoised first, their spectra last."""
    field, unit = frame.shape[1] * result.grids.sampling_angstrom, unit_of(result.noise)
    size = gray_picture(result.image, PIXELS).size

    def picture(caption: str, drawn: Image.Image, scale: Scale | None, kind: str = "JPEG") -> None:
        barred = with_scale_bar(drawn, field / drawn.width)
        made.append(Picture(caption, data_uri(barred, kind), scale))

    made: list[Picture] = []
    noisy = gray_picture(frame, PIXELS)
    picture(_noisy_caption(frame, noisy), noisy, _gray_scale(frame, PIXELS, unit))
    picture(
        "denoised",
        gray_picture(result.image, SMOOTH_PIXELS),
        _gray_scale(result.image, SMOOTH_PIXELS, unit),
    )
    if shares := share_map(result):
        picture(CAPTION, share_picture(shares, size), None, "PNG")
    if np.isfinite(trust.spread).any():
        top = float(np.nanpercentile(trust.spread, 99.5))
        level = max(result.dose * abs(result.noise.gain), 1e-30)
        words = f"spread; yellow = {100 * top / level:.2g} % of the vacuum level"
        spread = coloured(gray_picture(trust.spread, PIXELS, 0.0, top), CIVIDIS)
        picture(words, spread, Scale(tuple(CIVIDIS), 0.0, top, unit))
    if trust.atoms is not None:
        columns = overlay(result.image, trust.atoms, PIXELS)  # has its scale bar
        made.append(Picture("columns, coloured by verdict", data_uri(columns)))
    deviations = "standard deviations"
    if result.estimate is not None:
        residual = gray_picture(whitened_residual(result.estimate), PIXELS, -4, 4)
        drawn = _enlarged(coloured(residual, DIVERGING))
        picture("residual: counts minus result", drawn, Scale(tuple(DIVERGING), -4, 4, deviations))
    if trust.fit is not None:
        misfit = _enlarged(coloured(gray_picture(trust.fit.map, PIXELS, -5, 5), DIVERGING))
        scale = Scale(tuple(DIVERGING), -5, 5, deviations)
        picture("misfit of the generator", misfit, scale)
    return made + [
        Picture(f"{name}: spectrum (FFT), log scale, to {FINEST:g} Å", data_uri(spectrum))
        for name, image in (("noisy", frame), ("denoised", result.image))
        for spectrum in [spectrum_picture(image, result.grids.sampling_angstrom)]
    ]


def _enlarged(picture: Image.Image) -> Image.Image:
    """The picture with each pixel as a square, large enough to hold a scale bar."""
    times = -(-FEWEST_PIXELS // min(picture.size))
    return picture.resize((times * picture.width, times * picture.height), Image.Resampling.NEAREST)


def _noisy_caption(frame: Array, picture: Image.Image) -> str:
    factor = frame.shape[1] / picture.width
    return "noisy" if factor < 1.5 else f"noisy, {factor:.1f} x {factor:.1f} px averaged to one"


def _gray_scale(image: Array, longest: int, unit: str) -> Scale:
    """What black and white of `gray_picture` stand for."""
    size = min(1.0, longest / max(image.shape))
    shape = (max(1, round(image.shape[1] * size)), max(1, round(image.shape[0] * size)))
    small = Image.fromarray(np.nan_to_num(image)).resize(shape, Image.Resampling.BOX)
    low, high = span(np.asarray(small))
    return Scale(tuple(GRAY), low, high, unit)
