"""The methods that rivals.py compares, one function or one worker each.

What runs beside gdn's own packages is a function here. What does not is run by a worker, a script
of this folder, with the Python of an environment of its own (`--python NAME=PYTHON`); the worker's
first lines say how it is installed. Nothing is loaded from elsewhere when it runs.

A worker is given the frame binned to a pixel of its own advice, in electrons, and its result is
interpolated back. Where it has no advice, every binning that BM3D gets is tried, and the truth
decides: each rival is shown at its best. The seconds are those of the binning that was taken.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from suite import denoiser_of

from gdn.evaluation.comparators import COMPARATORS, Case, binnings, unet_comparators
from gdn.evaluation.metrics import Image, psnr
from gdn.frames.resampling import bin_sum, grids_for, unbin

HERE = Path(__file__).resolve().parent
KNOWN = COMPARATORS | unet_comparators(HERE / "unets")
TK_NETWORKS = {"HRTEM": "sfr_hrtem", "HAADF": "sfr_hrstem", "ABF": "sfr_hrstem"}


@dataclass(frozen=True, kw_only=True)
class Restored:
    """An `image` (rows, columns); the `seconds` that it took, the pixel in Å that it was made at,
    and the worker's largest memory so far, where they are known; and what the method `said` of
    how far to trust it."""

    image: Image
    said: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    angstrom: float | None = None
    peak_mib: float | None = None


Method = Callable[[Case, dict[str, Any]], Restored]


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A method with a `worker`. `angstrom`: the pixel that it is given (None: the binnings that
    BM3D gets, from `least_angstrom` on; the truth decides). `own`: it needs an environment of its
    own; the others run by this Python."""

    worker: str
    angstrom: float | None = None
    least_angstrom: float = 0.0
    own: bool = True


RIVALS = MappingProxyType(
    {
        # It takes minutes at finer pixels, and none of them was the best of a validation frame.
        "bmnd": Rival(worker="bmnd_worker.py", least_angstrom=0.35),
        "topaz": Rival(worker="topaz_worker.py"),
        "tk_r_em": Rival(worker="tk_worker.py", angstrom=0.35),
        # The pixels of what learns from the frame: the better of 0.2 and 0.35 Å on validation
        # frames (N2V2 31.8 and 31.0 dB on one, Noise2Self 21.3 and 25.6 on two, zero-shot
        # Noise2Noise 23.3 and 26.0 on three).
        "n2v2": Rival(worker="careamics_worker.py", angstrom=0.2),
        "noise2self": Rival(worker="blind_spot_worker.py", angstrom=0.35, own=False),
        "zs-n2n": Rival(worker="zero_shot_worker.py", angstrom=0.35, own=False),
    }
)


class Worker:
    """A rival's process, which is ended with the context. Raises RuntimeError where it fails."""

    def __init__(self, rival: Rival, python: str, learn_seconds: float) -> None:
        self._rival, self._learn = rival, learn_seconds
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name) / "log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [python, str(HERE / rival.worker)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        # communicate() closes the pipes, also those of a process that has ended by itself.
        self._process.communicate()
        self._folder.cleanup()

    def __call__(self, case: Case, record: dict[str, Any]) -> Restored:
        """Bin, restore, interpolate back; the best of several binnings."""
        sampling = case.sampling_angstrom
        if self._rival.angstrom is not None:
            return self._at(case, record, max(1, round(self._rival.angstrom / sampling)))
        coarse = [n for n in binnings(sampling) if n * sampling >= self._rival.least_angstrom]
        tried = (self._at(case, record, binning) for binning in coarse)
        return max(tried, key=lambda restored: psnr(case.clean, restored.image))

    def _at(self, case: Case, record: dict[str, Any], binning: int) -> Restored:
        sampling, noise = case.sampling_angstrom, case.noise
        grids = grids_for((case.noisy.shape[0], case.noisy.shape[1]), sampling, binning * sampling)
        counts = noise.kind == "poisson"
        # Counts as they are; an image with Gaussian noise as the mean of a binned pixel.
        unit = np.float32(noise.level if counts else 1 / grids.area)
        answer, made = self._ask(
            bin_sum(case.noisy, grids) * unit,
            {
                "network": TK_NETWORKS[record["mode"]],
                "kind": noise.kind,
                "sigma": None if counts else noise.level / float(np.sqrt(grids.area)),
                "seconds": self._learn,
                "seed": int(record["number"]),
            },
        )
        return Restored(
            image=unbin(made / (unit * np.float32(grids.area)), grids),
            seconds=answer["seconds"],
            angstrom=round(binning * sampling, 4),
            peak_mib=round(answer["peak_mib"]),
        )

    def _ask(self, image: Image, request: dict[str, Any]) -> tuple[dict[str, Any], Image]:
        """The worker's answer, and what it made of an image."""
        paths = [Path(self._folder.name) / f"{name}.npy" for name in ("input", "output")]
        np.save(paths[0], image)
        request |= {"input": str(paths[0]), "output": str(paths[1])}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; the log says why
        line = self._process.stdout.readline()
        if not line:
            last = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise RuntimeError(f"{self._rival.worker}: {last[-1] if last else 'ended unasked'}")
        answer: dict[str, Any] = json.loads(line)
        return answer, np.load(paths[1])


def gdn_method(stack: ExitStack, model: str, restarts: int) -> Method:
    """What `gdn denoise --model MODEL` does. The seconds are those without judging."""
    denoiser = stack.enter_context(denoiser_of(model, restarts))

    def run(case: Case, record: dict[str, Any]) -> Restored:
        recording = denoiser.for_recording(case.noisy, case.sampling_angstrom)
        begun = time.perf_counter()
        result = recording.search(case.noisy, case.sampling_angstrom)
        seconds = time.perf_counter() - begun
        row = recording.judge(case.noisy, result).row()
        said = {name: row[name] for name in ("explained_p", "standing", "heldout_gain_db")}
        return Restored(image=result.image, seconds=seconds, said=said)

    return run


def without_record(method: Callable[[Case], Image]) -> Method:
    """A comparator that asks for nothing but the frame."""
    return lambda case, record: Restored(image=method(case))


def pythons_of(given: Sequence[str]) -> dict[str, str]:
    """`NAME=PYTHON` as a dictionary. Raises ValueError."""
    pythons = {}
    for text in given:
        name, _, python = text.partition("=")
        if name not in RIVALS or not python:
            raise ValueError(f"--python {text}: want NAME=PYTHON, NAME one of {', '.join(RIVALS)}")
        pythons[name] = python
    return pythons


def opened(
    names: Sequence[str], stack: ExitStack, pythons: dict[str, str], learn_seconds: float
) -> dict[str, Method]:
    """The methods by name, gdn aside; what they need is closed by `stack`. Raises ValueError for a
    name that there is not, or whose Python is not known."""
    methods: dict[str, Method] = {}
    for name in names:
        if name in RIVALS:
            rival = RIVALS[name]
            python = pythons.get(name, None if rival.own else sys.executable)
            if python is None:
                raise ValueError(
                    f"--methods {name} needs --python {name}=PYTHON, of an environment that has "
                    f"it ({rival.worker} says how to make it)"
                )
            methods[name] = stack.enter_context(Worker(rival, python, learn_seconds))
        elif name in KNOWN:
            methods[name] = without_record(KNOWN[name])
        else:
            raise ValueError(f"--methods {name}: choose from {', '.join([*KNOWN, *RIVALS, 'gdn'])}")
    return methods
