"""What a result may be called and used for: a plain rule from p and the score on held-out electrons
(docs/trust.md, "What may be published")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gdn.trust.comparison import Comparison
from gdn.trust.fit import REFUSED

StandingName = Literal["explained", "filtered", "unsupported"]


@dataclass(frozen=True)
class Standing:
    """The `name` in the record, and what it means, in `words`."""

    name: StandingName
    words: str


EXPLAINED = Standing(
    "explained",
    "the generator explains the frame: image, spread and columns hold as docs/trust.md says",
)
FILTERED = Standing(
    "filtered",
    "a filtered image: the generator does not explain the frame, but held-out electrons support "
    "the image. Publish it as a filtered image, with p and beside the recorded frame. Lattice "
    "spacings may be measured in it; single columns, intensities and intervals may not",
)
UNSUPPORTED = Standing(
    "unsupported",
    "not to be published: held-out electrons do not support the image. Use the recorded frame",
)


def standing_of(p: float | None, against_blur: Comparison | None) -> Standing | None:
    """The standing of a result with goodness of fit `p` and its score `against_blur`, the best one.
    None where one of them was not found out.

    What is worse than the best blur on held-out electrons is unsupported, whatever p says; what the
    generator does not explain is so unless it is better than that blur.
    """
    if p is None or against_blur is None:
        return None
    if against_blur.verdict == "worse":
        return UNSUPPORTED
    if p >= REFUSED:
        return EXPLAINED
    return FILTERED if against_blur.verdict == "better" else UNSUPPORTED
