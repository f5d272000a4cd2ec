"""Exit waves of random structures by abTEM multislice, in parallel and resumable.

A dataset is a folder: `dataset.json`, `waves/<seed>.npz` and, when asked for, `frames/*.tif`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from gdn import __version__
from gdn.frames.files import write_tiff
from gdn.frames.source import Calibration
from gdn.training.dataset import open_dataset, structure_seed
from gdn.training.imaging import (
    ENERGY_KV,
    WAVE_BAND,
    FloatArray,
    Optics,
    Wave,
    as_record,
    band_crop,
    read_wave,
    render,
    write_wave,
)
from gdn.training.recipe import Imaging
from gdn.training.structures import Structure, random_structure, split_of

GRID = 768  # px of the multislice grid on the 64 Å cell
SLICE_ANGSTROM = 2.0
THERMAL_ANGSTROM = 0.08  # rms displacement, one value for Pt, Ce and O
FRAME_SHAPE, FRAME_SAMPLING = (850, 850), 0.0612  # the study's frame

Progress = Callable[[int, int], None]
Runner = Callable[[list[Callable[[], None]]], Iterable[None]]  # once for each task that has ended


@dataclass(frozen=True)
class SimulationPlan:
    """What a dataset holds: `count` structures and `frames` rendered frames, all from `seed`, of a beam of `energy_kv`."""

    out: Path
    count: int
    seed: int
    frames: int = 0
    workers: int = 1
    energy_kv: float = ENERGY_KV


def _projected_columns(structure: Structure) -> tuple[FloatArray, FloatArray]:
    """Columns (m, 2) Å and their summed atomic number (m,): atoms joined when within 0.7 Å in projection."""
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    xy = structure.positions[:, :2]
    if not len(xy):
        return np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
    graph = cKDTree(xy).sparse_distance_matrix(cKDTree(xy), 0.7)
    _, label = connected_components(graph, directed=False)
    weight = np.bincount(label, structure.numbers)
    centre = np.stack([np.bincount(label, structure.numbers * xy[:, a]) / weight for a in (0, 1)], 1)
    return centre.astype(np.float32), weight.astype(np.float32)


def _smear(potential: NDArray[np.float32], cell: float) -> NDArray[np.float32]:
    """Debye-Waller factor exp(-2 pi^2 u^2 k^2) on each slice (n, GRID, GRID), in place."""
    k = np.fft.fftfreq(GRID, cell / GRID)
    factor = np.exp(-2 * (np.pi * THERMAL_ANGSTROM) ** 2 * (k[:, None] ** 2 + k[None, : GRID // 2 + 1] ** 2))
    factor = factor.astype(np.float32)
    for i in range(len(potential)):
        potential[i] = scipy.fft.irfft2(scipy.fft.rfft2(potential[i]) * factor, s=(GRID, GRID))
    return potential


def exit_wave(structure: Structure, energy_kv: float = ENERGY_KV) -> Wave:
    """Multislice a plane wave of `energy_kv` through `structure` (abTEM, Lobato potentials, 2 Å slices)."""
    n = 2 * int(WAVE_BAND * structure.cell[0]) + 1
    record = {"simulation": "abTEM", "grid": GRID, "slice_angstrom": SLICE_ANGSTROM, "thermal_angstrom": THERMAL_ANGSTROM}
    record |= {"structure": _plain(structure.parameters), "atoms": len(structure.numbers), "gdn": __version__}
    record["energy_kv"] = energy_kv
    columns, weights = _projected_columns(structure)
    if not len(structure.numbers):
        empty = np.zeros((n, n), np.complex64)
        empty[0, 0] = n**2
        return Wave(empty, float(structure.cell[0]), columns, weights, record)
    import abtem
    import ase

    record["abtem"] = abtem.__version__
    # abTEM's axis 0 is x; gdn's is y: exchange them on the way in, so that arrays are [y, x].
    atoms = ase.Atoms(numbers=structure.numbers, positions=structure.positions[:, [1, 0, 2]], cell=structure.cell, pbc=True)
    options: dict[str, Any] = {"scheduler": "single-threaded", "progress_bar": False}
    potential: Any = abtem.Potential(atoms, gpts=(GRID, GRID), slice_thickness=SLICE_ANGSTROM, parametrization="lobato")
    slices = potential.build().compute(**options)
    slices._array = _smear(np.array(slices.array), float(structure.cell[0]))
    plane: Any = abtem.PlaneWave(energy=1e3 * energy_kv, gpts=(GRID, GRID))
    wave = plane.multislice(slices).compute(**options)
    spectrum = band_crop(scipy.fft.fft2(np.asarray(wave.array)), n) * (n / GRID) ** 2
    k = np.fft.fftfreq(n, structure.cell[0] / n)
    spectrum[np.hypot(k[:, None], k[None, :]) > WAVE_BAND] = 0
    return Wave(spectrum.astype(np.complex64), float(structure.cell[0]), columns, weights, record)


def _plain(value: Any) -> Any:
    """NumPy scalars and tuples as what JSON knows."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def wave_path(out: Path, index: int, seed: int) -> Path:
    """Where structure `index` lies; its name tells its seed, and thereby its split."""
    return out / "waves" / f"{index:06d}_{seed}.npz"


