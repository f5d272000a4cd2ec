"""The examples of the pages run."""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.helpers.frames import noisy_frame
from tests.helpers.places import ROOT

PAGE = ROOT / "docs" / "python.md"


@pytest.mark.slow
def test_every_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gdn.evaluation.demo import DEMO_NOISE, demo_frames

    clean = demo_frames()[0]
    frames = [DEMO_NOISE.apply(clean.image, seed)[250:550, 250:550] for seed in (1, 2)]
    ratio = 10 / clean.sampling_angstrom
    for name, data, axes in (
        ("frame.tif", frames[0], "YX"),
        ("movie.tif", np.stack(frames), "TYX"),
    ):
        tifffile.imwrite(
            tmp_path / name,
            data.astype(np.float32),
            imagej=True,
            resolution=(ratio, ratio),
            metadata={"unit": "nm", "axes": axes},
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GDN_THREADS", "1")
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) > 5
    test = doctest.DocTestParser().get_doctest("\n".join(examples), {}, PAGE.name, str(PAGE), 0)
    said: list[str] = []
    runner = doctest.DocTestRunner()
    runner.run(test, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = json.loads((PAGE.parent / "denoise.ipynb").read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)  # whoever opens it makes its own
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    (tmp_path / "gdn-demo").mkdir()
    tifffile.imwrite(
        tmp_path / "gdn-demo" / "frame1.tif",
        noisy_frame((300, 300)).astype(np.uint8),
        metadata={"sampling_angstrom": 0.1},
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    space: dict[str, Any] = {}
    exec(compile(code.replace("restarts=256", "restarts=16"), "denoise.ipynb", "exec"), space)
    assert space["result"].image.shape == (300, 300)
    assert (tmp_path / "gdn-demo" / "notebook_denoised.tif").exists()
