"""Denoises a stack whose frames show one object: each frame with the help of its neighbours
(docs/method.md, "Movies")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from gdn.blas import one_blas_thread
from gdn.engines.restorer import RestorerSession
from gdn.frames.resampling import bin_sum, grids_for
from gdn.likelihood import POISSON, Array, NoiseLaw
from gdn.models import LEARNED
from gdn.movies.blocks import Block, BlockCandidate, blocks_of
from gdn.movies.drift import FINE_ANGSTROM, estimate_drift
from gdn.movies.frames import MovieFrames
from gdn.movies.shift import Shifts
from gdn.movies.windows import Apart, NeighboursCandidate, WindowCandidate
from gdn.pipeline.movie_evidence import FrameBeside, MovieEvidence
from gdn.pipeline.options import FEWEST
from gdn.pipeline.recording import ALIGNING, RecordingDenoiser
from gdn.search.band_mixture import Candidate
from gdn.search.collaborative import CollaborativeCandidate
from gdn.search.estimate import estimate
from gdn.search.progress import Progress, Watch, part_of
from gdn.search.restored import RestorerCandidate, bin_by
from gdn.search.settings import Searcher
from gdn.search.thinning import Recorded
from gdn.search.tiles import Binned

REACH = 4  # frames before and after in a window
TRIED = 5  # frames by which it is decided whether others help
COARSE_ANGSTROM = 0.35  # of the pixels in which frames are compared


@dataclass(frozen=True, kw_only=True)
class Movie:
    """A movie, aligned, and what its frames say of each other.

    - `recording`: what denoises its frames alone.
    - `frames`: its frames.
    - `drift_angstrom` (frames, 2): the drift along rows and columns, Å.
    - `blocks`: frames that are denoised as one image.
    - `used`: False where the frames say nothing of each other.
    - `gain_nats`: held-out nats gained for each frame that was tried, by which that was decided.
    """

    recording: RecordingDenoiser
    frames: MovieFrames
    drift_angstrom: Shifts
    blocks: list[Block]
    used: bool
    gain_nats: float

    def for_frame(self, index: int) -> RecordingDenoiser:
        """What denoises frame `index`: where the frames say nothing of each other, what denoises it
        without a movie, to the bit."""
        if not self.used:
            return self.recording
        if self.frames.recorded(index) is None:
            return replace(self.recording, stream=index)
        return replace(self._alone(index), beside=FrameBeside(self._evidence, index))

    @cached_property
    def _evidence(self) -> MovieEvidence:
        return MovieEvidence(
            searcher=lambda index: self._alone(index).searcher,
            recorded=self.frames.recorded,
            count=self.frames.count,
        )

    def _alone(self, index: int) -> RecordingDenoiser:
        """What denoises a frame with weights of its own."""
        own = replace(self.recording, stream=index)
        blocks = [block for block in self.blocks if index in block.chosen]
        apart = blocks[0].apart(index) if blocks else None
        more: list[Candidate] = [self._window(index, apart), *self._neighbours(index, apart)]
        more += [BlockCandidate(block, index) for block in blocks]
        return replace(own, others=[*own.others, *more])

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "used": self.used,
            "gain_nats": round(self.gain_nats, 2),
            "drift_angstrom": np.round(self.drift_angstrom, 3).tolist(),
            "window_frames": self._window(0).frames_seen,
            "blocks": [
                {
                    "first": block.chosen[0],
                    "last": block.chosen[-1],
                    "changes": [block.chosen[time] for time in block.changes.times],
                }
                for block in self.blocks
            ],
        }

    def _window(self, index: int, apart: Apart | None = None) -> WindowCandidate:
        return WindowCandidate(
            inner=inner_of(self.recording),
            frames=self.frames,
            shifts=self._shifts_px(),
            index=index,
            reach=REACH,
            apart=apart,
        )

    def _neighbours(self, index: int, apart: Apart | None) -> list[Candidate]:
        inner = inner_of(self.recording)
        if not isinstance(inner, RestorerCandidate) or inner.session.model.card.slots < 2:
            return []
        return [
            NeighboursCandidate(
                session=inner.session,
                frames=self.frames,
                shifts=self._shifts_px(),
                index=index,
                apart=apart,
            )
        ]

    def _shifts_px(self) -> Shifts:
        return self.drift_angstrom / self.frames.grids.sampling_angstrom

    def gain(self) -> float:
        """Nats, per frame, by which a window's image explains counts held out of its frame better
        than the same candidate's of that frame alone."""
        total, tried = 0.0, np.unique(np.linspace(0, self.frames.count - 1, TRIED).round())
        for index in tried.astype(int):
            recorded = self.frames.recorded(index)
            if recorded is None:
                continue
            parts, first = recorded.split(self.frames.seed)
            scale = (1 - parts.share) / parts.share
            alone, window = (
                candidate(first) * np.float32(scale)
                for candidate in (inner_of(self.recording), self._window(index))
            )
            variance = float(parts.other_law.variance(float(parts.second.mean())))
            gained = (alone - parts.second) ** 2 - (window - parts.second) ** 2
            total += float(gained.sum(dtype=np.float64)) / (2 * variance)
        return total / len(tried)


