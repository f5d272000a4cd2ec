"""Colour maps that colour-blind readers can tell, and bars that say what a colour stands for."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# 17 steps of cividis (Nuñez, Anderton and Renslow 2018), whose lightness rises evenly.
CIVIDIS = [
    *("00224e", "002e6a", "1a386f", "32436d", "434e6c", "535a6d", "61656f", "6f7073", "7d7c78"),
    *("8c8878", "9b9476", "aba072", "bcae6c", "cdbb63", "dec958", "f0d846", "fee838"),
]
# From Okabe and Ito's blue over white to their vermilion.
DIVERGING = ["0072b2", "ffffff", "d55e00"]
GRAY = ["000000", "ffffff"]


@dataclass(frozen=True)
class Scale:
    """What the ends of a picture's colours stand for: `low` and `high`, in `unit`."""

    colours: tuple[str, ...]
    low: float
    high: float
    unit: str

    def bar(self) -> str:
        """The bar below a picture, as HTML."""
        stops = ",".join(f"#{colour}" for colour in self.colours)
        return (
            f'<span class="bar"><span>{_number(self.low)}</span><i style="background:'
            f'linear-gradient(90deg,{stops})"></i><span>{_number(self.high)} '
            f"{escape(self.unit)}</span></span>"
        )


def _number(value: float) -> str:
    return "0" if abs(value) < 1e-12 else f"{value:.3g}"


def coloured(gray: Image.Image, colours: list[str]) -> Image.Image:
    """An 8-bit gray picture in a colour map, given as hex colours at even steps."""
    steps = np.array([[int(c[k : k + 2], 16) for k in (0, 2, 4)] for c in colours], float)
    places = np.linspace(0, len(colours) - 1, 256)
    table: NDArray[np.float64] = np.stack(
        [np.interp(places, np.arange(len(colours)), steps[:, k]) for k in range(3)], -1
    )
    return Image.fromarray(np.rint(table).astype(np.uint8)[np.asarray(gray)])
