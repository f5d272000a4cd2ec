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
by itself. Held-out counts contain less information about one band than about the whole spectrum. So
gdn first finds weights that are the same in all bands, and from there those of each band. The
weights start at the mean of a few mixtures, each weighted by its likelihood (Bayesian model
averaging: Hoeting et al. 1999). So no single candidate is chosen where there are too few electrons
to tell. Then the weights move towards the optimum by the share 1 - MARGIN / gain, because free
weights gain a nat or two on noise alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gdn.likelihood import Array
from gdn.search.held_out_shares import MARGIN, Choice
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
OWN = ("generator", "filter")  # candidates that are always there
PLAIN = (*OWN, "collaborative")  # where the weights of the others do not begin
FILTERS = (*PLAIN, "lattice")  # beside the generator: candidates that nothing was trained for
DOUBT = 2.0  # nats by which the prior weights are likelier than the other starts
LEAST = 1e-3  # weight to begin with: a candidate of less need make no image


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


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the held-out counts of a frame say of the candidates' weights.

    - `names`: the candidates.
    - `prior`: their weights if only the first two of them existed.
    - `grams` (bands, candidates, candidates), `linears` (bands, candidates): weights w gain 2 l w -
      w G w nats over the prior ones in a band.
    - `contrast` (bands,): of the image of the prior weights.
    """

    names: tuple[str, ...]
    prior: Values
    grams: Values
    linears: Values
    contrast: Values

    def added(self, others: Sequence[Evidence]) -> Evidence:
        """With that of other frames. It is for the sum of their counts, and its prior weights are
        the mean of theirs."""
        frames = [self, *others]
        return replace(
            self,
            prior=np.mean([frame.prior for frame in frames], 0),
            grams=np.sum([frame.grams for frame in frames], 0),
            linears=np.sum([frame.linears for frame in frames], 0),
        )


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
    weights = _weights_of_bands(evidence.added(beside) if beside else evidence)
    forms = list(zip(evidence.grams, evidence.linears, strict=True))
    if beside:
        weights = [_move_weights(w, *form) for w, form in zip(weights, forms, strict=True)]
    gain = [_gain(weight, *form) for weight, form in zip(weights, forms, strict=True)]
    alone = [[_gain(weight, *form) for weight in np.eye(len(names))] for form in forms]
    return Mixing(
        names=names,
        weights=np.array(weights),
        prior=evidence.prior,
        gain=np.array(gain),
        alone=np.array(alone),
        contrast=evidence.contrast / max(sum(evidence.contrast), 1e-30),
    )


def _weights_of_bands(evidence: Evidence) -> list[Values]:
    """Weights of each band: first the same for all bands, and from there those of each."""
    whole = np.sum(list(evidence.grams), 0), np.sum(list(evidence.linears), 0)
    everywhere = _move_weights(_start(evidence.prior, evidence.names, *whole), *whole)
    forms = zip(evidence.grams, evidence.linears, strict=True)
    return [_move_weights(everywhere, *form) for form in forms]


def _start(prior: Values, names: tuple[str, ...], gram: Values, linear: Values) -> Values:
    """The weights at the start. They are the mean of these: the prior weights; each other candidate
    alone (except filters, which are the best for no frame); and half of the prior plus half of that
    candidate. Each is weighted by its likelihood on held-out counts, all but the first less DOUBT
    nats."""
    alone = [
        weight for weight, name in zip(np.eye(len(prior)), names, strict=True) if name not in PLAIN
    ]
    starts = np.array([prior, *alone, *((prior + weight) / 2 for weight in alone)])
    gains = np.array([_gain(weight, gram, linear) for weight in starts])
    gains[1:] -= DOUBT
    likely = np.exp(gains - gains.max())
    start = likely @ starts / likely.sum()
    start[start < LEAST] = 0
    return np.asarray(start / start.sum())


def _move_weights(start: Values, gram: Values, linear: Values) -> Values:
    """Weights moved from `start` towards the optimum: the further, the more the optimum gains
    beyond MARGIN."""
    best = _least_on_simplex(gram, linear)
    gain = _gain(best, gram, linear) - _gain(start, gram, linear)
    return start + (1 - MARGIN / gain) * (best - start) if gain > MARGIN else start


def _gain(weights: Values, gram: Values, linear: Values) -> float:
    """Nats by which a mixture is better than the prior one, for which the gain is 0."""
    return float(2 * linear @ weights - weights @ gram @ weights)


def _least_on_simplex(gram: Values, linear: Values) -> Values:
    """Weights, not negative and of sum one, with the least w G w - 2 l w. The minimum is exact:
    every set of candidates is tried (docs/method.md, "Mixture")."""
    count = len(linear)
    best, least = np.eye(count)[0], np.inf
    for size in range(1, count + 1):
        for chosen in map(list, itertools.combinations(range(count), size)):
            system = np.block(
                [
                    [gram[np.ix_(chosen, chosen)], np.ones((size, 1))],
                    [np.ones((1, size)), np.zeros((1, 1))],
                ]
            )
            solved = np.linalg.lstsq(system, np.append(linear[chosen], 1.0), rcond=1e-12)[0][:size]
            if solved.min() < 0 or abs(solved.sum() - 1) > 1e-6:
                continue
            weights = np.zeros(count)
            weights[chosen] = solved
            value = -_gain(weights, gram, linear)
            # By more than rounding: of mixtures that are equally good, that of the fewest.
            if value < least - 1e-9 * (1 + abs(least) if np.isfinite(least) else 0):
                best, least = weights, value
    return np.asarray(best)


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
