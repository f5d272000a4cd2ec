"""What each worker is sent once: the models and their banks, checked there by hash. It is a Dask
worker plugin, so it also reaches workers that join later or return."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from distributed import WorkerPlugin

from gdn.engines.base import Engine
from gdn.models import Model, ModelError, RestorerModel, load_any, shipped_models
from gdn.search.bank import Bank

LARGEST = (
    512 * 2**20
)  # bytes of banks that travel; beyond that each worker makes its own, of the same latents
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


@cache
def settle_memory() -> None:
    """Make glibc keep the memory that it has requested, whatever the worker's environment (see
    `connect.nanny_environment`)."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
            libc.mallopt(M_TRIM_THRESHOLD, 256 * 2**20)


@dataclass(frozen=True)
class PackedModel:
    """A model folder's files, and the model's hash."""

    name: str
    hash: str
    files: dict[str, bytes]

    @staticmethod
    def of(model: Model | RestorerModel) -> PackedModel:
        """Pack a verified model."""
        names = ["model.json", *model.card.files]
        return PackedModel(
            model.card.name,
            model.hash,
            {name: (model.folder / name).read_bytes() for name in names},
        )

    def unpack(self, folder: Path) -> Model | RestorerModel:
        """Unpack the model. If this installation has the same one, that one is used; else it is
        written below `folder`. Raises ModelError."""
        own = shipped_models().get(self.name)
        if own is not None:
            with contextlib.suppress(ModelError):
                model = load_any(own)
                if model.hash == self.hash:
                    return model
        place = folder / f"gdn-{self.hash[:16]}" / self.name
        place.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (place / name).write_bytes(content)
        model = load_any(place)
        if model.hash != self.hash:
            raise ModelError(f"{place}: is not the model that was sent")
        return model


@dataclass(frozen=True, kw_only=True)
class PackedBank:
    """A bank's images and their hash.

    - `seed`: of the restarts.
    - `latent`: dimension of the latents.
    - `shape`: of the images, (n, h, w).
    - `images`: float16, as bytes.
    - `sha256`: of these bytes.
    """

    seed: int
    latent: int
    shape: tuple[int, ...]
    images: bytes
    sha256: str

    @staticmethod
    def of(bank: Bank) -> PackedBank:
        """Pack a bank."""
        images = np.ascontiguousarray(bank.images)
        content = images.tobytes()
        return PackedBank(
            seed=bank.seed,
            latent=bank.dimension,
            shape=images.shape,
            images=content,
            sha256=hashlib.sha256(content).hexdigest(),
        )

    def unpack(self) -> Bank:
        """Unpack the bank. Raises ValueError if it is not what was sent."""
        if hashlib.sha256(self.images).hexdigest() != self.sha256:
            raise ValueError("the bank of restarts arrived damaged")
        return Bank(
            seed=self.seed,
            dimension=self.latent,
            images=np.frombuffer(self.images, np.float16).reshape(self.shape),
            cached=True,
        )


class Parcel(WorkerPlugin):
    """Models, banks and everything else that a run needs (`content`) on a worker. With `lock` a
    process works on one item at a time."""

    def __init__(
        self,
        name: str,
        models: list[PackedModel],
        banks: dict[str, PackedBank],
        content: Any,
        folder: str,
    ) -> None:
        self.name, self.models, self.banks, self.content, self.folder = (
            name,
            models,
            banks,
            content,
            folder,
        )
        self.closing: list[Callable[[], object]] = []

    def setup(self, worker: Any) -> None:
        """Called on the worker at the start."""
        settle_memory()
        self.worker, self.lock, self.opened = worker, threading.RLock(), {}  # type: ignore[var-annotated]
        self.closing = []

    def teardown(self, worker: Any) -> None:
        """Called on the worker when the run is over."""
        for close in self.closing:
            close()

    def receive(self) -> list[Model | RestorerModel]:
        """The models, unpacked when first asked for. Raises ModelError."""
        if "models" not in self.opened:
            self.opened["models"] = [
                packed.unpack(Path(self.worker.local_directory)) for packed in self.models
            ]
        return list(self.opened["models"])

    def bank(self, engine: Engine, make: Callable[[Engine], Bank]) -> Bank:
        """The bank of an engine's model: the one that was sent, or one made here."""
        sent = self.banks.get(engine.model.hash)
        return make(engine) if sent is None else sent.unpack()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Work on one item at a time, in the folder in which the command was given. Raises OSError
        if that folder does not exist on this machine."""
        with self.lock, contextlib.chdir(self.folder):
            yield


def own_card(device: str, worker_name: Any) -> str:
    """The CUDA device of a worker on a machine with several cards: `cuda` becomes `cuda:N` with the
    worker's number, unless the visible cards were set from outside (dask-cuda, SLURM)."""
    if device != "cuda" or "CUDA_VISIBLE_DEVICES" in os.environ or not isinstance(worker_name, int):
        return device
    cards = len(list(Path("/dev").glob("nvidia[0-9]*")))
    return f"cuda:{worker_name % cards}" if cards > 1 else device
