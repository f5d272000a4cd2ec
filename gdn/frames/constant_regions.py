"""Regions of a frame that are no counts: borders left by a drift correction, corners of a turned
frame, apertures, beam stops, gaps and dead parts of a detector, flat areas of saturation.

All of them are connected pixels of one value. In a frame of few electrons most pixels are connected
pixels of one value too, and they are counts. A region is called no counts if such a region occurs
by chance in less than one of a million frames with the same pixel values, and if counts begin
abruptly at its edge (docs/method.md, "Noise law").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    binary_dilation,
    binary_fill_holes,
    binary_propagation,
    find_objects,
    label,
    maximum_filter1d,
)

Frame = NDArray[np.float32]
Mask = NDArray[np.bool_]

FALSE_ALARMS = 1e-6  # regions that chance makes in a frame, at most
# A specimen's dark parts have fewer counts than the frame has on average: the surprise of an empty
# pixel there, as a share of what it is on average.
DARKEST = 0.4
SCREEN = 9  # px in a square or a row: what is less never counts
# A frame with more values in constant blocks, or in regions, is a picture next to without noise.
MOST_VALUES, MOST_REGIONS = 16, 6
PASSES = 12  # at most, in which blocks grow until chance makes none
FEWEST_SQUARES = 400  # of three alike pixels, from which on the fourth is counted
HEIGHTS = (1, 2, 4, 8, 16, 32)  # px, of the blocks that are looked for; their lengths follow
SPARSE = 0.2  # share of a value from which on its pixels touch by chance
# px around a region of such a value that are left out whatever they hold: its edge runs where, by
# chance, no count fell, and the counts that did would be left to stand for the rim.
MARGIN = 3
# A part of a detector that is dead has no counts; an empty vacuum has a few. Pixels in one of
# those, how many of them, and as a share of the region.
HOLE, MOST_HOLES, MOST_HOLES_SHARE = 4, 5, 1e-5
RING = 4  # px around a region in which counts must set in again
SETS_IN = 0.3  # of the other values' usual share, there
_EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Region:
    """Pixels of one `value` that are no counts. `where` (rows, columns) marks them."""

    value: float
    where: Mask


def find_constant_regions(frame: Frame, missing: Mask) -> list[Region]:
    """The regions of a `frame` (rows, columns) that chance does not explain, one for each value.
    Pixels that are `missing` belong to none. There are none in a picture without noise."""
    values = _screened(frame, missing)
    if not 0 < len(values) <= MOST_VALUES:
        return []
    regions: list[Region] = []
    lowest = frame[~missing].min()
    masked = missing.copy()
    for value in values:
        same = (frame == value) & ~masked
        where = np.zeros_like(same)
        # Without the first regions the value is rarer, and smaller ones stand out.
        for _ in range(3):
            more = _regions_of(same & ~where, where | masked, bool(value == lowest))
            if not more.any():
                break
            where |= more
        if where.any():
            regions.append(Region(float(value), where))
            masked |= where
    return regions if len(regions) <= MOST_REGIONS else []


def _screened(frame: Frame, missing: Mask) -> NDArray[np.float32]:
    """The values that fill some block of SCREEN pixels. Values with the fewest pixels elsewhere
    come first: without their regions, the shares of the others are right."""
    right = (frame[:, 1:] == frame[:, :-1]) & ~missing[:, 1:]
    below = (frame[1:] == frame[:-1]) & ~missing[1:]
    if max(right.sum(), below.sum()) < SCREEN - 1:
        return np.zeros(0, np.float32)
    flat = np.zeros(frame.shape, bool)
    flat[:, 1:] |= _eroded(right, 1, SCREEN - 1)
    flat[1:] |= _eroded(below, SCREEN - 1, 1)
    square = _eroded(right, 3, 2)[1:] & _eroded(below, 2, 3)[:, 1:]
    flat[1:, 1:] |= square
    values = np.unique(frame[flat])
    if len(values) > MOST_VALUES:
        return values
    stray = [((frame == v) & ~flat).sum() / max((frame[flat] == v).sum(), 1) for v in values]
    return np.asarray(values[np.argsort(stray, kind="stable")])


def _eroded(same: Mask, rows: int, columns: int) -> Mask:
    """Where a block of rows x columns around a pixel lies within the frame and is `same`
    everywhere."""
    eroded = same
    for size, axis in sorted(((rows, 0), (columns, 1)), reverse=True):  # few runs are so long
        if size > 1 and eroded.any():
            eroded = _runs(eroded, size, axis)
    return eroded


def _runs(same: Mask, size: int, axis: int) -> Mask:
    """Where the `size` pixels around a pixel along an axis lie within the frame and are all `same`:
    scipy's minimum filter, in fewer steps. Runs of twice the length are two runs, side by side."""
    run, length = np.moveaxis(same, axis, 0), 1
    around = np.zeros_like(run)
    while length < size <= len(around):
        step = min(length, size - length)
        run = run[:-step] & run[step:]
        length += step
    if length == size:
        around[size // 2 : size // 2 + len(run)] = run
    return np.moveaxis(around, 0, axis)


def _opened(same: Mask, rows: int, columns: int) -> Mask:
    """The pixels that lie in some block of rows x columns that is `same` everywhere."""
    eroded = _eroded(same, rows, columns)
    if not eroded.any():
        return eroded
    grown = eroded.view(np.uint8)
    for size, axis in ((rows, 0), (columns, 1)):
        if size > 1:  # an even block reaches a pixel further to one side, and back
            origin = -1 if size % 2 == 0 else 0
            grown = maximum_filter1d(grown, size, axis=axis, mode="constant", origin=origin)
    return grown.astype(bool)


def _regions_of(same: Mask, masked: Mask, lowest: bool) -> Mask:
    """Regions of the pixels that are the `same`, in a frame of which some pixels are `masked`
    already. Pixels of the `lowest` value may be counts: none."""
    left = same.size - int(masked.sum())
    share = min(max(float(same.sum()), 1.0) / max(left, 1), 1 - 1e-9)
    surprise = -DARKEST * np.log(share)  # nats of a pixel
    core = _core(same, masked, surprise, lowest)
    if not core.any():
        return core
    core = _with_an_edge(core, same, masked)
    outside = ~core & ~masked
    if same[outside].mean() < SPARSE if outside.any() else True:
        return np.asarray(binary_propagation(core, _EIGHT, mask=same))
    return np.asarray(binary_dilation(core, _EIGHT, iterations=MARGIN) & ~masked)


def _core(same: Mask, masked: Mask, surprise: float, lowest: bool) -> Mask:
    """Blocks of pixels that are the `same`, so large that chance does not make them: `surprise` is
    that of one pixel, in nats. Where noise is spread over pixels, neighbours hold no count
    together, and the pixels outside the blocks show by how much more often."""
    core = np.zeros_like(same)
    for _ in range(PASSES):
        size = np.log(same.size / FALSE_ALARMS) / surprise
        core = np.zeros_like(same)
        if size > same.sum():
            return core
        for rows, columns in _blocks(max(size, SCREEN), same.shape):
            core |= _opened(same, rows, columns)
        if not (lowest and core.any()):
            return core
        less = _surprise_of_fourth(same & ~core, ~core & ~masked)
        if less > 0.9 * surprise:
            return core
        surprise = less
    return core


def _surprise_of_fourth(same: Mask, outside: Mask) -> float:
    """Nats of a pixel that is the `same` as three that form a square with it, all `outside`;
    infinite of too few."""

    def all_of(where: Mask) -> Mask:
        return where[:-1, :-1] & where[:-1, 1:] & where[1:, :-1]

    three = all_of(same) & outside[1:, 1:]
    count = int(three.sum())
    if count < FEWEST_SQUARES:
        return np.inf
    # Rather a pixel fewer than all of them.
    return -float(np.log(min(int((three & same[1:, 1:]).sum()), count - 1) / count + 1e-12))


def _blocks(size: float, shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Rows and columns of blocks of at least `size` px that fit into a frame of `shape`."""
    side = int(np.ceil(size**0.5))
    for height in (*(h for h in HEIGHTS if h < side), side):
        length = int(np.ceil(size / height))
        for rows, columns in {(height, length), (length, height)}:
            if rows <= shape[0] and columns <= shape[1]:
                yield rows, columns


def _with_an_edge(core: Mask, same: Mask, masked: Mask) -> Mask:
    """The regions that contain nothing else, and around which other values begin at once. A region
    is left alone if counts become rare gradually around it, or if it contains a few, as the empty
    vacuum of a dark field does."""
    labels, _ = label(core, _EIGHT)
    outside = ~core & ~masked
    usual = 1 - float(same[outside].mean()) if outside.any() else 0.0
    for number, box in enumerate(find_objects(labels), 1):
        around = tuple(
            slice(max(0, s.start - RING), min(n, s.stop + RING))
            for s, n in zip(box, core.shape, strict=True)
        )
        region = labels[around] == number
        ring = binary_dilation(region, _EIGHT, iterations=RING) & outside[around]
        others = 1 - float(same[around][ring].mean()) if ring.any() else 1.0
        if others < SETS_IN * usual or _is_counted_in(region):
            core[around] &= ~region
    return core


def _is_counted_in(region: Mask) -> bool:
    """Whether a region has more small holes than a dead part of a detector has hot pixels."""
    holes, _ = label(binary_fill_holes(region) & ~region, _EIGHT)
    sizes = np.bincount(holes.ravel())[1:]
    small = int((sizes <= HOLE).sum())
    return small > max(MOST_HOLES, MOST_HOLES_SHARE * int(region.sum()))


def find_flat_top(frame: Frame, missing: Mask) -> Mask:
    """Find patches of pixels at the frame's maximum that chance does not explain: the ceiling of a
    converter or of a stretched picture, whatever its value. Single pixels at the maximum are the
    clipped tail of counts. Leaving them out would lower the mean by more than the clipping did."""
    top = float(frame[~missing].max())
    full = (frame == top) & ~missing
    count = int(full.sum())
    if count < 3:
        return np.zeros(frame.shape, bool)
    # A neighbour by chance, and ten times as likely on the bright parts, where the tail lies.
    chance = 10 * 8 * count / frame.size
    if chance >= 1:
        return np.zeros(frame.shape, bool)
    smallest = max(3.0, 1 + np.log(count / 1e-4) / -np.log(chance))
    labels, number = label(full, _EIGHT)
    sizes = np.bincount(labels.ravel(), minlength=number + 1)
    sizes[0] = 0
    return np.asarray(sizes[labels] >= smallest)
