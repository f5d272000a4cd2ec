"""The frames of a movie in electrons. They are read when they are needed; a few of them are kept in
memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from gdn.frames.examined import examine
from gdn.frames.noise import NoiseModel
from gdn.frames.resampling import Grids
from gdn.likelihood import Array
from gdn.movies.drift import add_moved
from gdn.movies.shift import Shifts
from gdn.search.thinning import Recorded

KEPT = 48  # frames in memory: a block and what lies beside it


@dataclass(frozen=True, kw_only=True)
class MovieFrames:
    """The frames of a movie, all of one size.

    - `count`: how many.
    - `grids`: that of a frame, and the generator's.
    - `read`: gives a frame as recorded, float32 (rows, columns), with NaN where nothing was
      recorded.
    - `noise`: the user's noise model (None: it is estimated).
    - `seed`: of the thinning.
    """

    read: Callable[[int], Array]
    count: int
    grids: Grids
    seed: int
    noise: NoiseModel | None = None
    _kept: OrderedDict[int, Recorded | None] = field(default_factory=OrderedDict, repr=False)

    def recorded(self, index: int, depth: int = 0) -> Recorded | None:
        """The electrons of a frame, thinned `depth` times with the same draws as those that weight
        and score its result. None for a frame that cannot be used."""
        if index not in self._kept:
            self._kept[index] = self._read(index)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(index)
        recorded = self._kept[index]
        if recorded is not None:
            for _ in range(depth):
                recorded = recorded.split(self.seed)[1]
        return recorded

    def _read(self, index: int) -> Recorded | None:
        try:
            defects, whole, model = examine(
                self.read(index), self.noise, self.grids.sampling_angstrom
            )
        except ValueError:  # its own denoising says what is wrong with it
            return None
        return Recorded(
            electrons=model.electrons(whole),
            law=model.law,
            grids=self.grids,
            bad=defects.bad,
            stream=index,
        )


@dataclass(frozen=True)
class Sum:
    """The sum of frames, moved to the place of one of them: the `recorded` counts, and `exposure`,
    the number of frames in each pixel."""

    recorded: Recorded
    exposure: Array


def sum_moved(
    frames: MovieFrames, shifts: Shifts, chosen: list[int], at: int, depth: int = 0
) -> Sum | None:
    """The sum of the `chosen` frames, moved by whole pixels to the place of frame `at`. `shifts`
    (frames, 2) are in recorded px, `depth` is that of `MovieFrames.recorded`. None if no frame can
    be used."""
    shape = frames.grids.frame_shape
    total, exposure = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    laws = []
    for index in chosen:
        recorded = frames.recorded(index, depth)
        if recorded is not None:
            add_moved(
                total, exposure, recorded.electrons.astype(np.float32), shifts[index] - shifts[at]
            )
            laws.append(recorded.law)
    if not laws:
        return None
    law = laws[0].of_frames(len(laws))
    return Sum(Recorded(electrons=total, law=law, grids=frames.grids, depth=depth), exposure)
