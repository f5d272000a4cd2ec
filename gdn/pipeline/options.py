"""The settings of a denoising as plain values. They are checked once, can be sent to a cluster, and
are converted to what each stage needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING

from gdn.engines.base import Engine
from gdn.engines.choose import check, open_engine
from gdn.engines.restorer import RestorerSession, open_restorer
from gdn.errors import InputError
from gdn.frames.noise import NoiseModel, parse_noise
from gdn.models import Model, RestorerModel
from gdn.pipeline.candidates_named import Wanted, candidates_named
from gdn.pipeline.straightening import Straightener
from gdn.search.bank import Bank, bank_for
from gdn.search.outside_candidates import OutsideCandidate
from gdn.search.settings import OriginalSettings, SearchSettings, parse_steps, settings_for
from gdn.trust.calibration import LEVELS
from gdn.trust.judge import JudgeSettings

if TYPE_CHECKING:
    from gdn.frames.pixel_mask import PixelMask

METHODS = ("gdn", "original")
FILLS = ("model", "nan")
MOVIES = ("off", "auto", "on")
STRAIGHTEN = ("auto", "off")
FEWEST = 3  # frames of a movie
CHOICES = {"method": METHODS, "fill": FILLS, "movie": MOVIES, "straighten": STRAIGHTEN}
LIMITS = {
    "restarts": (1, 1_000_000),
    "seed": (0, 2**63 - 1),
    "threads": (1, 4096),
}  # of whole numbers
WORDS = (
    "engine",
    "device",
    "noise",
    "fill",
    "estimate",
    "laplace",
    "movie",
    "straighten",
    "method",
    "original_steps",
)
LOWEST_FDR, HIGHEST_FDR = 0.001, 0.5


@dataclass(frozen=True, kw_only=True)
class Options:
    """How frames are denoised and judged, whatever their files. See `gdn.Denoiser` for what each
    setting means.

    Raises InputError (or EngineError) for a setting that cannot be used.
    """

    restarts: int = 256
    seed: int = 0
    engine: str = "auto"
    device: str = "auto"
    threads: int | None = None
    require_gpu: bool = False
    cache: bool = True
    noise: str = "auto"
    find_sampling: bool = False
    mask: PixelMask | None = None
    fill: str = "model"
    estimate: str = "mean"
    residual: bool = True
    laplace: str = "none"
    movie: str = "off"
    straighten: str = "auto"
    method: str = "gdn"
    original_steps: str = "10,1500,10000"
    score: bool = True
    atoms: bool = False
    fdr: float = 0.05
    intervals: tuple[int, ...] = ()
    candidates: tuple[Wanted, ...] = ()
    # What the words above stand for. No noise model: it is to be found out from each frame.
    noise_model: NoiseModel | None = field(init=False, repr=False, compare=False)
    search: SearchSettings = field(init=False, repr=False, compare=False)
    original: OriginalSettings | None = field(init=False, repr=False, compare=False)
    judging: JudgeSettings = field(init=False, repr=False, compare=False)
    outside: tuple[OutsideCandidate, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in WORDS:
            if not isinstance(getattr(self, name), str):
                raise InputError(
                    f"{name} {getattr(self, name)!r}: wanted a word, such as "
                    f"{getattr(Options, name)}",
                    name,
                )
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            if value is not None or name != "threads":
                object.__setattr__(self, name, _whole(name, value, least, most))
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(f"{name} {getattr(self, name)}: {' or '.join(known)}", name)
        if self.movie == "on" and self.method != "gdn":
            raise InputError(
                f"movie on cannot be used with method {self.method}, which mixes no candidates",
                "movie",
            )
        if not LOWEST_FDR <= self.fdr <= HIGHEST_FDR:
            raise InputError(
                f"fdr {self.fdr}: must be from {LOWEST_FDR:g} to {HIGHEST_FDR:g}", "fdr"
            )
        wrong = [level for level in self.intervals if level not in LEVELS]
        if wrong:
            raise InputError(
                f"intervals {wrong[0]}: choose levels in per cent from "
                f"{', '.join(map(str, LEVELS))}",
                "intervals",
            )
        original = self.method == "original"
        parsed = {
            "noise_model": parse_noise(self.noise),
            "search": settings_for(self.estimate, self.residual, self.laplace),
            "original": parse_steps(self.original_steps, self.seed) if original else None,
            "judging": JudgeSettings(
                score=self.score and not original,  # its result cannot be scored
                atoms=self.atoms,
                rate=self.fdr,
                seed=self.seed,
                intervals=self.intervals,
            ),
            "outside": self._outside(),
        }
        for name, value in parsed.items():
            object.__setattr__(self, name, value)
        check(self.engine, self.device)

    def _outside(self) -> tuple[OutsideCandidate, ...]:
        """The candidates from outside gdn. Raises InputError where nothing would be mixed."""
        without = (
            ("method original", self.method == "original"),
            ("residual off", not self.residual),
        )
        for words, on in without:
            if on and self.candidates:
                raise InputError(
                    f"candidate cannot be used with {words}, which mixes no candidates; leave "
                    "one of the two out",
                    "candidate",
                )
        return candidates_named(self.candidates)

    @property
    def straightener(self) -> Straightener | None:
        """What straightens the rows of scans; None if they are to be left as they are."""
        return None if self.straighten == "off" else Straightener(self.noise_model, self.mask)

    @property
    def bank_size(self) -> int:
        """Number of restarts in the bank; 1 for the original method, which draws its own."""
        return self.restarts if self.method == "gdn" else 1

    def open_engine(self, model: Model) -> Engine:
        """The engine of a generator. Raises EngineError."""
        return open_engine(model, self.engine, self.device, self.threads, self.require_gpu)

    def open_restorer(self, model: RestorerModel) -> RestorerSession:
        """A restorer's session. Raises EngineError."""
        return open_restorer(model, self.engine, self.device, self.threads, self.require_gpu)

    def open_bank(
        self, engine: Engine, progress: Callable[[int, int], None] = lambda made, of: None
    ) -> Bank:
        """The bank of an engine's model; `progress` hears of images made and wanted. Raises
        CacheError."""
        return bank_for(engine, self.seed, self.bank_size, self.cache, progress)

    def check_models(self, models: list[Model | RestorerModel]) -> None:
        """Raises InputError where restorers alone are asked for what only a generator can do, or a
        candidate has the name of a model."""
        own = {model.card.name for model in models}
        for candidate in self.outside:
            if candidate.name in own:
                raise InputError(
                    f"candidate {candidate.name}: a model has this name; choose another name "
                    "(NAME=COMMAND)",
                    "candidate",
                )
        if any(isinstance(model, Model) for model in models):
            return
        wanted = (
            ("method original", self.method == "original"),
            ("atoms", self.atoms),
            ("movie on", self.movie == "on"),
            ("intervals", bool(self.intervals)),
            ("candidate", bool(self.outside)),
        )
        asked = [name for name, on in wanted if on]
        if asked or len(models) > 1:
            words = ", ".join(asked) or "several restorers"
            raise InputError(
                f"{words}: a restorer alone cannot do this; add a generator, or use model auto",
                asked[0].split()[0] if asked else None,
            )


def _whole(name: str, value: object, least: int, most: int) -> int:
    """A setting that is a whole number, NumPy's too, within its limits. Raises InputError."""
    if (
        not isinstance(value, Integral)
        or isinstance(value, bool)
        or not least <= int(value) <= most
    ):
        raise InputError(f"{name} {value!r}: must be a whole number from {least} to {most}", name)
    return int(value)
