"""The held-out score of a result: gdn against another image, on one frame, or on several together
(docs/method.md, "Trust"). `gdn.trust.held_out_score` measures it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

RESOLVED = 2.0  # standard errors from which on a difference is called one
OWN_RESOLVED = 3.0  # standard errors from which on gdn's own error is taken from the counts
MOST_ERROR_DB = 10.0  # a gain with a larger standard error says nothing
DECIBEL = 10 / np.log(10)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """gdn against another image on counts that neither has seen. Squared errors are shares of the
    squared vacuum level.

    - `against`: the name of the other image.
    - `difference`, `error`: the other's mean squared error minus gdn's, and its standard error.
    - `expected`, `expected_error`: gdn's own mean squared error according to its spread.
    - `measured`, `measured_error`: the same, estimated without bias from the held-out counts.
    - `nats`, `nats_error`: the gain in log-likelihood of the held-out counts.
    - `width`: of the Gaussian blur that is the other image, px of the generator's grid (inf:
      constant).
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
        """gdn's own mean squared error: the measured one if the counts resolve it (bright frames),
        else the expected one."""
        return self.measured if self._resolved else self.expected

    @property
    def _resolved(self) -> bool:
        return self.measured > OWN_RESOLVED * self.measured_error

    @cached_property
    def verdict(self) -> str:
        """'better' or 'worse' if gdn is so by at least two standard errors, else 'not resolved'."""
        if abs(self.difference) < RESOLVED * self.error or self.error == 0:
            return "not resolved"
        return "better" if self.difference > 0 else "worse"

    @property
    def gain_db(self) -> float:
        """PSNR gained over the other image, dB: 10 log10(1 + difference / own)."""
        # Noise may make the difference less than -own, of which there is no logarithm: -30 dB.
        return float(DECIBEL * np.log(max(1 + self.difference / self.own, 1e-3)))

    @property
    def gain_error_db(self) -> float:
        """Standard error of `gain_db` from those of the difference and of gdn's own error."""
        own_error = self.measured_error if self._resolved else self.expected_error
        ratio = self.difference / self.own
        return float(
            DECIBEL * np.hypot(self.error, ratio * own_error) / (self.own * max(1 + ratio, 1e-3))
        )

    @property
    def unresolved(self) -> str:
        """Why `gain_db` has no meaning, in words, as in an empty field, where its error leaves
        nothing of it; empty where it has one."""
        error = self.gain_error_db
        if np.isfinite(error) and error <= MOST_ERROR_DB:
            return ""
        if self.verdict == "not resolved":
            return "nothing to resolve"
        if np.isfinite(error) and self.verdict == "worse":
            off = 100 * abs(self.difference) ** 0.5
            return f"nothing to resolve; gdn is off by {off:.2g} % of the vacuum level"
        return ""

    def record(self) -> dict[str, Any]:
        """The comparison for the JSON record. JSON has neither infinity nor nan. A gain that has no
        meaning is None, and `gain_why` says why."""
        error, why = self.gain_error_db, self.unresolved
        return {
            "against": self.against,
            "verdict": self.verdict,
            "mse_difference_of_vacuum_squared": self.difference,
            "mse_difference_se": self.error,
            "own_mse_expected": self.expected,
            "own_mse_unbiased": self.measured,
            "own_mse_unbiased_se": self.measured_error,
            "gain_db": None if why else round(self.gain_db, 3),
            "gain_se_db": None if why or not np.isfinite(error) else round(error, 6),
            "gain_why": why or None,
            "gain_nats": round(self.nats, 2),
            "gain_nats_se": round(self.nats_error, 2),
        }


class Pool:
    """The comparison over several frames, each with equal weight. Frames are added one at a time;
    the memory does not grow with their number."""

    SUMMED = ("difference", "expected", "measured", "nats")
    ROOTED = ("error", "expected_error", "measured_error", "nats_error")

    def __init__(self) -> None:
        self.count = 0
        self._first: Comparison | None = None
        self._sums = dict.fromkeys((*self.SUMMED, *self.ROOTED), 0.0)

    def add(self, comparison: Comparison) -> None:
        """Add the comparison of a frame."""
        self._first = self._first or comparison
        self.count += 1
        for name in self.SUMMED:
            self._sums[name] += getattr(comparison, name)
        for name in self.ROOTED:
            self._sums[name] += getattr(comparison, name) ** 2

    def result(self) -> Comparison:
        """The pooled comparison. Raises ValueError if there is none."""
        if self._first is None:
            raise ValueError("no comparison to pool")
        totals = {name: self._sums[name] for name in self.SUMMED}
        totals |= {name: self._sums[name] ** 0.5 for name in self.ROOTED}
        means = {
            name: value / (1 if name.startswith("nats") else self.count)
            for name, value in totals.items()
        }
        return replace(self._first, width=float("inf"), **means)  # type: ignore[arg-type]  # none of them is the name


def pool_comparisons(comparisons: Sequence[Comparison]) -> Comparison:
    """The comparison over several frames, each with equal weight. Raises ValueError if there is
    none."""
    pool = Pool()
    for comparison in comparisons:
        pool.add(comparison)
    return pool.result()


@dataclass(frozen=True)
class Expected:
    """gdn's own mean squared error according to its spread, as a share of the squared vacuum level;
    and the standard error of that (nan: unknown)."""

    square: float
    error: float = 0.0

    def with_share(self, share: float) -> Expected:
        """The expected error of a result from a `share` of the counts. Over the noise suite the
        error falls as counts^-0.5 (docs/measurements/comparison.md: 4.9 dB for ten times the
        counts)."""
        return Expected(self.square / share**0.5, self.error / share**0.5)
