"""Streams of training patches, rendered on the fly from stored waves, cut from clean images, or
drawn from an array.

A stream yields (n, channels, patch, patch) float32 in network units. The patches depend only on its
seed and on how many were drawn before, not on the number of workers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn.recipes import Imaging, Recipe
from gdn.simulation.clean_images import SCENE_FOLDERS, check_fields, stored_scenes
from gdn.simulation.dataset import check_specimen
from gdn.simulation.imaging import Optics
from gdn.simulation.simulate import seed_of_path
from gdn.simulation.structures import split_of
from gdn.training.patch_cutting import LABELS, Cut, Patches, patches_of
from gdn.training.shared_randomness import Shards, shard_count


@dataclass(frozen=True)
class PatchBatch:
    """Training patches.

    - `images` (n, channels, patch, patch): float32 in [-1, 1].
    - `labels` (n, 2): float32, standardised defocus and specimen thickness, zero if unknown.
    """

    images: Patches
    labels: Patches


Task = tuple[list[Path], list[int], int, int, float, bool, Imaging]


def _task(arguments: Task) -> tuple[Patches, Patches]:
    """The patches from one rendered image. A pure function of its arguments."""
    paths, key, n, patch, sampling, augment, imaging = arguments
    rng = np.random.default_rng(key)
    path = paths[rng.integers(len(paths))]
    optics, (least, most) = Optics.random(rng, imaging), imaging.magnification
    if least < most:
        sampling /= rng.uniform(least, most)
    images, labels = patches_of(path, optics, rng, n, Cut(patch, sampling, augment))
    if imaging.most_contrast:
        # The search leaves contrast free, so that a generator need not make all of it.
        largest = np.maximum(np.abs(images - 1).max((1, 2), keepdims=True), imaging.most_contrast)
        images = 1 + (images - 1) * (imaging.most_contrast / largest)
    return images.astype(np.float16), labels


class _Shard:
    """Patches of some structures: `paths`, rendered into a reservoir that mixes them."""

    def __init__(self, number: int, paths: list[Path], reservoir: int) -> None:
        self.number, self.paths, self.size = number, paths, reservoir
        self.counter, self.drawn, self.owed = 0, 0, 0.0
        self.reservoir: tuple[Patches, Patches] | None = None
        self.pending: deque[Any] = deque()


class WaveStream:
    """Patches of the waves, or clean images, in `folder`. `share` = (rank, world) gives each
    process its own structures.

    The training structures are distributed to the shards of a batch, and the shards to the
    processes. So the content of a batch does not depend on the number of processes. Raises
    ValueError.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, workers: int = 0, share: tuple[int, int] = (0, 1)
    ) -> None:
        self._recipe = recipe
        paths = stored_scenes(folder)
        self.train = [p for p in paths if split_of(seed_of_path(p)) == "train"]
        self.held_out = [p for p in paths if split_of(seed_of_path(p)) == "validation"]
        if len(self.train) < share[1] or not self.held_out:
            raise ValueError(
                f"{folder}: {len(self.train)} training and {len(self.held_out)} validation "
                "waves or images; make more with 'gdn simulate'"
            )
        self.shards = Shards(shard_count(recipe.optimiser.batch, len(self.train)), *share)
        count, stream = self.shards.count, recipe.stream
        size = max(stream.patches_per_image, stream.reservoir // count)
        self._mine = [
            _Shard(number, self.train[number::count], size) for number in self.shards.mine
        ]
        self._pool: Any = None
        if workers > 0:
            from multiprocessing import get_context

            self._pool = get_context("spawn").Pool(workers)

    @property
    def structures(self) -> list[Path]:
        """The structures on which this process trains."""
        return [path for shard in self._mine for path in shard.paths]

    def _arguments(self, kind: int, shard: int, counter: int, paths: list[Path]) -> Task:
        r = self._recipe
        key = [r.stream.seed, kind, shard, counter]
        return (
            paths,
            key,
            r.stream.patches_per_image,
            r.network.patch,
            r.network.sampling_angstrom,
            r.stream.augment,
            r.imaging,
        )

    def _next_image(self, shard: _Shard) -> tuple[Patches, Patches]:
        if self._pool is None:
            shard.counter += 1
            return _task(self._arguments(0, shard.number, shard.counter, shard.paths))
        while len(shard.pending) < -(-4 * self._pool._processes // len(self._mine)):
            shard.counter += 1
            arguments = self._arguments(0, shard.number, shard.counter, shard.paths)
            shard.pending.append(self._pool.apply_async(_task, (arguments,)))
        result: tuple[Patches, Patches] = shard.pending.popleft().get()
        return result

    def draw(self, n: int) -> PatchBatch:
        """The next `n` patches, in the order of the shards."""
        parts = [
            self._of(shard, rows)
            for shard, rows in zip(self._mine, self.shards.parts(n), strict=True)
        ]
        images, labels = (np.concatenate(group) for group in zip(*parts, strict=True))
        return PatchBatch(self._to_network(images), labels)

    def _of(self, shard: _Shard, n: int) -> tuple[Patches, Patches]:
        """`n` patches of a shard. A reservoir mixes its structures: new patches overwrite the
        oldest places in random order."""
        stream = self._recipe.stream
        rng = np.random.default_rng([stream.seed, 2, shard.number, shard.drawn])
        if shard.reservoir is None:
            paths = [
                self._next_image(shard) for _ in range(-(-shard.size // stream.patches_per_image))
            ]
            shard.reservoir = (
                np.concatenate([f[0] for f in paths]),
                np.concatenate([f[1] for f in paths]),
            )
        images, labels = shard.reservoir
        shard.owed += n * stream.fresh_share
        while shard.owed >= stream.patches_per_image:
            shard.owed -= stream.patches_per_image
            places = rng.choice(len(images), stream.patches_per_image, replace=False)
            images[places], labels[places] = self._next_image(shard)
        shard.drawn += n
        index = rng.integers(0, len(images), n)
        chosen = images[index].astype(np.float32)
        if stream.augment and n:
            # The square's symmetries are exact ones of the imaging: a patch seen again is turned.
            turns = zip(chosen, rng.integers(0, 4, n), rng.choice([-1, 1], n), strict=True)
            chosen = np.stack([np.rot90(p, k)[:, :: int(f)] for p, k, f in turns])
        return chosen, labels[index]

    def skip(self, images: int) -> None:
        """Continue after a run of `images` patches, of all processes, without repeating its
        renderings."""
        for shard in self._mine:
            shard.drawn = images // self.shards.count
            shard.counter = int(shard.drawn * self._recipe.stream.fresh_share) + 10**6

    def validation(self, n: int) -> Patches:
        """`n` patches from structures that training never sees; the same ones at every call."""
        per = self._recipe.stream.patches_per_image
        images = [_task(self._arguments(1, 0, i, self.held_out))[0] for i in range(-(-n // per))]
        return self._to_network(np.concatenate(images)[:n].astype(np.float32))

    def _to_network(self, x: Patches) -> Patches:
        t = (x[:, None] - 1) / self._recipe.network.intensity_scale
        return np.asarray(np.clip(t, -0.999, 0.999), dtype=np.float32)

    def close(self) -> None:
        """Stop any helper process."""
        if self._pool is not None:
            self._pool.terminate()


class ArrayStream:
    """Images of an .npz (`train` and `test`, (n, h, w) or (n, h, w, 3) uint8), padded or cut to the
    patch."""

    def __init__(self, path: Path, recipe: Recipe, share: tuple[int, int] = (0, 1)) -> None:
        self._recipe, self._drawn = recipe, 0
        try:
            with np.load(path, allow_pickle=False) as data:
                self._train = self._prepare(data["train"])
                self._test = self._prepare(data["test"])
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(
                f"{path}: needs arrays 'train' and 'test' of uint8 images ({error})"
            ) from None
        self.shards = Shards(shard_count(recipe.optimiser.batch, len(self._train)), *share)

    def _prepare(self, images: NDArray[Any]) -> Patches:
        x = images[..., None] if images.ndim == 3 else images
        if self._recipe.network.channels == 1 and x.shape[-1] == 3:
            x = x @ np.array([0.299, 0.587, 0.114], np.float32)[:, None]
        x = np.moveaxis(x.astype(np.float32), -1, 1) / 127.5 - 1
        patch = self._recipe.network.patch
        scale = patch / x.shape[-1]
        if scale != 1:
            # Resized linearly, as the study did with MNIST.
            where = (np.arange(patch) + 0.5) / scale - 0.5
            low = np.clip(np.floor(where).astype(int), 0, x.shape[-1] - 2)
            part = np.clip(where - low, 0, 1).astype(np.float32)
            x = x[..., low, :] * (1 - part)[:, None] + x[..., low + 1, :] * part[:, None]
            x = x[..., low] * (1 - part) + x[..., low + 1] * part
        return np.ascontiguousarray(x, dtype=np.float32)

    def draw(self, n: int) -> PatchBatch:
        """The next `n` patches."""
        mine, count = self.shards.mine, self.shards.count
        parts = []
        for number, rows in zip(mine, self.shards.parts(n), strict=True):
            rng = np.random.default_rng([self._recipe.stream.seed, 3, number, self._drawn])
            own = len(range(number, len(self._train), count))
            parts.append(number + count * rng.integers(0, own, rows))
        self._drawn += n * self.shards.world
        return PatchBatch(self._train[np.concatenate(parts)], np.zeros((n, LABELS), np.float32))

    def skip(self, images: int) -> None:
        """Continue after `images` patches, of all processes."""
        self._drawn = images

    def validation(self, n: int) -> Patches:
        """`n` patches from structures that training never sees; the same ones at every call."""
        return self._test[:n]

    def close(self) -> None:
        """Stop any helper process."""


def open_stream(
    data: Path, recipe: Recipe, workers: int = 0, share: tuple[int, int] = (0, 1)
) -> WaveStream | ArrayStream:
    """A stream of `data`: a folder of 'gdn simulate', or an .npz of images. Raises ValueError."""
    if data.suffix == ".npz":
        return ArrayStream(data, recipe, share)
    if not any((data / name).is_dir() for name in SCENE_FOLDERS):
        raise ValueError(
            f"{data}: neither a folder of 'gdn simulate' (it has no waves/ or images/) nor an .npz "
            "of images"
        )
    check_specimen(data, recipe.specimen)
    network = recipe.network
    wanted = network.patch * network.sampling_angstrom / recipe.imaging.magnification[0]
    check_fields(data, recipe.specimen, wanted)
    return WaveStream(data, recipe, workers, share)
