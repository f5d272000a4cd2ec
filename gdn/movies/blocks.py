"""A candidate for each frame of a movie: the aligned sum of the movie, or of a long part of it, is
denoised once and moved to the place of the frame.

Where something changed within the block (`gdn.movies.changes`), the sum shows a state that never
existed. There a frame gets the sum of only those frames that lie between the same changes
(docs/method.md, "Movies").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from gdn.frames.resampling import Grids, bin_sum
from gdn.likelihood import POISSON, Array
from gdn.movies.changes import Changes, find_changes
from gdn.movies.frames import MovieFrames, sum_moved
from gdn.movies.shift import Shifts
from gdn.movies.windows import Apart
from gdn.search.thinning import Recorded

LONGEST = 40  # frames of a block
SHORTEST = 3  # shorter ones are left to other candidates
MOST_MOVED = 0.25  # of the field: frames farther apart are in different blocks
LEAST_SEEN = 0.5  # of a block's frames: what fewer have seen is left to the other candidates

STREAM = 2**31  # of the draws that thin a sum: no frame's

Denoise = Callable[[Recorded], Array]


@dataclass(frozen=True, kw_only=True)
class Block:
    """Frames of a movie that are denoised as one image.

    - `frames`: all frames of the movie.
    - `shifts` (frames, 2): of each, recorded px.
    - `chosen`: numbers of the frames of the block.
    - `at`: the frame at whose place the image is made.
    - `changes`: in time, in the order of `chosen`.
    - `denoise`: makes an image in electrons per pixel of the generator's grid from recorded counts.
    """

    frames: MovieFrames
    shifts: Shifts
    chosen: list[int]
    at: int
    changes: Changes
    denoise: Denoise
    _images: dict[tuple[int, int, int], Array] = field(default_factory=dict, repr=False)

    def image(self, index: int, depth: int) -> Array:
        """The image of one frame's share of the sum, at the place of frame `index`, for one `depth`
        of thinning. It is NaN where few of the frames recorded anything."""
        whole = self._image(0, len(self.chosen), depth)
        if not self.changes.times:
            return whole
        piece = self._image(*self.changes.segment(self.chosen.index(index)), depth)
        place = self.changes.place
        return np.where(place > 0, whole + place * (piece - whole), whole)

    def _image(self, first: int, last: int, depth: int) -> Array:
        """The image of the block's frames `first` to `last` - 1, made once."""
        key = first, last, depth
        if key not in self._images:
            chosen = self.chosen[first:last]
            summed = sum_moved(self.frames, self.shifts, chosen, self.at, depth)
            assert summed is not None  # frames that cannot be used are in no block
            most = summed.exposure.max()
            unseen = summed.exposure < LEAST_SEEN * most
            # Counts stay whole numbers: they will be thinned.
            even = summed.recorded.electrons * (most / np.maximum(summed.exposure, 1))
            counts = Recorded(
                electrons=np.rint(even).astype(np.float32)
                if summed.recorded.law == POISSON
                else even,
                law=summed.recorded.law,
                grids=self.frames.grids,
                depth=depth,
                bad=unseen if unseen.any() else None,
                stream=STREAM,
            )
            image = self.denoise(counts) / np.float32(most)
            if counts.valid is not None:
                image = np.where(counts.valid > LEAST_SEEN, image, np.float32(np.nan))
            self._images[key] = image
        return self._images[key]

    def apart(self, index: int) -> Apart | None:
        """Where, and between which frames, something changed, as frame `index` has it; None where
        nothing did."""
        if not self.changes.times:
            return None
        first, last = self.changes.segment(self.chosen.index(index))
        away = (self.shifts[index] - self.shifts[self.at]) / _binned_px(self.frames.grids)
        place = scipy.ndimage.shift(self.changes.place, away, order=1)
        return Apart(frozenset(self.chosen[first:last]), place.astype(np.float32))


def blocks_of(frames: MovieFrames, shifts: Shifts, denoise: Denoise) -> list[Block]:
    """Blocks of a movie's frames, each showing one image except for a few changes. Frames that fit
    into no block are in none. `shifts` (frames, 2) are in recorded px."""
    usable = [i for i in range(frames.count) if frames.recorded(i) is not None]
    blocks: list[Block] = []
    for chosen in _near_each_other(shifts, usable, frames.grids.frame_shape):
        blocks += _split_at_changes(frames, shifts, chosen, denoise)
    return blocks


