"""From where a network should begin to learn a recording: from nothing, or from the shipped
restorer with all its weights or only the gains of its channels free (GainTuning, Mohan et al.
2021); or with the weights of the generator, around the latents that were found (`pivotal.py`). On
validation frames (`near.py`), for choosing.

Each frame is a recording of its own. PSNR on the generator's grid, dB, of the learned network alone
and of its mixture with the other candidates, which `mixing.py` keeps (`--kept`), after so many
seconds of one core. The weights are those that the network's own kept electrons chose until then.

    python benchmarks/learning_starts.py --frames near --kept near/kept --names own-4,bright-5 \\
        --seconds 10,30,100 --starts 'nothing;gains' --rows learning-starts.jsonl
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import far
import numpy as np
import torch
from learning_tables import starts_table
from mixing import Kept, by_counts, keep
from pivotal import Pivotal
from torch import Tensor, nn

from gdn.adaptation import learn as learning
from gdn.adaptation import steps
from gdn.adaptation.learn import LearningSettings
from gdn.adaptation.lessons import Lesson, held_out_nats, lesson_of
from gdn.adaptation.model_folder import network_of
from gdn.engines.restorer import turn_stack, turn_stack_back
from gdn.evaluation.noise_suite import parse_suite
from gdn.frames.examined import examine
from gdn.frames.resampling import Grids
from gdn.generator.restorer_network import Restorer, RestorerShape
from gdn.likelihood import POISSON
from gdn.models import RESTORER, RestorerModel, find_any
from gdn.search.restored import TURNS, image_of_sums
from gdn.search.thinning import Recorded

Image = Any


@dataclass(frozen=True)
class Start:
    """A network's `shape` (None: the shipped restorer), the pixel size it works at, how it is
    tuned, and whether only `gains` are."""

    settings: LearningSettings
    shape: RestorerShape | None = None
    angstrom: float = 0.35
    gains: bool = False

    def network(self) -> Restorer:
        """As it is before it learns."""
        if self.shape is not None:
            torch.manual_seed(0)
            return Restorer(self.shape)
        base = find_any(RESTORER)
        assert isinstance(base, RestorerModel)
        return network_of(base)


PIVOTAL = "generator, pivotal"
SMALL = RestorerShape((32, 48, 64), (1, 1, 1))
QUICK = LearningSettings(rate=1e-3, look_every=50, average=0.995, threads=1)
TUNED = LearningSettings(threads=1)
STARTS = {
    "nothing": Start(QUICK, SMALL, 0.18),
    "all weights": Start(TUNED),
    "all weights, 4e-4": Start(replace(TUNED, rate=4e-4, batch=4, window=64)),
    "gains": Start(replace(TUNED, rate=1e-2), gains=True),
    PIVOTAL: Start(TUNED),
}


class Gained(nn.Module):
    """A convolution whose channels have gains, which alone are learned."""

    def __init__(self, inner: nn.Conv2d) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.gain = nn.Parameter(torch.ones(inner.out_channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, outputs, h, w)."""
        y: Tensor = self.inner(x) * self.gain
        return y


def with_gains(network: Restorer) -> Restorer:
    """The network with gains in front of all its channels."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d) and not isinstance(module, Gained):
                setattr(module, name, Gained(child))
    return network


@dataclass
class Learner:
    """Learns as `gdn.adaptation.learn.learn` does, and can be looked at in between."""

    network: Restorer
    lessons: list[Lesson]
    settings: LearningSettings
    spent: float = 0.0
    steps: int = 0
    best: Restorer = field(init=False)

    def __post_init__(self) -> None:
        self._average = copy.deepcopy(self.network)
        self.best = copy.deepcopy(self.network)
        free = [p for p in self.network.parameters() if p.requires_grad]
        self._optimiser = torch.optim.Adam(free, lr=self.settings.rate, betas=(0.9, 0.99))
        self._rng = np.random.default_rng([self.settings.seed, 0xADA])
        self._start = steps.images(self.network, self.lessons)
        self._gain = 0.0

    def until(self, seconds: float) -> None:
        """Learn until so many seconds of this process are spent in all."""
        begun = time.process_time() - self.spent
        while time.process_time() - begun < seconds:
            multiple = self.network.shape.multiple
            batch = steps.draw_batch(
                self.lessons, self.settings.window, self.settings.batch, multiple, self._rng
            )
            rate = self.settings.rate * min(1.0, (self.steps + 1) / learning.WARMING)
            steps.take_step(self.network, self._optimiser, batch, rate)
            self.steps += 1
            keep_share = min(self.settings.average, self.steps / (self.steps + 9))
            steps.move_average(self._average, self.network, keep_share)
            if self.steps % self.settings.look_every == 0:
                images = steps.images(self._average, self.lessons)
                nats = held_out_nats(self.lessons, images, self._start)
                if nats > self._gain + learning.GAIN:
                    self._gain = nats
                    self.best.load_state_dict(self._average.state_dict())
        self.spent = time.process_time() - begun


def restored(network: Restorer, counts: Image) -> Image:
    """The mean of the network's images under the symmetries that a candidate has."""
    whole = np.zeros(counts.shape)
    for turn in range(TURNS):
        seen = np.ascontiguousarray(turn_stack(counts, turn))
        lesson = Lesson(
            counts=seen, share=1, law=POISSON, kept=seen, kept_share=1, kept_law=POISSON
        )
        whole += turn_stack_back(steps.images(network, [lesson])[0], turn) / TURNS
    return whole.astype(np.float32)


