"""A score without ground truth: counts the estimate has not seen, gdn against a plain filter and a
flat image.

The recorded counts are split into two independent parts (`Recorded.split`); images are made of the
first and compared on the second. For two images a, b and counts y of mean x, all in electrons, the
mean of (b^2 - a^2) - 2 (b - a) y over pixels is an unbiased estimate of the mean of (b - x)^2 - (a
- x)^2, because E y = x (the cross term of Stein 1981 without its derivative: y is independent of a
and b), with variance 4 sum (b - a)^2 Var(y) / n^2. The unbiased estimate of either error alone,
mean of (a - y)^2 - Var(y), drowns in the noise of y^2 at low dose; their difference does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gdn.engines.base import Engine
from gdn.frames.examined import with_noise
from gdn.likelihood import FLOOR, Array, NoiseLaw, strips
from gdn.search.band_mixture import Candidate
from gdn.search.bank import Bank
from gdn.search.binned import Binned, mean_of
from gdn.search.denoise_frame import FrameResult
from gdn.search.estimate import Estimate, estimate
from gdn.search.held_out_shares import Recorded, Split
from gdn.search.progress import Watch
from gdn.search.tile_search import SearchSettings

Values = NDArray[np.float64]

WIDTHS = (
    0.5,
    0.75,
    1.0,
    1.25,
    1.5,
    2.0,
    2.5,
    3.0,
    4.0,
    6.0,
    8.0,
    12.0,
    20.0,
)  # px of the generator's grid
RESOLVED = 2.0  # standard errors from which on a difference is called one
OWN_RESOLVED = 3.0  # standard errors from which on gdn's own error is taken from the counts
STRIP_PIXELS = 2**20  # compared at a time
DECIBEL = 10 / np.log(10)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """gdn against another image on counts neither has seen. Squared errors as a share of the
    squared vacuum level.

    `difference` is the other's mean squared error minus gdn's with its standard `error`; `expected`
    gdn's own mean squared error by its spread with `expected_error`, and `measured` the unbiased
    one of the held-out counts with `measured_error`; `nats` the gain in log-likelihood of the
    held-out counts with `nats_error`; `width` px of the generator's grid of the Gaussian blur that
    the other image is (inf: constant).
    """

    against: str
    difference: float
    error: float
    expected: float
    nats: float
    nats_error: float
    width: float = np.inf
    expected_error: float = 0.0
    measured: float = 0.0
    measured_error: float = np.inf

    @property
    def own(self) -> float:
        """gdn's own mean squared error: measured where the counts resolve it (bright frames), else
        as expected."""
        return self.measured if self._resolved else self.expected

    @property
    def _resolved(self) -> bool:
        return self.measured > OWN_RESOLVED * self.measured_error

    def other(self, counts: Array, valid: Array | None = None) -> Array:
        """The other image, made of `counts`, of each pixel as much as was recorded (`valid`)."""
        if np.isinf(self.width):
            return np.full_like(counts, mean_of(counts, valid))
        if valid is not None:  # the blur of what was recorded alone
            near = gaussian_filter(valid, self.width, mode="reflect")
            blur = gaussian_filter(valid * counts, self.width, mode="reflect")
            return np.where(near > 1e-6, blur / np.maximum(near, 1e-6), mean_of(counts, valid))
        return np.asarray(gaussian_filter(counts, self.width, mode="reflect"), dtype=np.float32)

    @property
    def verdict(self) -> str:
        """Whether gdn is 'better' or 'worse' by two standard errors at least, or it is 'not
        resolved'."""
        if abs(self.difference) < RESOLVED * self.error or self.error == 0:
            return "not resolved"
        return "better" if self.difference > 0 else "worse"

    @property
    def gain_db(self) -> float:
        """PSNR gained over the other image, dB: 10 log10(1 + difference / own)."""
        return float(DECIBEL * np.log(max(1 + self.difference / self.own, 1e-3)))

    @property
    def gain_error_db(self) -> float:
        """Standard error of `gain_db` from those of the difference and of gdn's own error."""
        own_error = self.measured_error if self._resolved else self.expected_error
        ratio = self.difference / self.own
        return float(
            DECIBEL * np.hypot(self.error, ratio * own_error) / (self.own * max(1 + ratio, 1e-3))
        )


