"""Clean images from any simulator, as a data set holds them, and views of them.

Such a data set is a folder: `dataset.json` and `images/<index>_<seed>.npz`; `gdn simulate --images`
makes it (gdn/simulation/image_import.py).
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from gdn.recipes import Specimen
from gdn.simulation.dataset import FILE, read_dataset
from gdn.simulation.scenes import IMAGES
from gdn.storage import writing

FloatArray = NDArray[np.float32]
FOLDER = "images"
SCENE_FOLDERS = ("waves", FOLDER)  # of a data set: one of them
EDGE = 12  # px cut around a view, so that neither blur nor spline feels the cut


@dataclass(frozen=True)
class CleanImage:
    """A clean `image` (rows, columns), float32, vacuum 1, with pixels of `sampling_angstrom`."""

    image: FloatArray
    sampling_angstrom: float

    @property
    def field_angstrom(self) -> float:
        """The shorter side, Å."""
        return float(min(self.image.shape) * self.sampling_angstrom)

    def at(self, y: NDArray[np.float64], x: NDArray[np.float64], sampling: float) -> FloatArray:
        """The image at places `y`, `x` (any one shape), Å from its corner, by cubic splines.
        Averaged over pixels of `sampling` Å if these are larger than its own: by the Gaussian of
        the difference of the boxes' second moments, p^2 / 12, so that a view may be turned."""
        low, part, own = self._around(y, x, sampling)
        blur = np.sqrt(max(sampling**2 - own**2, 0.0) / 12) / own
        part = gaussian_filter(part, blur, mode="nearest") if blur else part
        places = np.stack(
            [(axis - start) / own - 0.5 for axis, start in zip((y, x), low, strict=True)]
        )
        return np.asarray(map_coordinates(part, places, order=3, mode="nearest"), dtype=np.float32)

    def _around(
        self, y: NDArray[np.float64], x: NDArray[np.float64], sampling: float
    ) -> tuple[list[float], FloatArray, float]:
        """What is needed of the image for places `y`, `x` (Å) and pixels of `sampling` Å: the
        corner (y, x) of the part, Å, the part, and its pixel, Å. Where its own are less than half
        of those that are wanted, they are binned first, which is faster."""
        own = self.sampling_angstrom
        k = max(1, int(sampling / (2 * own) + 1e-6))
        rows = []
        for places, count in zip((y, x), self.image.shape, strict=True):
            start = max(0, int(places.min() / own / k) - EDGE) * k
            stop = min(count // k, int(places.max() / own / k) + EDGE + 1) * k
            rows.append(slice(start, stop))
        part = self.image[rows[0], rows[1]]
        if k > 1:
            part = part.reshape(part.shape[0] // k, k, part.shape[1] // k, k).mean((1, 3))
        return [row.start * own for row in rows], part, k * own

    def view(
        self, sampling: float, shape: tuple[int, int], corner: tuple[float, float]
    ) -> FloatArray:
        """A view of `shape` pixels of `sampling` Å whose corner is at `corner` (y, x), Å."""
        y, x = (corner[axis] + (np.arange(shape[axis]) + 0.5) * sampling for axis in (0, 1))
        grid = np.broadcast_arrays(y[:, None], x[None])
        return self.at(grid[0], grid[1], sampling)


def write_clean_image(path: Path, clean: CleanImage) -> None:
    """Store `clean` as an uncompressed .npz (no pickle) under a temporary name, then rename."""
    with writing(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            image=clean.image.astype(np.float32),
            sampling_angstrom=np.float64(clean.sampling_angstrom),
        )


def read_clean_image(path: Path) -> CleanImage:
    """Read what `write_clean_image` wrote. Raises ValueError naming the file if it is none."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            return CleanImage(data["image"], float(data["sampling_angstrom"]))
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: not a stored clean image ({error}); make the data set again"
        ) from None


def is_clean_image(path: Path) -> bool:
    """Whether a stored scene is a clean image, and no wave."""
    return path.parent.name == FOLDER


def stored_scenes(data: Path) -> list[Path]:
    """The waves or clean images of a data set, in order."""
    return sorted(path for name in SCENE_FOLDERS for path in (data / name).glob("*.npz"))


def check_fields(data: Path, specimen: Specimen, wanted_angstrom: float) -> None:
    """Check that clean images are as large as a model's patch. Raises ValueError."""
    if specimen.source != IMAGES:
        return
    least = read_dataset(data / FILE)["images"]["least_field_angstrom"]
    if least < wanted_angstrom:
        raise ValueError(
            f"{data}: its smallest image is {least:.1f} Å wide, a patch up to "
            f"{wanted_angstrom:.1f} Å; give larger images, or another recipe (pt-ceo2-wide-64)"
        )