@one_blas_thread()
def open_movie(
    recording: RecordingDenoiser,
    read: Callable[[int], Array],
    count: int,
    sampling_angstrom: float,
    progress: Progress = lambda share: None,
) -> Movie | None:
    """Align a movie's `count` frames, and test whether neighbouring frames help. `read` gives one
    frame as recorded, float32 (rows, columns), the same size for all. None where the options want
    no movie, for a stack of fewer than FEWEST frames, and where no generator is there to mix with.
    `progress` is that of the whole stack."""
    options, engine = recording.options, recording.engine
    if options.movie == "off" or count < FEWEST or options.original is not None:
        return None
    if isinstance(engine, RestorerSession):
        return None

    def masked(index: int) -> Array:
        frame = read(index)
        return frame if options.mask is None else options.mask.apply(frame)

    shape = _shape_of_first(masked, count)
    if shape is None:
        return None
    target = engine.model.card.sampling_angstrom
    frames = MovieFrames(
        read=masked,
        count=count,
        grids=grids_for(shape, sampling_angstrom, target),
        seed=options.seed,
        noise=options.noise_model,
    )
    drift = drift_of(frames, inner_of(recording), part_of(progress, 0, ALIGNING))
    movie = Movie(
        recording=recording, frames=frames, drift_angstrom=drift, blocks=[], used=True, gain_nats=0
    )
    gain = movie.gain()
    if options.movie == "auto" and gain <= 0:
        return replace(movie, used=False, gain_nats=gain)
    blocks = blocks_of(frames, drift / sampling_angstrom, _Sums(recording.searcher))
    return replace(movie, blocks=blocks, gain_nats=gain)


def _shape_of_first(read: Callable[[int], Array], count: int) -> tuple[int, int] | None:
    """Of the first frame that can be read."""
    for index in range(count):
        try:
            frame = read(index)
            return frame.shape[0], frame.shape[1]
        except ValueError:
            continue
    return None


def inner_of(recording: RecordingDenoiser) -> Candidate:
    """The candidate that is quick enough to be run on every window: the last of the restorers that
    did not learn from single frames of this recording alone, or the collaborative filter."""
    restorers = [
        candidate
        for candidate in recording.others
        if isinstance(candidate, RestorerCandidate)
        and candidate.session.model.card.name not in LEARNED
    ]
    return restorers[-1] if restorers else CollaborativeCandidate()


def drift_of(
    frames: MovieFrames, inner: Candidate, progress: Progress = lambda share: None
) -> Shifts:
    """The drift of a movie's frames, (frames, 2) Å; `inner` restores the references."""
    sampling = frames.grids.sampling_angstrom
    factor = max(1, round(FINE_ANGSTROM / sampling))
    coarse = max(1, round(COARSE_ANGSTROM / (factor * sampling)))

    def read(index: int) -> Array | None:
        progress(index / frames.count)
        recorded = frames.recorded(index)
        return None if recorded is None else bin_by(recorded.electrons, factor)

    def smooth(counts: Array) -> Array:
        if isinstance(inner, RestorerCandidate):
            return inner.session.restore(counts[None], turns=1)
        pixel = factor * coarse * sampling
        shape = (counts.shape[0], counts.shape[1])
        return inner(Recorded(electrons=counts, law=POISSON, grids=grids_for(shape, pixel, pixel)))

    return estimate_drift(read, frames.count, factor * sampling, coarse, smooth)


@dataclass(frozen=True)
class _Sums:
    """Denoises a sum of frames as a frame is denoised."""

    searcher: Searcher

    def __call__(self, recorded: Recorded) -> Array:
        settings = replace(self.searcher.settings, laplace="none")
        counts = bin_sum(recorded.electrons.astype(np.float32), recorded.grids)
        law: NoiseLaw = recorded.law.of_sum(recorded.grids.area)
        binned = Binned(counts, law, recorded.valid)
        plain = replace(self.searcher, settings=settings)
        return estimate(binned, plain, Watch(spread=False), recorded).image
