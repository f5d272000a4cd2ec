"""A line profile through a frame: counts, result and spread along a row of the generator's grid.
The page's script moves it to the row that the reader chooses."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gdn.likelihood import Array
from gdn.pipeline.column_picture import gray_picture

LONGEST = 128  # px of the grid from which profiles are taken
WIDTH, HEIGHT = 640, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 10, 34

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Profile:
    """A row of `noisy`, `denoised` and `spread`, 8-bit pictures of one shape, whose values run from
    0 to `top` in `unit`, over `field_angstrom` along a row."""

    pictures: dict[str, Bytes]
    top: float
    unit: str
    field_angstrom: float

    def svg(self) -> str:
        """The chart of the middle row, with the data of all others."""
        rows, columns = self.pictures["denoised"].shape
        data = "".join(
            f' data-{name}="{base64.b64encode(picture.tobytes()).decode()}"'
            for name, picture in self.pictures.items()
        )
        paths = self.paths(rows // 2)
        lines = "".join(
            f'<path class="{name}" d="{paths[name]}"/>' for name in ("band", "noisy", "denoised")
        )
        return (
            f'<svg class="profile" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="line '
            f'profile" data-rows="{rows}" data-columns="{columns}"{data}>{lines}{self._axes()}'
            f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end" class="where">along the '
            "middle row</text></svg>"
        )

    def paths(self, row: int) -> dict[str, str]:
        """The lines of a row, as SVG paths: band (result minus to plus spread), noisy, denoised."""
        noisy, denoised, spread = (
            self.pictures[name][row].astype(float) for name in ("noisy", "denoised", "spread")
        )
        x = LEFT + (np.arange(len(denoised)) + 0.5) / len(denoised) * (WIDTH - LEFT - RIGHT)
        upper, lower = np.minimum(denoised + spread, 255), np.maximum(denoised - spread, 0)
        band = f"{_path(x, upper)}L{_path(x[::-1], lower[::-1])[1:]}Z"
        return {"band": band, "noisy": _path(x, noisy), "denoised": _path(x, denoised)}

    def _axes(self) -> str:
        floor, ceiling = HEIGHT - BOTTOM, TOP
        marks = [f'<path class="axis" d="M{LEFT} {ceiling}V{floor}H{WIDTH - RIGHT}"/>']
        for share in (0, 0.5, 1):
            y, x = floor - share * (floor - ceiling), LEFT + share * (WIDTH - LEFT - RIGHT)
            anchor = ("start", "middle", "end")[round(2 * share)]
            marks += [
                f'<text x="{LEFT - 4}" y="{y + 4:.0f}" text-anchor="end">'
                f"{share * self.top:.3g}</text>",
                f'<text x="{x:.0f}" y="{floor + 14}" text-anchor="{anchor}">'
                f"{share * self.field_angstrom / 10:.3g}</text>",
            ]
        words = f"nm; upwards: {self.unit}; gray: noisy; blue: denoised, with its spread"
        return "".join(marks) + f'<text x="{LEFT}" y="{HEIGHT - 3}">{escape(words)}</text>'


def profile_of(
    noisy: Array, denoised: Array, spread: Array, unit: str, field_angstrom: float
) -> Profile:
    """The profiles of images (rows, columns) of one field, which need not have one pixel size."""
    size = gray_picture(denoised, min(LONGEST, max(denoised.shape))).size
    small = {
        name: np.asarray(Image.fromarray(np.nan_to_num(image)).resize(size, Image.Resampling.BOX))
        for name, image in (("noisy", noisy), ("denoised", denoised), ("spread", spread))
    }
    highest = max(float(np.percentile(small["noisy"], 99.8)), float(small["denoised"].max()))
    top = max(1.05 * highest, 1e-30)
    pictures = {
        name: np.rint(255 * np.clip(image / top, 0, 1)).astype(np.uint8)
        for name, image in small.items()
    }
    return Profile(pictures, top, unit, field_angstrom)


def _path(x: NDArray[np.float64], bytes_: NDArray[np.float64]) -> str:
    y = HEIGHT - BOTTOM - bytes_ / 255 * (HEIGHT - BOTTOM - TOP)
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
