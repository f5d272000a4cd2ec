"""HyperSpy signals in, signals out."""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import gdn
from gdn.errors import InputError
from gdn.pipeline.signals import is_signal
from tests.helpers.frames import noisy_frame
from tests.helpers.places import ROOT

FAST = {"model": "pt-ceo2-64", "restarts": 16, "score": False, "threads": 1}
needs_hyperspy = pytest.mark.skipif(
    importlib.util.find_spec("hyperspy") is None, reason="needs the extra 'hyperspy'"
)


def signal_of(frames: np.ndarray, lazy: bool = False, unit: str = "nm"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, at import
        import hyperspy.api as hs
    signal = hs.signals.Signal2D(frames)
    for axis in signal.axes_manager.signal_axes:
        axis.scale, axis.units = 0.0061, unit
    signal.metadata.General.title = "particle"
    return signal.as_lazy() if lazy else signal


def stack() -> np.ndarray:
    return np.stack([noisy_frame((120, 130), seed) for seed in (0, 1)])


class BaseSignal:
    """Named as HyperSpy's, but of another module."""


def test_only_a_signal_of_hyperspy_is_one() -> None:
    assert not is_signal(BaseSignal())
    assert not is_signal(np.zeros((20, 20)))
    made = type("Signal2D", (type("BaseSignal", (), {"__module__": "hyperspy.signal"}),), {})
    assert is_signal(made())


@needs_hyperspy
@pytest.mark.slow
def test_a_signal_keeps_its_axes_and_gets_the_array_result() -> None:
    frames = stack()
    signal = signal_of(frames)
    made = gdn.denoise(signal, **FAST)
    plain = gdn.denoise(frames, 0.061, **FAST)
    np.testing.assert_array_equal(made.image.data, plain.image)
    np.testing.assert_array_equal(made.spread.data, plain.spread)
    assert [a.units for a in made.image.axes_manager.signal_axes] == ["nm", "nm"]
    assert made.image.axes_manager.signal_axes[0].scale == 0.0061
    assert made.image.metadata.General.title == "particle denoised"
    assert made.spread.metadata.General.title == "particle spread"
    assert made.image.metadata.gdn.sampling_angstrom == pytest.approx(0.061)
    assert made.image.metadata.gdn.dose_e_per_px == plain.dose
    assert made.result.explained_p == plain.explained_p
    np.testing.assert_array_equal(signal.data, frames)  # the input is not changed
    assert signal.metadata.General.title == "particle"


@needs_hyperspy
@pytest.mark.slow
def test_a_lazy_signal_is_denoised_when_it_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    dask = pytest.importorskip("dask", reason="comes with HyperSpy")

    from gdn.pipeline.recording import RecordingDenoiser

    frames, calls, denoise = stack(), [], RecordingDenoiser.denoise

    def counted(self, *arguments, **more):
        calls.append(1)
        return denoise(self, *arguments, **more)

    monkeypatch.setattr(RecordingDenoiser, "denoise", counted)
    plain = gdn.denoise(frames, 0.061, **FAST)
    calls.clear()
    made = gdn.denoise(signal_of(frames, lazy=True), **FAST)
    assert not calls
    assert isinstance(made.image.data, dask.array.Array)
    assert made.image.data.shape == frames.shape
    image, spread = dask.compute(made.image.data, made.spread.data)
    assert len(calls) == 2  # once for image and spread
    np.testing.assert_array_equal(image, plain.image)
    np.testing.assert_array_equal(spread, plain.spread)
    one = made.image.inav[1].data.compute()
    assert len(calls) == 3  # that frame alone
    np.testing.assert_array_equal(one, plain.image[1])


@needs_hyperspy
def test_what_is_no_image_or_has_no_size_is_refused() -> None:
    with pytest.raises(InputError, match="wanted a Signal2D"):
        gdn.denoise(signal_of(stack()).as_signal1D(2))
    with pytest.raises(InputError, match="give sampling_angstrom"):
        gdn.denoise(signal_of(stack(), unit="px"))
    with pytest.raises(InputError, match="need all frames at once"):
        gdn.denoise(signal_of(stack(), lazy=True), movie="on")


@needs_hyperspy
@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib, as the notebook does")
    text = (ROOT / "docs" / "hyperspy.ipynb").read_text(encoding="utf-8")
    cells = json.loads(text)["cells"]
    assert not any(cell.get("outputs") for cell in cells)  # whoever opens it makes its own
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    (tmp_path / "gdn-demo").mkdir()
    tifffile.imwrite(
        tmp_path / "gdn-demo" / "frame1.tif",
        noisy_frame((300, 300)),
        metadata={"sampling_angstrom": 0.1},
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    space: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # HyperSpy's
        exec(compile(code.replace("restarts=256", "restarts=16"), "hyperspy.ipynb", "exec"), space)
    assert space["made"].image.data.shape == (300, 300)
    assert space["image"].shape == (2, 300, 300)
    assert space["made"].result.sampling_angstrom == pytest.approx(0.1)
    assert (tmp_path / "gdn-demo" / "frame1_denoised.hspy").exists()