def scored(kept: Kept, first: Image, whole: Image) -> dict[str, float]:
    """PSNR alone and in the mixture, and that without it, dB up to a constant of the frame."""
    count = len(kept.names)
    more = replace(
        kept,
        first=[*kept.first, first],
        whole=[*kept.whole, whole],
        names=(*kept.names, "learned"),
    )
    images = {
        "alone": whole,
        "mixed": by_counts(more, tuple(range(count + 1))),
        "gdn": by_counts(kept, tuple(range(count))),
    }
    return {name: float(((image - kept.truth) ** 2).mean()) for name, image in images.items()}


def images_of(learner: Learner | Pivotal, start: Start, counts: Recorded) -> Image:
    """What was learned makes of recorded counts, on the generator's grid."""
    if isinstance(learner, Pivotal):
        return learner.images(counts)
    network = learner.best
    return image_of_sums(counts, start.angstrom, lambda sums, law: restored(network, sums))


def measure(
    path: Path, kept: Kept, name: str, seconds: list[float], noise: str
) -> Iterator[dict[str, Any]]:
    """Rows of one frame and one start."""
    content, start = far.read(path), STARTS[name]
    sampling = content["sampling_angstrom"]
    noisy = parse_suite(noise)[0].apply(content["image"], int(content["record"]["number"]))
    _, whole, model = examine(noisy, None)
    rows, columns = kept.truth.shape
    recorded = Recorded(
        electrons=model.electrons(whole),
        law=model.law,
        grids=Grids(noisy.shape, (rows, columns), sampling),
    )
    parts, first = recorded.split(0)
    assert np.array_equal(parts.first, kept.parts.first)  # the split that the mixture has
    scale = float(kept.truth.mean() / content["image"].mean())
    network = start.network()
    if start.gains:
        network = with_gains(network)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lesson = lesson_of(noisy, sampling, start.angstrom, None, 0)
    learner: Learner | Pivotal = Learner(network, [lesson], start.settings)
    if name == PIVOTAL:
        learner = Pivotal(noisy, sampling)
    for budget in seconds:
        learner.until(budget)
        made = [images_of(learner, start, counts) for counts in (first, recorded)]
        scores = scored(kept, *made)
        row = {
            key: round(float(-10 * np.log10(value / scale**2)), 3) for key, value in scores.items()
        }
        yield (
            {"name": path.stem, "noise": noise, "start": name, "seconds": budget}
            | row
            | {"steps": learner.steps}
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=Path, required=True, help="folder that near.py wrote")
    parser.add_argument("--kept", type=Path, required=True, help="folder of mixing.py")
    parser.add_argument("--names", default="", help="of frames, with commas between; all")
    parser.add_argument("--starts", default=";".join(STARTS), help="with semicolons between")
    parser.add_argument("--seconds", default="10,30,100")
    parser.add_argument("--noise", default="poisson:1")
    parser.add_argument("--rows", type=Path, required=True, help="JSON lines; added to")
    given = parser.parse_args()
    seconds = [float(value) for value in given.seconds.split(",")]
    kept = dict(
        zip(
            [path.stem for path in sorted(given.frames.glob("*.npz"))],
            keep(given.frames, given.kept, parse_suite(given.noise)[0]),
            strict=True,
        )
    )
    names = [name for name in given.names.split(",") if name] or list(kept)
    for name in names:
        for start in given.starts.split(";"):
            path = given.frames / f"{name}.npz"
            for row in measure(path, kept[name], start, seconds, given.noise):
                print(row, flush=True)
                with given.rows.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
    print(starts_table([json.loads(line) for line in given.rows.read_text().splitlines()]))


if __name__ == "__main__":
    main()
