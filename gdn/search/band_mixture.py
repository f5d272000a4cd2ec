"""The result as a mixture of candidates: weights for each band of spatial frequency, chosen on
held-out counts (docs/method.md, "Mixture").

A candidate makes an image from the counts it is given. All candidates make one from the first part
of the counts. For every band, gdn then finds the weights (not negative, of sum one) whose mixture
has the least squared error on the second part. For images a_i, weights w_i and counts y of mean x,
all in the same units, the error |sum w_i a_i - x|^2 is, except for |x|^2, a quadratic function of w
with the coefficients <a_i, a_j> and <a_i, x>. The latter is replaced by <a_i, y>, which is unbiased
because y is independent of every a_i (stacked regression: Wolpert 1992, Breiman 1996; on thinned
counts: Leiner et al. 2023). The same weights then mix the images made from all counts.

Bands are smooth windows of the mirrored frame's cosine transform that sum to one. The error of a
mixture is at most the sum of the bands' errors (Jensen's inequality), so each band can be decided
by itself. `gdn.search.mixture_weights` chooses the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gdn.likelihood import Array
from gdn.search.held_out_shares import Choice
from gdn.search.mixture_weights import Evidence, weigh_bands
from gdn.search.thinning import Recorded, Split, fill_with

Values = NDArray[np.float64]

CENTRES = (
    0.05,
    0.15,
    0.3,
    0.45,
    0.65,
    0.9,
)  # 1/Å: from the particle's outline over lattice spacings to where images end
DISAGREEMENT = 2.0  # px, over which squared differences of candidates are averaged


class Candidate(Protocol):
    """Something that makes an image (rows, columns) from recorded counts, in electrons per pixel of
    the generator's grid."""

    @property
    def name(self) -> str:
        """Its name in the record."""

    @property
    def identity(self) -> str:
        """What its images depend on apart from the counts: a model's hash, a filter's settings."""

    def __call__(self, recorded: Recorded) -> Array:
        """The expected counts on `recorded.grids.binned_shape`. The same counts give the same
        image."""


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """Weights of candidates in bands of spatial frequency, and the numbers that led to them.

    - `names`: the candidates.
    - `weights` (bands, candidates): their weights in the bands around CENTRES, 1/Å.
    - `prior`: the weights if there were no other candidates.
    - `gain` (bands,): nats that the mixture gains over the prior one on held-out counts.
    - `alone` (bands, candidates): the same gain for each candidate alone, nats.
    - `contrast` (bands,): the image's contrast in each band.
    """

    names: tuple[str, ...]
    weights: Values
    prior: Values
    gain: Values
    alone: Values
    contrast: Values

    @property
    def changed(self) -> bool:
        """Whether the other candidates change the mixture."""
        return not np.array_equal(self.weights, np.broadcast_to(self.prior, self.weights.shape))

    def share(self, name: str) -> float:
        """The candidate's weight in the contrast of the whole image."""
        return float(self.contrast @ self.weights[:, self.names.index(name)])

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        bands = [
            {
                "centre_per_angstrom": centre,
                "share_of_contrast": round(float(self.contrast[b]), 4),
                "weights": _named(self.names, self.weights[b], 4),
                "gain_nats": round(float(self.gain[b]), 2),
                "alone_nats": _named(self.names, self.alone[b], 2),
            }
            for b, centre in enumerate(CENTRES)
        ]
        return {
            "prior_weights": _named(self.names, self.prior, 4),
            "shares": {name: round(self.share(name), 4) for name in self.names},
            "gain_nats": round(float(self.gain.sum()), 2),
            "alone_nats": _named(self.names, self.alone.sum(0), 2),
            "bands": bands,
        }


def _named(names: tuple[str, ...], values: Values, digits: int) -> dict[str, float]:
    return {name: round(float(value), digits) for name, value in zip(names, values, strict=True)}


def bands(shape: tuple[int, int], sampling: tuple[float, float]) -> Iterator[Values]:
    """Windows (rows, columns) of the cosine transform of an image of `shape`, whose pixels measure
    `sampling` Å along rows and columns. Each is centred on one of CENTRES and falls as a squared
    cosine to the neighbouring centres. They sum to one."""
    rows, columns = (np.arange(n) / (2 * n * step) for n, step in zip(shape, sampling, strict=True))
    place = np.interp(np.hypot(rows[:, None], columns[None]), CENTRES, np.arange(len(CENTRES)))
    for band in range(len(CENTRES)):
        yield np.asarray(np.cos(np.pi / 2 * np.clip(np.abs(place - band), 0, 1)) ** 2)


