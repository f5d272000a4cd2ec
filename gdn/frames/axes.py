"""The axes of an array: which two are the image's, what the others count, and whether the array
holds images of real space at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gdn.frames.units import unit_kind

AxisKind = Literal["space", "reciprocal", "energy", "angle", "time", "channel", "unknown"]

LEADING = "TZQWVU"  # letters for axes that count frames, the last of them next to Y
_RECIPROCAL_NAMES = ("kx", "ky", "qx", "qy", "k_x", "k_y", "q_x", "q_y")
_ENERGY_WORDS = ("energy", "wavelength", "wavenumber", "raman shift", "eloss", "frequency")
_SCANS = ("x", "y", "scan_x", "scan_y", "scan x", "scan y", "rx", "ry", "r_x", "r_y")
_CHANNELS = ("c", "ch", "channel", "channels")
_SPECTRUM = "make an image of it, such as the sum over an energy window, and denoise that"
_DIFFRACTION = (
    "gdn denoises images of real space only (if the unit is wrong, correct it in the file)"
)
_UNCLEAR = "give the axis its unit in the file (s, eV, nm), or move it to the front"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis of an array.

    - `size` in pixels, each of `scale` (0: unknown) in `unit`.
    - `name`: in the file.
    - `signal`: whether it is one of a detector's own axes (None: unknown).
    - `declared`: the kind of axis that the file states.
    """

    size: int
    name: str = ""
    scale: float = 0.0
    unit: str = ""
    signal: bool | None = None
    declared: str = ""

    @property
    def kind(self) -> AxisKind:
        """What the axis measures, by its declared kind, its unit, or its name."""
        measured = unit_kind(self.unit)
        name = self.name.strip().lower()
        if measured == "energy" or any(word in name for word in _ENERGY_WORDS):
            return "energy"
        if measured == "reciprocal" or name in _RECIPROCAL_NAMES:
            return "reciprocal"
        if measured in ("angle", "time"):
            return "angle" if measured == "angle" else "time"
        if self.declared == "channel" or (not self.declared and name in _CHANNELS):
            return "channel"
        if self.declared == "time" or name in ("t", "time"):
            return "time"
        if "focus" in name:  # a series through focus is no depth of a volume
            return "unknown"
        return "space" if measured == "length" or self.declared == "space" else "unknown"

    @property
    def words(self) -> str:
        """The axis for a message: its name, size and unit."""
        unit = f" in {self.unit}" if unit_kind(self.unit) != "none" else ""
        return f"{self.name or 'axis'} {self.size}{unit}"


def leading_axes(dimensions: int) -> str:
    """Letters of an array of which only the last two axes are known: 'YX', 'TYX', 'TZYX', ..."""
    if dimensions - 2 > len(LEADING):
        return "?" * dimensions
    return LEADING[: max(dimensions - 2, 0)] + "YX"


def plain_axes(shape: Sequence[int]) -> list[Axis]:
    """Axes of an array of which nothing is known but its shape."""
    return [Axis(size=int(n)) for n in shape]


def image_axes(axes: Sequence[Axis]) -> tuple[int, int]:
    """Numbers of the image's rows and columns among two or more axes: the detector's own two; if
    there are none, the two of real space; else the last two."""
    own = [i for i, axis in enumerate(axes) if axis.signal]
    if len(own) == 2 and len(axes) > 2:
        return own[0], own[1]
    space = [i for i, axis in enumerate(axes) if axis.kind == "space"]
    if len(space) < 2:
        space = [i for i, axis in enumerate(axes) if axis.kind in ("space", "unknown")]
    if len(space) < 2:
        space = list(range(len(axes)))
    return space[-2], space[-1]


def objection(axes: Sequence[Axis], signal_type: str = "") -> str:
    """Why an array of these axes (and of this type of signal, in HyperSpy's terms) holds no images
    of real space, and what to do about it; '' if it may hold some."""
    listed = ", ".join(axis.words for axis in axes)
    kinds = [axis.kind for axis in axes]
    own = [axis for axis in axes if axis.signal]
    others = [axis for axis in axes if axis.signal is False]
    if "energy" in kinds or (len(own) == 1 and others):
        if len(axes) < 3:
            return f"spectra (axes {listed}), no image"
        return f"a spectrum image (axes {listed}); {_SPECTRUM}"
    if len(axes) < 2:
        return f"a line of values (axis {listed}); an image is needed"
    image = image_axes(axes)
    rest = [axis for i, axis in enumerate(axes) if i not in image]
    scanned = [axis for axis in rest if _is_scan(axis)]
    angles = kinds.count("angle")  # one alone before the image is a tilt
    reciprocal = "reciprocal" in kinds or angles > 1 or any(kinds[i] == "angle" for i in image)
    if reciprocal or len(scanned) > 1 or "diffraction" in signal_type.lower():
        many = len(axes) > 3 or bool(scanned)
        what = "a scan of patterns (4D-STEM)" if many else "diffraction patterns"
        return f"{what if rest else 'a diffraction pattern'} (axes {listed}); {_DIFFRACTION}"
    unclear = [axis for axis in axes[image[1] + 1 :] if axis.kind == "unknown" and not own]
    if len(unclear) > 1:
        return f"a scan of patterns (4D-STEM) (axes {listed}); {_DIFFRACTION}"
    if unclear:
        return f"an axis of unknown kind after those of the image (axes {listed}); {_UNCLEAR}"
    return ""


def _is_scan(axis: Axis) -> bool:
    """Whether an axis before those of the image is one along which a beam was scanned."""
    name = axis.name.strip().lower()
    return (axis.kind == "space" and name != "z") or name in _SCANS


def leading_letters(axes: Sequence[Axis]) -> str:
    """A letter for each axis that counts frames: T for time, Z for depth, C for channels."""
    wanted = {"time": "T", "space": "Z", "channel": "C"}
    letters: list[str] = []
    for axis in axes:
        letter = wanted.get(axis.kind, "")
        letters.append("" if letter in letters else letter)
    spare = [free for free in LEADING if free not in letters]
    return "".join(letter or (spare.pop(0) if spare else "?") for letter in letters)
