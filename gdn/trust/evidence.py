"""How strongly the counts support each column: the likelihood of the image with it against that of
the image without it.

The evidence is log p(y | with) - log p(y | without) in nats. Let c be the electrons that a column
adds, and I = sum c^2 / var(y) its expected information. On average the evidence is I / 2 if the
column is there as the image shows it, and -I / 2 if there is nothing (docs/method.md, "Trust"). A
column of 10 % contrast at a third of an electron per pixel has evidence of 1 nat. The image was
fitted to the same counts, so the evidence favours what the image shows. How much it does, and what
share of similar columns is false, is measured on simulated frames of known structures
(`gdn.evaluation.calibrate`) and stored with the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdn.likelihood import Array, TileData, negative_log_likelihood
from gdn.search.tiles import Binned
from gdn.trust.columns import Columns, Values, profile

LOCAL = 4.0  # times the rate: the most that a single column may be doubted


@dataclass(frozen=True, kw_only=True)
class ColumnEvidence:
    """The evidence for each of n columns; every array is (n,).

    - `nats`: the evidence.
    - `information`: the expected information I, nats.
    - `doubt`: the uncertainty of the image at the column, vacuum units.
    - `relative`: the amplitude as a share of that of the frame's strong columns.
    - `amplitude`: vacuum units.
    """

    nats: Values
    information: Values
    doubt: Values
    relative: Values
    amplitude: Values

    def features(self) -> Values:
        """The features (n, 4) from which the probability of a column is computed."""
        return np.stack(
            [
                np.arcsinh(self.nats),
                np.log1p(self.information),
                np.log(np.maximum(np.abs(self.amplitude) / np.maximum(self.doubt, 1e-4), 1e-3)),
                np.log(np.maximum(self.relative, 1e-2)),
            ],
            1,
        )


def weigh(
    columns: Columns, image: Array, doubt: Array, binned: Binned, dose: float, sampling: float
) -> ColumnEvidence:
    """Evidence of every column. Columns that the image shows are taken out of `image`, the others
    are put in.

    `image` and `doubt` (gdn.trust.spread) are in vacuum units on the grid of `binned`; `dose` is in
    electrons per binned pixel in vacuum; `sampling` is in Å per binned pixel.
    """
    n = len(columns)
    nats, information, nearby = np.zeros(n), np.zeros(n), np.zeros(n)
    shape = (image.shape[0], image.shape[1])
    for k in range(n):
        where, bump = profile(columns, k, shape, sampling)
        here = image[where].astype(np.float64)
        bare, full = (here - bump, here) if columns.drawn[k] else (here, here + bump)
        counts = binned.counts[where]
        valid = np.ones_like(counts) if binned.valid is None else binned.valid[where]
        nats[k] = _log_likelihood(full * dose, counts, valid, binned) - _log_likelihood(
            bare * dose, counts, valid, binned
        )
        variance = binned.law.variance(dose * 0.5 * (bare + full))
        information[k] = (valid * ((dose * bump) ** 2 / variance)).sum()
        nearby[k] = np.sqrt(np.average(doubt[where] ** 2, weights=np.abs(bump) + 1e-12))
    drawn = np.abs(columns.amplitude[columns.drawn])
    strong = float(np.percentile(drawn, 80)) if len(drawn) else 1.0
    return ColumnEvidence(
        nats=nats,
        information=information,
        doubt=nearby,
        relative=np.abs(columns.amplitude) / max(strong, 1e-6),
        amplitude=columns.amplitude,
    )


def _log_likelihood(mean: Values, counts: Array, valid: Array, binned: Binned) -> float:
    data = TileData(counts[None], valid[None], binned.law)
    value: NDArray[np.float64] = negative_log_likelihood(
        np.maximum(mean, 1e-3)[None].astype(np.float32), data
    )
    return -float(value[0])


def decide_verdicts(probability: Values, rate: float) -> NDArray[np.str_]:
    """'present', 'absent' or 'cannot tell' for columns that are there with `probability`.

    'present' is the largest set, most probable columns first, whose mean probability of being false
    is at most `rate`. This is the Bayesian false-discovery rate (Newton et al. 2004; Efron 2010,
    ch. 5). 'absent' is the same for the least probable columns, at the same rate of wrong denials.
    A column with a doubt above LOCAL * rate is neither.
    """
    verdicts = np.full(len(probability), "cannot tell", dtype="<U11")
    order = np.argsort(-probability, kind="stable")
    false = np.cumsum(1 - probability[order]) / np.arange(1, len(order) + 1)
    verdicts[order[(false <= rate) & (probability[order] > 1 - LOCAL * rate)]] = "present"
    wrong = np.cumsum(probability[order[::-1]]) / np.arange(1, len(order) + 1)
    verdicts[order[::-1][(wrong <= rate) & (probability[order[::-1]] < LOCAL * rate)]] = "absent"
    return verdicts
