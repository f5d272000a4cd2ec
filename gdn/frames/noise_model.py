"""The model of a frame's noise: y = gain * Poisson(electrons) + N(offset, read_noise^2), and how a
user names one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gdn.errors import InputError
from gdn.likelihood import NoiseLaw

Frame = NDArray[np.float32]
Kind = Literal["poisson", "gaussian", "poisson-gaussian"]


@dataclass(frozen=True, kw_only=True)
class NoiseModel:
    """The noise of a frame (docs/method.md, "Noise law").

    - `kind`: of the law.
    - `gain`: units of the frame per electron.
    - `offset`: units.
    - `read_noise`: standard deviation, units.
    - `how`: where the model comes from.
    - `spread`, `coarse`: of noise that a camera or a program has spread over pixels
      (`gdn.likelihood.NoiseLaw`).

    For `gaussian` the `read_noise` is the whole noise, the gain is 1 and the offset 0. If the
    file's zero cannot be the zero of intensity (`gdn.frames.free_level`), they differ: electrons
    are then units in which the mean is 1. A negative gain means counts with inverted contrast; the
    offset is then the value that stands for no electrons.
    """

    kind: Kind
    gain: float = 1.0
    offset: float = 0.0
    read_noise: float = 0.0
    how: str = "given"
    spread: float = 0.0
    coarse: float = 1.0

    @property
    def law(self) -> NoiseLaw:
        """Variance of a recorded pixel as a function of its mean, in electrons."""
        alpha = 0.0 if self.kind == "gaussian" else 1.0
        return NoiseLaw(alpha, (self.read_noise / self.gain) ** 2, self.spread, self.coarse)

    def electrons(self, frame: Frame) -> Frame:
        """Convert `frame` to electrons per pixel."""
        return np.asarray((frame - self.offset) / self.gain, dtype=np.float32)

    def units(self, electrons: Frame) -> Frame:
        """Convert electrons back to the frame's own units."""
        return np.asarray(electrons * self.gain + self.offset, dtype=np.float32)

    def times(self, factor: float) -> NoiseModel:
        """The model of the frame multiplied by `factor`."""
        numbers = {name: getattr(self, name) * factor for name in ("gain", "offset", "read_noise")}
        if self.kind == "gaussian" and not self.offset and self.gain == 1:
            numbers["gain"] = factor  # so that electrons keep a usual size
        return replace(self, **numbers)

    @property
    def notes(self) -> list[str]:
        """Notes for the user if the frame's units are not those of counts."""
        if self.gain < 0:
            return [
                "the contrast is inverted (the variance falls where the values rise): gdn denoises "
                f"{self.offset:.6g} minus the values, and inverts the result"
            ]
        if self.kind == "gaussian" and self.offset:
            return [
                "the value 0 is not zero intensity in this frame, by its mean or contrast: gdn "
                f"takes {self.offset:.4g} as zero; the result keeps the level"
            ]
        return []


def parse_noise(text: str) -> NoiseModel | None:
    """`auto` (None), `poisson`, `poisson-gaussian`, `gaussian` or `gaussian:S`. Raises InputError.

    A model without its numbers (read_noise NaN, or kind alone) is completed by `complete_noise`.
    """
    kind, _, value = text.partition(":")
    if text == "auto":
        return None
    if kind == "gaussian" and value:
        try:
            sigma = float(value)
        except ValueError:
            sigma = -1.0
        if not 0 < sigma < float("inf"):
            raise InputError(
                f"noise {text}: the standard deviation after the colon must be a positive number",
                "noise",
            )
        return NoiseModel(kind="gaussian", read_noise=sigma)
    if not value and kind in ("poisson", "gaussian", "poisson-gaussian"):
        return NoiseModel(kind=kind, gain=float("nan"))  # type: ignore[arg-type]
    raise InputError(
        f"noise {text}: choose auto, poisson, gaussian, gaussian:S or poisson-gaussian", "noise"
    )