class Pool:
    """The comparison over several frames, each with equal weight, as they come: takes no more
    memory for more frames."""

    SUMMED = ("difference", "expected", "measured", "nats")
    ROOTED = ("error", "expected_error", "measured_error", "nats_error")

    def __init__(self) -> None:
        self.count = 0
        self._first: Comparison | None = None
        self._sums = dict.fromkeys((*self.SUMMED, *self.ROOTED), 0.0)

    def add(self, one: Comparison) -> None:
        """Add a frame's."""
        self._first = self._first or one
        self.count += 1
        for name in self.SUMMED:
            self._sums[name] += getattr(one, name)
        for name in self.ROOTED:
            self._sums[name] += getattr(one, name) ** 2

    def result(self) -> Comparison:
        """Raises ValueError for none."""
        if self._first is None:
            raise ValueError("no comparison to pool")
        found = {name: self._sums[name] for name in self.SUMMED}
        found |= {name: self._sums[name] ** 0.5 for name in self.ROOTED}
        means = {
            name: value / (1 if name.startswith("nats") else self.count)
            for name, value in found.items()
        }
        return replace(self._first, width=float("inf"), **means)  # type: ignore[arg-type]  # none of them is the name


def pooled(comparisons: Sequence[Comparison]) -> Comparison:
    """The comparison over several frames, each with equal weight. Raises ValueError for none."""
    pool = Pool()
    for one in comparisons:
        pool.add(one)
    return pool.result()


@dataclass(frozen=True)
class Expected:
    """gdn's own mean squared error as its spread has it, as a share of the squared vacuum level,
    and the standard error of that (nan: unknown)."""

    square: float
    error: float = 0.0

    def with_share(self, share: float) -> Expected:
        """Of a result from a `share` of the counts: over the noise suite the error falls as
        counts^-0.5 (docs/measurements/comparison.md: 4.9 dB for ten times the counts)."""
        return Expected(self.square / share**0.5, self.error / share**0.5)


def compare(
    name: str, mine: Array, other: Array, held: Binned, share: float, own: Expected
) -> Comparison:
    """`mine` and `other` (electrons of the whole frame) on the counts `held`, whose means are
    `share` of the frame's."""
    level = mean_of(mine, held.valid) ** 2
    n = mine.size if held.valid is None else float(held.valid.sum(dtype=np.float64))
    sums = sum(
        _sums(mine[s], other[s], _rows(held, s), share) for s in strips(mine.shape, STRIP_PIXELS)
    )
    difference, square, nats, nats_square, measured, measured_square = (
        float(v) for v in np.asarray(sums)
    )
    measured /= n
    spread = np.sqrt(max(measured_square / n - measured**2, 0) / n)
    return Comparison(
        against=name,
        difference=difference / n / level,
        error=2 * square**0.5 / n / level,
        expected=own.square,
        nats=nats,
        nats_error=nats_square**0.5,
        expected_error=own.error,
        measured=measured / level,
        measured_error=float(spread) / level,
    )


def _rows(held: Binned, rows: slice) -> Binned:
    """Some rows of a frame."""
    return Binned(held.counts[rows], held.law, None if held.valid is None else held.valid[rows])


def _sums(mine: Array, other: Array, held: Binned, share: float) -> Values:
    """Sums over some rows, of what was recorded: of the difference, its variance / 4, the nats,
    their variance, and of the unbiased squared error and its square."""
    a, b, y = (image.astype(np.float64) for image in (mine, other, held.counts))
    w = np.float64(1) if held.valid is None else held.valid.astype(np.float64)
    variance = held.law.variance(y) / share**2  # unbiased: y is its own estimate of its mean
    difference = (b**2 - a**2) - 2 * (b - a) * y / share
    nats, nats_variance = _likelihood_gain(a * share, b * share, y, held.law, w)
    squared = (a - y / share) ** 2 - variance  # unbiased for (a - x)^2, for the same reason
    square = (w * ((b - a) ** 2 * variance)).sum()
    return np.array(
        [
            (w * difference).sum(),
            square,
            nats,
            nats_variance,
            (w * squared).sum(),
            (w * squared**2).sum(),
        ]
    )