def measure_evidence(
    parts: Split,
    images: Sequence[Array],
    names: tuple[str, ...],
    choice: Choice,
    sampling: tuple[float, float],
) -> Evidence:
    """What the second part of a frame's counts says of the candidates' `images` of the first part.
    The first images are the generator's and the plain filter's (OWN)."""
    parts, images = _fill_unseen(parts, images)
    prior = np.zeros(len(images))
    prior[:2] = 1 - choice.share, choice.share
    before = _cosines(
        sum(
            (w * image for w, image in zip(prior[:2], images[:2], strict=True)),
            np.zeros_like(images[0]),
        )
    )
    offsets = np.stack([_cosines(image) - before for image in images])
    scale = (1 - parts.share) / parts.share  # of the first part's electrons to the second's
    target = _cosines(parts.second) / scale - before
    variance = parts.other_variance / scale**2
    grams, linears, contrast = [], [], []
    for window in bands((parts.first.shape[0], parts.first.shape[1]), sampling):
        weighted = (offsets * window).reshape(len(images), -1) / (2 * variance)
        grams.append(weighted @ offsets.reshape(len(images), -1).T)
        linears.append(weighted @ target.ravel())
        contrast.append(float((window * before**2).sum() - window[0, 0] * before[0, 0] ** 2))
    return Evidence(
        names=names,
        prior=prior,
        grams=np.array(grams),
        linears=np.array(linears),
        contrast=np.array(contrast),
    )


def _fill_unseen(parts: Split, images: Sequence[Array]) -> tuple[Split, Sequence[Array]]:
    """Where nothing was recorded all candidates are alike, and as far from the counts: none. The
    parts and the images with the first image there."""
    if parts.valid is None:
        return parts, images
    first, valid = images[0], parts.valid
    alike = [fill_with(first, image, valid) for image in images]
    unseen = np.asarray(first * ((1 - parts.share) / parts.share), dtype=np.float32)
    return replace(parts, second=fill_with(unseen, parts.second, valid)), alike


def choose_mixing(
    parts: Split,
    images: Sequence[Array],
    names: tuple[str, ...],
    choice: Choice,
    sampling: tuple[float, float],
    beside: Sequence[Evidence] = (),
) -> Mixing:
    """Choose the weights of the candidates from `images`, which were made from the first part of
    the counts (see `measure_evidence`). `beside` is the evidence of other frames of one movie, with
    the same candidates. Then the weights that are best for all frames together are the start, from
    which the frame's own move."""
    evidence = measure_evidence(parts, images, names, choice, sampling)
    weights, gain, alone = weigh_bands(evidence, beside)
    return Mixing(
        names=names,
        weights=weights,
        prior=evidence.prior,
        gain=gain,
        alone=alone,
        contrast=evidence.contrast / max(sum(evidence.contrast), 1e-30),
    )


def mix_by_counts(
    parts: Split,
    sets: Iterable[Sequence[Array]],
    names: tuple[str, ...],
    choice: Choice,
    sampling: tuple[float, float],
    beside: Sequence[Evidence] = (),
) -> list[tuple[Mixing, Array]]:
    """For each of several sets of the candidates' images: the weights (`choose_mixing`), and the
    mixture."""
    mixed = []
    for images in sets:
        mixing = choose_mixing(parts, images, names, choice, sampling, beside)
        mixed.append((mixing, mixture_of(images, mixing, sampling)))
    return mixed


def mixture_of(images: Sequence[Array], mixing: Mixing, sampling: tuple[float, float]) -> Array:
    """The mixture of the candidates' `images`."""
    whole = _mix_spectra([_cosines(image) for image in images], mixing, sampling)
    return _image(whole).astype(np.float32)


def mix_images(
    images: Sequence[Array], mixing: Mixing, sampling: tuple[float, float]
) -> tuple[Array, Array]:
    """The mixture of the candidates' `images`, and their disagreement: the root of the weighted
    mean of their squared differences from the mixture, averaged over DISAGREEMENT px."""
    shape = (images[0].shape[0], images[0].shape[1])
    spectra = [_cosines(image) for image in images]
    whole = _mix_spectra(spectra, mixing, sampling)
    square = np.zeros(shape)
    for spectrum, weights in zip(spectra, mixing.weights.T, strict=True):
        if weights.any():
            part = sum(
                (
                    w * window
                    for w, window in zip(np.sqrt(weights), bands(shape, sampling), strict=True)
                ),
                np.zeros(shape),
            )
            square += _image(part * (spectrum - whole)) ** 2
    disagreement = np.sqrt(np.maximum(gaussian_filter(square, DISAGREEMENT), 0))
    return _image(whole).astype(np.float32), disagreement.astype(np.float32)


def _mix_spectra(
    spectra: Sequence[Values], mixing: Mixing, sampling: tuple[float, float]
) -> Values:
    """The cosine transform of the mixture."""
    shape = (spectra[0].shape[0], spectra[0].shape[1])
    whole = np.zeros(shape)
    for window, weights in zip(bands(shape, sampling), mixing.weights, strict=True):
        for weight, spectrum in zip(weights, spectra, strict=True):
            whole += weight * window * spectrum
    return whole


def _cosines(image: Array) -> Values:
    return np.asarray(scipy.fft.dctn(image.astype(np.float64), type=2, norm="ortho"))


def _image(spectrum: Values) -> Values:
    return np.asarray(scipy.fft.idctn(spectrum, type=2, norm="ortho"))
