"""What of a noisy image a lattice explains: plane waves at its reciprocal vectors, whose amplitudes
vary slowly.

In a crystal that fills the field a wave has one amplitude everywhere, and thousands of pixels say
what it is: no group of blocks is as large, and blocks, which lie on whole pixels, are never quite
alike. The waves are found as peaks of the spectrum (by Fisher's test, 1929), and, with less doubt,
at the sums and differences of those. The amplitude of each is the image times the conjugate wave,
averaged under a Gaussian (geometric phase analysis: Hÿtch et al. 1998). How wide this is, and
whether there is a wave at all, Stein's unbiased estimate of the error decides (Stein 1981), at each
place for itself: a strained crystal gets a narrow Gaussian, and where a crystal ends its waves do.

Images are (rows, columns); their noise has standard deviation 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter

from gdn.likelihood import Array

SIGNIFICANT = 14.0  # nats: of a peak; noise has one in one of some thirty images of 200 x 200 px
AT_SUM = 7.0  # of a peak at a sum or difference of others
STRONGEST = 12  # of which sums are formed
ROUNDS = 2  # of sums
MOST = 60  # waves
LOWEST, HIGHEST = 0.05, 0.47  # 1/px: slower ones are not a lattice's
NEAR = 3  # steps of the padded spectrum: as near, two peaks are one
WIDTHS = (4.0, 7.0, 12.0, 20.0, 30.0, 45.0, 75.0, 120.0, np.inf)  # px: of the Gaussian
CELL = 4  # px: on blocks of this side amplitudes are computed
SWEEPS = 2  # over all waves, each fitted to what the others leave

Values = NDArray[np.float64]
Waves = NDArray[np.complex128]
Peak = tuple[float, float, float]  # power over the noise's, and frequencies, 1/px


@dataclass(frozen=True)
class WidthChoice:
    """How the width of the Gaussian is chosen at a place."""

    window: float  # px: standard deviation of the Gaussian under which errors are compared
    caution: float  # times the error by noise, that is added to the estimate


OF_LATTICE = WidthChoice(40.0, 0.3)


def fit_lattice(noisy: Array) -> Array:
    """The lattice's part of the noisy image (rows, columns) float32, of mean zero: all zero if
    there is none. Deterministic."""
    image = noisy.astype(np.float64)
    return fit_waves(image - image.mean(), find_peaks(image), OF_LATTICE, SWEEPS)


def fit_waves(image: Values, peaks: list[Peak], choice: WidthChoice, sweeps: int = 1) -> Array:
    """The waves of these peaks, as strong as they are in the image. Deterministic."""
    rest = image.copy()
    waves = [_conjugate(rest.shape, along, across) for _, along, across in peaks]
    count = _cells(np.ones(rest.shape, np.complex128)).real
    weights = [_blurred(count, wide) for wide in WIDTHS]
    lattice = np.zeros_like(rest)
    # Amplitudes are kept and not waves: sixty of those would be larger than all else of a frame.
    amplitudes: list[Waves | None] = [None] * len(waves)
    for _ in range(sweeps):
        for number, wave in enumerate(waves):
            last = amplitudes[number]
            before = np.zeros_like(rest) if last is None else _drawn(last, wave)
            own = rest + before
            amplitudes[number] = amplitude = _amplitude(own, wave, count, weights, choice)
            after = _drawn(amplitude, wave)
            rest = own - after
            lattice += after - before
    return np.asarray(lattice, dtype=np.float32)


def find_peaks(image: Values) -> list[Peak]:
    """Peaks of the spectrum: power over the noise's, and frequencies along rows and columns,
    1/px, the strongest first. Each stands for itself and its negative."""
    power, half = _spectrum(image)
    tops = (power == maximum_filter(power, 5, mode="wrap")) & half
    kept = [_refined(power, int(i), int(j)) for i, j in np.argwhere(tops & (power > SIGNIFICANT))]
    for _ in range(ROUNDS):
        kept.sort(reverse=True)
        more = _at_sums(power, kept)
        if not more:
            break
        kept += more
    return sorted(kept, reverse=True)[:MOST]


def _spectrum(image: Values) -> tuple[Values, NDArray[np.bool_]]:
    """Power of the image under a Hann window, over that of the noise, on a grid twice as fine; and
    which half of the plane stands for both."""
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in image.shape))
    padded = [2 * n for n in image.shape]
    level = float((image * window).sum() / window.sum())
    spectrum = np.fft.fft2((image - level) * window, padded)
    power = np.abs(spectrum) ** 2 / (window**2).sum()
    rows, columns = np.fft.fftfreq(padded[0])[:, None], np.fft.fftfreq(padded[1])[None]
    frequency = np.hypot(rows, columns)
    power[(frequency < LOWEST) | (frequency > HIGHEST)] = 0
    return power, (columns > 0) | ((columns == 0) & (rows > 0))


def _refined(power: Values, i: int, j: int) -> Peak:
    """The peak at a place of the spectrum, between its points: a parabola through the logarithms of
    three of them."""

    def offset(before: float, here: float, after: float) -> float:
        a, b, c = np.log(np.maximum([before, here, after], 1e-6))
        bend = a - 2 * b + c
        return float(np.clip((a - c) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0

    rows, columns = power.shape
    here = power[i, j]
    along = np.fft.fftfreq(rows)[i] + offset(power[i - 1, j], here, power[(i + 1) % rows, j]) / rows
    across = offset(power[i, j - 1], here, power[i, (j + 1) % columns]) / columns
    return float(here), float(along), float(np.fft.fftfreq(columns)[j] + across)


def _at_sums(power: Values, known: list[Peak]) -> list[Peak]:
    """Peaks that are not known, at sums and differences of the strongest."""
    rows, columns = power.shape
    first = np.array([peak[1:] for peak in known[:STRONGEST]]).reshape(-1, 2)
    both = np.concatenate([first, -first])
    more: list[Peak] = []
    for along, across in (a + b for a, b in combinations_with_replacement(both, 2)):
        if across < 0 or not LOWEST < np.hypot(along, across) < HIGHEST:
            continue
        i, j = round(along * rows), round(across * columns)
        near = [((i + a) % rows, (j + b) % columns) for a in (-1, 0, 1) for b in (-1, 0, 1)]
        top = max(near, key=lambda place: power[place])
        if power[top] < AT_SUM:
            continue
        peak = _refined(power, *top)
        if not any(_same(peak, other, power.shape) for other in known + more):
            more.append(peak)
    return more


def _same(peak: Peak, other: Peak, shape: tuple[int, ...]) -> bool:
    """Whether two peaks, or one and the other's negative, are too near to be two."""
    return any(
        all(
            abs(a - sign * b) * n <= NEAR
            for a, b, n in zip(peak[1:], other[1:], shape, strict=True)
        )
        for sign in (1, -1)
    )


