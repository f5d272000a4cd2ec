"""Candidates from outside gdn: a laboratory's own denoiser, as a command or as a Python function.

A denoiser is given a frame's counts and returns its estimate of their expected values. It is called
up to three times a frame: for three quarters of the counts; for all of them, if the held-out counts
give it a weight; and for three quarters of three quarters, if the result is scored.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from gdn.errors import CandidateError
from gdn.likelihood import Array
from gdn.search.restored import binning, image_of_sums
from gdn.search.thinning import Recorded

GROUP = "gdn.candidates"  # of entry points
WORDS_SHOWN = 160  # characters of what another program says

Function = Callable[[Array, float], Any]


class OutsideDenoiser(Protocol):
    """A denoiser that is not part of gdn. It can be pickled, for a cluster."""

    def check(self) -> None:
        """Check that it can run on this machine. Raises CandidateError."""

    def record(self) -> dict[str, Any]:
        """Everything that its images depend on apart from the counts, JSON-ready."""

    def __call__(self, counts: Array, sampling_angstrom: float) -> Any:
        """Its image of `counts` (rows, columns) float32, electrons per pixel of `sampling_angstrom`
        Å, in the same units. Raises CandidateError."""


@dataclass(frozen=True)
class OutsideCandidate:
    """A `denoiser` as a candidate of the mixture (`gdn.search.band_mixture.Candidate`). The counts
    are summed over the whole number of pixels that is nearest to `sampling_angstrom`. None: the
    denoiser gets them as they were recorded."""

    name: str
    denoiser: OutsideDenoiser
    sampling_angstrom: float | None = None

    def record(self) -> dict[str, Any]:
        """Name, pixel size and denoiser, JSON-ready."""
        return {
            "name": self.name,
            "sampling_angstrom": self.sampling_angstrom,
        } | self.denoiser.record()

    @cached_property
    def identity(self) -> str:
        """sha256 of the record."""
        return hashlib.sha256(json.dumps(self.record(), sort_keys=True).encode()).hexdigest()

    def check(self) -> None:
        """Check that the denoiser can run on this machine. Raises CandidateError."""
        try:
            self.denoiser.check()
        except CandidateError as error:
            raise CandidateError(f"candidate {self.name}: {error}") from error

    def __call__(self, recorded: Recorded) -> Array:
        """Its image of recorded counts, in electrons per pixel of the generator's grid. Raises
        CandidateError."""
        own = recorded.grids.sampling_angstrom
        wanted = self.sampling_angstrom or own
        pixel = own * binning(own, wanted)
        return image_of_sums(recorded, wanted, lambda counts, law: self._image(counts, pixel))

    def _image(self, counts: Array, pixel_angstrom: float) -> Array:
        try:
            made = self.denoiser(counts.copy(), pixel_angstrom)
        except CandidateError as error:
            raise CandidateError(f"candidate {self.name}: {error}") from error
        return _checked(self.name, made, counts.shape)


def _checked(name: str, made: Any, shape: tuple[int, ...]) -> Array:
    """The image as float32. Raises CandidateError if it is not an image of `shape`."""
    image = np.asarray(made)
    wrong = ""
    if image.dtype.kind not in "iuf":
        wrong = f"does not hold real numbers ({image.dtype})"
    elif image.shape != shape:
        wrong = f"has the shape {image.shape}, the counts have {shape}"
    else:
        with np.errstate(over="ignore"):
            image = image.astype(np.float32)
        bad = int(np.sum(~np.isfinite(image)))
        wrong = f"has {bad} pixels that are not finite" if bad else ""
    if wrong:
        raise CandidateError(
            f"candidate {name}: its image {wrong}; it must return one real number for every "
            "pixel, in electrons"
        )
    return image


@dataclass(frozen=True)
class PythonFunction:
    """A `function` of counts and their pixel size. gdn cannot know its code, so the record has only
    its name."""

    function: Function

    def check(self) -> None:
        """Nothing to check: the function exists."""

    def record(self) -> dict[str, Any]:
        """The place where it is defined."""
        kind = self.function if hasattr(self.function, "__qualname__") else type(self.function)
        return {"function": f"{kind.__module__}:{kind.__qualname__}"}

    def __call__(self, counts: Array, sampling_angstrom: float) -> Any:
        """The function's result. Raises CandidateError for anything that the function raises."""
        return call(self.function, counts, sampling_angstrom)


@dataclass(frozen=True)
class InstalledFunction:
    """A function of an installed package (`value`, MODULE:NAME), declared as an entry point in the
    group GROUP."""

    value: str
    package: str
    version: str

    def load(self) -> Function:
        """Import the function. Raises CandidateError."""
        try:
            function = importlib.metadata.EntryPoint("candidate", self.value, GROUP).load()
        except Exception as error:
            raise CandidateError(
                f"{self.package} {self.version} ({self.value}) cannot be imported: "
                f"{_named(error)}; install it again"
            ) from error
        if not callable(function):
            raise CandidateError(f"{self.value} of {self.package} is not a function")
        return function  # type: ignore[no-any-return]

    def check(self) -> None:
        """Check that the same version of the package is installed and can be loaded. Raises
        CandidateError."""
        try:
            here = importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            here = "none"
        if here != self.version:
            raise CandidateError(
                f"{self.package} {self.version} is needed, but {here} is installed here; "
                "install the same version on all machines"
            )
        self.load()

    def record(self) -> dict[str, Any]:
        """Package, version and function."""
        return {"package": self.package, "version": self.version, "function": self.value}

    def __call__(self, counts: Array, sampling_angstrom: float) -> Any:
        """The function's result. Raises CandidateError for anything that the function raises."""
        return call(self.load(), counts, sampling_angstrom)


def installed_functions() -> dict[str, list[InstalledFunction]]:
    """The functions that installed packages offer, by name. A name has several only if several
    packages chose it."""
    by_name: dict[str, list[InstalledFunction]] = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        if entry.dist is None:
            continue
        function = InstalledFunction(entry.value, entry.dist.name, entry.dist.version)
        if function not in by_name.setdefault(entry.name, []):  # a folder may be searched twice
            by_name[entry.name].append(function)
    return by_name


def call(function: Function, counts: Array, sampling_angstrom: float) -> Any:
    """Call a function. Raises CandidateError for anything that it raises."""
    try:
        return function(counts, sampling_angstrom)
    except Exception as error:
        raise CandidateError(
            f"{_named(error)}; call it on an array of counts to see why"
        ) from error


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {shortened(str(error))}".rstrip(": ")


def shortened(text: str) -> str:
    """The text on one line, not too long."""
    words = " ".join(text.split())
    return words if len(words) <= WORDS_SHOWN else f"{words[: WORDS_SHOWN - 4]} ..."
