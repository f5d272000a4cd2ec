"""Exit waves of random structures by multislice, in parallel and resumable.

A dataset is a folder: `dataset.json`, `waves/<seed>.npz` and, when asked for, `frames/*.tif` and
`movies/*`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gdn.frames.source import FrameCalibration
from gdn.frames.writing import write_tiff
from gdn.recipes import Imaging
from gdn.simulation.dataset import open_dataset, structure_seed
from gdn.simulation.exit_waves import TORCH, Multislice, exit_wave
from gdn.simulation.imaging import (
    ENERGY_KV,
    FRAME_SAMPLING,
    FRAME_SHAPE,
    Optics,
    as_record,
    read_wave,
    render,
    write_wave,
)
from gdn.simulation.movie_files import MovieMaker, movie_path
from gdn.simulation.movies import MovieSettings
from gdn.simulation.own_crystals import OwnCrystals
from gdn.simulation.scenes import DEFAULT, scene_maker
from gdn.simulation.structures import Split, Structure, split_of

Progress = Callable[[int, int], None]
Runner = Callable[[list[Callable[[], None]]], Iterable[None]]  # once for each task that has ended


@dataclass(frozen=True)
class FrameChoice:
    """How frames are imaged, and of which structures they are (None: of all splits). The frames of
    a recipe `name` have a folder of their own."""

    imaging: Imaging = field(default_factory=Imaging)
    name: str = ""
    split: Split | None = None

    @property
    def folder(self) -> str:
        """In the data set."""
        return f"frames-{self.name}" if self.name else "frames"


@dataclass(frozen=True, kw_only=True)
class SimulationPlan:
    """What a data set contains, and how it is made.

    - `out`: its folder.
    - `count`: number of structures.
    - `seed`: of all of them.
    - `frames`: number of rendered frames.
    - `workers`: processes.
    - `energy_kv`: of the beam.
    - `multislice`: which code makes the waves.
    - `device`: of torch.
    - `scenes`: a name of `gdn.simulation.scenes`, or a user's own crystals.
    - `imaged`: how and of what frames are made.
    - `movies`: what movies are made.
    """

    out: Path
    count: int
    seed: int
    frames: int = 0
    workers: int = 1
    energy_kv: float = ENERGY_KV
    multislice: Multislice = TORCH
    device: str = "cpu"
    scenes: str | OwnCrystals = DEFAULT
    imaged: FrameChoice = field(default_factory=FrameChoice)
    movies: MovieSettings = field(default_factory=MovieSettings)

    @property
    def maker(self) -> Callable[[int], Structure]:
        """The function from a seed to its structure. Raises InputError for a name without one."""
        return scene_maker(self.scenes) if isinstance(self.scenes, str) else self.scenes


def wave_path(out: Path, index: int, seed: int) -> Path:
    """Path of structure `index`. The name contains its seed, which determines its split."""
    return out / "waves" / f"{index:06d}_{seed}.npz"


def seed_of_path(path: Path) -> int:
    """Structure seed from the name of a stored wave."""
    return int(path.stem.split("_")[1])


def _simulate_one(plan: SimulationPlan, index: int, seed: int) -> None:
    wave = exit_wave(plan.maker(seed), plan.energy_kv, plan.multislice, plan.device)
    record = wave.record | {"seed": seed, "index": index, "split": split_of(seed)}
    write_wave(wave_path(plan.out, index, seed), replace(wave, record=record))


def frame_optics(seed: int, view: int, ranges: Imaging = Imaging()) -> Optics:
    """Imaging conditions of rendered frame `view` of structure `seed`."""
    return Optics.random(np.random.default_rng([seed, view, 0x0B]), ranges)


def _render_one(plan: SimulationPlan, index: int, seed: int, view: int) -> None:
    wave = read_wave(wave_path(plan.out, index, seed))
    optics = frame_optics(seed, view, plan.imaged.imaging)
    image = render(wave, optics, FRAME_SAMPLING, FRAME_SHAPE)
    description: dict[str, Any] = {
        "structure_seed": seed,
        "view": view,
        "split": split_of(seed),
        "energy_kv": wave.energy_kv,
    }
    description["optics"] = as_record(optics)
    path = frame_path(plan, index, seed, view)
    write_tiff(path, image, FrameCalibration(sampling_angstrom=FRAME_SAMPLING), description)


def frame_path(plan: SimulationPlan, index: int, seed: int, view: int) -> Path:
    """Path of rendered frame `view` of structure `index`."""
    return plan.out / plan.imaged.folder / f"{split_of(seed)}_{index:06d}_{view:03d}.tif"


def _frame_tasks(plan: SimulationPlan, seeds: list[int]) -> list[Callable[[], None]]:
    """The frames of `plan` that do not exist yet, each as a task. Raises ValueError if no structure
    is of their split."""
    split = plan.imaged.split
    chosen = [i for i in range(plan.count) if split is None or split_of(seeds[i]) == split]
    if plan.frames and not chosen:
        raise ValueError(f"none of {plan.count} structures is in the {split} split; make more")
    (plan.out / plan.imaged.folder).mkdir(exist_ok=True)
    views = ((chosen[f % len(chosen)], f // len(chosen)) for f in range(plan.frames))
    return [
        partial(_render_one, plan, i, seeds[i], view)
        for i, view in views
        if not frame_path(plan, i, seeds[i], view).exists()
    ]


def _movie_tasks(plan: SimulationPlan, seeds: list[int]) -> list[Callable[[], None]]:
    """The movies of `plan` that do not exist yet, each as a task."""
    if not isinstance(plan.scenes, str):
        return []
    maker = MovieMaker(
        out=plan.out,
        settings=plan.movies,
        scenes=plan.scenes,
        energy_kv=plan.energy_kv,
        multislice=plan.multislice,
        device=plan.device,
    )
    views = ((m % plan.count, m // plan.count) for m in range(plan.movies.count))
    return [
        partial(_make_movie, maker, i, seeds[i], view)
        for i, view in views
        if not movie_path(plan.out, i, seeds[i], view).exists()
    ]


def _make_movie(maker: MovieMaker, index: int, seed: int, view: int) -> None:
    maker.make(index, seed, view)


def _worker_setup() -> None:
    """Use one thread per process, and leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"


