"""Learning from an image or a stack before it is denoised (`gdn.Denoiser(adapt=...)`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from numbers import Integral, Real
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from gdn.environment import install_command
from gdn.errors import InputError
from gdn.frames.source import of_array
from gdn.models import RESTORER, RestorerModel, find_any
from gdn.pipeline.budget import SECONDS, Budget
from gdn.pipeline.inputs import Input
from gdn.pipeline.options import Options
from gdn.search.band_mixture import Candidate
from gdn.search.progress import Progress
from gdn.search.restored import RestorerCandidate

if TYPE_CHECKING:  # torch waits until something is to be learned
    from gdn.adaptation.learn import LearningSettings


def budget_of(adapt: float | bool, steps: int | tuple[int, int] | None) -> Budget | None:
    """What `gdn.Denoiser` was given, None where nothing is to be learned. Raises InputError."""
    if not isinstance(adapt, Real) or not 0 <= float(adapt) < 1e6:
        raise InputError(f"adapt {adapt!r}: wanted seconds, or True for {SECONDS:g}", "adapt")
    if not adapt:
        return None
    if importlib.util.find_spec("torch") is None:
        raise InputError(f"adapt: torch is not installed; {install_command('adapt')}", "adapt")
    seconds = SECONDS if adapt is True else float(adapt)
    if steps is None:
        return Budget(seconds)
    both = tuple(steps) if isinstance(steps, tuple | list) else (steps,)
    whole = all(isinstance(n, Integral) and not isinstance(n, bool) and n >= 0 for n in both)
    if not 1 <= len(both) <= 2 or not whole or not any(both):
        raise InputError(
            f"adapt_steps {steps!r}: wanted a whole number, or those of both networks",
            "adapt_steps",
        )
    return Budget(seconds, both[0], both[1] if len(both) == 2 else None)


def settings_for(budget: Budget, options: Options) -> LearningSettings:
    """How networks learn that will be candidates of a denoising with these options."""
    from gdn.adaptation.learn import LearningSettings

    return LearningSettings(
        seconds=budget.seconds,
        steps=budget.steps,
        anew_steps=budget.anew,
        seed=options.seed,
        threads=options.threads,
        device=options.device,
    )


@contextmanager
def learned_candidates(
    given: Input, options: Options, budget: Budget, progress: Progress
) -> Iterator[tuple[list[Candidate], list[str]]]:
    """What networks learned from the frames `given`, as candidates for them; none where nothing
    can be learned, and why. They are closed, and their files gone, after the block. Raises
    EngineError."""
    from gdn.adaptation.adapt import adapt, recordings_of

    base = find_any(RESTORER)
    assert isinstance(base, RestorerModel)
    name, sizes = Path("the image"), [(given.sampling_angstrom, "Å")] * 2
    frames = given.frames if given.stacked else given.frames[0]
    source = of_array(name, frames, "TYX"[-frames.ndim :], sizes, "array")
    recordings = recordings_of(
        [(source, given.sampling_angstrom)], lambda _: source, options.noise_model, options.mask
    )
    settings = settings_for(budget, options)
    with TemporaryDirectory(prefix="gdn-adapted-") as folder, ExitStack() as sessions:
        models: list[RestorerModel] = []
        notes = []
        for recording in recordings:
            try:
                models = adapt(
                    recording,
                    base,
                    options.noise_model,
                    settings,
                    Path(folder) / "learned",
                    lambda share, _: progress(share),
                )
            except InputError as error:  # the frames can be denoised all the same
                notes.append(str(error))
        opened = [sessions.enter_context(options.open_restorer(model)) for model in models]
        yield [RestorerCandidate(session) for session in opened], notes