def _conjugate(shape: tuple[int, ...], along: float, across: float) -> tuple[Waves, Waves]:
    """The conjugate wave of this frequency: its factors along rows and columns."""
    down, right = (
        np.exp(-2j * np.pi * frequency * np.arange(n))
        for frequency, n in zip((along, across), shape, strict=True)
    )
    return down, right


def _drawn(amplitude: Waves, conjugate: tuple[Waves, Waves]) -> Values:
    """The wave with amplitudes of the cells."""
    down, right = conjugate
    values = _at_pixels(amplitude, (len(down), len(right)))
    return np.asarray(2 * (values * (down[:, None] * right).conj()).real)


def _amplitude(
    image: Values,
    conjugate: tuple[Waves, Waves],
    count: Values,
    weights: list[Values],
    choice: WidthChoice,
) -> Waves:
    """Amplitudes of the wave in each cell, averaged over the width of the least expected error
    there; zero where no wave at all has less. `count` is of pixels in each cell, `weights` the same
    averaged over each of WIDTHS."""
    down, right = conjugate
    sums = _cells(down[:, None] * right * image)
    best: Waves = np.zeros_like(sums)
    least = np.zeros(count.shape)
    for wide, weight in zip(WIDTHS, weights, strict=True):
        real, imaginary = _blurred(sums.real, wide), _blurred(sums.imag, wide)
        amplitude = (real + 1j * imaginary) / weight
        # of a pixel's own value in its wave, twice its weight in the amplitude
        own = 2 / weight / (2 * np.pi * (wide / CELL) ** 2) if np.isfinite(wide) else 2 / image.size
        error = (
            -4 * (sums.conj() * amplitude).real
            + 2 * count * np.abs(amplitude) ** 2
            + 2 * count * own * (1 + choice.caution)
        )
        error = _blurred(error, choice.window)
        better = error < least
        best[better], least[better] = amplitude[better], error[better]
    return best


def _cells(values: Waves) -> Waves:
    """Sums over CELL x CELL px."""
    rows, columns = values.shape
    padded = np.pad(values, ((0, -rows % CELL), (0, -columns % CELL)))
    return np.asarray(padded.reshape(-(-rows // CELL), CELL, -1, CELL).sum((1, 3)))


def _blurred(cells: Values, width: float) -> Values:
    """The mean of `cells` under a Gaussian of `width` px, nothing beyond the edge."""
    if np.isinf(width):
        return np.full_like(cells, cells.mean())
    return np.asarray(gaussian_filter(cells, width / CELL, mode="constant", truncate=3.0))


def _at_pixels(amplitude: Waves, shape: tuple[int, ...]) -> Waves:
    """Amplitudes of the cells, at each pixel: linear between the cells' centres."""
    for axis in (0, 1):
        place = (np.arange(shape[axis]) - (CELL - 1) / 2) / CELL
        place = np.clip(place, 0, amplitude.shape[axis] - 1)
        before = np.minimum(place.astype(int), max(amplitude.shape[axis] - 2, 0))
        after = np.minimum(before + 1, amplitude.shape[axis] - 1)
        part = (place - before).reshape((-1, 1) if axis == 0 else (1, -1))
        amplitude = amplitude.take(before, axis) * (1 - part) + amplitude.take(after, axis) * part
    return np.asarray(amplitude)
