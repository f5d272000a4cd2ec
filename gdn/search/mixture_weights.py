"""Chooses the weights of candidates in bands of spatial frequency, from what held-out counts say of
them (docs/method.md, "Mixture").

Every set of candidates has weights that explain the held-out counts best. The result is the mean of
these, each weighted by its likelihood less one nat for every candidate beyond the first (Akaike's
information criterion as a weight: Akaike 1978, Burnham & Anderson 2002). So no single candidate is
chosen where there are too few electrons to tell, and none has a part that explains nothing.

Held-out counts contain less information about one band than about the whole spectrum. So what they
say of other bands counts too, but less (a power prior: Ibrahim & Chen 2000).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gdn.search.held_out_shares import MARGIN

Values = NDArray[np.float64]

OWN = ("generator", "filter")  # candidates that are always there
FILTERS = (*OWN, "collaborative", "lattice")  # beside the generator: nothing was trained for them
DOUBT = 1.0  # nats by which sets of the first two candidates are likelier than others
OTHER_BANDS = 0.15  # part of what is said of them that counts
LEAST = 0.05  # weight in a band: a candidate of less need make no image


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


def weigh_bands(
    evidence: Evidence, beside: Sequence[Evidence] = ()
) -> tuple[Values, Values, Values]:
    """The weights (bands, candidates); the nats (bands,) that they gain over the prior ones; and
    those (bands, candidates) of each candidate alone. `beside` is the evidence of other frames of
    one movie: the weights that are best for all frames together are then the start, from which the
    frame's own move."""
    weights = _weights_of_bands(evidence.added(beside) if beside else evidence)
    forms = list(zip(evidence.grams, evidence.linears, strict=True))
    if beside:
        weights = [_move_weights(w, *form) for w, form in zip(weights, forms, strict=True)]
    gain = [_gain(weight, *form) for weight, form in zip(weights, forms, strict=True)]
    candidates = np.eye(len(evidence.names))
    alone = [[_gain(weight, *form) for weight in candidates] for form in forms]
    return np.array(weights), np.array(gain), np.array(alone)


def _weights_of_bands(evidence: Evidence) -> list[Values]:
    """Weights of each band."""
    grams, linears = (
        part + OTHER_BANDS * (part.sum(0) - part) for part in (evidence.grams, evidence.linears)
    )
    return [average_of_sets(*form) for form in zip(grams, linears, strict=True)]


def average_of_sets(gram: Values, linear: Values) -> Values:
    """The mean of the best weights of each set of candidates (see this module). A candidate whose
    weight is less than LEAST is in no set then: it changes nothing."""
    sets = list(_best_of_sets(gram, linear))
    while True:
        nats = np.array(
            [gain - len(chosen) + DOUBT * (max(chosen) < len(OWN)) for chosen, _, gain in sets]
        )
        likely = np.exp(nats - nats.max())
        mean = likely @ np.array([weights for _, weights, _ in sets]) / likely.sum()
        enough = mean >= min(LEAST, mean.max())
        if enough[mean > 0].all():
            return np.asarray(mean / mean.sum())
        sets = [entry for entry in sets if all(enough[number] for number in entry[0])]


def _move_weights(start: Values, gram: Values, linear: Values) -> Values:
    """Weights moved from `start` towards the optimum: the further, the more the optimum gains
    beyond MARGIN."""
    best = least_on_simplex(gram, linear)
    gain = _gain(best, gram, linear) - _gain(start, gram, linear)
    return start + (1 - MARGIN / gain) * (best - start) if gain > MARGIN else start


def _gain(weights: Values, gram: Values, linear: Values) -> float:
    """Nats by which a mixture is better than the prior one, for which the gain is 0."""
    return float(2 * linear @ weights - weights @ gram @ weights)


def least_on_simplex(gram: Values, linear: Values) -> Values:
    """Weights, not negative and of sum one, with the least w G w - 2 l w. The minimum is exact:
    every set of candidates is tried (docs/method.md, "Mixture")."""
    best, most = np.eye(len(linear))[0], -np.inf
    for _, weights, gain in _best_of_sets(gram, linear):
        # By more than rounding: of mixtures that are equally good, that of the fewest.
        if gain > most + 1e-9 * (1 + abs(most) if np.isfinite(most) else 0):
            best, most = weights, gain
    return np.asarray(best)


def _best_of_sets(gram: Values, linear: Values) -> Iterator[tuple[tuple[int, ...], Values, float]]:
    """Each set of candidates, the fewest first, with its best weights of sum one and their gain. A
    set whose best weights are negative has none: a smaller one is better."""
    count = len(linear)
    for size in range(1, count + 1):
        for chosen in itertools.combinations(range(count), size):
            system = np.block(
                [
                    [gram[np.ix_(chosen, chosen)], np.ones((size, 1))],
                    [np.ones((1, size)), np.zeros((1, 1))],
                ]
            )
            right = np.append(linear[list(chosen)], 1.0)
            solved = np.linalg.lstsq(system, right, rcond=1e-12)[0][:size]
            if solved.min() < 0 or abs(solved.sum() - 1) > 1e-6:
                continue
            weights = np.zeros(count)
            weights[list(chosen)] = solved
            yield chosen, weights, _gain(weights, gram, linear)
