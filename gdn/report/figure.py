"""Pictures made without a plotting library: panels of gray images with captions and a scale bar."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gdn.storage import writing

Gray = NDArray[np.float32]
PANEL = 420  # px
CAPTION = 28


@dataclass(frozen=True)
class Panel:
    """An image with its caption and the range of values that black and white stand for."""

    image: Gray
    caption: str
    low: float
    high: float


def _draw(panel: Panel) -> Image.Image:
    scaled = np.clip((panel.image - panel.low) / (panel.high - panel.low), 0, 1)
    gray = Image.fromarray((255 * scaled).astype(np.uint8))
    size = PANEL / max(gray.size)
    gray = gray.resize((round(gray.width * size), round(gray.height * size)), Image.Resampling.BOX)
    tile = Image.new("L", (PANEL, PANEL + CAPTION), 255)
    tile.paste(gray, (0, CAPTION))
    ImageDraw.Draw(tile).text((4, 5), panel.caption, fill=0, font=ImageFont.load_default(15))
    return tile


def save_panels(
    path: Path, rows: list[list[Panel]], sampling_angstrom: float, bar_nm: float = 1.0
) -> None:
    """Write rows of panels as a PNG with one scale bar of `bar_nm`."""
    tiles = [[_draw(panel) for panel in row] for row in rows]
    gap = 6
    width = max(len(row) for row in tiles) * (PANEL + gap) - gap
    canvas = Image.new("L", (width, len(tiles) * (PANEL + CAPTION + gap) + 24), 255)
    for y, row in enumerate(tiles):
        for x, tile in enumerate(row):
            canvas.paste(tile, (x * (PANEL + gap), y * (PANEL + CAPTION + gap)))
    length = round(10 * bar_nm / sampling_angstrom * PANEL / max(rows[0][0].image.shape))
    draw = ImageDraw.Draw(canvas)
    bottom = canvas.height - 12
    draw.line((4, bottom, 4 + length, bottom), fill=0, width=4)
    draw.text((10 + length, bottom - 10), f"{bar_nm:g} nm", fill=0, font=ImageFont.load_default(15))
    with writing(path) as temporary:
        canvas.save(temporary, format="PNG")
