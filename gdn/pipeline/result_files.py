"""The files of one result: its images, its tables of columns, and the record that claims them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gdn.frames.sink import Sink
from gdn.frames.source import FrameFile
from gdn.frames.writing import result_writer
from gdn.likelihood import Array
from gdn.pipeline.output_files import Outputs
from gdn.storage import write_json, writing

if TYPE_CHECKING:  # columns, pictures and movies only where they were asked for
    from gdn.pipeline.slides import MovieFile
    from gdn.search.denoise_frame import FrameResult
    from gdn.trust.atoms import Atoms

Opener = Callable[[Path], AbstractContextManager[Sink]]


def image_opener(
    outputs: Outputs, source: FrameFile, sampling_angstrom: float, dtype: str, signature: str
) -> Opener:
    """What makes the file of an image of a path: in the kind of `outputs` and the number type
    `dtype`, with the axes of `source`; its metadata hold the `signature` (program, model, seed) and
    the record's name."""
    return partial(
        result_writer,
        source=source,
        sampling_angstrom=sampling_angstrom,
        dtype=dtype,
        kind=outputs.kind,
        provenance=f"{signature}; details: {outputs.record.name}",
    )


class ResultFiles:
    """The files of one result, written frame by frame; a context manager. All of them get their
    names when the block ends well, none does if it does not.

    The record gets its name twice: before the others it claims them (`complete` is false), after
    them it says that they are there. `open_image` makes the file of an image of a path
    (`image_opener`), `levels` are those of the intervals; the tables of columns
    of `several` frames are numbered. `former`: files of an earlier result of the same input, which
    the new record owns from then on as far as they stay.
    """

    def __init__(
        self,
        outputs: Outputs,
        levels: tuple[int, ...],
        open_image: Opener,
        several: bool,
        former: set[Path] | frozenset[Path] = frozenset(),
    ) -> None:
        self._outputs, self._levels, self._several, self._former = outputs, levels, several, former
        self._record_path, self._former_record = outputs.record, outputs.former_record
        self._opened = [(path, open_image(path)) for path in outputs.images(levels)]
        self._stack, self._record = ExitStack(), dict[str, Any]()
        self._names: list[str] = []
        self._with_spread = outputs.with_spread
        self._movie: MovieFile | None = None

    def __enter__(self) -> ResultFiles:
        with ExitStack() as stack:
            self._images = [stack.enter_context(writer) for _, writer in self._opened]
            self._names = [path.name for path, _ in self._opened]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        if raised[0] is not None:
            self._stack.__exit__(*raised)
            return
        try:
            with self._stack:
                self._save(complete=False)
        except BaseException:
            if not any((self._outputs.folder / name).exists() for name in self._names):
                self._record_path.unlink(missing_ok=True)  # it claims what is not there
            raise
        self._save(complete=True)
        if self._former_record in self._former:
            self._former_record.unlink(missing_ok=True)

    def set(
        self,
        index: int,
        image: Array,
        spread: Array,
        intervals: dict[int, Array],
        atoms: Atoms | None,
    ) -> None:
        """Write frame `index`; half-widths that are not there become NaN."""
        denoised, *widths = self._images
        denoised[index] = image
        if self._with_spread:
            widths[0][index] = spread
            widths = widths[1:]
        for width, level in zip(widths, self._levels, strict=True):
            width[index] = intervals.get(level, np.full_like(image, np.nan))
        for written in self._images:
            written.resolve(spread)
        if atoms is not None:
            from gdn.pipeline.column_picture import save_atoms

            paths = self._outputs.atoms(index if self._several else None)
            table, picture = (self._stack.enter_context(writing(path)) for path in paths)
            self._names += [path.name for path in paths]
            save_atoms(table, picture, image, atoms)

    def show(self, index: int, frame: Array, result: FrameResult) -> None:
        """Write the slide of frame `index` (as recorded) and add it to the movie, if wanted."""
        if self._outputs.png:
            from gdn.pipeline.slides import save_slide

            path = self._outputs.slide(index if self._several else None)
            save_slide(self._stack.enter_context(writing(path)), result)
            self._names.append(path.name)
        if self._outputs.movie and self._several:
            if self._movie is None:
                from gdn.pipeline.slides import movie_file

                path = self._outputs.movie_file
                self._movie = self._stack.enter_context(movie_file(path, self._outputs.movie))
                self._names.append(path.name)
            self._movie.add(index, frame, result)

    def leave_out(self, index: int, shape: tuple[int, int], mean: float) -> None:
        """Frame `index` of `shape` (rows, columns) could not be denoised: it becomes flat, at its
        own `mean`, without a spread (NaN)."""
        denoised, *others = self._images
        denoised[index] = np.full(shape, mean, np.float32)
        for image in others:
            image[index] = np.full(shape, np.nan, np.float32)

    def stored(self) -> dict[str, dict[str, float]]:
        """Of images of integers, by name: value = offset + scale * what is stored."""
        return {
            path.name: asdict(values)
            for (path, _), sink in zip(self._opened, self._images, strict=True)
            if sink.scaled and not (values := sink.values).plain
        }

    def finish(self, record: dict[str, Any]) -> None:
        """What the record says."""
        self._record = record

    def _save(self, complete: bool) -> None:
        """Write the record under its name."""
        mine = {*self._names, self._record_path.name, self._former_record.name}
        former = {path.name for path in self._former if path.exists()} - mine
        content = self._record | {
            "complete": complete,
            "outputs": sorted(self._names),
            "former_outputs": sorted(former),
        }
        write_json(self._record_path, content)
