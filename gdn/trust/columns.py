"""Atom columns of an image: where they are, how strong and how wide, and where the lattice would
have more (docs/method.md, "Trust", "Places of columns").

Images are on the generator's grid in units of the vacuum level, (rows, columns) float32. Positions
are (y, x) in Å from the centre of the first pixel.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, maximum_filter
from scipy.spatial import cKDTree

from gdn.frames.resampling import Grids, unbin
from gdn.likelihood import Array

Values = NDArray[np.float64]

BLOCK = 1024  # px: images of up to BLOCK^2 pixels are looked at as a whole
BORDER = 40  # px around the parts of larger ones
FINE = 4  # the image is interpolated to this many points a pixel
WEAKEST = 0.15  # of the strongest contrast of the image: what counts as a column
FLOOR_CONTRAST = 0.004  # of the vacuum level: below it there is nothing to find
CLOSE_ANGSTROM = 1.0  # nearer than this, two are the same
REACH_ANGSTROM = 0.9  # of the fit around a column
WIDTHS_ANGSTROM = (0.35, 0.45, 0.55, 0.7)
DIRECTIONS = 8
ALONG = 0.3  # of the contrast asked of a column: what must be left of it in its weakest direction
NEIGHBOURS_ANGSTROM = (1.3, 4.5)  # between columns that are next to each other


@dataclass(frozen=True)
class Columns:
    """Atom columns.

    - `yx` (n, 2): positions, Å.
    - `amplitude` (n,): contrast against the surroundings, vacuum units (negative: dark).
    - `width` (n,): standard deviation of the fitted Gaussian, Å.
    - `drawn` (n,): True if the image shows it, False if only the lattice would have one there.
    """

    yx: Values
    amplitude: Values
    width: Values
    drawn: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.yx)

    def take(self, index: NDArray[np.generic]) -> Columns:
        """The columns of `index`."""
        return Columns(self.yx[index], self.amplitude[index], self.width[index], self.drawn[index])


def nothing() -> Columns:
    """An empty set of columns."""
    return Columns(np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.zeros(0, bool))


def locate_extrema(
    image: NDArray[np.floating], sampling_angstrom: float, dark: bool, contrast: float
) -> Values:
    """Extrema (n, 2) in Å, (y, x): local minima (`dark`) or maxima of the image smoothed by 0.3 Å.
    Each is located to a fraction of a pixel, at the vertex of the paraboloid through its
    neighbours.

    An extremum counts if it differs from its surroundings (a ring of 1.2 Å) by `contrast`.
    """
    pixels, sharp = _peaks(image, sampling_angstrom, dark, contrast)
    places = pixels + _vertex(sharp, pixels) if len(pixels) else np.zeros((0, 2))
    return np.asarray(places * sampling_angstrom, dtype=np.float64)


def _peaks(
    image: NDArray[np.floating], sampling: float, dark: bool, contrast: float
) -> tuple[NDArray[np.int64], Values]:
    """Pixels (n, 2) of the extrema, and the smoothed image in which they are maxima."""
    sign = -1.0 if dark else 1.0
    sharp = sign * gaussian_filter(image.astype(np.float64), 0.3 / sampling)
    around = gaussian_filter(sharp, 1.2 / sampling)
    size = 2 * round(0.6 / sampling) + 1
    peak = (sharp == maximum_filter(sharp, size)) & (sharp - around > contrast)
    edge = max(1, round(1.0 / sampling))
    inner = np.zeros_like(peak)
    inner[edge:-edge, edge:-edge] = True
    return np.argwhere(peak & inner), sharp


def polarity(image: Array) -> tuple[bool, float]:
    """Whether an image's columns are dark, and the image's largest contrast, without the extreme
    0.5 %."""
    centred = image - np.median(image)
    low, high = np.abs(np.percentile(centred, [0.5, 99.5]))
    return bool(low > high), float(np.percentile(np.abs(centred), 99.5))


def find_columns(
    image: Array, sampling_angstrom: float, dark: bool | None = None, share: float = WEAKEST
) -> Columns:
    """Find the columns that the image shows: extrema of one polarity (`dark`; None: the stronger
    one) with at least the `share` of the image's largest contrast. They are located to a fraction
    of a pixel and measured in their weakest direction."""
    found_dark, largest = polarity(image)
    dark = found_dark if dark is None else dark
    if share * largest < FLOOR_CONTRAST:
        return nothing()
    if image.size <= BLOCK**2:
        return _columns_of(image, sampling_angstrom, dark, share * largest)
    parts = [
        _columns_in(image, y, x, sampling_angstrom, dark, share * largest)
        for y in range(0, image.shape[0], BLOCK // 2)
        for x in range(0, image.shape[1], BLOCK // 2)
    ]
    return Columns(*(np.concatenate([getattr(c, f.name) for c in parts]) for f in fields(Columns)))


def _columns_in(
    image: Array, y: int, x: int, sampling: float, dark: bool, contrast: float
) -> Columns:
    """The columns whose centre lies in the block that begins at (y, x). The block is interpolated
    with its surroundings; a whole large image would take sixteen times its memory."""
    top, left = max(0, y - BORDER), max(0, x - BORDER)
    columns = _columns_of(
        image[top : y + BLOCK // 2 + BORDER, left : x + BLOCK // 2 + BORDER],
        sampling,
        dark,
        contrast,
    )
    columns.yx[:] += np.array([top, left]) * sampling
    place = columns.yx / sampling - (y, x) + 0.5
    return columns.take(np.flatnonzero(((place >= 0) & (place < BLOCK // 2)).all(1)))


def _columns_of(image: Array, sampling_angstrom: float, dark: bool, contrast: float) -> Columns:
    """Columns of at least `contrast`."""
    rows, columns = image.shape
    fine = unbin(
        image, Grids((rows * FINE, columns * FINE), (rows, columns), sampling_angstrom / FINE)
    )
    step = sampling_angstrom / FINE
    pixels, sharp = _peaks(fine, step, dark, contrast)
    if not len(pixels):
        return nothing()
    places = pixels + _vertex(sharp, pixels)
    amplitude, width = _fit(fine, places, step)
    # Fine pixel i covers [i, i + 1) / FINE of the binned grid, whose first pixel's centre is the
    # origin.
    yx = ((places + 0.5) / FINE - 0.5) * sampling_angstrom
    keep = np.flatnonzero((-amplitude if dark else amplitude) > ALONG * contrast)
    return Columns(yx, amplitude, width, np.ones(len(yx), bool)).take(keep)


def _vertex(sharp: Values, pixels: NDArray[np.int64]) -> Values:
    """Offset (n, 2) of the paraboloid's vertex from each extremum, for each axis separately, px."""
    offset = np.zeros(pixels.shape)
    for axis in (0, 1):
        step = np.eye(2, dtype=int)[axis]
        before, at, after = (sharp[tuple((pixels + d * step).T)] for d in (-1, 0, 1))
        curvature = 2 * at - before - after
        offset[:, axis] = np.clip(0.5 * (after - before) / np.maximum(curvature, 1e-12), -0.5, 0.5)
    return offset