def seed_of_path(path: Path) -> int:
    """Structure seed from the name of a stored wave."""
    return int(path.stem.split("_")[1])


def _simulate_one(out: Path, index: int, seed: int, energy_kv: float) -> None:
    from dataclasses import replace

    wave = exit_wave(random_structure(seed), energy_kv)
    record = wave.record | {"seed": seed, "index": index, "split": split_of(seed)}
    write_wave(wave_path(out, index, seed), replace(wave, record=record))


def frame_optics(seed: int, view: int, ranges: Imaging = Imaging()) -> Optics:
    """Imaging conditions of rendered frame `view` of structure `seed`."""
    return Optics.random(np.random.default_rng([seed, view, 0x0B]), ranges)


def _render_one(out: Path, index: int, seed: int, view: int) -> None:
    path = frame_path(out, index, seed, view)
    wave = read_wave(wave_path(out, index, seed))
    optics = frame_optics(seed, view)
    image = render(wave, optics, FRAME_SAMPLING, FRAME_SHAPE)
    description: dict[str, Any] = {"structure_seed": seed, "view": view, "split": split_of(seed), "energy_kv": wave.energy_kv}
    description["optics"] = as_record(optics)
    write_tiff(path, image, Calibration(sampling_angstrom=FRAME_SAMPLING), description)


def frame_path(out: Path, index: int, seed: int, view: int) -> Path:
    """Where rendered frame `view` of structure `index` lies."""
    return out / "frames" / f"{split_of(seed)}_{index:06d}_{view:03d}.tif"


def _worker_setup() -> None:
    """One thread per process; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"


def simulate(plan: SimulationPlan, progress: Progress = lambda done, total: None, runner: Runner | None = None) -> list[Path]:
    """Simulate what is missing of `plan`; returns the paths of all its waves. `runner` runs the tasks, by default processes
    here. Waves made twice agree to 1e-6 and not to the last bit: FFTW finds its plans by measuring, without which it takes 1.8
    times as long.

    Safe to kill at any moment and to repeat: files appear under their names only when complete.
    Raises ValueError if the folder holds a dataset made with another seed or voltage.
    """
    open_dataset(plan.out, plan.seed, plan.count, plan.energy_kv)
    seeds = [structure_seed(plan.seed, i) for i in range(plan.count)]
    tasks: list[Callable[[], None]] = [
        partial(_simulate_one, plan.out, i, s, plan.energy_kv)
        for i, s in enumerate(seeds)
        if not wave_path(plan.out, i, s).exists()
    ]
    views = [(f % plan.count, f // plan.count) for f in range(plan.frames)]
    renders: list[Callable[[], None]] = [
        partial(_render_one, plan.out, i, seeds[i], v) for i, v in views if not frame_path(plan.out, i, seeds[i], v).exists()
    ]
    total, done = plan.count + plan.frames, plan.count + plan.frames - len(tasks) - len(renders)
    progress(done, total)
    for group in (tasks, renders):  # frames are rendered from waves, so the waves come first
        for _ in runner(group) if runner is not None else _run(group, plan.workers):
            done += 1
            progress(done, total)
    return [wave_path(plan.out, i, s) for i, s in enumerate(seeds)]


def _run(tasks: list[Callable[[], None]], workers: int) -> Any:
    """Run `tasks`, yielding once for each that ends; in this process when one worker suffices."""
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
