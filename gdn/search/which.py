"""Which of several generators explains a frame: each proposes for a part of its counts, and the counts held out decide.

A proposal is the blended image of the encoder's unrefined starts with the significant part of its residual: a tenth of the
time of a search. The first generator stays unless another is better by more than chance has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gdn.engines.base import Engine
from gdn.engines.observation import Array
from gdn.frames.noise import NoiseModel
from gdn.frames.pixels import filled, find_defects
from gdn.frames.tiling import tile_frame
from gdn.search.bank import Bank
from gdn.search.binned import Binned
from gdn.search.denoise import binned_frame
from gdn.search.heldout import MARGIN, Recorded, explained_nats
from gdn.search.tiles import SearchSettings
from gdn.search.whole import proposed


def held_out_nats(
    frame: Array, sampling_angstrom: float, engine: Engine, bank: Bank, settings: SearchSettings, noise: NoiseModel | None
) -> float:
    """Nats by which the generator's proposal explains counts held out of `frame` (rows, columns) better than its mean does.

    Raises ValueError where the noise model contradicts the frame.
    """
    defects = find_defects(frame)
    whole = frame if defects.bad is None else filled(frame, defects.bad)
    model, grids, _ = binned_frame(whole, sampling_angstrom, engine, noise)
    parts, _ = Recorded(model.electrons(whole), model.alpha, model.beta, grids).split(bank.seed)
    patch = engine.model.card.patch
    tiling = tile_frame((parts.first.shape[0], parts.first.shape[1]), patch, settings.stride or patch // 2)
    quick = replace(settings, symmetries=1, brief_candidates=0)
    return explained_nats(parts, proposed(engine, bank, Binned(parts.first, parts.alpha, parts.beta), tiling, quick))


def best_generator(
    frame: Array,
    sampling_angstrom: float,
    generators: Sequence[tuple[Engine, Bank]],
    settings: SearchSettings,
    noise: NoiseModel | None = None,
) -> tuple[int, dict[str, float]]:
    """Number of the generator that explains `frame` best, and the held-out nats of each by its name; 0 and none for a frame
    that none can be tried on: whoever denoises it says why."""
    if not np.nanstd(frame) > 0:
        return 0, {}
    try:
        nats = [held_out_nats(frame, sampling_angstrom, engine, bank, settings, noise) for engine, bank in generators]
    except ValueError:
        return 0, {}
    best = max(range(len(nats)), key=lambda i: nats[i])
    names = [engine.model.card.name for engine, _ in generators]
    found = {name: round(value, 1) for name, value in zip(names, nats, strict=True)}
    return (best if nats[best] > nats[0] + MARGIN else 0), found
