"""Units of a file's axes: what kind of quantity each measures, and lengths in Å."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

import numpy as np

UnitKind = Literal["none", "length", "time", "energy", "angle", "reciprocal", "unknown"]

OBLONG = 1.01  # ratio of a pixel's sides from which on it is not square
_PREFIXES = {
    "": 1e10,
    "centi": 1e8,
    "milli": 1e7,
    "micro": 1e4,
    "nano": 10.0,
    "pico": 0.01,
    "femto": 1e-5,
}
_ANGSTROM_PER = {
    **{
        prefix + word: size
        for prefix, size in _PREFIXES.items()
        for word in ("meter", "meters", "metre", "metres")
    },
    **dict.fromkeys(("å", "a", "ang", "angstrom", "angstroms", "ångström", "\\u00c5"), 1.0),
    **dict.fromkeys(("um", "μm", "micron", "microns", "\\u00b5m"), 1e4),
    **{"m": 1e10, "cm": 1e8, "mm": 1e7, "nm": 10.0, "n_m": 10.0, "pm": 0.01, "fm": 1e-5},
}
_NONE = ("", "none", "<undefined>", "px", "pixel", "pixels", "null", "inch")
_TIMES = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "μs", "\\u00b5s", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}
_ENERGIES = ("ev", "kev", "mev", "ev/ch", "electronvolt", "electronvolts", "hz", "ghz", "thz")
_ANGLES = (
    *("rad", "mrad", "urad", "μrad", "deg", "°", "degree", "degrees"),
    *("radian", "radians", "milliradian", "milliradians"),
)
_RECIPROCAL = re.compile(r"1/\(?(?P<a>[^)]+)\)?|(?P<b>.+?)\^?\(?-1\)?|per_?(?P<c>.+)")


def _plain(unit: str) -> str:
    """A unit in small letters, with one code for each letter that has several."""
    return unicodedata.normalize("NFKC", unit).replace("\u2212", "-").strip().lower()


def angstrom_per(unit: str) -> float | None:
    """Å in one `unit` of length; None if it is not a length."""
    return _ANGSTROM_PER.get(_plain(unit))


def seconds_per(unit: str) -> float | None:
    """Seconds in one `unit` of time; None if it is not a time."""
    return _TIMES.get(_plain(unit))


def unit_kind(unit: str) -> UnitKind:
    """What a unit measures. Wavenumbers (1/cm) and frequencies count as energies."""
    plain = _plain(unit)
    if plain in _NONE:
        return "none"
    if plain in _ANGSTROM_PER:
        return "length"
    if plain in _TIMES:
        return "time"
    if plain in _ENERGIES:
        return "energy"
    if plain in _ANGLES:
        return "angle"
    match = _RECIPROCAL.fullmatch(plain.replace(" ", ""))
    length = next((text for text in match.groups() if text), "") if match else ""
    if length in ("cm", "centimeter", "centimetre"):
        return "energy"
    return "reciprocal" if length in _ANGSTROM_PER or plain in ("rlu", "r.l.u.") else "unknown"


def is_reciprocal(unit: str) -> bool:
    """Whether pixels in this unit belong to a diffraction pattern."""
    return unit_kind(unit) in ("reciprocal", "angle")


def pixel_size(sizes: list[tuple[float, str]]) -> tuple[float | None, str]:
    """Å per pixel from (size, unit) along X and Y; or None and the reason."""
    lengths = []
    for size, unit in sizes:
        scale = angstrom_per(str(unit))
        if not np.isfinite(size) or size <= 0:
            continue
        if scale is None:
            return (
                None,
                f"has a pixel size of {size:.4g} in {unit or 'no unit'}, which is not a unit "
                "of length that gdn knows",
            )
        lengths.append(float(size) * scale)
    if not lengths:
        return None, ""
    if max(lengths) > OBLONG * min(lengths):
        return None, f"has pixels that are not square ({lengths[0]:.4g} x {lengths[-1]:.4g} Å)"
    return float(np.mean(lengths)), ""
