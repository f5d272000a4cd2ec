"""A real recording without a clean reference: each frame's result from three quarters of its
electrons, scored on the other quarter of that same frame.

Unlike `recording.py`, which compares with the mean of the other frames, this score does not charge
a method with what moved between frames. Three things are needed for it to be right:

- Counting cameras miss electrons that come close together, so that the noise of coarse detail is
  weaker than the variance of a pixel says (0.83 of it in the recording at hand, at 1.6 to 2.5 1/Å).
  Thinned electron by electron the two parts of such a frame are correlated, by which the smoother
  of two images gains. Here Gaussian noise of the frame's own spectrum divides it: y1 = k y + w, y2
  = (1 - k) y - w (Leiner et al. 2023), uncorrelated at every frequency. `--split binomial` thins.
- An error alone is the squared difference less the noise, known from frequencies just above the
  signal's (BAND). Its standard error is printed: of one small frame it is as large as the error.
- The difference of two methods' errors needs no noise level and has far less noise (see
  `gdn.trust.held_out_score`); so every method is compared with the one named by `--against`.

The last column has that difference by all the other frames instead, each aligned to a fraction of a
pixel: less noise, but unfair where a method has seen those frames, and blank there.

    python benchmarks/recording_held_out.py STACK.tif --sampling 0.0455 --electron 31.2
    python benchmarks/recording_held_out.py STACK.tif --sampling 0.0455 --write split.npz
    python benchmarks/recording_held_out.py STACK.tif ... --images mine=mine.npy --others seen=s.npy
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from learning_tables import held_out_table
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize

from gdn.engines.restorer import RestorerSession
from gdn.evaluation.comparators import Case, available, binnings, bm3d_at
from gdn.evaluation.noise_suite import STUDY_VACUUM, Noise
from gdn.frames.formats import read_frames
from gdn.models import RESTORER, RestorerModel, find_any
from gdn.pipeline.denoiser import Denoiser
from gdn.search.restored import restore_counts

Stack = NDArray[np.float32]  # (frames, rows, columns)
Values = NDArray[np.float64]
SHARE = 0.75  # of the electrons that a method sees
BAND = (1.25, 2.5)  # 1/Å: below it lies all signal, within it noise alone
ALIGNED = (0.3, 1.0)  # 1/Å, by which frames are aligned
EDGE = 12  # px left out when frames are compared with shifted ones
BLURS = 2.0 ** np.arange(0, 4.1, 0.25)  # px
SEED = 0x9E1D


@dataclass(frozen=True)
class Parts:
    """`seen` and `held` electrons of each frame, the shares `share` and 1 - `share` of all; coarse
    noise is `fano` times Poisson's."""

    seen: Stack
    held: Stack
    share: float
    fano: float


def frequencies(shape: tuple[int, int], sampling: float) -> Values:
    """1/Å of the modes of a cosine transform."""
    rows, columns = (np.arange(n) / (2 * n * sampling) for n in shape)
    return np.asarray(np.hypot(rows[:, None], columns[None]))


def cosines(image: Any) -> Values:
    """Orthonormal: noise that is white stays so."""
    return np.asarray(scipy.fft.dctn(image.astype(np.float64), norm="ortho"))


def noise_spectrum(electrons: Stack, sampling: float) -> tuple[Values, Values]:
    """Frequencies, and the noise's power there as a share of Poisson's: from the frames themselves
    above the signal, where it is constant below."""
    k = frequencies(electrons.shape[1:], sampling)
    power = np.mean([cosines(x) ** 2 for x in electrons], 0) / electrons.mean()
    edges = np.linspace(BAND[0], k.max() + 1e-9, 24)
    sums, _ = np.histogram(k, edges, weights=power)
    counts, _ = np.histogram(k, edges)
    coarse = float(power[(k >= BAND[0]) & (k < BAND[1])].mean())
    spectrum = np.where(counts > 0, sums / np.maximum(counts, 1), coarse)
    centres = (edges[1:] + edges[:-1]) / 2
    return np.append(BAND[1], centres[centres > BAND[1]]), np.append(
        coarse, spectrum[centres > BAND[1]]
    )


def divide(electrons: Stack, sampling: float, how: str) -> Parts:
    """The electrons of each frame as two independent parts."""
    rng = np.random.default_rng(SEED)
    at, share = noise_spectrum(electrons, sampling)
    if how == "binomial":
        seen = rng.binomial(electrons.astype(np.int64), SHARE).astype(np.float32)
        return Parts(seen, electrons - seen, SHARE, float(share[0]))
    shape = electrons.shape[1:]
    colour = np.sqrt(np.interp(frequencies(shape, sampling), at, share))
    parts = []
    for frame in electrons:
        white = rng.standard_normal(shape)
        noise = scipy.fft.idctn(colour * scipy.fft.dctn(white, norm="ortho"), norm="ortho")
        local = np.sqrt(SHARE * (1 - SHARE) * np.maximum(gaussian_filter(frame, 3.0), 0))
        parts.append(SHARE * frame + local * noise)
    seen = np.stack(parts).astype(np.float32)
    return Parts(seen, electrons - seen, SHARE, float(share[0]))


