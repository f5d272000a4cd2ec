"""A denoising in a thread of its own, with progress and a way to stop it."""

from __future__ import annotations

import threading
import traceback
from typing import Any

from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from gdn.errors import GdnError, debugging
from gdn.pipeline.denoiser import Denoiser


class Stopped(Exception):
    """The user asked for it."""


class Worker(QObject):  # type: ignore[misc]  # Qt has no types here
    """Denoises one image or stack: `start`, `stop`. Its signals come in the thread of the window:
    `progressed` (a share), `succeeded` (a Result), `failed` (words; '' if it was stopped)."""

    progressed = Signal(float)
    succeeded = Signal(object)
    failed = Signal(str)

    def __init__(
        self, image: NDArray[Any], sampling_angstrom: float, options: dict[str, Any]
    ) -> None:
        super().__init__()
        self._given = image, sampling_angstrom
        self._options = options
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End at the next step of the search."""
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Whether the thread ends within so many seconds."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        try:
            with Denoiser(**self._options) as denoiser:
                result = denoiser.denoise(*self._given, progress=self._tell)
        except Stopped:
            self.failed.emit("")
        except GdnError as error:
            self.failed.emit(str(error))
        except Exception as error:  # shown in the window, which has no terminal
            if debugging():
                traceback.print_exc()
            words = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            self.failed.emit(f"internal error, please report it: {words}")
        else:
            self.succeeded.emit(result)

    def _tell(self, share: float) -> None:
        if self._stop.is_set():
            raise Stopped
        self.progressed.emit(share)
