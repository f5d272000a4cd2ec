"""A restorer's image of a frame: the frame is binned by a whole number, restored, and interpolated
back.

All images are float32 (rows, columns). As a candidate of the mixture (`gdn.search.band_mixture`)
the image is summed onto the generator's grid. Without a generator (`--model restore`) it is the
result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import ref

import numpy as np
from scipy.ndimage import gaussian_filter

from gdn.blas import one_blas_thread
from gdn.engines.restorer import RestorerSession
from gdn.frames.examined import examine
from gdn.frames.noise import NoiseModel
from gdn.frames.resampling import Grids, rebin, unbin
from gdn.likelihood import Array, NoiseLaw
from gdn.search.denoise_frame import FrameResult
from gdn.search.held_out_shares import Choice
from gdn.search.progress import Clock, Progress
from gdn.search.thinning import HELD_OUT, Electrons, Recorded, split

TURNS, TURNS_ALONE = (
    2,
    8,
    # symmetries of the square averaged over, beside a generator and alone
    # (docs/measurements/restorer.md)
)
SMOOTH_ANGSTROM = 0.8  # over which the squared difference of two images is averaged


@dataclass(frozen=True)
class RestorerCandidate:
    """The restorer as one of the mixture's candidates (`gdn.search.band_mixture.Candidate`). Its
    last image is kept: the collaborative filter is guided by the same."""

    session: RestorerSession
    turns: int = TURNS
    _last: list[tuple[ref[Recorded], Array]] = field(
        default_factory=list, repr=False, compare=False
    )

    @property
    def name(self) -> str:
        """The name of its model."""
        return self.session.model.card.name

    @property
    def identity(self) -> str:
        """sha256 of its model's files."""
        return self.session.model.hash

    @property
    def sampling_angstrom(self) -> float:
        """The pixel that frames are summed to, about."""
        return self.session.model.card.sampling_angstrom

    def restore(self, recorded: Recorded) -> Array:
        """Its image of recorded counts, in electrons per pixel of their sums
        (docs/method.md, "Grid")."""
        for counts, image in self._last:
            if counts() is recorded:
                return image
        factor = binning(recorded.grids.sampling_angstrom, self.sampling_angstrom)
        image = self.session.restore(bin_by(recorded.electrons, factor)[None], turns=self.turns)
        self._last[:] = [(ref(recorded), image)]
        return image

    def restore_sums(self, recorded: Recorded, sampling_angstrom: float) -> Array:
        """The same image in the sums that `image_of_sums` makes at another sampling."""
        pixel = recorded.grids.sampling_angstrom
        factor, wanted = (binning(pixel, a) for a in (self.sampling_angstrom, sampling_angstrom))
        image = self.restore(recorded)
        if wanted == factor:
            return image
        shape = (recorded.electrons.shape[0], recorded.electrons.shape[1])
        return bin_by(unbin_by(image, factor, shape, pixel), wanted)

    def __call__(self, recorded: Recorded) -> Array:
        """Its image of recorded counts, in electrons per pixel of the generator's grid."""
        factor = binning(recorded.grids.sampling_angstrom, self.sampling_angstrom)
        return rebin_sums(self.restore(recorded), factor, recorded.grids)


def image_of_sums(
    recorded: Recorded, sampling_angstrom: float, filter_counts: Callable[[Array, NoiseLaw], Array]
) -> Array:
    """Sum recorded counts over squares of about `sampling_angstrom` and apply `filter_counts` to
    the sums and their noise law. Returns the image in electrons per pixel of the generator's grid.
    The sums are those of docs/method.md, "Grid"."""
    factor = binning(recorded.grids.sampling_angstrom, sampling_angstrom)
    image = filter_counts(bin_by(recorded.electrons, factor), recorded.law.of_sum(factor**2))
    return rebin_sums(image, factor, recorded.grids)


def binning(sampling_angstrom: float, target_angstrom: float) -> int:
    """The whole number of pixels that is nearest to the target; 1 if the frame's pixels are
    larger."""
    return max(1, round(target_angstrom / sampling_angstrom))


def restore_counts(
    electrons: Electrons,
    sampling_angstrom: float,
    session: RestorerSession,
    turns: int = TURNS,
    mask: Array | None = None,
) -> Array:
    """The restorer's image of `electrons`, in electrons per recorded pixel, on their grid. `mask`
    is 1 where a pixel is good."""
    factor = binning(sampling_angstrom, session.model.card.sampling_angstrom)
    whole, valid = bin_by(electrons, factor), None
    if mask is not None:
        valid = bin_mask(mask, factor)[None]
    shape = (electrons.shape[0], electrons.shape[1])
    return unbin_by(session.restore(whole[None], valid, turns), factor, shape, sampling_angstrom)


