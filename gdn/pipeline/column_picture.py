"""Gray pictures of images, and the atom columns drawn over one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from gdn.pipeline.scale_bar import with_scale_bar
from gdn.trust.atoms import Atoms, write_csv

Gray = NDArray[np.float32]

OVERLAY = 1200  # px, longer side at most
COLOURS = {
    "present": (0, 158, 115),
    "cannot tell": (230, 159, 0),
    "absent": (213, 94, 0),
    "missing": (86, 180, 233),
}


def span(image: Gray) -> tuple[float, float]:
    """Range of values without the most extreme 0.5 % at both ends."""
    low, high = np.percentile(image, [0.5, 99.5])
    return float(low), float(high) if high > low else float(low) + 1


def gray_picture(
    image: Gray, longest: int, low: float | None = None, high: float | None = None
) -> Image.Image:
    """An 8-bit picture of at most `longest` px, between `low` and `high` (default: all but the
    extreme 0.5 %).

    Reduced before it is stretched: single counts would leave a noisy frame black.
    """
    picture = Image.fromarray(np.nan_to_num(np.asarray(image, dtype=np.float32)))
    size = min(1.0, longest / max(picture.size))
    small = picture.resize(
        (max(1, round(picture.width * size)), max(1, round(picture.height * size))),
        Image.Resampling.BOX,
    )
    values = np.asarray(small)
    floor, ceiling = span(values)
    low, high = floor if low is None else low, ceiling if high is None else high
    return Image.fromarray(
        (255 * np.clip((values - low) / max(high - low, 1e-30), 0, 1)).astype(np.uint8)
    )


def overlay(image: Gray, atoms: Atoms, longest: int = OVERLAY) -> Image.Image:
    """The result with a ring around every column, coloured by its verdict (Okabe & Ito's palette,
    which colour-blind people can distinguish). A square marks a place where lattice and counts show
    a column that the image does not have. A scale bar lies in the lower left corner."""
    picture = gray_picture(image, longest).convert("RGB")
    factor = picture.width / image.shape[1]
    draw = ImageDraw.Draw(picture)
    radius = max(2.0, 0.55 / atoms.sampling_angstrom * factor)
    pen = 1 if radius < 7 else 2
    for k in atoms.listed():
        y, x = (atoms.yx_px[k] + 0.5) * factor
        box = (x - radius, y - radius, x + radius, y + radius)
        if atoms.columns.drawn[k]:
            draw.ellipse(box, outline=COLOURS[str(atoms.verdict[k])], width=pen)
        elif atoms.verdict[k] == "present":
            draw.rectangle(box, outline=COLOURS["missing"], width=pen)
    return with_scale_bar(picture, atoms.sampling_angstrom / factor)


def save_atoms(table: Path, picture: Path, image: Gray, atoms: Atoms) -> None:
    """Write the columns' CSV table and their picture over the result, under the very names:
    `writing` is the caller's."""
    write_csv(table, atoms)
    overlay(image, atoms).save(picture, format="PNG")