class Score:
    """Errors of images on the held-out parts, in electrons of the whole frame, squared."""

    def __init__(self, electrons: Stack, parts: Parts, sampling: float) -> None:
        self.parts, self.electrons = parts, electrons
        k = frequencies(electrons.shape[1:], sampling)
        self._low = k < BAND[0]
        self._target = [cosines(x) / (1 - parts.share) for x in parts.held]
        noise = (k >= BAND[0]) & (k < BAND[1])
        self._noise = np.array([(t[noise] ** 2).mean() for t in self._target])
        self._noise_modes = int(noise.sum())
        self._shifts = shifts_of(electrons, sampling)

    def errors(self, images: Stack) -> tuple[Values, Values]:
        """Mean squared error of each frame's image, and its standard error."""
        errors = []
        for image, target, noise in zip(images, self._target, self._noise, strict=True):
            modes = cosines(image)
            low, n = self._low, modes.size
            count = int(low.sum())
            square = (modes[low] - target[low]) ** 2
            error = square.sum() - count * noise + (modes[~low] ** 2).sum()
            spread = square.var() * count + (count * noise) ** 2 * 2 / self._noise_modes
            errors.append((error / n, spread**0.5 / n))
        return np.array(errors)[:, 0], np.array(errors)[:, 1]

    def difference(self, images: Stack, others: Stack) -> tuple[float, float]:
        """Mean over frames of the error of `others` less that of `images`, and its standard
        error."""
        total, square = 0.0, 0.0
        for mine, other, target, noise in zip(
            images, others, self._target, self._noise, strict=True
        ):
            a, b = cosines(mine), cosines(other)
            total += float(((b - a) * (a + b - 2 * target)).sum()) / a.size
            square += 4 * noise * float(((b - a) ** 2).sum()) / a.size**2
        return total / len(images), square**0.5 / len(images)

    def by_others(self, images: Stack, others: Stack) -> tuple[float, float]:
        """The same on all the other frames (`by_frames`)."""
        n = len(images)
        scores = [
            by_frames(self.electrons, self._shifts, t, [s for s in range(n) if s != t], pair)
            for t, pair in enumerate(zip(images, others, strict=True))
        ]
        return pooled([(gain, error * self.parts.fano**0.5) for gain, error in scores])


def pooled(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """Mean of gains, and its standard error."""
    gains, errors = np.array(pairs).T
    return float(gains.mean()), float(np.linalg.norm(errors)) / len(pairs)


def by_frames(
    electrons: Stack, shifts: Values, t: int, others: list[int], pair: tuple[Any, Any]
) -> tuple[float, float]:
    """Error of the second of a `pair` of images of frame `t` less that of the first, by `others` of
    the frames, aligned; and its standard error, of Poisson's noise. What changed between frames is
    in neither's favour, but not in that error."""
    inside = slice(EDGE, -EDGE)
    moved = [shifted(electrons[s], shifts[t] - shifts[s]) for s in others]
    target = np.mean(moved, 0)[inside, inside]
    a, b = (image[inside, inside].astype(np.float64) for image in pair)
    gain = float(((b - a) * (a + b - 2 * target)).mean())
    square = 4 * float(target.mean()) / len(others) * float(((b - a) ** 2).mean()) / a.size
    return gain, square**0.5


def shifted(frame: Any, by: Values) -> Values:
    """A frame moved by (rows, columns) px, around the edges."""
    rows, columns = (np.fft.fftfreq(n) for n in frame.shape)
    turn = np.exp(-2j * np.pi * (rows[:, None] * by[0] + columns[None] * by[1]))
    return np.asarray(np.fft.ifft2(np.fft.fft2(frame) * turn).real)


def shifts_of(electrons: Stack, sampling: float) -> Values:
    """Where each frame lies, (frames, 2) px: of the greatest overlap with the mean of the others,
    four times over."""
    shape = electrons.shape[1:]
    window = np.hanning(shape[0])[:, None] * np.hanning(shape[1])
    rows, columns = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None]
    k = np.hypot(rows, columns) / sampling
    within = (k > ALIGNED[0]) & (k < ALIGNED[1])
    y, x = np.broadcast_to(rows, shape)[within], np.broadcast_to(columns, shape)[within]
    spectra = np.array([np.fft.fft2((f - f.mean()) * window)[within] for f in electrons])
    spectra /= np.abs(spectra).max()
    shifts = np.zeros((len(electrons), 2))

    def overlap(shift: Values, product: Any) -> float:
        turned = product * np.exp(2j * np.pi * (y * shift[0] + x * shift[1]))
        return -float(turned.real.sum())

    for _ in range(4):
        placed = spectra * np.exp(2j * np.pi * (shifts[:, :1] * y[None] + shifts[:, 1:] * x[None]))
        for t, spectrum in enumerate(spectra):
            product = spectrum * (placed.sum(0) - placed[t]).conj()
            shifts[t] = minimize(overlap, shifts[t], (product,), method="Nelder-Mead").x
        shifts -= shifts.mean(0)
    return shifts


