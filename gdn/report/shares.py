"""A picture that shows which candidate of a mixture made which part of an image, and its legend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gdn.search.share_map import ShareMap

Colour = tuple[int, int, int]

# Okabe and Ito's palette and a purple, told apart by the colour-blind. By the last word of a
# candidate's name, so that it has one colour on all frames; others take what is left there, and
# beyond that black.
PALETTE: dict[str, Colour] = {
    "generator": (0, 114, 178),
    "restore": (213, 94, 0),
    "collaborative": (0, 158, 115),
    "lattice": (73, 0, 146),
    "filter": (240, 228, 66),
    "frames": (204, 121, 167),
    "neighbours": (230, 159, 0),
    "movie": (86, 180, 233),
}
BEYOND: Colour = (0, 0, 0)
FLAT: Colour = (225, 225, 225)
LEAST_CONTRAST = 0.15  # of the strong places': below, a place has no contrast to be anyone's
SQUARES = 72  # along the longer side
CAPTION = "whose contrast: of the squares around a place each candidate has its share"


@dataclass(frozen=True)
class LegendLine:
    """A candidate's `name`, its `colour` and its `share` of the whole image's contrast."""

    name: str
    colour: Colour
    share: float


def legend(shares: ShareMap) -> list[LegendLine]:
    """A line for each candidate, the largest share first."""
    words = [name.rpartition(" ")[2] for name in shares.names]
    free = iter(colour for word, colour in reversed(PALETTE.items()) if word not in words)
    return [
        LegendLine(name, PALETTE.get(word) or next(free, BEYOND), share)
        for name, word, share in zip(shares.names, words, shares.overall, strict=True)
    ]


def share_picture(shares: ShareMap, size: tuple[int, int]) -> Image.Image:
    """The map as a picture of `size` (width, height) px, made of squares. Each square has one
    candidate's colour; the number of a candidate's squares at a place is proportional to its share.
    Squares are gray where the image has hardly any contrast."""
    count, rows, columns = shares.shares.shape
    side = SQUARES / max(rows, columns)
    height, width = (max(1, round(n * side)) for n in (rows, columns))
    at = np.ix_(_middles(rows, height), _middles(columns, width))
    local = np.stack([share[at] for share in shares.shares]).astype(float)
    steps = np.cumsum(local, 0) / np.maximum(local.sum(0), 1)
    # Evenly spread numbers between 0 and 1 (Roberts's sequence in two dimensions).
    row, column = np.indices((height, width))
    spread = (0.7548776662 * row + 0.5698402910 * column) % 1
    owner = np.minimum((steps <= spread).sum(0), count - 1)
    rgb = np.array([line.colour for line in legend(shares)], np.uint8)[owner]
    rgb[shares.contrast[at] < 255 * LEAST_CONTRAST] = FLAT
    return Image.fromarray(rgb).resize(size, Image.Resampling.NEAREST)


def _middles(count: int, parts: int) -> NDArray[np.int64]:
    """The middle pixel of each of `parts` parts of `count`."""
    return np.asarray((np.arange(parts) + 0.5) * count / parts, dtype=np.int64)
