"""Run a restorer on frames of any size, with ONNX Runtime alone. Frames are padded by reflection;
large ones are restored in overlapping windows."""

from __future__ import annotations

import itertools
import os
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gdn.engines.base import EngineError, OutOfMemory, is_out_of_memory
from gdn.engines.choose import has_driver
from gdn.engines.table import REFERENCE
from gdn.likelihood import Array
from gdn.models import RestorerModel
from gdn.models.graphs import restorer_graph

# px, longest side of what is restored at once: 1 GiB for the network of 7 million weights
LARGEST = 768
OVERLAP = 192  # px, of neighbouring windows
TURNS = (1, 2, 4, 8)  # of the square's symmetries that results may be averaged over


class RestorerSession:
    """A loaded restorer. `restore` maps noisy frames to the clean one. It is a context manager.

    - `device`: cpu, cuda or cuda:N; or auto: a card if there is one and onnxruntime has a provider
      for it.
    - `threads`: limit on the CPU (None: GDN_THREADS, or all cores).
    - `largest`, `overlap`: px, of the windows in which a larger frame is restored.

    Raises EngineError if it cannot be loaded.
    """

    name = REFERENCE.name

    def __init__(
        self,
        model: RestorerModel,
        device: str = "auto",
        threads: int | None = None,
        reason: str = "restorers run nowhere else",
        largest: int = LARGEST,
        overlap: int = OVERLAP,
    ) -> None:
        from gdn.engines.onnx_session import PROVIDERS, open_session

        self.model, self.reason = model, reason
        self._largest, self._overlap = largest, overlap
        self.device, provider = _provider(device)
        asked = device.startswith("cuda")
        threads = threads if threads is not None else int(os.environ.get("GDN_THREADS", "0"))
        try:
            # Spinning, its threads would take cores that the generator's threads want.
            self._session = open_session(
                restorer_graph(model.folder), [provider], threads, spinning=False
            )
        except (ValueError, OSError) as error:
            raise EngineError(f"{model.folder}: {error}; export the model again") from None
        except Exception as error:  # onnxruntime raises its own unrelated classes
            words = str(error).splitlines()[0][:160]
            raise EngineError(
                f"{model.folder / 'restorer.onnx'}: onnxruntime cannot load it ({words})"
            ) from None
        if self.device != "cpu" and self._session.get_providers()[0] == PROVIDERS["cpu"]:
            if asked:
                raise EngineError(
                    f"onnxruntime fell back to the CPU: the restorer cannot use device {device}; "
                    "'gdn doctor' shows what is missing"
                )
            self.device = "cpu"

    def restore(self, frames: Array, mask: Array | None = None, turns: int = 1) -> Array:
        """The expected clean image (rows, columns), float32, of the first of `frames` (n, rows,
        columns), in its units.

        `frames` can be in any linear units, the same for all; n is at most the model's slots.
        `mask` (n, rows, columns) is 1 where a pixel is valid and 0 elsewhere (None: all are). The
        result is the mean over `turns` of the square's symmetries: 1, 2, 4 or 8. Raises ValueError
        for other shapes.
        """
        slots = self.model.card.slots
        if frames.ndim != 3 or not 1 <= len(frames) <= slots or min(frames.shape) < 1:
            raise ValueError(
                f"the frames have the shape {frames.shape}; wanted (n, rows, columns) with n "
                f"from 1 to {slots}"
            )
        if mask is not None and mask.shape != frames.shape:
            raise ValueError(
                f"the mask has the shape {mask.shape}, the frames have {frames.shape}; they "
                "must be the same"
            )
        if turns not in TURNS:
            raise ValueError(f"turns {turns}: must be 1, 2, 4 or 8")
        valid = (
            np.ones(frames.shape, np.float32)
            if mask is None
            else np.asarray(mask, dtype=np.float32)
        )
        mean, deviation = _moments(frames[0], valid[0])
        stack = np.stack([(np.asarray(frames - mean, dtype=np.float32) / deviation) * valid, valid])
        total = np.zeros(frames.shape[1:], np.float64)
        for turn in range(turns):
            total += turn_stack_back(self._padded(turn_stack(stack, turn)), turn)
        return np.asarray(mean + deviation * (total / turns), dtype=np.float32)

    def _padded(self, stack: Array) -> Array:
        """The image of `stack` (2, n, rows, columns), frames and masks, of any size."""
        rows, columns = stack.shape[-2:]
        multiple = self.model.card.multiple
        beyond = [max(-n % multiple, 2 * multiple - n) for n in (rows, columns)]
        padded = np.pad(stack, ((0, 0), (0, 0), (0, beyond[0]), (0, beyond[1])), mode="symmetric")
        return self._windowed(padded)[:rows, :columns]

    def _windowed(self, stack: Array) -> Array:
        """The image of a `stack` whose sides are multiples, in one piece or blended from
        windows."""
        shape = stack.shape[-2:]
        pieces = [windows(n, self._largest, self._overlap, self.model.card.multiple) for n in shape]
        if all(len(side) == 1 for side in pieces):
            return self._run(stack)
        total, norm = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for (y, wy), (x, wx) in itertools.product(*pieces):
            weight = np.outer(wy, wx)
            total[y, x] += weight * self._run(stack[..., y, x])
            norm[y, x] += weight
        return np.asarray(total / norm, dtype=np.float32)

    def _run(self, stack: Array) -> Array:
        """Run the network once."""
        full = np.zeros((2, 1, self.model.card.slots, *stack.shape[-2:]), np.float32)
        full[:, 0, : stack.shape[1]] = stack
        try:
            image = self._session.run(["clean"], {"frames": full[0], "mask": full[1]})[0]
        except Exception as error:
            if is_out_of_memory(error):
                raise OutOfMemory(
                    f"onnxruntime: memory ran out for a restorer's window of {stack.shape[-2:]} px"
                ) from None
            words = " ".join(str(error).split())[:160]
            raise EngineError(
                f"onnxruntime cannot run the restorer's graph ({words}); export the model again"
            ) from None
        restored = np.asarray(image, dtype=np.float32)
        if restored.shape != (1, 1, *stack.shape[-2:]):
            raise EngineError(
                f"{self.model.folder}: the graph's image has shape {restored.shape}; export the "
                "model again"
            )
        return np.asarray(restored[0, 0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


def open_restorer(
    model: RestorerModel,
    engine: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    require_gpu: bool = False,
) -> RestorerSession:
    """Load a restorer for use together with generators for which `engine` and `device` were chosen.
    Raises EngineError."""
    number = device.partition(":")[2]
    wanted = "cuda" + (f":{number}" if number else "") if device.startswith("tensorrt") else device
    if engine not in ("auto", RestorerSession.name) and device != "cpu":
        wanted = "auto"  # a restorer goes beside them where onnxruntime can
    session = RestorerSession(model, wanted, threads)
    if require_gpu and session.device == "cpu":
        raise EngineError(
            "require_gpu: the restorer runs on the CPU here; onnxruntime has no CUDA provider",
            "require_gpu",
        )
    return session


def _moments(frame: Array, valid: Array) -> tuple[np.float32, np.float32]:
    """Mean and standard deviation of the valid pixels, as in
    `gdn.generator.restorer_network.moments`."""
    values = frame[valid > 0] if (valid == 0).any() else frame
    mean = float(values.mean(dtype=np.float64)) if values.size else 0.0
    variance = float(values.var(dtype=np.float64)) if values.size else 0.0
    return np.float32(mean), np.float32((variance + 1e-12 * mean**2 + 1e-24) ** 0.5)


def _provider(device: str) -> tuple[str, Any]:
    """The chosen device, and onnxruntime's provider for it. Raises EngineError."""
    from gdn.engines.onnx_session import PROVIDERS, has_provider

    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or not (number or "0").isdecimal():
        raise EngineError(f"a restorer has no device '{device}'; choose auto, cpu or cuda (and :N)")
    there = has_provider("cuda")
    if kind == "cuda" and not there:
        raise EngineError(
            "onnxruntime here has no CUDAExecutionProvider for the restorer; choose device cpu"
        )
    if kind == "cpu" or not there or (kind == "auto" and not has_driver()):
        return "cpu", PROVIDERS["cpu"]
    return f"cuda:{number or 0}", (PROVIDERS["cuda"], {"device_id": int(number or 0)})


def windows(
    length: int, largest: int, overlap: int, multiple: int
) -> list[tuple[slice, NDArray[np.float32]]]:
    """Windows along an axis, all of one size and evenly spread, with smooth weights. Neighbours
    share about `overlap` px. The weights are sin^2 ramps, as those of tiles (docs/method.md,
    "Search", step 5)."""
    size = max(largest // multiple * multiple, 2 * multiple)
    if length <= size:
        return [(slice(0, length), np.ones(length, np.float32))]
    shared = min(overlap, size // 2)
    count = -(-(length - size) // (size - shared)) + 1
    starts = [round(i * (length - size) / (count - 1) / multiple) * multiple for i in range(count)]
    # What lies beyond a window's edge the network does not know: a quarter of what is shared does
    # not count at all.
    place = np.clip(2 * (np.arange(shared) + 0.5) / shared - 0.5, 0, 1)
    ramp = np.asarray(np.sin(np.pi / 2 * place) ** 2, dtype=np.float32)
    windows = []
    for number, start in enumerate(starts):
        weight = np.ones(size, np.float32)
        if number:
            weight[:shared] = ramp
        if number < count - 1:
            weight[-shared:] = np.minimum(weight[-shared:], ramp[::-1])
        windows.append((slice(start, start + size), weight))
    return windows


def turn_stack(stack: Array, turn: int) -> Array:
    """`stack` (..., rows, columns) under one of the square's symmetries, 0 to 7."""
    turned = np.rot90(stack, turn % 4, (-2, -1))
    return turned[..., ::-1] if turn >= 4 else turned


def turn_stack_back(image: Array, turn: int) -> Array:
    """The inverse of `turn_stack`."""
    straight = image[..., ::-1] if turn >= 4 else image
    return np.rot90(straight, -(turn % 4), (-2, -1))
