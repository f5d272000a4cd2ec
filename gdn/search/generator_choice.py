"""Which of several generators explains a frame: each proposes an image from a part of the counts,
and the held-out counts decide.

A proposal is the blended image of the encoder's unrefined starts, plus the significant part of its
residual. It takes a tenth of the time of a search. The first generator is kept unless another is
better by more than chance explains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gdn.blas import one_blas_thread
from gdn.engines.base import Engine
from gdn.frames.examined import examine
from gdn.frames.noise import NoiseModel
from gdn.frames.resampling import Grids, grids_for
from gdn.likelihood import Array
from gdn.search.all_tiles import blend_starts
from gdn.search.bank import Bank
from gdn.search.held_out_shares import MARGIN, explained_nats
from gdn.search.settings import Searcher, SearchSettings
from gdn.search.thinning import Recorded, Split
from gdn.search.tiles import Binned, tile_frame


def held_out_nats(parts: Split, searcher: Searcher, residual: bool = True) -> float:
    """Nats by which the generator's image of the first of two `parts` of a frame's counts explains
    the second part better than the mean of the first does; with the significant part of its
    `residual`, or without."""
    settings, patch = searcher.settings, searcher.engine.model.card.patch
    shape = (parts.first.shape[0], parts.first.shape[1])
    tiling = tile_frame(shape, patch, settings.stride or patch // 2, parts.valid)
    quick = replace(settings, symmetries=1, brief_candidates=0)
    binned = Binned(parts.first, parts.law, parts.valid)
    image = blend_starts(replace(searcher, settings=quick), binned, tiling)
    return explained_nats(parts, image, residual)


@one_blas_thread()
def best_generator(
    frame: Array,
    sampling_angstrom: float,
    generators: Sequence[tuple[Engine, Bank]],
    settings: SearchSettings,
    noise: NoiseModel | None = None,
) -> tuple[int, dict[str, float]]:
    """Number of the generator that explains `frame` best, and the held-out nats of each generator
    by its name. If none can be tried on the frame: 0 and an empty dictionary; the denoising that
    follows then says why."""
    if not np.nanstd(frame) > 0:
        return 0, {}
    try:
        defects, whole, model = examine(frame, noise, sampling_angstrom)
    except ValueError:
        return 0, {}
    electrons = model.electrons(whole)
    if electrons.mean() <= 0:
        return 0, {}
    parts: dict[Grids, Split] = {}  # the generators of a family share one grid
    nats = []
    for engine, bank in generators:
        grids = grids_for(
            (frame.shape[0], frame.shape[1]), sampling_angstrom, engine.model.card.sampling_angstrom
        )
        if grids not in parts:
            recorded = Recorded(electrons=electrons, law=model.law, grids=grids, bad=defects.bad)
            parts[grids] = recorded.split(bank.seed)[0]
        searcher = Searcher(engine=engine, bank=bank, settings=settings)
        nats.append(held_out_nats(parts[grids], searcher))
    best = max(range(len(nats)), key=lambda i: nats[i])
    names = [engine.model.card.name for engine, _ in generators]
    nats_by_name = {name: round(value, 1) for name, value in zip(names, nats, strict=True)}
    return (best if nats[best] > nats[0] + MARGIN else 0), nats_by_name
