"""The widget in a window of napari, with real clicks."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.frames import noisy_frame
from tests.helpers.needs import missing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing("napari"), reason="needs the extra 'napari'"),
    pytest.mark.skipif("DISPLAY" not in os.environ, reason="needs a display, such as xvfb-run's"),
    pytest.mark.filterwarnings("ignore"),  # napari's own
]
SECONDS = 120.0


@pytest.fixture
def viewer() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import napari
    opened = napari.Viewer(show=False)
    yield opened
    opened.close()


def widget_of(viewer: Any) -> Any:
    from gdn.viewer.widget import DenoiseWidget

    widget = DenoiseWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Denoise")
    widget.restarts.setValue(16)
    return widget


def click(button: Any) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def wait(widget: Any, until: Any) -> None:
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + SECONDS
    while not until() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)
    assert until(), widget.status.text()


def test_napari_has_the_plugin_by_its_manifest() -> None:
    from npe2 import PluginManifest

    place = Path(__file__).parents[2] / "gdn" / "viewer" / "napari.json"
    manifest = PluginManifest.from_file(place)
    manifest.validate_imports()
    assert [widget.display_name for widget in manifest.contributions.widgets] == ["Denoise"]


def test_a_click_denoises_the_selected_layer(viewer: Any, frame_file: Path) -> None:
    from gdn.viewer.reader import read_layers

    for data, options, kind in read_layers(str(frame_file)):
        getattr(viewer, f"add_{kind}")(data, **options)
    widget = widget_of(viewer)
    assert widget.layer_label.text() == frame_file.name
    assert widget.sampling.value() == pytest.approx(0.061)
    shares: list[int] = []
    widget.bar.valueChanged.connect(shares.append)
    click(widget.start_button)
    assert not widget.start_button.isEnabled()
    assert widget.stop_button.isEnabled()
    wait(widget, lambda: widget.worker is None)
    names = [layer.name for layer in viewer.layers]
    stem = frame_file.name
    assert names[:3] == [stem, f"{stem} denoised", f"{stem} spread"]
    assert viewer.layers[1].data.shape == viewer.layers[0].data.shape
    np.testing.assert_allclose(viewer.layers[1].scale, viewer.layers[0].scale)
    assert not viewer.layers[2].visible
    assert "e/Å²" in widget.status.text()
    assert max(shares) > 500
    assert viewer.layers.selection.active is viewer.layers[0]
    assert widget.start_button.isEnabled()


def test_cancel_adds_nothing(viewer: Any) -> None:
    viewer.add_image(noisy_frame((400, 420)), name="a", scale=(0.0061,) * 2, units="nm")
    widget = widget_of(viewer)
    click(widget.start_button)
    click(widget.stop_button)
    wait(widget, lambda: widget.worker is None)
    assert "cancelled" in widget.status.text()
    assert len(viewer.layers) == 1
    assert widget.start_button.isEnabled()


def test_what_is_wrong_is_said_in_the_window(viewer: Any) -> None:
    widget = widget_of(viewer)
    assert not widget.start_button.isEnabled()  # nothing is selected
    viewer.add_image(noisy_frame((60, 60)), name="without a size")
    click(widget.start_button)
    assert "size of a pixel" in widget.status.text()
    viewer.add_image(np.ones((60, 60)), name="blank")
    widget.sampling.setValue(0.1)
    click(widget.start_button)
    wait(widget, lambda: widget.worker is None)
    assert "constant" in widget.status.text()
    assert len(viewer.layers) == 2


def test_a_stack_of_frames_may_be_a_movie(viewer: Any) -> None:
    viewer.add_image(np.stack([noisy_frame((60, 60), n) for n in range(3)]), name="movie")
    widget = widget_of(viewer)
    assert widget.movie.isEnabled()
    widget.movie.setCurrentText("on")
    widget.score.setChecked(False)
    widget.sampling.setValue(0.2)
    click(widget.start_button)
    wait(widget, lambda: widget.worker is None)
    assert viewer.layers["movie denoised"].data.shape == (3, 60, 60)
    record = viewer.layers["movie denoised"].metadata["gdn"]["record"]
    assert len(record) == 3