def methods(score: Score, sampling: float, names: list[str]) -> Iterator[tuple[str, Stack]]:
    """Images of every method that sees one frame, in electrons of the whole frame."""
    seen, share = score.parts.seen, score.parts.share
    mean = seen.mean((1, 2), keepdims=True) / np.float32(share)
    yield "constant", np.broadcast_to(mean, seen.shape).astype(np.float32)
    tried = [np.stack([gaussian_filter(x, s) / np.float32(share) for x in seen]) for s in BLURS]
    yield "best blur", min(tried, key=lambda images: float(score.errors(images)[0].mean()))
    if "bm3d" in names and available("bm3d-binned"):
        level = float(seen.mean()) / STUDY_VACUUM
        cases = [Case(x, x, Noise("poisson", level), sampling) for x in seen / np.float32(level)]
        sums = {n: partial(bm3d_at, binning=n) for n in binnings(sampling)}
        made = [
            np.stack([f(case) for case in cases]) * np.float32(level / share) for f in sums.values()
        ]
        yield "BM3D at its best binning", min(made, key=lambda x: score.errors(x)[0].mean())
    if "restore" in names:
        model = find_any(RESTORER)
        assert isinstance(model, RestorerModel)
        with RestorerSession(model, "cpu") as session:
            made = [restore_counts(x, sampling, session, 8) / share for x in seen]
            yield "restore", np.stack(made).astype(np.float32)
    if "gdn" in names:
        with Denoiser("auto", score=False) as denoiser:
            made = [np.asarray(denoiser.denoise(x, sampling).image) / share for x in seen]
            yield "gdn", np.stack(made).astype(np.float32)


def row_of(
    name: str, images: Stack, score: Score, against: Stack, constant: Stack, fair: bool
) -> dict[str, Any]:
    """Errors as shares of the contrast's mean square, each with its standard error."""
    contrast = float(score.errors(constant)[0].mean())
    errors, spread = score.errors(images)
    n = len(images)
    row: dict[str, Any] = {
        "method": name,
        "error": errors.mean() / contrast,
        "error_se": float((spread**2).sum()) ** 0.5 / n / contrast,
        "frames": [round(float(e / contrast), 5) for e in errors],
        "gain": [v / contrast for v in score.difference(images, against)],
    }
    if fair:
        row["gain_by_others"] = [v / contrast for v in score.by_others(images, against)]
    return row


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stack", type=Path)
    parser.add_argument("--sampling", type=float, required=True, help="Å/px")
    parser.add_argument(
        "--electron", type=float, help="gray levels of one, to which frames are rounded"
    )
    parser.add_argument("--split", choices=("spectrum", "binomial"), default="spectrum")
    parser.add_argument("--methods", nargs="*", default=["bm3d", "restore", "gdn"])
    parser.add_argument("--against", default="restore", help="method that all are compared with")
    parser.add_argument("--images", nargs="*", default=[], metavar="NAME=FILE.npy")
    parser.add_argument(
        "--others", nargs="*", default=[], help="likewise, of methods that saw the other frames"
    )
    parser.add_argument("--write", type=Path, help="store the parts (npz) and end")
    parser.add_argument("--rows", type=Path, help="JSON lines")
    options = parser.parse_args()
    source = read_frames(options.stack)
    frames = np.stack([source.read(number, whole=True) for number in range(source.count)])
    electrons = (np.round(frames / options.electron) if options.electron else frames).astype(
        np.float32
    )
    parts = divide(electrons, options.sampling, options.split)
    if options.write:
        np.savez(options.write, seen=parts.seen, held=parts.held, fano=parts.fano)
        return 0
    score = Score(electrons, parts, options.sampling)
    results = dict(methods(score, options.sampling, options.methods))
    for given in [*options.images, *options.others]:
        name, _, path = given.partition("=")
        results[name] = np.load(path).astype(np.float32)
    unfair = {given.partition("=")[0] for given in options.others}
    rows = [
        row_of(
            name, images, score, results[options.against], results["constant"], name not in unfair
        )
        for name, images in results.items()
    ]
    print(f"coarse noise is {parts.fano:.3f} of Poisson's; places, px: {score._shifts.round(2)}")
    rows = [{"split": options.split, "against": options.against} | row for row in rows]
    print(held_out_table(rows))
    if options.rows:
        options.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
