"""What counts held out of the frames of a movie say of their candidates, frame by frame, so that
neighbouring frames are weighed together (docs/method.md, "Movies", "Weights")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from gdn.frames.resampling import bin_sum
from gdn.likelihood import Array
from gdn.search.first_part import FirstPart, Weighed, first_part, tiles_of, weigh
from gdn.search.held_out_shares import Gains
from gdn.search.mixture_weights import Evidence
from gdn.search.settings import Searcher
from gdn.search.thinning import Recorded
from gdn.search.tiles import Binned

TOGETHER = 9  # frames that are weighed together, those nearest in time
KEPT = 14  # frames of which images are kept: the first frame's nine, and the nine of each of these
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class MovieEvidence:
    """The evidence of a movie's frames. It is made once, when it is needed; for long movies only
    that of a few frames is kept.

    - `searcher`: gives what searches the frame of a number.
    - `recorded`: gives its counts, None for a frame that cannot be used.
    - `count`: number of frames.
    """

    searcher: Callable[[int], Searcher]
    recorded: Callable[[int], Recorded | None]
    count: int
    _gains: dict[int, Gains] = field(default_factory=dict, repr=False)
    _first: dict[int, FirstPart] = field(default_factory=dict, repr=False)
    _weighed: dict[int, Weighed] = field(default_factory=dict, repr=False)

    def near(self, index: int) -> list[int]:
        """The frames that are weighed with frame `index`."""
        first = max(0, min(index - TOGETHER // 2, self.count - TOGETHER))
        frames = range(first, min(first + TOGETHER, self.count))
        return [other for other in frames if other != index and self.recorded(other) is not None]

    def gains(self, index: int) -> Gains:
        """Of residual and plain filter in a frame."""
        return _kept(self._gains, index, lambda i: self.first(i).gains(), 2 * KEPT)

    def first(self, index: int) -> FirstPart:
        """The first part of a frame's counts."""
        return _kept(self._first, index, self._make_first)

    def weighed(self, index: int) -> Weighed:
        """The candidates of a frame."""
        return _kept(self._weighed, index, self._weigh)

    def _make_first(self, index: int) -> FirstPart:
        searcher, recorded = self._of(index)
        counts = bin_sum(recorded.electrons.astype("float32"), recorded.grids)
        law = recorded.law.of_sum(recorded.grids.area)
        tiling = tiles_of(searcher, Binned(counts, law, recorded.valid))
        return first_part(searcher, recorded, tiling)

    def _weigh(self, index: int) -> Weighed:
        gains = [self.gains(other) for other in self.near(index)]
        return weigh(self._of(index)[0], self.first(index), gains)

    def _of(self, index: int) -> tuple[Searcher, Recorded]:
        searcher, recorded = self.searcher(index), self.recorded(index)
        assert recorded is not None  # frames that cannot be used are not near
        return searcher, recorded


@dataclass(frozen=True)
class FrameBeside:
    """The frames beside frame `index` (`gdn.search.first_part.Beside`)."""

    movie: MovieEvidence
    index: int

    def gains(self) -> list[Gains]:
        """Of residual and plain filter in the other frames."""
        return [self.movie.gains(other) for other in self.movie.near(self.index)]

    def evidence(self) -> list[Evidence]:
        """About the candidates in the other frames that have the same ones."""
        names = self.movie.weighed(self.index).evidence.names
        others = (self.movie.weighed(other).evidence for other in self.movie.near(self.index))
        return [evidence for evidence in others if evidence.names == names]

    def made(self, recorded: Recorded) -> tuple[FirstPart, list[Array]] | None:
        """What was made of this frame's first part; None for counts that were thinned before."""
        if recorded.depth:
            return None
        return self.movie.first(self.index), self.movie.weighed(self.index).images


def _kept(kept: dict[int, T], index: int, make: Callable[[int], T], most: int = KEPT) -> T:
    """What was made of a frame, made if it is not kept. Of too many the earliest frame's goes:
    frames are denoised in order."""
    if index not in kept:
        made = make(index)
        kept[index] = made
        if len(kept) > most:
            del kept[min(kept)]
        return made
    return kept[index]
