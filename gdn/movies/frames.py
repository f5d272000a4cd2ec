"""The frames of a movie in electrons. They are read when they are needed; a few of them are kept in
memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from gdn.frames.examined import examined
from gdn.frames.noise import NoiseModel
from gdn.frames.resampling import Grids
from gdn.likelihood import Array
from gdn.movies.drift import Shifts, add_moved
from gdn.search.thinning import Recorded

KEPT = 48  # frames in memory: a block and what lies beside it


@dataclass(frozen=True, kw_only=True)
class MovieFrames:
    """`count` frames of one size on `grids`. `read` gives one as recorded, float32 (rows, columns)
    with NaN where nothing was; `noise` is what the user says of it (None: it is found out). `seed`
    is that of the thinning."""

    read: Callable[[int], Array]
    count: int
    grids: Grids
    seed: int
    noise: NoiseModel | None = None
    _kept: OrderedDict[int, Recorded | None] = field(default_factory=OrderedDict, repr=False)

    def recorded(self, index: int, depth: int = 0) -> Recorded | None:
        """The electrons of a frame, thinned `depth` times as those are that weigh and score its
        result; None for one that cannot be used."""
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
            defects, whole, model = examined(self.read(index), self.noise)
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
    """Frames added up, moved to where one of them is: `recorded` counts and in how many frames each
    pixel lies (`exposure`), in frames."""

    recorded: Recorded
    exposure: Array


def sum_moved(
    frames: MovieFrames, shifts: Shifts, chosen: list[int], at: int, depth: int = 0
) -> Sum | None:
    """The `chosen` frames, moved by whole pixels to where frame `at` is; `shifts` (frames, 2) in
    recorded px, `depth` as in `MovieFrames.recorded`. None where none of them can be used."""
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
    law = laws[0].of_sum(len(laws))
    return Sum(Recorded(electrons=total, law=law, grids=frames.grids, depth=depth), exposure)