def _fit(fine: Array, places: Values, step: float) -> tuple[Values, Values]:
    """Signed amplitude and width, Å, of the Gaussian that fits each place in the direction where
    the image differs least from its surroundings. So a maximum on a fringe counts as a column only
    as far as it is a maximum along the fringe."""
    angle = np.arange(DIRECTIONS) * np.pi / DIRECTIONS
    axes = np.stack([np.sin(angle), np.cos(angle)])  # (2, directions)

    def at(distance: float) -> Values:
        yx = places.T[:, :, None] + distance / step * axes[:, None, :]
        return np.asarray(map_coordinates(fine, yx, order=1, mode="nearest"), dtype=np.float64)

    peak = at(0.0)
    near, far = (peak - 0.5 * (at(d) + at(-d)) for d in (0.5 * REACH_ANGSTROM, REACH_ANGSTROM))
    weakest = np.abs(far).argmin(1)[:, None]
    agree = (np.sign(far) == np.sign(far[:, :1])).all(1)
    inner, outer = (np.take_along_axis(p, weakest, 1)[:, 0] for p in (near, far))
    outer = np.where(agree, outer, 0.0)  # a saddle
    widths = np.array(WIDTHS_ANGSTROM)
    falls = [1 - np.exp(-((d / widths) ** 2) / 2) for d in (0.5 * REACH_ANGSTROM, REACH_ANGSTROM)]
    ratio = inner / np.where(outer == 0, np.inf, outer)
    best = np.abs(ratio[:, None] - (falls[0] / falls[1])[None]).argmin(1)
    return outer / falls[1][best], widths[best]


