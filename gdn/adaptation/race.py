"""Where learning begins: from the shipped restorer, or from nothing at a finer pixel. Both are
tried, and the one that explains counts kept aside better goes on.

What the restorer knows of crystals is worth more than a minute's learning from one faint frame. A
recording of several frames, or of many electrons, teaches a small network more in the same minute:
a step of it takes a tenth of the time (docs/measurements/adaptation.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from gdn.adaptation.learn import Learned, Learning, LearningSettings, done_share
from gdn.adaptation.lessons import Lesson
from gdn.adaptation.model_folder import SMALL
from gdn.generator.restorer_network import Restorer
from gdn.generator.torch_globals import torch_threads

TRIAL = 0.2  # of the time, for each of the two


@dataclass(frozen=True)
class Won:
    """What was `learned` by the start of that `name`, and the `leads` of both: nats over a flat
    image on the kept counts when one of them was chosen; `steps` of both together."""

    name: str
    learned: Learned
    leads: dict[str, float]
    steps: int

    def record(self) -> dict[str, Any]:
        """JSON-ready; `steps` are those of both."""
        leads = {name: round(nats, 2) for name, nats in self.leads.items()}
        return self.learned.record() | {"steps": self.steps, "leads_nats": leads}


def small_network(seed: int) -> Restorer:
    """The network that begins from nothing: flat images, until it learns."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Restorer(SMALL)


def small_settings(settings: LearningSettings) -> LearningSettings:
    """How the small network learns: quick steps on windows of 12 Å."""
    return replace(settings, rate=1e-3, window=64, batch=4, look_every=50, average=0.995)


def race(
    starts: dict[str, tuple[Restorer, Sequence[Lesson], LearningSettings]],
    settings: LearningSettings,
    progress: Callable[[float, float], None] = lambda share, nats: None,
) -> Won:
    """Learn from every start for a fifth of `settings`' seconds or steps, and for the rest of it
    from the one whose images of the kept counts are then the best. `progress` hears of the share
    that is done and the nats gained over the first start. Ctrl-C ends it with the best so far."""
    trial = None if settings.steps is None else max(1, round(TRIAL * settings.steps))
    with torch_threads(settings.threads):
        runs = {name: Learning(*start) for name, start in starts.items()}
        first = next(iter(runs.values())).lead

        def tell() -> None:
            steps = sum(run.learned.steps for run in runs.values())
            seconds = sum(run.seconds for run in runs.values())
            gained = max(run.lead for run in runs.values()) - first
            progress(done_share(steps, seconds, settings), gained)

        leads: dict[str, float] = {}
        with suppress(KeyboardInterrupt):  # the best so far is a result
            for run in runs.values():
                run.until(TRIAL * settings.seconds, trial, tell)
            leads = {name: run.lead for name, run in runs.items()}
            best = runs[max(leads, key=lambda name: leads[name])]
            others = [run for run in runs.values() if run is not best]
            left = settings.seconds - sum(run.seconds for run in others)
            steps = settings.steps and settings.steps - sum(r.learned.steps for r in others)
            best.until(left, steps, tell)
    name = max(runs, key=lambda start_name: runs[start_name].lead)
    return Won(
        name,
        runs[name].learned,
        leads or {start_name: run.lead for start_name, run in runs.items()},
        sum(run.learned.steps for run in runs.values()),
    )
