"""Where learning begins: from the shipped restorer, and from nothing at a finer pixel. Both are
candidates of the mixture afterwards.

What the restorer knows of crystals is worth more than a minute's learning from one faint frame. A
recording of several frames, or of many electrons, teaches a small network more in the same minute:
a step of it takes a tenth of the time (docs/measurements/adaptation.md). Which of the two the
mixture needs is not told by which is the better alone, so that neither is dropped: each has a share
of the time, and the one that explains counts kept aside better has the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from gdn.adaptation.learn import Learning, LearningSettings
from gdn.adaptation.lessons import Lesson
from gdn.adaptation.model_folder import SMALL
from gdn.generator.restorer_network import Restorer
from gdn.generator.torch_globals import torch_threads
from gdn.interruption import check_interrupted, forget_ctrl_c

EACH = 0.3  # of the time, for each of the two; the rest is for the better one
QUICKER = 10  # steps of the small network in the time of one of the restorer's

Start = tuple[Restorer, Sequence[Lesson], LearningSettings]
Progress = Callable[[float, Learning], None]


def small_network(seed: int) -> Restorer:
    """The network that begins from nothing: flat images, until it learns."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Restorer(SMALL)


def small_settings(settings: LearningSettings) -> LearningSettings:
    """How the small network learns: quick steps on windows of 12 Å."""
    steps = settings.anew_steps
    if steps is None and settings.steps is not None:
        steps = QUICKER * settings.steps
    return replace(
        settings, steps=steps, rate=1e-3, window=64, batch=4, look_every=50, average=0.995
    )


def learn_from(
    starts: Mapping[str, Start],
    settings: LearningSettings,
    progress: Progress = lambda share, best: None,
) -> dict[str, Learning]:
    """Learn from every start, for `settings.seconds` in all, or each for the steps that its own
    settings say. `progress` hears of the share that is done, and which explains the kept counts
    best so far. Ctrl-C ends it with the best so far."""
    with torch_threads(settings.threads):
        runs = {name: Learning(*start) for name, start in starts.items()}

        def tell() -> None:
            progress(_done(list(runs.values()), settings), leader(runs))

        with _ended_by_ctrl_c():
            if settings.steps is not None:
                for run in runs.values():
                    run.until(float("inf"), run.wanted, tell)
            else:
                for run in runs.values():
                    run.until(EACH * settings.seconds, None, tell)
                for run in sorted(runs.values(), key=lambda run: run.lead, reverse=True):
                    others = sum(other.seconds for other in runs.values() if other is not run)
                    run.until(settings.seconds - others, None, tell)
    return runs


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """The best so far is a result, with which the run goes on."""
    try:
        yield
    except KeyboardInterrupt:
        forget_ctrl_c()
        check_interrupted()


def leader(runs: dict[str, Learning]) -> Learning:
    """The one that explains the kept counts best."""
    return max(runs.values(), key=lambda run: run.lead)


def _done(runs: Sequence[Learning], settings: LearningSettings) -> float:
    """How much of the learning is done."""
    if settings.steps is None:
        return min(1.0, sum(run.seconds for run in runs) / settings.seconds)
    return sum(run.learned.steps / max(run.wanted or 1, 1) for run in runs) / len(runs)