def profile(
    columns: Columns, index: int, shape: tuple[int, int], sampling: float
) -> tuple[tuple[slice, slice], Values]:
    """The Gaussian that column `index` adds to the image, vacuum units, and the part of the
    binned grid that it covers. Its width includes the average over a pixel, whose variance is
    1/12 px^2."""
    y, x = columns.yx[index] / sampling
    width = np.hypot(
        columns.width[index] / sampling, 1 / np.sqrt(12)
    )  # a pixel averages over its area
    peak = columns.amplitude[index] * (columns.width[index] / sampling / width) ** 2
    reach = int(np.ceil(3 * width))
    rows, cols = (
        slice(max(0, round(p) - reach), min(n, round(p) + reach + 1))
        for p, n in zip((y, x), shape, strict=True)
    )
    v, u = np.arange(rows.start, rows.stop)[:, None] - y, np.arange(cols.start, cols.stop)[None] - x
    return (rows, cols), np.asarray(peak * np.exp(-(v**2 + u**2) / (2 * width**2)))


def without(image: Array, columns: Columns, indices: NDArray[np.int64], sampling: float) -> Array:
    """The image minus some of its columns."""
    bare = image.copy()
    for index in indices:
        where, bump = profile(columns, int(index), (image.shape[0], image.shape[1]), sampling)
        bare[where] -= bump.astype(np.float32)
    return bare


def lattice_sites(columns: Columns, shape: tuple[int, int], sampling: float) -> Columns:
    """Places without a column to which at least two pairs of neighbouring columns continue, with
    the median amplitude and width of the columns around them."""
    if len(columns) < 3:
        return nothing()
    tree = cKDTree(columns.yx)
    pairs = tree.query_pairs(NEIGHBOURS_ANGSTROM[1], output_type="ndarray")
    if not len(pairs):
        return nothing()
    distance = np.hypot(*(columns.yx[pairs[:, 0]] - columns.yx[pairs[:, 1]]).T)
    nearest = tree.query(columns.yx, k=2)[0][:, 1]
    # Next to each other: not much further apart than the nearer of their own neighbours.
    near = (distance > NEIGHBOURS_ANGSTROM[0]) & (
        distance < 1.3 * np.minimum(nearest[pairs[:, 0]], nearest[pairs[:, 1]])
    )
    i, j = pairs[near].T
    votes = np.concatenate([2 * columns.yx[i] - columns.yx[j], 2 * columns.yx[j] - columns.yx[i]])
    top = (np.array(shape) - 1) * sampling
    votes = votes[((votes > CLOSE_ANGSTROM) & (votes < top - CLOSE_ANGSTROM)).all(1)]
    if not len(votes):
        return nothing()
    votes = votes[tree.query(votes)[0] > CLOSE_ANGSTROM]
    sites = _clusters(votes)
    if not len(sites):
        return nothing()
    around = cKDTree(columns.yx).query(sites, k=min(6, len(columns)))[1].reshape(len(sites), -1)
    return Columns(
        sites,
        np.median(columns.amplitude[around], 1),
        np.median(columns.width[around], 1),
        np.zeros(len(sites), bool),
    )


def _clusters(votes: Values) -> Values:
    """Means (n, 2) of groups of at least two votes within half of CLOSE_ANGSTROM of one another."""
    clusters: list[Values] = []
    cells: dict[tuple[int, int], list[Values]] = {}  # of the places found, by square
    left = np.ones(len(votes), bool)
    near = cKDTree(votes).query_ball_point(votes, CLOSE_ANGSTROM / 2) if len(votes) else []
    for group in sorted(near, key=len, reverse=True):
        free = [g for g in group if left[g]]
        if len(free) >= 2:
            place = votes[free].mean(0)
            left[free] = False
            if not any(
                np.hypot(*(other - place)) <= CLOSE_ANGSTROM for other in _around(cells, place)
            ):
                clusters.append(place)
                cells.setdefault(_cell(place), []).append(place)
    return np.array(clusters).reshape(-1, 2)


def _cell(place: Values) -> tuple[int, int]:
    return int(place[0] // CLOSE_ANGSTROM), int(place[1] // CLOSE_ANGSTROM)


def _around(cells: dict[tuple[int, int], list[Values]], place: Values) -> Iterator[Values]:
    """Places in the same square or in one of the eight around it."""
    y, x = _cell(place)
    for v, u in itertools.product((-1, 0, 1), (-1, 0, 1)):
        yield from cells.get((y + v, x + u), [])
