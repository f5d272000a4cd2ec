"""The original study's noise suite: `poisson:s` = Poisson(s x) / s, `gaussian:s` = x + N(0, s^2)
(docs/method.md, "Metrics")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gdn.errors import InputError

Image = NDArray[np.float32]

STUDY_VACUUM = 0.45  # the vacuum level of the study's clean frames, on its scale [0, 1]
SUITE = "poisson:25,poisson:10,poisson:1,gaussian:0.1,gaussian:0.5,gaussian:1"


@dataclass(frozen=True)
class Noise:
    """One entry of the suite."""

    kind: Literal["poisson", "gaussian"]
    level: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.level:g}"

    def apply(self, clean: Image, seed: int) -> Image:
        """A noisy copy of `clean` (study units). The same seed gives the same copy."""
        rng = np.random.default_rng([seed, 0x5E])
        if self.kind == "poisson":
            return np.asarray(
                rng.poisson(self.level * np.maximum(clean, 0)) / self.level, dtype=np.float32
            )
        return np.asarray(clean + self.level * rng.standard_normal(clean.shape), dtype=np.float32)


def parse_suite(text: str) -> list[Noise]:
    """'poisson:1,gaussian:0.5' -> noises. Raises InputError naming the bad entry."""
    noises = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        kind, _, value = entry.partition(":")
        try:
            level = float(value)
        except ValueError:
            level = 0.0
        if kind not in ("poisson", "gaussian") or not 0 < level < 1e6:
            raise InputError(
                f"noise {entry}: write poisson:S or gaussian:S with a positive S, for "
                "example poisson:1",
                "noise",
            )
        noises.append(Noise("poisson" if kind == "poisson" else "gaussian", level))
    if not noises:
        raise InputError("noise: nothing given; for example poisson:1,gaussian:0.1", "noise")
    return noises
