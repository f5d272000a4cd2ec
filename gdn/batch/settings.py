"""What a batch does with every file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the heavy imports wait until the arguments are known to be good
    from gdn.models import Model, RestorerModel
    from gdn.pipeline.denoise_file import FileSettings, Witness
    from gdn.pipeline.options import Options
    from gdn.pipeline.output_files import Outputs


@dataclass(frozen=True, kw_only=True)
class BatchRun:
    """What a batch does with every file. It can be pickled, for a cluster.

    - `models`, `options`: of its Denoiser.
    - `files`: how files are read and written.
    - `folder`: for the results (None: beside each file).
    - `witness`: sees every frame with its result.
    - `resume`: skip files whose results are complete.
    - `overwrite`: make results again that are there; without either they are refused.
    - `as_json`: print rows as JSON.
    """

    models: list[Model | RestorerModel]
    options: Options
    files: FileSettings
    folder: Path | None
    witness: Witness | None = None
    resume: bool = False
    overwrite: bool = False
    as_json: bool = False

    def check_free(self, path: Path, outputs: Outputs, frames: int = 1) -> None:
        """Raises FrameError where results of `path` may not be written."""
        from gdn.batch.free_names import check_free

        judging = self.options.judging
        outputs = outputs.of_method(self.options.method)
        wanted = outputs.wanted(judging.intervals, judging.atoms, frames)
        check_free(outputs, path, wanted, self.resume or self.overwrite)
