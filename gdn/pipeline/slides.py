"""Pictures for slides: a result with scale bar and gray range, and a movie of noisy beside
denoised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from gdn.likelihood import Array
from gdn.pipeline.column_picture import gray_picture, span
from gdn.pipeline.lettering import draw_words, width_of
from gdn.pipeline.scale_bar import with_scale_bar
from gdn.search.denoise_frame import FrameResult
from gdn.storage import writing

if TYPE_CHECKING:
    from av.video.stream import VideoStream

LONGEST = 2000  # px of a slide
PANEL = 480  # px of each image of a movie
PER_SECOND = 10  # frames
GAP = 8


@dataclass(frozen=True)
class GrayRange:
    """The values that are black and white, with their unit."""

    low: float
    high: float
    unit: str

    @property
    def words(self) -> str:
        """Stated below a picture."""
        return f"black {self.low:.3g}, white {self.high:.3g} {self.unit}"


def range_of(image: Array, result: FrameResult, longest: int) -> GrayRange:
    """All values of the picture of an `image` but the extreme 0.5 % at both ends."""
    size = min(1.0, longest / max(image.shape))
    shape = (max(1, round(image.shape[1] * size)), max(1, round(image.shape[0] * size)))
    small = Image.fromarray(np.nan_to_num(image)).resize(shape, Image.Resampling.BOX)
    counts = result.noise.gain == 1 and result.noise.offset == 0
    return GrayRange(*span(np.asarray(small)), "e/px" if counts else "units of the file")


def slide(result: FrameResult) -> Image.Image:
    """The denoised image with a scale bar; dose and gray range below it."""
    levels = range_of(result.image, result, LONGEST)
    picture = _panel(result.image, levels, result.grids.sampling_angstrom, LONGEST)
    return _with_words(picture, [dose_words(result), levels.words])


def dose_words(result: FrameResult) -> str:
    """Dose per pixel and per Å²."""
    per_area = result.dose / result.grids.sampling_angstrom**2
    return f"{result.dose:.3g} e/px, {per_area:.3g} e/Å²"


class MovieFile:
    """A movie that grows frame by frame. The gray ranges are those of the first frame."""

    def __init__(self, path: Path, kind: str) -> None:
        import av

        self._container = av.open(str(path), mode="w", format=kind)
        self._kind = kind
        self._stream: VideoStream | None = None
        self._ranges: tuple[GrayRange, GrayRange] | None = None

    def add(self, index: int, frame: Array, result: FrameResult) -> None:
        """Add frame `index`, as recorded, and its result."""
        import av

        if self._ranges is None:
            images = (frame, result.image)
            noisy, denoised = (range_of(image, result, PANEL) for image in images)
            self._ranges = noisy, denoised
        picture = self._picture(index, frame, result, self._ranges)
        if self._stream is None:
            self._stream = self._open(picture)
        given = av.VideoFrame.from_image(picture.convert("RGB"))
        for packet in self._stream.encode(given):
            self._container.mux(packet)

    def close(self) -> None:
        """Write what is left."""
        if self._stream is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()

    def _open(self, picture: Image.Image) -> VideoStream:
        from av.video.stream import VideoStream

        codec, pixels = ("libx264", "yuv420p") if self._kind == "mp4" else ("gif", "gray")
        stream = self._container.add_stream(codec, rate=PER_SECOND)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, pixels
        if self._kind == "mp4":
            stream.options = {"crf": "16"}
        return stream

    def _picture(
        self, index: int, frame: Array, result: FrameResult, ranges: tuple[GrayRange, GrayRange]
    ) -> Image.Image:
        sampling = result.grids.sampling_angstrom
        panels = [
            _panel(image, levels, sampling, PANEL)
            for image, levels in zip((frame, result.image), ranges, strict=True)
        ]
        width = panels[0].width
        both = Image.new("L", (2 * width + GAP, panels[0].height), 255)
        both.paste(panels[0], (0, 0))
        both.paste(panels[1], (width + GAP, 0))
        words = [
            f"noisy ({ranges[0].words}), denoised ({ranges[1].words})",
            f"frame {index}, {dose_words(result)}",
        ]
        return _even(_with_words(both, words))


@contextmanager
def movie_file(path: Path, kind: str) -> Iterator[MovieFile]:
    """A movie that gets its name when the block ends well."""
    with writing(path) as temporary:
        movie = MovieFile(temporary, kind)
        try:
            yield movie
        finally:
            movie.close()


def save_slide(path: Path, result: FrameResult) -> None:
    """Write a slide under this very name: `writing` is the caller's."""
    slide(result).save(path, format="PNG")


def _panel(image: Array, levels: GrayRange, sampling: float, longest: int) -> Image.Image:
    picture = gray_picture(image, longest, levels.low, levels.high)
    if max(picture.size) < longest // 2:  # so that words and bar can be read
        times = longest // 2 // max(picture.size) + 1
        size = (times * picture.width, times * picture.height)
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    return with_scale_bar(picture, image.shape[1] * sampling / picture.width)


def _with_words(picture: Image.Image, lines: list[str]) -> Image.Image:
    """The picture with lines of words below it, black on white, as large as they fit."""
    size = max(10, min(picture.width // 28, 40))
    while size > 8 and max(width_of(line, size) for line in lines) > picture.width - 8:
        size -= 1
    high = round(1.5 * size)
    whole = Image.new("L", (picture.width, picture.height + high * len(lines) + 6), 255)
    whole.paste(picture, (0, 0))
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        draw_words(draw, (4, picture.height + 4 + number * high), line, size, 0)
    return whole


def _even(picture: Image.Image) -> Image.Image:
    """With an even number of rows and columns, as video needs."""
    width, height = (n + n % 2 for n in picture.size)
    whole = Image.new("L", (width, height), 255)
    whole.paste(picture, (0, 0))
    return whole
