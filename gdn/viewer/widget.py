"""The widget: denoises the selected layer of a napari viewer."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from gdn.batch.terminal import duration
from gdn.errors import InputError
from gdn.pipeline.column_picture import COLOURS
from gdn.pipeline.options import FEWEST, MOVIES
from gdn.pipeline.pixel_sizes import COARSEST, FINEST
from gdn.pipeline.result import Result
from gdn.trust.fit import REFUSED
from gdn.viewer.layers import frames_of, result_layers, sampling_of
from gdn.viewer.worker import Worker

UNEXPLAINED = (
    "The generator cannot explain {count}: check the pixel size; else the specimen is another one "
    "than those that gdn was trained for. Do not rely on spread and columns."
)
CLOSING_SECONDS = 30.0  # that the window waits for the search to stop


class DenoiseWidget(QWidget):  # type: ignore[misc]  # Qt has no types here
    """Choose an image layer, check the pixel size, press Denoise. Result, spread and columns become
    layers."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.worker: Worker | None = None
        self._layer: Any = None
        self._name, self._begun = "", 0.0
        self.layer_label = QLabel()
        self.sampling = QDoubleSpinBox()
        self.sampling.setDecimals(4)
        self.sampling.setRange(0, COARSEST)
        self.sampling.setSingleStep(0.001)
        self.sampling.setSpecialValueText("not known")
        self.sampling.setSuffix(" Å/px")
        self.movie = QComboBox()
        self.movie.addItems(MOVIES)
        self.columns = QCheckBox("find atom columns")
        self.columns.setChecked(True)
        self.score = QCheckBox("compare with a plain filter")
        self.score.setChecked(True)
        self.restarts = QSpinBox()
        self.restarts.setRange(1, 65536)
        self.restarts.setValue(256)
        self.start_button, self.stop_button = QPushButton("Denoise"), QPushButton("Cancel")
        self.bar, self.status = QProgressBar(), QLabel()
        self.bar.setRange(0, 1000)
        self.status.setWordWrap(True)
        self.sampling.setMinimumWidth(150)
        self._lay_out()
        self.start_button.clicked.connect(self.start)
        self.stop_button.clicked.connect(self.stop)
        self.viewer.layers.selection.events.changed.connect(self._selected)
        self._set_running(False)
        self._selected()

    def start(self) -> None:
        """Denoise the selected layer."""
        if self._layer is None or self.worker is not None:
            return
        sampling = self.sampling.value()
        if sampling < FINEST:
            self.status.setText("Give the size of a pixel. A wrong one gives a wrong lattice.")
            return
        try:
            image = frames_of(self._layer)
        except InputError as error:
            self.status.setText(str(error))
            return
        self._name, self._begun = self._layer.name, time.monotonic()
        worker = Worker(image, sampling, self._options(image.ndim))
        worker.progressed.connect(self._progressed)
        worker.succeeded.connect(self._succeeded)
        worker.failed.connect(self._failed)
        self.worker = worker
        self._set_running(True)
        self.status.setText(f"denoising {self._name}")
        worker.start()

    def stop(self) -> None:
        """Cancel the denoising."""
        if self.worker is not None:
            self.worker.stop()
            self.status.setText("stopping")

    def closeEvent(self, event: Any) -> None:  # noqa: N802  # Qt's name
        """Stop the work with the window."""
        if self.worker is not None:
            self.worker.stop()
            self.worker.wait(CLOSING_SECONDS)
        super().closeEvent(event)

    def _options(self, dimensions: int) -> dict[str, Any]:
        return {
            "atoms": self.columns.isChecked(),
            "score": self.score.isChecked(),
            "restarts": self.restarts.value(),
            "movie": self.movie.currentText() if dimensions == 3 else MOVIES[0],
        }

    def _selected(self, event: object = None) -> None:
        """Another layer is selected: its name and pixel size."""
        if self.worker is not None:
            return
        active = self.viewer.layers.selection.active
        is_image = active is not None and type(active).__name__ == "Image"
        self._layer = active if is_image else None
        self.layer_label.setText(active.name if is_image else "select an image layer")
        self.start_button.setEnabled(is_image)
        if is_image:
            self.sampling.setValue(sampling_of(active) or 0.0)
            self.movie.setEnabled(active.ndim == 3 and len(active.data) >= FEWEST)

    def _progressed(self, share: float) -> None:
        self.bar.setValue(round(1000 * share))
        spent = time.monotonic() - self._begun
        if share > 0.02:
            self.bar.setFormat(f"%p %, about {duration(spent * (1 / share - 1))} left")

    def _succeeded(self, result: Result) -> None:
        denoised = self._layer
        self._end()
        for data, options, kind in result_layers(result, self._name):
            getattr(self.viewer, f"add_{kind}")(data, **options)
        if denoised in self.viewer.layers:  # with other settings it can be denoised again
            self.viewer.layers.selection.active = denoised
        self.status.setText(in_words(result))

    def _failed(self, words: str) -> None:
        self._end()
        self.status.setText(words or "cancelled; nothing was added")

    def _end(self) -> None:
        if self.worker is not None:
            self.worker.wait(CLOSING_SECONDS)
        self.worker = None
        self._set_running(False)
        self._selected()

    def _set_running(self, running: bool) -> None:
        self.start_button.setEnabled(not running and self._layer is not None)
        self.stop_button.setEnabled(running)
        self.bar.setVisible(running)
        self.bar.setValue(0)
        self.bar.setFormat("%p %")

    def _lay_out(self) -> None:
        form = QFormLayout()
        for name, part in (
            ("layer", self.layer_label),
            ("pixel size", self.sampling),
            ("movie", self.movie),
            ("restarts", self.restarts),
        ):
            form.addRow(name, part)
        buttons = QHBoxLayout()
        for button in (self.start_button, self.stop_button):
            buttons.addWidget(button)
        whole = QVBoxLayout(self)
        whole.addLayout(form)
        for part in (self.columns, self.score):
            whole.addWidget(part)
        whole.addLayout(buttons)
        for part in (self.bar, self.status, QLabel(_legend())):
            whole.addWidget(part)
        whole.addStretch()


def _legend() -> str:
    """The colours of the columns, as rich text."""
    lines = [
        f'<span style="color:rgb{colour}">&#9679;</span> {name}' for name, colour in COLOURS.items()
    ]
    return "columns:<br>" + "<br>".join(lines)


def in_words(result: Result) -> str:
    """Dose, p and warnings of a result: each warning once, with the number of frames."""
    frames = result.values
    doses = [frame.dose / result.sampling_angstrom**2 for frame in frames]
    p = frames[0].explained_p
    if len(frames) > 1:
        said = [f"dose {min(doses):.3g} to {max(doses):.3g} e/Å²"]
    else:
        said = [f"dose {doses[0]:.3g} e/Å²" + ("" if p is None else f", p = {p:.2g}")]
    refused = sum(f.explained_p is not None and f.explained_p < REFUSED for f in frames)
    if refused:
        which = "this image" if len(frames) == 1 else f"{refused} of {len(frames)} frames"
        said.append(UNEXPLAINED.format(count=which))
    counts = Counter(warning for frame in frames for warning in frame.warnings)
    for warning, count in counts.items():
        said.append(warning if len(frames) == 1 else f"{count} of {len(frames)} frames: {warning}")
    return "\n".join(said)
