"""A generator's own weights, tuned around the latents that the search found (pivotal tuning, Roich
et al. 2021), on the frame's noisy counts: one of the ways of `learning_starts.py`.

The counts to learn from are thinned once: the search finds latents from one part, and the weights
move so that its images, the latents held, predict the other (Noise2Noise). What the tuned weights
then change in the search's image of any counts is added to it.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from suite import denoiser_of
from torch import Tensor, nn

from gdn.adaptation.lessons import Lesson, held_out_nats, lesson_of
from gdn.frames.resampling import bin_sum
from gdn.generator.loading import networks_of_model
from gdn.likelihood import Array, NoiseLaw
from gdn.models import AUTO
from gdn.search.all_tiles import search_tiles
from gdn.search.candidates import Candidates, evaluate, turn, turn_back
from gdn.search.progress import Watch
from gdn.search.settings import Searcher
from gdn.search.thinning import Recorded, thin
from gdn.search.tiles import Binned, Tiling, cut, merge, tile_frame

SEEN = 0.8  # of the counts that are learned from: the latents' part
RATE = 3e-4
BATCH = 8  # tiles of a step
LOOK_EVERY = 10  # steps
SCALE = 0.9  # of the networks' outputs: x = 1 + SCALE * output, in units of the vacuum


@dataclass(frozen=True)
class Searched:
    """The best candidate of each tile of some counts, with the tiling."""

    best: Candidates
    tiling: Tiling

    def change(self, network: nn.Module, before: nn.Module, dose: Array) -> Array:
        """What tuned weights change in each tile's image, (tiles, h, w), electrons."""
        numbers = np.arange(len(self.best.z))
        parts = [
            _change(self.best, index, network, before).detach().numpy()
            for index in np.array_split(numbers, max(1, len(numbers) // BATCH))
        ]
        turned = turn_back(np.concatenate(parts), self.best.symmetry)
        return np.asarray(turned * dose[:, None, None], dtype=np.float32)

    @property
    def dose(self) -> Array:
        """Of each tile, electrons per pixel in vacuum."""
        return np.asarray(np.exp(self.best.nuisance[:, 0]), dtype=np.float32)

    def image(self, network: nn.Module, before: nn.Module) -> Array:
        """The blended image with tuned weights."""
        return merge(self.best.mean + self.change(network, before, self.dose), self.tiling)


def _change(best: Candidates, index: Any, network: nn.Module, before: nn.Module) -> Tensor:
    """As the generator sees the tiles, in units of the vacuum."""
    z = torch.from_numpy(best.z[index])
    with torch.no_grad():
        old: Tensor = before(z)
    new: Tensor = network(z)
    return (SCALE * (new - old))[:, 0]


@dataclass
class Pivotal:
    """Learns from one frame, and can be looked at in between."""

    noisy: Array
    sampling: float
    spent: float = 0.0
    steps: int = 0
    best: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self._denoiser = denoiser_of(AUTO)
        recording = self._denoiser.for_recording(self.noisy, self.sampling)
        self._searcher: Searcher = recording.searcher
        lesson = lesson_of(self.noisy, self.sampling, self.sampling, None, 0)
        self._grids = self._grids_of(recording)
        rng = np.random.default_rng(0x9107)
        seen = thin(lesson.counts, lesson.law, SEEN, rng)
        self._unseen = bin_sum(lesson.counts - seen, self._grids)
        self._searched = self.search(bin_sum(seen, self._grids), lesson.law.of_part(SEEN))
        self._kept = bin_sum(lesson.kept, self._grids)
        self._lesson = lesson
        generator, _, recipe = networks_of_model(self._searcher.engine.model.folder)
        assert recipe.network.intensity_scale == SCALE
        self._before = generator
        self._network = copy.deepcopy(generator)
        self.best = copy.deepcopy(generator)
        self._optimiser = torch.optim.Adam(self._network.parameters(), lr=RATE)
        self._rng = np.random.default_rng(1)
        self._gain, self._start = 0.0, self._image_of(self._before)

    def _grids_of(self, recording: Any) -> Any:
        return recording.search(self.noisy, self.sampling).grids

    def search(self, counts: Array, law: NoiseLaw) -> Searched:
        """What the search finds in counts on the generator's grid; `law` of a recorded pixel."""
        patch = self._searcher.engine.model.card.patch
        tiling = tile_frame((counts.shape[0], counts.shape[1]), patch, patch // 2)
        binned = Binned(counts, law.of_sum(self._grids.area))
        pool = search_tiles(self._searcher, binned, tiling, Watch(spread=False))
        assert pool.best is not None
        best = pool.best.take(np.argsort(pool.best.tile))  # one for each tile, without its image
        tiles = binned.tiles(tiling, best.tile)
        best = replace(best, tile=np.arange(len(best.z)))
        return Searched(evaluate(self._searcher.engine, tiles, best), tiling)

    def images(self, recorded: Recorded) -> Array:
        """The tuned image of recorded counts."""
        counts = bin_sum(recorded.electrons.astype(np.float32), self._grids)
        return self.search(counts, recorded.law).image(self.best, self._before)

    def until(self, seconds: float) -> None:
        """Learn until so many seconds of this process are spent in all."""
        begun = time.process_time() - self.spent
        unseen, weights = cut(self._unseen, self._searched.tiling)
        best, dose = self._searched.best, self._searched.dose
        ratio = (1 - SEEN) / SEEN
        while time.process_time() - begun < seconds:
            index = self._rng.integers(len(best.z), size=BATCH)
            change = _change(best, index, self._network, self._before)
            target, weight, mean = (
                torch.from_numpy(np.ascontiguousarray(turn(part[index], best.symmetry[index])))
                for part in (unseen / ratio, weights, best.mean)
            )
            scale = torch.from_numpy(dose[index])[:, None, None]
            error = (mean + change * scale - target) ** 2 * weight * ratio / scale
            self._optimiser.zero_grad()
            error.mean().backward()
            self._optimiser.step()
            self.steps += 1
            if self.steps % LOOK_EVERY == 0:
                self._look()
        self.spent = time.process_time() - begun

    def _image_of(self, network: nn.Module) -> Array:
        share = self._lesson.share * SEEN
        return np.asarray(self._searched.image(network, self._before) / share, dtype=np.float32)

    def _look(self) -> None:
        lesson = Lesson(
            counts=self._kept,
            share=1.0,
            law=self._lesson.law,
            kept=self._kept,
            kept_share=self._lesson.kept_share,
            kept_law=self._lesson.kept_law.of_sum(self._grids.area),
        )
        nats = held_out_nats([lesson], [self._image_of(self._network)], [self._start])
        if nats > self._gain:
            self._gain = nats
            self.best.load_state_dict(self._network.state_dict())
