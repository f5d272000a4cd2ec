"""Learning from recordings: which files are one recording, and what is learned from each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from gdn.adaptation.learn import LearningSettings
from gdn.adaptation.lessons import CorrelatedNoise, Lesson, evenly, lesson_of
from gdn.adaptation.model_folder import NOTHING, SMALL_ANGSTROM, network_of, write_adapted
from gdn.adaptation.two_starts import Progress, learn_from, small_network, small_settings
from gdn.errors import InputError
from gdn.frames.examined import examine
from gdn.frames.noise import NoiseModel
from gdn.frames.pixel_mask import PixelMask
from gdn.frames.source import FrameFile
from gdn.models import ADAPTED, ANEW, RestorerModel, learned_models
from gdn.storage import writing

FRAMES = 64  # of a recording that are learned from, evenly over it
PIXELS = 2**26  # of all lessons, from which on no frame is added: half a GiB
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
    """Files of one pixel size and noise law, which teach one network.

    - `files`: of frames.
    - `sampling_angstrom`: Å per pixel.
    - `noise`: the noise law.
    - `read`: opens a file.
    - `mask`: pixels that are no counts; nothing is learned from them (None: there are none).
    """

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
    recordings: list[Recording] = []
    for file, sampling in files:
        model = _noise_of(file, sampling, noise, mask)
        if model is None:
            continue
        recorded = RecordedFile(file.path, file.count)
        for index, there in enumerate(recordings):
            if file.count == 1 and _alike(there, sampling, model):
                recordings[index] = replace(there, files=(*there.files, recorded))
                break
        else:
            recordings.append(
                Recording(
                    files=(recorded,), sampling_angstrom=sampling, noise=model, read=read, mask=mask
                )
            )
    return recordings


def _noise_of(
    file: FrameFile, sampling: float, noise: NoiseModel | None, mask: PixelMask | None
) -> NoiseModel | None:
    for index in range(file.count):
        try:
            frame = file.read(index)
            return examine(frame if mask is None else mask.apply(frame), noise, sampling)[2]
        except ValueError:
            continue
    return None


def _alike(recording: Recording, sampling: float, noise: NoiseModel) -> bool:
    known = recording.noise
    return (
        all(file.count == 1 for file in recording.files)
        and bool(np.isclose(recording.sampling_angstrom, sampling, rtol=ALIKE))
        and known.kind == noise.kind
        and bool(np.isclose(known.gain, noise.gain, rtol=GAIN_ALIKE))
    )


def adapt(
    recording: Recording,
    base: RestorerModel,
    noise: NoiseModel | None,
    settings: LearningSettings,
    out: Path,
    progress: Progress = lambda share, best: None,
) -> list[RestorerModel]:
    """Learn from a recording's counts, beginning from `base` and from nothing, and write a model
    for each that gained into the folder `out`; where none did, the first as it was.

    `settings.seed` is that of the denoising, so that the counts held out there stay unseen here.
    `progress` hears of the share done and of what explains kept electrons best so far. Raises
    InputError where no frame can be learned from.
    """
    quick = small_settings(settings)
    sizes = (base.card.sampling_angstrom, SMALL_ANGSTROM)
    (tuned, fine), used, correlated = _lessons(recording, sizes, noise, settings.seed)
    if not tuned and correlated:
        raise InputError(
            f"{recording.words()}: the noise of neighbouring pixels is correlated; learn from "
            "frames that were not resized, filtered or compressed"
        )
    if not tuned:
        raise InputError(f"{recording.words()}: no frame that a network can learn from")
    starts = {
        base.card.name: (network_of(base), tuned, settings),
        NOTHING: (small_network(settings.seed), fine, quick),
    }
    runs = learn_from(starts, settings, progress)
    gained = [name for name, run in runs.items() if run.learned.best and run.lead > 0]
    with writing(out) as work:
        for name in gained or [base.card.name]:
            run = runs[name]
            description = {
                "from": name,
                "frames": used,
                "sampling_angstrom": recording.sampling_angstrom,
                "settings": asdict(starts[name][2]),
                "learned": run.record(),
                "steps": [other.learned.steps for other in runs.values()],
                "notes": [note for other in runs.values() for note in other.notes],
            }
            place = work / (ANEW if name == NOTHING else ADAPTED)
            write_adapted(place, base, run.learned.weights, description)
    return learned_models(out)


def _lessons(
    recording: Recording, targets: Sequence[float], noise: NoiseModel | None, seed: int
) -> tuple[list[list[Lesson]], list[list[str | int]], int]:
    """For each of the `targets`, Å a pixel, lessons of at most FRAMES frames, fewer of large ones;
    which those are: (file, frame); and how many were left out as their noise is correlated."""
    places = [(file.path, index) for file in recording.files for index in range(file.count)]
    chosen = [places[number] for number in evenly(len(places), FRAMES)]
    lessons: list[list[Lesson]] = [[] for _ in targets]
    used: list[list[str | int]] = []
    pixels, correlated = 0, 0
    for path, of_file in groupby(chosen, key=itemgetter(0)):
        file = recording.read(path)
        for _, index in of_file:
            if pixels > PIXELS:
                break
            try:
                frame = file.read(index)
                if recording.mask is not None:
                    frame = recording.mask.apply(frame)
                made = [
                    lesson_of(frame, recording.sampling_angstrom, target, noise, seed, index)
                    for target in targets
                ]
            except CorrelatedNoise:
                correlated += 1
                continue
            except ValueError:
                continue  # its denoising says what is wrong with it
            for known, lesson in zip(lessons, made, strict=True):
                known.append(lesson)
            pixels += sum(lesson.counts.size for lesson in made)
            used.append([path.name, index])
    return lessons, used, correlated
