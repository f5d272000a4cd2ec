"""What was taken off the rows of a scan, in numbers and words."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_SAID = 0.05  # px
LEAST_BRIGHTNESS_SAID = 0.001


@dataclass(frozen=True, kw_only=True)
class Scan:
    """How the rows of a frame were distorted.

    - `displaced_px`: rms displacement of what a row shows, along it.
    - `brightness`: rms of what was added to rows, over the frame's mean.
    - `turned`: whether the rows of the scan are the columns of the frame.
    """

    displaced_px: float
    brightness: float
    turned: bool = False

    def record(self) -> dict[str, float | bool]:
        """As the JSON record has it."""
        return {
            "displaced_px": round(self.displaced_px, 4),
            "brightness": round(self.brightness, 5),
            "turned": self.turned,
        }

    @property
    def words(self) -> str:
        """A warning for the user."""
        rows = "columns" if self.turned else "rows"
        parts = []
        if self.displaced_px >= LEAST_SAID:
            parts.append(f"displaced by {self.displaced_px:.2g} px rms along themselves")
        if self.brightness >= LEAST_BRIGHTNESS_SAID:
            parts.append(f"uneven in brightness by {self.brightness:.2g} of the mean")
        distorted = " and ".join(parts) or "slightly distorted"
        return f"the {rows} of the scan were {distorted}: gdn straightened them"
