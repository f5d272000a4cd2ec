"""Chooses the weights of candidates in bands of spatial frequency, from what held-out counts say of
them (docs/method.md, "Mixture").

Held-out counts contain less information about one band than about the whole spectrum. So gdn first
finds weights that are the same in all bands, and from there those of each band. The weights start
at the mean of a few mixtures, each weighted by its likelihood (Bayesian model
averaging: Hoeting et al. 1999). So no single candidate is chosen where there are too few electrons
to tell. Then the weights move towards the optimum by the share 1 - MARGIN / gain, because free
weights gain a nat or two on noise alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gdn.search.held_out_shares import MARGIN

Values = NDArray[np.float64]

OWN = ("generator", "filter")  # candidates that are always there
PLAIN = (*OWN, "collaborative")  # where the weights of the others do not begin
FILTERS = (*PLAIN, "lattice")  # beside the generator: candidates that nothing was trained for
DOUBT = 2.0  # nats by which the prior weights are likelier than the other starts
LEAST = 1e-3  # weight to begin with: a candidate of less need make no image


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
    best = least_on_simplex(gram, linear)
    gain = _gain(best, gram, linear) - _gain(start, gram, linear)
    return start + (1 - MARGIN / gain) * (best - start) if gain > MARGIN else start


def _gain(weights: Values, gram: Values, linear: Values) -> float:
    """Nats by which a mixture is better than the prior one, for which the gain is 0."""
    return float(2 * linear @ weights - weights @ gram @ weights)


def least_on_simplex(gram: Values, linear: Values) -> Values:
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
