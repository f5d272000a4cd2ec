"""Candidates for a frame of a movie that also use its aligned neighbours (docs/method.md, "Movies",
"Candidates")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gdn.engines.restorer import RestorerSession
from gdn.likelihood import Array
from gdn.movies.frames import MovieFrames, sum_moved
from gdn.movies.shift import Shifts
from gdn.search.band_mixture import Candidate
from gdn.search.restored import TURNS, bin_by, bin_mask, binning, rebin_sums
from gdn.search.thinning import Recorded


@dataclass(frozen=True)
class Apart:
    """Where something changed in time: `place` (rows, columns) on the generator's grid, 1 there and
    0 elsewhere, smooth. At such a place only the `frames` show what this frame shows."""

    frames: frozenset[int]
    place: Array

    def mixed(self, near: list[int], make: Callable[[list[int]], Array]) -> Array:
        """What `make` makes of the frames `near`; where something changed, of those alone that show
        the same."""
        image, same = make(near), [index for index in near if index in self.frames]
        return image if same == near else image + self.place * (make(same) - image)


@dataclass(frozen=True, kw_only=True)
class WindowCandidate:
    """The image that another candidate makes from the sum of a frame's counts and those of its
    neighbours.

    - `inner`: that candidate.
    - `frames`: the movie.
    - `shifts` (frames, 2): of each frame, recorded px.
    - `index`: the frame.
    - `reach`: how many frames before and after it are added, at most.
    - `apart`: what changed in time.
    """

    inner: Candidate
    frames: MovieFrames
    shifts: Shifts
    index: int
    reach: int
    apart: Apart | None = None

    @property
    def name(self) -> str:
        """Its name, with the largest number of frames that it sees."""
        return f"{self.frames_seen} frames"

    @property
    def identity(self) -> str:
        """The identity of the inner candidate, and the reach."""
        return f"{self.inner.identity}+-{self.reach}"

    @property
    def frames_seen(self) -> int:
        """The largest number of frames that it sees: those of a short movie at most."""
        return min(2 * self.reach + 1, self.frames.count)

    def __call__(self, recorded: Recorded) -> Array:
        """Its image of a frame's recorded counts, in electrons per pixel of the generator's
        grid."""
        first, last = max(0, self.index - self.reach), self.index + self.reach
        near = [i for i in range(first, min(last + 1, self.frames.count)) if i != self.index]
        if self.apart is None:
            return self._image(recorded, near)
        return self.apart.mixed(near, partial(self._image, recorded))

    def _image(self, recorded: Recorded, near: list[int]) -> Array:
        """With the frames `near` added."""
        others = sum_moved(self.frames, self.shifts, near, self.index)
        if others is None or not others.exposure.any():
            return self.inner(recorded)
        own = recorded.electrons.astype(np.float32)
        seen = others.exposure > 0
        each = others.recorded.electrons[seen] / others.exposure[seen]
        # Of a frame's counts that are given here, where others saw the same.
        share = np.float32(
            own[seen].mean(dtype=np.float64) / max(each.mean(dtype=np.float64), 1e-30)
        )
        exposure = others.exposure + share
        most = np.float32(exposure.max())
        total = (own + others.recorded.electrons) * (most / exposure)
        law = others.recorded.law.of_frames(1 + float(share) / max(len(near), 1))
        image = self.inner(replace(recorded, electrons=total.astype(np.float32), law=law))
        return np.asarray(image * (share / most), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class NeighboursCandidate:
    """The restorer's image of a frame and its nearest neighbours, aligned, each given as an input
    of its own. The restorer has learned which parts of the neighbours are true for the frame.

    - `session`: the restorer's.
    - `frames`: the movie.
    - `shifts` (frames, 2): of each frame, recorded px.
    - `index`: the frame.
    - `apart`: what changed near in time.
    """

    session: RestorerSession
    frames: MovieFrames
    shifts: Shifts
    index: int
    apart: Apart | None = None

    @property
    def name(self) -> str:
        """Its name, with the largest number of frames that it sees."""
        return f"{self.frames_seen} neighbours"

    @property
    def identity(self) -> str:
        """The identity of its model."""
        return f"{self.session.model.hash}, {self.name}"

    @property
    def frames_seen(self) -> int:
        """The largest number of frames that it sees."""
        return self.session.model.card.slots

    def __call__(self, recorded: Recorded) -> Array:
        """Its image of a frame's recorded counts, in electrons per pixel of the generator's
        grid."""
        if self.apart is None:
            return self._image(recorded, self._nearest())
        return self.apart.mixed(self._nearest(), partial(self._image, recorded))

    def _image(self, recorded: Recorded, near: list[int]) -> Array:
        """With the frames `near` beside it."""
        grids = recorded.grids
        factor = binning(grids.sampling_angstrom, self.session.model.card.sampling_angstrom)
        own = recorded.electrons.astype(np.float32)
        images, masks = [bin_by(own, factor)], [np.ones_like(bin_by(own, factor))]
        for other in near:
            moved = sum_moved(self.frames, self.shifts, [other], self.index)
            if moved is None or not moved.exposure.any():
                continue
            seen = moved.exposure > 0
            counts = moved.recorded.electrons.astype(np.float32)
            level = own[seen].mean(dtype=np.float64) / max(float(counts[seen].mean()), 1e-30)
            images.append(bin_by(counts * np.float32(level), factor))
            masks.append(bin_mask(moved.exposure, factor))
        image = self.session.restore(np.stack(images), np.stack(masks), turns=TURNS)
        return rebin_sums(image, factor, grids)

    def _nearest(self) -> list[int]:
        """The frames nearest in time, as many as the restorer takes in addition to the frame
        itself."""
        others = [i for i in range(self.frames.count) if i != self.index]
        others.sort(key=lambda i: (abs(i - self.index), i))
        return sorted(others[: self.frames_seen - 1])