def simulate(
    plan: SimulationPlan,
    progress: Progress = lambda done, total: None,
    runner: Runner | None = None,
) -> list[Path]:
    """Simulate what is missing of `plan`, and return the paths of all its waves. `runner` runs the
    tasks, by default in processes on this machine. Two runs of abTEM agree to 1e-6, not to the last
    bit: FFTW chooses its plans by measuring, and without measuring takes 1.8 times as long.

    The command may be killed at any moment and repeated: files get their names only when complete.
    Raises ValueError if the folder holds a data set made with another seed, voltage, multislice or
    other scenes.
    """
    _ = plan.maker
    scenes = plan.scenes if isinstance(plan.scenes, str) else plan.scenes.record()
    open_dataset(plan.out, plan.seed, plan.count, plan.energy_kv, plan.multislice, scenes)
    seeds = [structure_seed(plan.seed, i) for i in range(plan.count)]
    tasks: list[Callable[[], None]] = [
        partial(_simulate_one, plan, i, s)
        for i, s in enumerate(seeds)
        if not wave_path(plan.out, i, s).exists()
    ]
    renders = _frame_tasks(plan, seeds)
    movies = _movie_tasks(plan, seeds)
    total = plan.count + plan.frames + plan.movies.count
    done = total - len(tasks) - len(renders) - len(movies)
    progress(done, total)
    for group in (tasks, renders, movies):  # frames are rendered from waves: the waves come first
        for _ in runner(group) if runner is not None else _run(group, plan.workers):
            done += 1
            progress(done, total)
    return [wave_path(plan.out, i, s) for i, s in enumerate(seeds)]


def _run(tasks: list[Callable[[], None]], workers: int) -> Any:
    """Run `tasks` and yield once for each that ends. With one worker they run in this process."""
    if workers <= 1:
        for task in tasks:
            yield task()
        return
    from multiprocessing import get_context

    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the children when they start
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), _worker_setup) as pool:
            try:
                for future in as_completed([pool.submit(task) for task in tasks]):
                    yield future.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
