"""What a search needs: its settings, a generator, and the other candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast, get_args

from gdn.engines.base import Engine
from gdn.errors import InputError
from gdn.models.graphs import STEP_ITERATIONS
from gdn.search.band_mixture import Candidate
from gdn.search.bank import Bank

if TYPE_CHECKING:
    from gdn.search.first_part import Beside

SYMMETRIES = 8  # of the square
Laplace = Literal["none", "sampled", "exact"]


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Everything that determines a result apart from the frame, the model and the restarts."""

    stride: int | None = None  # binned px between tiles; None: half a tile
    symmetries: int = SYMMETRIES  # of the encoder's and the bank's images, 1 to 8
    brief_candidates: int = 2  # of the bank, for each tile
    brief_steps: int = 1  # Gauss-Newton steps of each, or Adam's
    full_candidates: int = SYMMETRIES  # of each tile that are refined fully
    full_steps: int = 1  # of each of these
    iterations: int = STEP_ITERATIONS  # of conjugate gradients in each step; 0: Adam
    # nats; without it refinement fits noise at low dose (docs/measurements/search.md)
    damping: float = 100.0
    rate: float = 0.08  # of Adam
    temperature: float = 40.0  # nats
    exchange: int = 4  # starts of each tile from the merged frame, one for each symmetry; 0: none
    residual: bool = True  # whether what the generator cannot draw is added
    encoder: bool = True  # whether its guesses are starts
    # the mean of the candidates of each tile, or the best one
    estimate: Literal["mean", "map"] = "mean"
    laplace: Laplace = "none"  # each tile's variance around its best restart, in the raw spread
    laplace_samples: int = 2  # four tiles overlap in a pixel, and the spread is smooth


@dataclass(frozen=True, kw_only=True)
class Searcher:
    """What a search works with.

    - `engine`, `bank`: a generator's.
    - `settings`: of the search.
    - `others`: candidates that are mixed with the generator's image, with weights from held-out
      counts.
    - `stream`: of the draws that thin a frame: another for each frame of a movie.
    - `beside`: what the counts of the other frames of a movie say of these weights.
    """

    engine: Engine
    bank: Bank
    settings: SearchSettings = field(default_factory=SearchSettings)
    others: Sequence[Candidate] = ()
    stream: int = 0
    beside: Beside | None = None


def settings_for(estimate: str, residual: bool = True, laplace: str = "none") -> SearchSettings:
    """The settings for an `estimate`: `mean` averages briefly refined restarts, which gives the
    better image; `map` looks for the least objective, and refines two candidates until it hardly
    falls. Raises InputError for another word, and for a `laplace` that is not none, sampled or
    exact."""
    if laplace not in get_args(Laplace):
        raise InputError(f"laplace {laplace}: choose none, sampled or exact", "laplace")
    within = cast(Laplace, laplace)
    if estimate == "mean":
        return SearchSettings(residual=residual, laplace=within)
    if estimate != "map":
        raise InputError(f"estimate {estimate}: choose mean or map", "estimate")
    return SearchSettings(
        residual=residual,
        laplace=within,
        estimate="map",
        full_candidates=2,
        full_steps=80,
        iterations=0,
        brief_steps=8,
        rate=0.1,
    )


@dataclass(frozen=True, kw_only=True)
class OriginalSettings:
    """The original study's numbers (`gdn.search.original`); tests use smaller ones.

    - `seed`: of the restarts.
    - `restarts`: how many.
    - `restart_steps`: Adam's steps from each.
    - `final_steps`: further steps from the best.
    - `rate`: Adam's.
    - `clamp`: latents are cut off at plus and minus this value.
    """

    seed: int = 0
    restarts: int = 10
    restart_steps: int = 1_500
    final_steps: int = 10_000
    rate: float = 1e-2
    clamp: float = 5.0


def parse_steps(text: str, seed: int = 0) -> OriginalSettings:
    """Parse 'RESTARTS,STEPS,FINAL'. Raises InputError."""
    counts = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if len(counts) != 3 or min(counts) < 1:
        raise InputError(
            f"original_steps {text}: must be three positive numbers (restarts, steps of "
            "each, final steps)",
            "original_steps",
        )
    restarts, steps, final = counts
    return OriginalSettings(seed=seed, restarts=restarts, restart_steps=steps, final_steps=final)
