"""Takes off what a scan did to the rows of a frame: displacements and brightness.

Each row is compared with a reference: first what its neighbours predict, and then the collaborative
filter's image of the frame, which averages what repeats over many rows. Displacements are fitted
along the row, and shrunk as far as noise makes them uncertain. What is taken off is the difference
that they make to the reference. So the noise of the pixels stays as it was, and white
(docs/method.md, "Rows of a scan").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.fft import dct, idct
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates

from gdn.blas import one_blas_thread
from gdn.errors import InputError
from gdn.frames.coarse_noise import MEDIAN
from gdn.frames.examined import examine
from gdn.frames.noise import NoiseModel
from gdn.frames.resampling import grids_for
from gdn.frames.scan import Scan
from gdn.frames.scan_rows import (
    Frame,
    Prediction,
    Values,
    best_width,
    clipped,
    find_scan,
    modes,
    slopes_of,
    without_brightness,
)
from gdn.likelihood import NoiseLaw
from gdn.likelihood import strips as rows_in_strips
from gdn.search.collaborative import CollaborativeCandidate
from gdn.search.thinning import Recorded

NEIGHBOURS, FILTERED = 1, 2  # passes with either reference
ROUNDS = 2  # of the fit in a pass
WINDOW = 24.0  # px along a row, over which a displacement is alike
SLOW = 24.0  # rows
STRIP = 128  # rows at a time
SMOOTH = 3.0  # px, of the image that says how much noise there is
MISFIT, ALIKE = 8.0, 12.0  # px, and the number of pixels with one error of the reference
STANDS_OUT = 12.0  # times the variance of a coefficient of brightness: a crystal's planes do


@one_blas_thread()
def straighten(
    frame: Frame, sampling_angstrom: float, wanted: NoiseModel | None = None
) -> tuple[Frame, Scan | None]:
    """A `frame` (rows, columns) float32 with straightened rows, and what was taken off; the same
    frame and None where no scan is seen to have distorted it. NaN stays. `wanted` is the user's
    noise model."""
    try:
        _, whole, model = examine(frame, wanted, sampling_angstrom)
    except InputError:  # its own denoising says what is wrong with it
        return frame, None
    electrons, law = model.electrons(whole), model.law
    seen = find_scan(electrons, float(law.variance(max(float(electrons.mean()), 0.0))))
    if seen is None:
        return frame, None
    rows = electrons.T if seen.turned else electrons
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    change = _Straightening(rows, law, seen.variance, sampling_angstrom).run()
    total = change.total.T if seen.turned else change.total
    straight = np.asarray(frame - model.gain * total, dtype=np.float32)
    if model.kind == "poisson" and wanted is not None:
        np.maximum(straight, 0, out=straight)  # the user's word: none is negative
    level = max(float(electrons.mean()), 1e-9)
    return straight, Scan(
        displaced_px=float(change.moved.std()),
        brightness=float(change.brightness.std()) / level,
        turned=seen.turned,
    )


@dataclass(frozen=True)
class _Change:
    """Displacements `moved` (rows, columns) along the rows, px; the `brightness` and the `total`
    (rows, columns) that are to be taken off."""

    moved: Frame
    brightness: Frame
    total: Frame


class _Straightening:
    """Of `rows` (n, columns) in electrons whose displacements have the variance `prior`, px^2."""

    def __init__(self, rows: Frame, law: NoiseLaw, prior: float, sampling_angstrom: float) -> None:
        self._rows, self._law, self._prior = rows, law, prior
        self._sampling = sampling_angstrom
        self._variance = law.variance(np.maximum(gaussian_filter(rows, SMOOTH), 0))
        self._variance = np.maximum(self._variance, 0.1 * float(self._variance.mean()))

    def run(self) -> _Change:
        """All passes."""
        rows = self._rows
        width = best_width(rows[: 4 * STRIP].astype(np.float64))
        flat = np.zeros_like(rows)
        change = _Change(flat, flat, flat)
        references: list[Callable[[Frame], Frame]] = [
            *[lambda image: np.asarray(Prediction(width)(image), np.float32)] * NEIGHBOURS,
            *[self._filtered] * FILTERED,
        ]
        for reference in references:
            change = self._fit(reference(rows - change.total), change.moved)
        return change

    def _filtered(self, image: Frame) -> Frame:
        """The collaborative filter's image."""
        shape = (image.shape[0], image.shape[1])
        grids = grids_for(shape, self._sampling, self._sampling)
        return CollaborativeCandidate()(Recorded(electrons=image, law=self._law, grids=grids))

    def _fit(self, reference: Frame, moved: Frame) -> _Change:
        """What makes the rows of a `reference`, from displacements `moved`."""
        fitted = moved.copy()
        strips = rows_in_strips(self._rows.shape, STRIP * self._rows.shape[1])
        for strip in strips:
            for _ in range(ROUNDS if self._prior else 0):
                shown = _displaced(reference, fitted, strip)
                fitted[strip] += self._step(shown, fitted[strip], strip)
        # Slow displacements are drift, and would let the image wander with its reference.
        fitted -= gaussian_filter(fitted, (SLOW, WINDOW))
        swayed = np.empty_like(reference)
        for strip in strips:
            swayed[strip] = _displaced(reference, fitted, strip) - reference[strip]
        brightness = self._brightness(self._rows - swayed - reference)
        return _Change(fitted, brightness, swayed + brightness)

    def _step(self, shown: Values, moved: Frame, strip: slice) -> Values:
        """The Gauss-Newton step (n, columns), px, from displacements `moved` of some rows, with
        which the reference shows `shown`, towards the most probable ones. They are alike within a
        Gaussian window along a row, and normal with the prior variance."""
        residual = without_brightness(clipped(self._rows[strip] - shown))
        # What a reference cannot show is an error, too, and alike over several pixels.
        misfit = gaussian_filter(residual**2, MISFIT) - self._variance[strip]
        precision = 1 / (self._variance[strip] + ALIKE * np.maximum(misfit, 0))
        slopes = slopes_of(shown)

        def total(product: Values) -> Values:
            # The variance of a sum of weights exp(-x^2 / 2 w^2) goes with their squares.
            return np.asarray(
                gaussian_filter1d(product * precision, WINDOW, axis=1, mode="constant")
                * (2 * np.pi**0.5 * WINDOW)
            )

        information = total(slopes**2) + 1 / self._prior
        return np.asarray(-(total(slopes * residual) + moved / self._prior) / information)

    def _brightness(self, residual: Frame) -> Frame:
        """What is added to rows and hardly changes along them, of what is left (n, columns)
        (Wiener). A coefficient that stands out is of a crystal's planes along the rows, and is left
        alone."""
        slowest = modes(residual.shape[1])
        own = residual.astype(np.float64) @ slowest.T
        noise = 1.2 * float(self._variance.mean())  # a reference has some, too
        excess = np.maximum(np.median(own**2, axis=0) / MEDIAN - noise, 0)
        spectrum = dct(own, axis=0, norm="ortho")
        kept = np.where(spectrum**2 < STANDS_OUT * (noise + excess), spectrum, 0)
        added = idct(kept * (excess / (excess + noise)), axis=0, norm="ortho")
        return np.asarray(added @ slowest, dtype=np.float32)


def _displaced(reference: Frame, moved: Frame, strip: slice) -> Values:
    """Some rows of a `reference` whose content is displaced along them."""
    first, columns = strip.start, reference.shape[1]
    rows, places = np.mgrid[first : strip.stop, :columns].astype(np.float64)
    at = [rows, places - moved[strip]]
    return np.asarray(map_coordinates(reference, at, order=1, mode="nearest", output=np.float64))
