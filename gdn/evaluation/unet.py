"""The supervised comparator: a U-Net on the binned frame, run by onnxruntime.

There are two in the repository's `benchmarks/unets`. They were trained by `gdn train --recipe
unet-poisson1` (the study's: one noise only) and `--recipe unet` (blind: all doses of the suite), on
the frames on which the generators were trained.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn.engines.onnx_session import open_session
from gdn.frames.resampling import bin_sum, grids_for, unbin

Image = NDArray[np.float32]


@cache
def _session(folder: Path) -> tuple[Any, dict[str, Any]]:
    description = json.loads((folder / "unet.json").read_text())
    return open_session((folder / "unet.onnx").read_bytes()), description


def find_unets(folder: Path) -> dict[str, Path]:
    """Folders of U-Nets by their comparators' names (`unet-` and the folder's name): `folder`
    itself, or its subfolders.

    Raises ValueError if there is none.
    """
    inside = sorted(path.parent for path in folder.glob("*/unet.json"))
    folders = [folder] if (folder / "unet.json").is_file() else inside
    if not folders:
        raise ValueError(
            f"{folder}: no unet.json in it or in its folders; make one with 'gdn export'"
        )
    return {f"unet-{path.resolve().name.removeprefix('unet-')}": path for path in folders}


def unet_frame(frame: Image, vacuum: float, sampling_angstrom: float, folder: Path) -> Image:
    """The image by the U-Net in `folder` of a whole `frame`, in the frame's units and on its grid.
    The empty beam has the value `vacuum`."""
    session, description = _session(folder)
    grids = grids_for(
        (frame.shape[0], frame.shape[1]), sampling_angstrom, description["sampling_angstrom"]
    )
    binned = bin_sum(frame, grids) / np.float32(grids.area * vacuum)
    multiple = 2 ** (description["scales"] - 1)
    pad = [(0, -n % multiple) for n in binned.shape]
    padded = np.pad(binned, pad, mode="reflect")[None, None]
    image = session.run(None, {"image": padded})[0][0, 0, : binned.shape[0], : binned.shape[1]]
    return np.asarray(
        unbin(np.ascontiguousarray(image), grids) * np.float32(vacuum), dtype=np.float32
    )
