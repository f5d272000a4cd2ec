"""Write the reports of a run: statistics, sample grids, warnings of collapse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gdn.storage import json_line

Images = NDArray[np.float32]


def image_grid(images: Images, columns: int = 8) -> NDArray[np.uint8]:
    """Network-unit images (n, channels, h, w) side by side, (rows, width, channels) uint8."""
    n, channels, h, w = images.shape
    rows = -(-n // columns)
    canvas = np.full((rows * (h + 2), columns * (w + 2), channels), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = (i // columns) * (h + 2), (i % columns) * (w + 2)
        canvas[y : y + h, x : x + w] = np.clip(127.5 * (np.moveaxis(image, 0, -1) + 1), 0, 255)
    return canvas


def save_grid(path: Path, left: Images, right: Images) -> None:
    """Two grids side by side as a PNG, with a white bar between."""
    a, b = image_grid(left), image_grid(right)
    bar = np.full((a.shape[0], 12, a.shape[2]), 255, np.uint8)
    picture = np.concatenate([a, bar, b], 1)
    Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).save(path)


def diversity(images: Images) -> float:
    """Mean over pixels of the standard deviation over images: 0 when all images are the same."""
    return float(images.std(0).mean())


def collapse_warnings(stats: dict[str, Any]) -> list[str]:
    """Warnings, in plain words, of signs that usually precede a useless generator; empty if there
    are none.

    Reads `diversity` (generated over data), `d_real` and `d_fake` (mean probabilities of 'real').
    """
    warnings = []
    if stats["diversity"] < 0.3:
        warnings.append(
            f"random samples differ only {stats['diversity']:.2f} times as much as the "
            "data do: mode collapse or grey images"
        )
    if stats.get("d_real") is not None and stats["d_real"] > 0.85 and stats["d_fake"] < 0.03:
        warnings.append(
            f"the discriminator tells every image (real {stats['d_real']:.2f}, fake "
            f"{stats['d_fake']:.2f}):"
            " the generator gets no gradient"
        )
    return warnings


def append_stats(run: Path, row: dict[str, Any]) -> None:
    """Add one line to `stats.jsonl`."""
    with (run / "stats.jsonl").open("a") as stream:
        stream.write(json_line(row) + "\n")


def cut_stats(run: Path, images: int) -> None:
    """Drop the lines written after the checkpoint at `images`, so that a resumed run has one
    history."""
    path = run / "stats.jsonl"
    if path.exists():
        kept = [
            line
            for line in path.read_text().splitlines()
            if line and json.loads(line)["images"] <= images
        ]
        path.write_text("".join(line + "\n" for line in kept))
