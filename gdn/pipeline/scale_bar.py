"""A scale bar drawn into a picture."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw, ImageFont

LONGEST = 0.28  # of the picture's width
SMALLEST = 60  # px: a picture below holds no bar and its text


def bar_length(field_angstrom: float) -> float:
    """The longest of 1, 2, 5, 10, 20, ... Å that takes at most LONGEST of a field."""
    most = LONGEST * field_angstrom
    decade = 10.0 ** math.floor(math.log10(most))
    return max(step * decade for step in (1, 2, 5) if step * decade <= most * (1 + 1e-9))


def in_words(length_angstrom: float) -> str:
    """0.5 nm, 2 nm. The font of the pictures has no Å."""
    return f"{length_angstrom / 10:g} nm"


def with_scale_bar(picture: Image.Image, angstrom_per_px: float) -> Image.Image:
    """The picture with a scale bar in its lower left corner. `angstrom_per_px` is that of the
    picture. The bar is white on a dark plate, so that it can be read on any image."""
    if min(picture.size) < SMALLEST or not 0 < angstrom_per_px < math.inf:
        return picture
    drawn = picture.copy()
    draw = ImageDraw.Draw(drawn)
    white, dark = (255, 0) if picture.mode == "L" else ((255, 255, 255), (0, 0, 0))
    length = bar_length(picture.width * angstrom_per_px)
    long = round(length / angstrom_per_px)
    pad = max(3, picture.width // 90)
    font = ImageFont.load_default(max(11, picture.width // 30))
    words = in_words(length)
    left, top, right, bottom = draw.textbbox((0, 0), words, font=font)
    thick = max(2, picture.width // 150)
    wide, high = max(long, right - left) + 2 * pad, round(bottom - top) + thick + 3 * pad
    x, y = pad, picture.height - pad - high
    draw.rectangle((x, y, x + wide, y + high), fill=dark)
    middle = x + (wide - right + left) / 2
    draw.text((middle - left, y + pad - top), words, font=font, fill=white)
    start, foot = x + (wide - long) // 2, y + high - pad
    draw.rectangle((start, foot - thick, start + long - 1, foot - 1), fill=white)
    return drawn
