"""`Result`: the images and numbers that a denoising returns in Python."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gdn.errors import InputError
from gdn.frames.axes import leading_axes
from gdn.frames.noise import NoiseModel
from gdn.frames.source import of_array
from gdn.likelihood import Array
from gdn.pipeline.output_files import outputs_for
from gdn.pipeline.previous_results import own_files
from gdn.pipeline.result_files import ResultFiles, image_opener

if TYPE_CHECKING:
    from gdn.trust.atoms import Atoms
    from gdn.trust.pixel_size import PixelSize
    from gdn.trust.standing import StandingName

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class FrameValues:
    """The values of one frame besides its images. For a frame that could not be denoised, only the
    reason."""

    explained_p: float | None = None
    standing: StandingName | None = None
    held_out_gain_db: float | None = None
    noise: NoiseModel | None = None
    dose: float = math.nan
    warnings: list[str]
    atoms: Atoms | None = None
    pixel_size: PixelSize | None = None
    record: dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """A denoised image, or a stack of them: then arrays have a leading axis of frames, and every
    property that is one value for an image is a list with one entry for each frame. `frames`,
    iteration, `len` and indexing give Results of single frames.
    """

    image: Array
    """The clean image, float32, in the units and on the grid of the input: (rows, columns), or (n,
    rows, columns)."""

    spread: Array | None
    """Calibrated half-width, of the image's shape and units, of the interval that holds the truth
    in 68 of 100 pixels; None where nothing is calibrated (a restorer alone, `estimate="map"`, a
    model without calibration, `method="original"`)."""

    raw_spread: Array | None
    """Where `spread` is None: the standard deviation by the search alone, uncalibrated; NaN for
    `method="original"`."""

    intervals: dict[int, Array]
    """Level in per cent -> half-width, as `spread`, for the levels that were asked for. Calibrated
    only if `spread` is there."""

    sampling_angstrom: float
    """Å per pixel."""

    values: list[FrameValues]
    """What the properties show, for each frame."""

    header: dict[str, Any]
    """The record of the run without its frames: input, model, engine, settings, versions."""

    signature: str
    """Program, model and seed in one line, for the metadata of the images."""

    @property
    def explained_p(self) -> float | list[float | None] | None:
        """p-value: the share of simulated frames that fit the generator as badly as this frame or
        worse. Below 0.01 the generator cannot explain the frame. None if there is no
        calibration."""
        return self._each([frame.explained_p for frame in self.values])

    @property
    def standing(self) -> StandingName | list[StandingName | None] | None:
        """What the image may be called: "explained" by the generator; "filtered", where only
        held-out electrons support it; "unsupported", where they do not. None without p or score.
        (docs/trust.md, "What may be published")"""
        return self._each([frame.standing for frame in self.values])

    @property
    def held_out_gain_db(self) -> float | list[float | None] | None:
        """Gain in PSNR over the best Gaussian blur, measured on held-out electrons, dB; None
        without a score, and where there is nothing to resolve, as in an empty field."""
        return self._each([frame.held_out_gain_db for frame in self.values])

    @property
    def columns(self) -> list[dict[str, Any]] | list[list[dict[str, Any]] | None] | None:
        """The atom columns, one dict each with the names and units of NAME_atoms.csv; None unless
        `atoms` were asked for."""
        tables = [None if frame.atoms is None else frame.atoms.table() for frame in self.values]
        return tables if self.stacked else tables[0]

    @property
    def noise(self) -> NoiseModel | list[NoiseModel | None] | None:
        """The noise as given or estimated: kind, gain, offset and read noise in the image's units;
        None of a frame that could not be denoised."""
        return self._each([frame.noise for frame in self.values])

    @property
    def dose(self) -> float | list[float]:
        """Electrons per pixel in vacuum."""
        return self._each([frame.dose for frame in self.values])

    @property
    def pixel_size(self) -> PixelSize | list[PixelSize | None] | None:
        """The pixel size that the generator explains best, in Å: `best`, `given`, and `words` that
        say what this means. None unless `find_sampling` was set, or the generator cannot explain
        the frame."""
        return self._each([frame.pixel_size for frame in self.values])

    @property
    def warnings(self) -> list[str] | list[list[str]]:
        """Sentences that say what is wrong with the frame or the result."""
        warnings = [frame.warnings for frame in self.values]
        return warnings if self.stacked else warnings[0]

    @property
    def record(self) -> dict[str, Any] | list[dict[str, Any]]:
        """Every estimate, score and timing, ready for JSON: an entry of `frames` in
        NAME_gdn.json."""
        return self._each([frame.record for frame in self.values])

    @property
    def stacked(self) -> bool:
        """Whether it is of a stack."""
        return self.image.ndim == 3

    @property
    def frames(self) -> list[Result]:
        """The Result of each frame; of a single image, itself."""
        return list(self)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Result:
        if not self.stacked:
            return [self][index]
        spread, raw = (
            None if array is None else array[index] for array in (self.spread, self.raw_spread)
        )
        widths = {level: width[index] for level, width in self.intervals.items()}
        return replace(
            self,
            image=self.image[index],
            spread=spread,
            raw_spread=raw,
            intervals=widths,
            values=[self.values[index]],
        )

    def __iter__(self) -> Iterator[Result]:
        return (self[index] for index in range(len(self)))

    def save(self, path: str | Path, overwrite: bool = False) -> list[Path]:
        """Write what `gdn denoise` writes: for a `path` of FOLDER/NAME (or NAME.tif)
        NAME_denoised.tif, NAME_spread.tif and NAME_gdn.json, likewise intervals and columns. Either
        all of them or none. The folder is made if it is not there.

        Returns the files. Raises InputError where one of them is there and `overwrite` is not set,
        OSError where the disk refuses.
        """
        outputs = outputs_for(Path(path), None).of_method(self.header["search"]["method"])
        levels = tuple(self.intervals)
        with_atoms = any(frame.atoms is not None for frame in self.values)
        written = outputs.wanted(levels, with_atoms, len(self.values))
        there = [file for file in written if file.exists()]
        own = own_files(outputs, None)
        if there and not overwrite:
            raise InputError(f"{there[0]}: exists already; choose another name, or overwrite=True")
        foreign = next((file for file in there if file not in own), None)
        if foreign is not None:
            raise InputError(
                f"{foreign}: was not written by gdn, so it is not replaced; choose another name"
            )
        outputs.folder.mkdir(parents=True, exist_ok=True)
        sizes = [(self.sampling_angstrom, "Å")] * 2
        source = of_array(Path(path), self.image, leading_axes(self.image.ndim), sizes, "array")
        opener = image_opener(outputs, source, self.sampling_angstrom, "float32", self.signature)
        several = len(self.values) > 1
        with ResultFiles(outputs, levels, opener, several=several, former=own) as files:
            for index, (result, frame) in enumerate(zip(self, self.values, strict=True)):
                spread = result.raw_spread if result.spread is None else result.spread
                assert spread is not None
                files.set(index, result.image, spread, result.intervals, frame.atoms)
            spread_path = str(outputs.spread) if outputs.with_spread else None
            paths = {"output": str(outputs.denoised), "spread": spread_path}
            files.finish(self.header | {"frames": [frame.record | paths for frame in self.values]})
        return written

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.image.shape))
        return f"<gdn.Result: {shape} px of {self.sampling_angstrom:.4g} Å, p {self.explained_p}>"

    def _each(self, values: list[Value]) -> Value | list[Value]:
        """Those of the stack's frames, or that of the image."""
        return values if self.stacked else values[0]
