"""Words in pictures. Pillow's own font has neither Å nor ²: both are put together."""

from __future__ import annotations

from PIL import ImageDraw, ImageFont

Colour = int | tuple[int, int, int]
RAISED = 0.62  # size of a raised letter


def draw_words(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], words: str, size: int, fill: Colour
) -> float:
    """Draw `words` with their upper left corner at (x, y); returns where they end, x."""
    font, small = (ImageFont.load_default(max(6, round(s))) for s in (size, RAISED * size))
    x, y = at
    for letter in words:
        if letter == "²":
            draw.text((x, y), "2", font=small, fill=fill)
            x += draw.textlength("2", font=small)
            continue
        plain = "A" if letter == "Å" else letter
        draw.text((x, y), plain, font=font, fill=fill)
        width = draw.textlength(plain, font=font)
        if letter == "Å":
            left, top, right, _ = draw.textbbox((x, y), "A", font=font)
            middle, radius = (left + right) / 2, max(1.0, 0.11 * size)
            ring = (middle - radius, top - 2 * radius, middle + radius, top)
            draw.ellipse(ring, outline=fill)
        x += width
    return x


def width_of(words: str, size: int) -> float:
    """Pixels that `draw_words` takes."""
    font, small = (ImageFont.load_default(max(6, round(s))) for s in (size, RAISED * size))
    return sum(
        small.getlength("2") if letter == "²" else font.getlength("A" if letter == "Å" else letter)
        for letter in words
    )
