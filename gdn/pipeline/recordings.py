"""What may denoise a recording: a `RecordingDenoiser` for each generator that fits its frames; and
which of them explains the first frame best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gdn.engines.restorer import RestorerSession
from gdn.likelihood import Array
from gdn.pipeline.open_models import OpenModels
from gdn.pipeline.options import Options
from gdn.pipeline.recording import RecordingDenoiser
from gdn.search.band_mixture import Candidate
from gdn.search.collaborative import CollaborativeCandidate
from gdn.search.generator_choice import best_generator
from gdn.search.lattice_candidate import LatticeCandidate
from gdn.search.restored import RestorerCandidate


def possible_recordings(
    models: OpenModels, options: Options, shape: tuple[int, int], sampling_angstrom: float
) -> list[RecordingDenoiser]:
    """What may denoise frames of `shape` (rows, columns) px: one for each generator in question.
    Raises InputError for a pixel size that no model covers, before anything is opened, EngineError,
    CacheError."""
    models.check_pixel_size(sampling_angstrom)
    if options.original is not None:
        engine, bank = models.generator(shape, sampling_angstrom)
        explainers = models.explainers
        return [RecordingDenoiser(engine=engine, bank=bank, options=options, explainers=explainers)]
    # Generators first: an engine that does not start is then an error before anything is open
    # (`opened`).
    generators = models.generators(shape, sampling_angstrom)
    restorers = models.restorers()
    if not generators:
        return [RecordingDenoiser(engine=restorers[0], bank=None, options=options)]
    restoring = [RestorerCandidate(session) for session in restorers]
    guide = restoring[0] if restoring else None
    others: list[Candidate] = [
        CollaborativeCandidate(guide),
        LatticeCandidate(guide),
        *restoring,
        *options.outside,
    ]
    rivals = tuple(engine.model.hash for engine, _ in generators)
    return [
        RecordingDenoiser(
            engine=engine,
            bank=bank,
            options=options,
            others=others,
            rivals=rivals,
            explainers=models.explainers,
        )
        for engine, bank in generators
    ]


def best_recording(
    possible: list[RecordingDenoiser],
    options: Options,
    first_frame: Callable[[], Array],
    sampling_angstrom: float,
) -> RecordingDenoiser:
    """Of what is `possible` the one whose generator explains the first frame (rows, columns) best;
    the frame is read only if there is a choice."""
    generators = [
        (recording.engine, recording.bank)
        for recording in possible
        if not isinstance(recording.engine, RestorerSession) and recording.bank is not None
    ]
    if len(generators) < 2:
        return possible[0]
    frame = first_frame()
    if options.mask is not None:
        frame = options.mask.apply(frame)
    number, nats = best_generator(
        frame, sampling_angstrom, generators, options.search, options.noise_model
    )
    return replace(possible[number], nats=nats)
