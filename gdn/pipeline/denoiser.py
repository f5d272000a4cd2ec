"""`Denoiser`: opens models, engines and banks once, and then denoises any number of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import ArrayLike

from gdn.engines.base import Engine
from gdn.errors import GdnError, InputError
from gdn.likelihood import Array
from gdn.models import AUTO, Model, RestorerModel
from gdn.pipeline.budget import Budget
from gdn.pipeline.learning import budget_of, learned_candidates
from gdn.pipeline.open_models import OpenModels, models_named
from gdn.pipeline.options import Options
from gdn.pipeline.recording import RecordingDenoiser
from gdn.pipeline.recordings import best_recording, possible_recordings
from gdn.search.bank import Bank
from gdn.search.progress import Progress, part_of

if TYPE_CHECKING:  # what becomes of arrays is imported when one is given: files do not need it
    from gdn.pipeline.result import Result


class Denoiser:
    """Denoises electron micrographs. A context manager: it opens models and engines at the first
    image and uses them for all later ones.

    Parameters
    ----------
    model
        `auto`: the shipped generator that explains the image best, among those whose patch fits
        into the image, mixed with the shipped restorer and filters; held-out counts decide how much
        of each. Or the name of a shipped model, a model folder, or several of these separated by
        commas.
    restarts
        Number of random latents in the bank, 1 to 1 000 000.
    seed
        Seed of every random number; the same seed gives the same image.
    engine, device
        The library that runs the networks: `auto`, `onnxruntime`, `torch` or `tensorrt`; and its
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `tensorrt`.
    threads
        CPU threads; None: all cores. The image is the same for any number of threads. During the
        work BLAS has one thread in the whole process; afterwards it has as many as before.
    require_gpu
        Raise EngineError instead of using the CPU.
    cache
        Keep the bank on disk (`GDN_CACHE_DIR`).
    noise
        `auto`, `poisson`, `gaussian`, `gaussian:S` (S in the image's units) or `poisson-gaussian`.
    find_sampling
        Look for the pixel size that the generator explains best, and say so; the one given is used
        all the same. Without it gdn looks only where the generator cannot explain the image.
    straighten
        `auto`: where the rows of a scan (STEM) are seen to be displaced or uneven in brightness,
        take that off first, and say so. `off`: leave them as they were recorded.
    fill
        Value of pixels that are left out (missing, saturated, or in a constant region): `model`
        (the search fills them in), or `nan`.
    estimate
        `mean`: the average of the candidates. `map`: the single best candidate, refined longer; its
        spread is not calibrated.
    residual
        Add what the counts clearly show and the generator cannot draw.
    laplace
        Add the Laplace variance to the raw spread: `none`, `sampled` or `exact` (slow).
    movie
        For a stack of at least three frames that show one object, which may drift. `on`: align the
        frames, and use the neighbouring frames to denoise each one; held-out counts decide how much
        they contribute. `auto`: first test whether this helps. `off`: denoise each frame alone.
    adapt
        Seconds of training on the image or stack itself before it is denoised; the trained networks
        join the candidates. True: 60. Needs torch (docs/howto/adapt.md).
    adapt_steps
        Exactly this number of steps instead, for the restorer, or (N, M) for it and the small
        network: the result is then the same, bit for bit.
    method
        `gdn`, or `original`: the search of the original study, for comparison (hours per frame),
        with `original_steps`.
    score
        Compare the result with a blur and a flat image on held-out counts; this takes half as long
        again.
    atoms
        Find atom columns and test each against the counts, at the false-discovery rate `fdr`, 0.001
        to 0.5.
    intervals
        Levels of further intervals, in per cent: any of 50, 68, 90 and 99.
    candidates
        Denoisers of your own, whose images are mixed in; held-out counts decide how much. Each is a
        function of the counts (float32, rows and columns, in electrons) and of their Å per pixel,
        which returns the denoised image in the same units; or a text as for `gdn denoise
        --candidate` (docs/howto/own-denoiser.md).

    Raises
    ------
    InputError, ModelError, EngineError
        For a setting, a model or an engine that cannot be used; all are kinds of GdnError. Engines
        are opened at the first image, so an engine that does not start raises its error then.
    """

    def __init__(  # noqa: PLR0913  # one keyword a setting: what a user types
        self,
        model: str | Path = AUTO,
        restarts: int = 256,
        seed: int = 0,
        engine: str = "auto",
        *,
        device: str = "auto",
        threads: int | None = None,
        require_gpu: bool = False,
        cache: bool = True,
        noise: str = "auto",
        find_sampling: bool = False,
        straighten: str = "auto",
        fill: str = "model",
        estimate: str = "mean",
        residual: bool = True,
        laplace: str = "none",
        movie: str = "off",
        adapt: float | bool = False,
        adapt_steps: int | tuple[int, int] | None = None,
        method: str = "gdn",
        original_steps: str = "10,1500,10000",
        score: bool = True,
        atoms: bool = False,
        fdr: float = 0.05,
        intervals: Sequence[int] = (),
        candidates: Sequence[str | Callable[..., Any]] = (),
    ) -> None:
        options = Options(
            restarts=restarts,
            seed=seed,
            engine=engine,
            device=device,
            threads=threads,
            require_gpu=require_gpu,
            cache=cache,
            noise=noise,
            find_sampling=find_sampling,
            straighten=straighten,
            fill=fill,
            estimate=estimate,
            residual=residual,
            laplace=laplace,
            movie=movie,
            method=method,
            original_steps=original_steps,
            score=score,
            atoms=atoms,
            fdr=float(fdr),
            intervals=tuple(map(int, intervals)),
            candidates=(candidates,) if isinstance(candidates, str) else tuple(candidates),
        )
        self._start(models_named(str(model)), options, budget=budget_of(adapt, adapt_steps))

    @classmethod
    def of(
        cls,
        models: list[Model | RestorerModel],
        options: Options,
        open_bank: Callable[[Engine], Bank] | None = None,
    ) -> Denoiser:
        """A Denoiser of `models` that are read already. `open_bank` makes an engine's bank (None:
        as `options` have it). Raises InputError."""
        made = cls.__new__(cls)
        made._start(models, options, open_bank)
        return made

    def _start(
        self,
        models: list[Model | RestorerModel],
        options: Options,
        open_bank: Callable[[Engine], Bank] | None = None,
        budget: Budget | None = None,
    ) -> None:
        options.check_models(models)
        if budget is not None and options.method != "gdn":
            method = options.method
            raise InputError(f"adapt: not with method {method}, which mixes nothing", "adapt")
        if budget is not None and not any(isinstance(model, Model) for model in models):
            raise InputError(
                "adapt: a restorer alone mixes nothing; add a generator, or use model auto", "adapt"
            )
        self.options = options
        self._models = OpenModels(models, options, open_bank)
        self._closed = False
        self._budget = budget

    @property
    def opened(self) -> bool:
        """Whether any of the models has been opened."""
        return self._models.opened

    def denoise(
        self,
        image: ArrayLike,
        sampling_angstrom: float | None,
        mask: ArrayLike | None = None,
        progress: Progress = lambda share: None,
    ) -> Result:
        """Denoise one image (rows, columns), or each image of a stack (n, rows, columns) of one
        recording.

        `image`: integers or real numbers, in any linear units, the detector's counts at best; NaN
        and infinity are missing pixels, as are those where `mask` (bool, of the image's shape, or
        of one frame's) is True; a tenth of a frame must be left. `sampling_angstrom`: Å per
        pixel, from 0.01 to 2.5 times the generator's (of the shipped ones 1 Å). `progress` hears of
        the share that is done, 0 to 1.

        For a stack the result's arrays are stacked, and what has one value for an image is a list
        (`Result.frames` takes it apart). The generator is chosen by the first frame. A frame of a
        stack that cannot be denoised (the beam was blanked) comes back flat, with a warning that
        says why. The input is not changed.

        Raises InputError for an image that cannot be denoised, EngineError where no engine runs,
        CacheError (a GdnError) where the bank fits neither memory nor the disk cache, and
        CandidateError (a GdnError) where one of the `candidates` fails.
        """
        from gdn.pipeline.denoise_array import denoise_array
        from gdn.pipeline.inputs import check_input

        given = check_input(image, sampling_angstrom, mask)
        straightener = self.options.straightener
        if straightener is not None:
            given = straightener.of_input(given)
        first = next(index for index in range(len(given.frames)) if index not in given.unusable)
        recording = self.for_recording(given.frames[first], given.sampling_angstrom)
        if self._budget is None:
            return denoise_array(given, recording, progress)
        half, rest = part_of(progress, 0, 0.5), part_of(progress, 0.5, 0.5)
        with learned_candidates(given, self.options, self._budget, half) as (learned, notes):
            others = [*recording.others, *learned]
            return denoise_array(given, replace(recording, others=others), rest, notes)

    def for_recording(self, first_frame: Array, sampling_angstrom: float) -> RecordingDenoiser:
        """The denoiser of one recording. Among the generators that fit its frames it uses the one
        that explains `first_frame` (rows, columns) float32 best. Raises EngineError, CacheError."""
        shape = (first_frame.shape[0], first_frame.shape[1])
        return self.best(
            self.possible(shape, sampling_angstrom), lambda: first_frame, sampling_angstrom
        )

    def possible(self, shape: tuple[int, int], sampling_angstrom: float) -> list[RecordingDenoiser]:
        """What may denoise frames of `shape` (rows, columns) px: one for each generator in
        question. Raises InputError for a pixel size that no model covers, before anything is
        opened, EngineError, CacheError."""
        if self._closed:
            raise GdnError(
                "this Denoiser is closed; make a new one, or work inside its 'with' block"
            )
        return possible_recordings(self._models, self.options, shape, sampling_angstrom)

    def best(
        self,
        possible: list[RecordingDenoiser],
        first_frame: Callable[[], Array],
        sampling_angstrom: float,
    ) -> RecordingDenoiser:
        """Of what is `possible` the one whose generator explains the first frame best; it is read
        only if there is a choice."""
        return best_recording(possible, self.options, first_frame, sampling_angstrom)

    def close(self) -> None:
        """Close models and engines. The Denoiser cannot be used after that."""
        self._models.close()
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
