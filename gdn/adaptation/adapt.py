"""Adapting the shipped restorer to recordings: which files are one recording, and what is learned
from each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from gdn.adaptation.learn import LearningSettings, learn
from gdn.adaptation.lessons import Lesson, evenly, lesson_of
from gdn.adaptation.model_folder import network_of, write_adapted
from gdn.errors import InputError
from gdn.frames.examined import examined
from gdn.frames.noise import NoiseModel
from gdn.frames.pixel_mask import PixelMask
from gdn.frames.source import FrameFile
from gdn.models import RestorerModel

FRAMES = 64  # of a recording that are learned from, evenly over it
ALIKE = 0.01  # relative difference of pixel sizes of one recording
GAIN_ALIKE = 0.2  # and of the gains of its detector


@dataclass(frozen=True)
class RecordedFile:
    """A file of a recording, and how many frames it has. It is opened when it is learned from: a
    night's files together may be larger than the memory."""

    path: Path
    count: int


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Files of one pixel size and noise law, which teach one network, opened by `read`; where
    `mask` says that pixels are no counts, nothing is learned."""

    files: tuple[RecordedFile, ...]
    sampling_angstrom: float
    noise: NoiseModel
    read: Callable[[Path], FrameFile]
    mask: PixelMask | None = None

    def words(self) -> str:
        """As the line says it that is printed first."""
        frames = sum(file.count for file in self.files)
        what = self.files[0].path.name if len(self.files) == 1 else f"{len(self.files)} files"
        many = f" of {frames} frames" if frames > len(self.files) else ""
        return f"{what}{many}, {self.sampling_angstrom:.4g} Å/px, {self.noise.kind}"


def recordings_of(
    files: Iterable[tuple[FrameFile, float]],
    read: Callable[[Path], FrameFile],
    noise: NoiseModel | None,
    mask: PixelMask | None = None,
) -> list[Recording]:
    """Group files with their pixel sizes in Å, which are looked at one at a time and opened again
    by `read`: each stack is a recording, single frames of the same pixel size and noise are one. A
    file of which no frame can be used is in none. Pixels of the `mask` are no counts."""
    found: list[Recording] = []
    for file, sampling in files:
        model = _noise_of(file, noise, mask)
        if model is None:
            continue
        one = RecordedFile(file.path, file.count)
        for index, there in enumerate(found):
            if file.count == 1 and _alike(there, sampling, model):
                found[index] = replace(there, files=(*there.files, one))
                break
        else:
            found.append(
                Recording(
                    files=(one,), sampling_angstrom=sampling, noise=model, read=read, mask=mask
                )
            )
    return found


def _noise_of(
    file: FrameFile, noise: NoiseModel | None, mask: PixelMask | None
) -> NoiseModel | None:
    for index in range(file.count):
        try:
            frame = file.read(index)
            return examined(frame if mask is None else mask.applied(frame), noise)[2]
        except ValueError:
            continue
    return None


def _alike(recording: Recording, sampling: float, noise: NoiseModel) -> bool:
    one = recording.noise
    return (
        all(file.count == 1 for file in recording.files)
        and bool(np.isclose(recording.sampling_angstrom, sampling, rtol=ALIKE))
        and one.kind == noise.kind
        and bool(np.isclose(one.gain, noise.gain, rtol=GAIN_ALIKE))
    )


def adapt(
    recording: Recording,
    base: RestorerModel,
    noise: NoiseModel | None,
    settings: LearningSettings,
    out: Path,
    progress: Callable[[float, float], None] = lambda share, nats: None,
) -> RestorerModel:
    """Tune `base` on a recording's counts and write the model folder `out`.

    `settings.seed` is that of the denoising, so that the counts held out there stay unseen here.
    `progress` hears of the share done and the nats gained. Raises InputError where no frame can be
    learned from.
    """
    lessons, used = _lessons(recording, base.card.sampling_angstrom, noise, settings.seed)
    if not lessons:
        raise InputError(f"{recording.words()}: no frame that can be learned from")
    learned = learn(network_of(base), lessons, settings, progress)
    about = {
        "frames": used,
        "sampling_angstrom": recording.sampling_angstrom,
        "settings": asdict(settings),
        "learned": learned.record(),
    }
    return write_adapted(base, learned.weights, about, out)


def _lessons(
    recording: Recording, target: float, noise: NoiseModel | None, seed: int
) -> tuple[list[Lesson], list[list[str | int]]]:
    """Lessons of at most FRAMES frames, and which those are: (file, frame)."""
    places = [(file.path, index) for file in recording.files for index in range(file.count)]
    chosen = [places[number] for number in evenly(len(places), FRAMES)]
    lessons: list[Lesson] = []
    used: list[list[str | int]] = []
    for path, of_file in groupby(chosen, key=itemgetter(0)):
        file = recording.read(path)
        for _, index in of_file:
            try:
                frame = file.read(index)
                if recording.mask is not None:
                    frame = recording.mask.applied(frame)
                lessons.append(lesson_of(frame, recording.sampling_angstrom, target, noise, seed))
            except ValueError:
                continue  # its denoising says what is wrong with it
            used.append([path.name, index])
    return lessons, used