def _likelihood_gain(
    a: Values, b: Values, y: Values, law: NoiseLaw, w: Values | np.float64
) -> tuple[float, float]:
    """log p(y | a) - log p(y | b), nats, and its variance given a and b, each pixel by its weight
    `w`."""
    beta = law.beta
    if law.gaussian:
        gain, slope = ((b - y) ** 2 - (a - y) ** 2) / (2 * beta), (a - b) / beta
    else:
        upper, lower = (np.maximum(m + beta, FLOOR) for m in (a, b))
        slope = np.log(upper / lower)
        gain = (y + beta) * slope - (upper - lower)
    variance = law.variance(y)
    return float((w * gain).sum()), float((w * (slope**2 * variance)).sum())


def recorded_frame(frame: Array, result: FrameResult) -> Recorded:
    """The electrons of a `frame` (as recorded), by the noise model of its result."""
    noise = result.noise
    whole = frame if result.bad is None else with_noise(frame, result.bad, noise)
    return Recorded(noise.electrons(whole), noise.law, result.grids, bad=result.bad)


@dataclass(frozen=True)
class Halves:
    """gdn's image `mine` of the first of two `parts` of a frame's counts, as of all of them."""

    parts: Split
    mine: Array


def from_part(
    found: Estimate,
    recorded: Recorded,
    seed: int,
    engine: Engine,
    bank: Bank,
    settings: SearchSettings,
    others: Sequence[Candidate] = (),
) -> Halves:
    """Run gdn on one part of the counts, with all candidates of the mixture. Where the estimate was
    chosen by the same parts, those and the candidates' images of the first are there already."""
    known, theirs = found.thinned, None
    if known is None or known.seed != seed:
        parts, again = recorded.split(seed)
    else:
        parts, again = known.parts, known.recorded
        theirs = known.images if known.others == tuple(others) else None
    first = Binned(parts.first, parts.law, found.binned.valid)
    quiet, search = Watch(spread=False), replace(settings, laplace="none")
    image = estimate(first, engine, bank, search, quiet, again, others, theirs).image
    return Halves(parts, image / np.float32(parts.share))


def held_out_scores(halves: Halves, own: Expected) -> list[Comparison]:
    """gdn minus the best Gaussian blur, and minus the flat image, on a part of the frame's counts.

    gdn runs on the other part (`from_part`). The blur's width is the one that does best on the
    held-out counts themselves, which favours the blur. `own`: expected of the whole frame's result.
    """
    parts = halves.parts
    held = Binned(parts.second, parts.other_law, parts.valid)
    whole = parts.first / np.float32(parts.share)
    return _against(halves.mine, whole, held, 1 - parts.share, own.with_share(parts.share))


def frame_to_frame(found: Estimate, following: Binned, own: Expected) -> list[Comparison]:
    """The same scores on the counts of the next frame, if it shows the same object unmoved: nothing
    is held out."""
    share = following.level / found.binned.level
    return _against(found.image, found.binned.counts, following, share, own)


def _against(
    mine: Array, counts: Array, held: Binned, share: float, own: Expected
) -> list[Comparison]:
    blank = Comparison(
        against="", difference=0.0, error=0.0, expected=own.square, nats=0.0, nats_error=0.0
    )

    def against(name: str, width: float) -> Comparison:
        other = replace(blank, width=width).other(counts, held.valid)
        return replace(compare(name, mine, other, held, share, own), width=width)

    blurs = [against("best blur", width) for width in WIDTHS]
    return [min(blurs, key=lambda c: c.difference), against("constant", np.inf)]
