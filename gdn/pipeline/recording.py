"""Denoises and tests the frames of one recording with the generator that was chosen for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gdn.engines.base import Engine
from gdn.engines.restorer import RestorerSession
from gdn.errors import InputError
from gdn.frames.bad_pixels import MISSING
from gdn.frames.noise import NoiseModel
from gdn.frames.scan import Scan
from gdn.likelihood import Array
from gdn.models import LEARNED
from gdn.pipeline.options import FILLS, Options
from gdn.pipeline.result_check import check_result, left_empty
from gdn.search.band_mixture import Candidate
from gdn.search.bank import Bank
from gdn.search.denoise_frame import FrameResult, denoise_frame
from gdn.search.first_part import Beside
from gdn.search.progress import Progress, part_of
from gdn.search.restored import RestorerCandidate, restore_frame
from gdn.search.settings import Searcher
from gdn.trust.calibration import Calibration, calibration_of
from gdn.trust.judge import Trust, judge, leave_unjudged
from gdn.trust.pixel_size import Explainer, PixelSize, find_pixel_size, untold

if TYPE_CHECKING:
    from gdn.pipeline.movie import Movie

ALIGNING = 0.1  # of the time of a movie, about
SMALLEST_FIELD = 4.0  # Å: less holds no two columns


@dataclass(frozen=True)
class JudgedFrame:
    """A denoised frame: the search's `result`, how far to `trust` it, with every warning, and what
    was taken off its rows."""

    result: FrameResult
    trust: Trust
    scan: Scan | None = None


@dataclass(frozen=True, kw_only=True)
class RecordingDenoiser:
    """Denoises the frames of one recording; made by `gdn.Denoiser.for_recording`.

    - `engine`: a generator's; or a restorer alone.
    - `bank`: the generator's (None: a restorer alone).
    - `options`: how frames are denoised and judged.
    - `others`: the candidates mixed with the generator's image.
    - `rivals`: hashes of the generators among which the first frame decided.
    - `stream`: of the draws that thin a frame of a movie.
    - `nats`: by how much each rival, by name, explains counts held out of the first frame.
    - `beside`: what the other frames of a movie say of the candidates.
    - `explainers`: all generators, which tell what pixel size is right.
    """

    engine: Engine | RestorerSession
    bank: Bank | None
    options: Options
    others: Sequence[Candidate] = ()
    rivals: Sequence[str] = ()
    stream: int = 0
    nats: Mapping[str, float] = field(default_factory=dict)
    beside: Beside | None = None
    explainers: Callable[[], list[Explainer]] = list

    @property
    def learned(self) -> bool:
        """Whether a network that learned from the recording is among the candidates."""
        return any(
            isinstance(other, RestorerCandidate) and other.session.model.card.name in LEARNED
            for other in self.others
        )

    def denoise(
        self,
        frame: Array,
        sampling_angstrom: float,
        progress: Progress = lambda share: None,
        notes: Sequence[str] = (),
        dtype: np.dtype[Any] | None = None,
        scan: Scan | None = None,
    ) -> JudgedFrame:
        """Denoise and judge one `frame` (rows, columns) float32, NaN where nothing was recorded.

        `progress` hears of the share that is done, 0 to 1. `notes` become warnings; `dtype` is the
        type in which the frame was recorded, `scan` what was taken off its rows. Raises InputError
        where the noise that was asked for contradicts the frame, EmptyFrame where there is nothing
        to denoise. The result is finite, but for pixels that the options want left empty, and its
        mean is the frame's.
        """
        mask = self.options.mask
        if mask is not None:
            frame = mask.apply(frame)
        share = 0.5 if self.options.judging.score else 1.0  # which searches once more
        result = self.search(frame, sampling_angstrom, part_of(progress, 0, share))
        trust = self.judge(frame, result, part_of(progress, share, 1 - share))
        check_result(frame, result, trust)
        if self.options.find_sampling or not trust.explained:
            trust = trust.with_pixel_size(self.find_pixel_size(frame, sampling_angstrom))
        if self.options.fill == "nan":
            result, trust = left_empty(result, trust)
        progress(1.0)
        own = trust.warnings
        if mask is not None:
            own = [w.replace(MISSING, f"{MISSING} or masked ({mask.name})") for w in own]
        return JudgedFrame(
            result,
            replace(
                trust,
                warnings=[
                    *notes,
                    *([] if scan is None else [scan.words]),
                    *warn_of_stretching(dtype, result.noise),
                    *own,
                ],
            ),
            scan,
        )

    def search(
        self, frame: Array, sampling_angstrom: float, progress: Progress = lambda share: None
    ) -> FrameResult:
        """Denoise one `frame` as `denoise` does, without judging the result."""
        options, noise = self.options, self.options.noise_model
        if isinstance(self.engine, RestorerSession):
            return restore_frame(
                frame, sampling_angstrom, self.engine, options.seed, noise, progress
            )
        if options.original is not None:
            from gdn.search.original import original_frame

            return original_frame(
                frame, sampling_angstrom, self.engine, options.original, noise, progress
            )
        return denoise_frame(frame, sampling_angstrom, self.searcher, noise, progress)

    def open_movie(
        self,
        read: Callable[[int], Array],
        count: int,
        sampling_angstrom: float,
        progress: Progress = lambda share: None,
    ) -> Movie | None:
        """See `gdn.pipeline.movie.open_movie`; None where the options want no movie."""
        if self.options.movie == "off":
            return None
        from gdn.pipeline.movie import open_movie

        return open_movie(self, read, count, sampling_angstrom, progress)

    def for_frame(
        self, movie: Movie | None, index: int, count: int, progress: Progress
    ) -> tuple[RecordingDenoiser, Progress]:
        """What denoises frame `index` of a stack of `count`, which may be a `movie`, and its part
        of the stack's progress.

        Where a network learned from the stack, the counts held out of a frame are those of its
        stream, as they were in the learning (`gdn.adaptation.adapt`), movie or not."""
        begun = 0.0 if movie is None else ALIGNING
        each = (1 - begun) / count
        its = self if movie is None else movie.for_frame(index)
        if self.learned:
            its = replace(its, stream=index)
        return its, part_of(progress, begun + index * each, each)

    def judge(
        self, frame: Array, result: FrameResult, progress: Progress = lambda share: None
    ) -> Trust:
        """How far to trust the `result` of a `frame`, by what the options ask for."""
        begun = time.perf_counter()
        if isinstance(self.engine, RestorerSession):
            return leave_unjudged(result)
        trust = judge(
            frame, result, self.searcher, self.calibration, self.options.judging, progress
        )
        result.seconds["judge"] = round(time.perf_counter() - begun, 4)
        return trust

    def find_pixel_size(self, frame: Array, sampling_angstrom: float) -> PixelSize:
        """Which pixel size generators explain best, for a `frame` given with `sampling_angstrom`.
        A model for any crystal cannot tell."""
        if isinstance(self.engine, RestorerSession):
            return untold(sampling_angstrom, self.engine.model.card)
        noise = self.options.noise_model
        size = find_pixel_size(frame, sampling_angstrom, self.explainers(), noise)
        return size or untold(sampling_angstrom, self.engine.model.card)

    @cached_property
    def calibration(self) -> Calibration | None:
        """The model's, read once."""
        return (
            None if isinstance(self.engine, RestorerSession) else calibration_of(self.engine.model)
        )

    @cached_property
    def searcher(self) -> Searcher:
        """Of a generator: what its search works with."""
        assert not isinstance(self.engine, RestorerSession)
        assert self.bank is not None
        return Searcher(
            engine=self.engine,
            bank=self.bank,
            settings=self.options.search,
            others=self.others,
            stream=self.stream,
            beside=self.beside,
        )

    @cached_property
    def search_record(self) -> dict[str, Any]:
        """Method, seed and settings, for the JSON record and the key."""
        options = self.options
        method = "restorer" if self.bank is None else options.method
        common: dict[str, Any] = {"method": method, "seed": options.seed, "noise": options.noise}
        if options.mask is not None:
            common |= {"mask": options.mask.name, "mask_sha256": options.mask.identity}
        if options.outside:
            common |= {"candidates": [candidate.record() for candidate in options.outside]}
        if options.find_sampling:
            common |= {"find_sampling": True}
        if options.fill != FILLS[0]:
            common |= {"fill": options.fill}
        if options.movie != "off":
            common |= {"movie": options.movie}
        if options.straighten != "auto":
            common |= {"straighten": options.straighten}
        if self.bank is None:
            return common | {"restarts": 0}
        common |= {"judging": asdict(options.judging)}
        if options.original is not None:
            return common | asdict(options.original)
        return common | {"restarts": len(self.bank)} | asdict(options.search)


def check_field(shape: tuple[int, int], sampling_angstrom: float) -> None:
    """Raises InputError where frames of `shape` px show too small a field to hold anything: their
    pixel size is wrong."""
    side = min(shape) * sampling_angstrom
    if side < SMALLEST_FIELD:
        raise InputError(
            f"the field is {side:.2g} Å wide ({min(shape)} px of {sampling_angstrom:.4g} "
            "Å); check the pixel size"
        )


def warn_of_stretching(dtype: np.dtype[Any] | None, noise: NoiseModel) -> list[str]:
    """A warning for 8-bit pictures whose gray levels are not counts."""
    if dtype != np.uint8 or 0.67 < abs(noise.gain) < 1.5:
        return []
    return [
        f"the 8-bit values are not counts, but about {noise.gain:.3g} gray levels per electron "
        f"above {noise.offset:.3g}; what was clipped is lost"
    ]