def bin_by(image: Electrons, factor: int) -> Array:
    """Sums over squares of `factor` px. Incomplete squares are completed by mirroring."""
    rows, columns = image.shape
    padded = np.pad(image, ((0, -rows % factor), (0, -columns % factor)), mode="symmetric")
    blocks = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor)
    return np.asarray(blocks.sum((1, 3), dtype=np.float32))


def bin_mask(mask: Array, factor: int) -> Array:
    """1 where most of a square of `factor` px is good (1 in `mask`), 0 elsewhere."""
    return (bin_by(mask, factor) > factor**2 / 2).astype(np.float32)


def unbin_by(image: Array, factor: int, shape: tuple[int, int], sampling_angstrom: float) -> Array:
    """The inverse of `bin_by`: the image per recorded pixel, of `shape`, whose sums over squares
    are `image`."""
    grids = _grids(image, factor, sampling_angstrom)
    return np.asarray(
        unbin(image, grids)[: shape[0], : shape[1]] / np.float32(grids.area), dtype=np.float32
    )


def rebin_sums(image: Array, factor: int, grids: Grids) -> Array:
    """The result of `unbin_by`, summed onto the generator's grid by `bin_sum` on `grids`."""
    fine = _grids(image, factor, grids.sampling_angstrom)
    return rebin(image / np.float32(factor**2), fine, grids)


def _grids(image: Array, factor: int, sampling_angstrom: float) -> Grids:
    """The grids of an image of sums over squares of `factor` px."""
    return Grids(
        (factor * image.shape[0], factor * image.shape[1]),
        (image.shape[0], image.shape[1]),
        sampling_angstrom,
    )


@one_blas_thread()
def restore_frame(
    frame: Array,
    sampling_angstrom: float,
    session: RestorerSession,
    seed: int = 0,
    noise: NoiseModel | None = None,
    progress: Progress = lambda share: None,
) -> FrameResult:
    """Denoise one frame (rows, columns) float32 by the restorer alone. Raises ValueError where the
    noise model contradicts it.

    The spread is the effect of noise on the image, estimated from two independent parts of the
    counts. It is not calibrated. An error that both parts have in common is not in it.
    """
    clock = Clock()
    defects, whole, model = examine(frame, noise, sampling_angstrom)
    electrons = model.electrons(whole)
    mask = None if defects.bad is None else (~defects.bad).astype(np.float32)
    clock.mark("prepare")
    image = restore_counts(electrons, sampling_angstrom, session, TURNS_ALONE, mask)
    clock.mark("restore")
    progress(0.4)
    doubt = _estimate_spread(electrons, sampling_angstrom, session, model, seed) * np.float32(
        abs(model.gain)
    )
    clock.mark("spread")
    progress(1.0)
    factor = binning(sampling_angstrom, session.model.card.sampling_angstrom)
    shape = (electrons.shape[0], electrons.shape[1])
    grids = Grids(shape, (-(-shape[0] // factor), -(-shape[1] // factor)), sampling_angstrom)
    return FrameResult(
        image=model.units(image),
        raw_spread=doubt,
        noise=model,
        grids=grids,
        dose=float((electrons if defects.bad is None else electrons[~defects.bad]).mean()),
        objective=float("nan"),
        objectives=[],
        bank_share=0.0,
        residual_share=0.0,
        held_out=Choice(threshold=np.inf),
        tiles=0,
        estimate=None,
        seconds=clock.seconds,
        warnings=[
            *defects.notes,
            "this is the restorer's image alone: its spread is not calibrated, and it has no score",
        ],
        bad=defects.bad,
    )


def _estimate_spread(
    electrons: Array, sampling: float, session: RestorerSession, noise: NoiseModel, seed: int
) -> Array:
    """Standard deviation of the image that is due to noise, from the images of two independent
    parts of the counts (docs/restorer.md, "How far to trust it"). With shares s and 1 - s, the
    variance of their difference is 1 / s + 1 / (1 - s) times that of the image of all counts."""
    parts = split(electrons, noise.law, seed)
    first, second = (
        restore_counts(part, sampling, session) / np.float32(share)
        for part, share in ((parts.first, 1 - HELD_OUT), (parts.second, HELD_OUT))
    )
    factor = 1 / (1 - HELD_OUT) + 1 / HELD_OUT
    square = gaussian_filter((first - second) ** 2 / factor, SMOOTH_ANGSTROM / sampling)
    return np.asarray(np.sqrt(np.maximum(square, 0)), dtype=np.float32)