def _near_each_other(
    shifts: Shifts, usable: Sequence[int], field_px: tuple[int, int]
) -> list[list[int]]:
    """Successive frames that show much of the same field."""
    groups: list[list[int]] = [[]]
    for index in usable:
        block = [*groups[-1], index]
        if len(block) > LONGEST or np.any(
            np.ptp(shifts[block], axis=0) > MOST_MOVED * np.array(field_px)
        ):
            groups.append([])
        groups[-1].append(index)
    return groups


def _split_at_changes(
    frames: MovieFrames, shifts: Shifts, chosen: list[int], denoise: Denoise
) -> list[Block]:
    """One block; or, if too much changed, the blocks of each half of it."""
    if len(chosen) < SHORTEST:
        return []
    # In the middle of where its frames are.
    middle = (shifts[chosen].max(0) + shifts[chosen].min(0)) / 2
    at = chosen[int(np.square(shifts[chosen] - middle).sum(1).argmin())]
    changes = _changes(frames, shifts, chosen, at)
    if changes.too_many:
        half = len(chosen) // 2
        return [
            block
            for part in (chosen[:half], chosen[half:])
            for block in _split_at_changes(frames, shifts, part, denoise)
        ]
    return [
        Block(frames=frames, shifts=shifts, chosen=chosen, at=at, changes=changes, denoise=denoise)
    ]


def _changes(frames: MovieFrames, shifts: Shifts, chosen: list[int], at: int) -> Changes:
    """The changes in a block, found in remaining counts: without those held out to weight and score
    the results."""
    grids = frames.grids
    counts, seen = [], []
    for index in chosen:
        moved = sum_moved(frames, shifts, [index], at, depth=1)
        assert moved is not None
        counts.append(bin_sum(moved.recorded.electrons.astype(np.float32), grids))
        seen.append(bin_sum(moved.exposure, grids) / np.float32(grids.area))
        law = moved.recorded.law.of_sum(grids.area)
    return find_changes(
        np.stack(counts), np.stack(seen), law, float(np.mean(grids.binned_sampling))
    )


@dataclass(frozen=True)
class BlockCandidate:
    """A block's image for its frame `index`."""

    block: Block
    index: int

    @property
    def name(self) -> str:
        """Its name in the record."""
        return "movie"

    @property
    def identity(self) -> str:
        """The frames that it sees."""
        return f"frames {self.block.chosen[0]}-{self.block.chosen[-1]}"

    @property
    def frames_seen(self) -> int:
        """Number of frames that it sees."""
        return len(self.block.chosen)

    def __call__(self, recorded: Recorded) -> Array:
        """Its image in electrons per pixel of the generator's grid; NaN where it has no value."""
        block, grids = self.block, recorded.grids
        away = block.shifts[self.index] - block.shifts[block.at]
        image = _moved(block.image(self.index, recorded.depth), away / _binned_px(grids))
        seen = np.isfinite(image)
        if not seen.any():
            return image
        counts = bin_sum(recorded.electrons.astype(np.float32), grids)
        level = counts[seen].mean(dtype=np.float64) / image[seen].mean(dtype=np.float64)
        return np.asarray(image * np.float32(level), dtype=np.float32)


def _binned_px(grids: Grids) -> NDArray[np.float64]:
    """Recorded pixels along the rows and columns of one pixel of the generator's grid."""
    return np.asarray(np.divide(grids.frame_shape, grids.binned_shape))


def _moved(image: Array, shift: Shifts) -> Array:
    """An `image` (rows, columns) moved by `shift` px, between pixels by cubic splines. NaN stays
    NaN, and pixels that come from outside the image become NaN."""
    known = np.isfinite(image)
    whole = np.where(known, image, image[known].mean() if known.any() else 0)
    moved = scipy.ndimage.shift(whole, shift, order=3, mode="mirror")
    there = scipy.ndimage.shift(known.astype(np.float32), shift, order=1, mode="constant")
    return np.where(there > 0.999, moved, np.nan).astype(np.float32)
