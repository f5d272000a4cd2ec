"""PyTorch: the engine for machines that have it, and the reference for the others."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import numpy as np
import torch

from gdn.engines.base import Array, EngineError, TileData, check_latents, check_tiles
from gdn.engines.folded import PullBack
from gdn.models import Model


class TorchEngine:
    """See `gdn.engines.base.Engine`."""

    name = "torch"

    def __init__(self, model: Model, device: str = "cpu", threads: int | None = None, reason: str = "asked for") -> None:
        from gdn.training.export import EncoderMean, fold, round_to_half
        from gdn.training.state import networks_of_model

        if device.startswith("cuda") and not torch.cuda.is_available():
            raise EngineError("torch sees no CUDA device; choose --device cpu, or install a CUDA build and driver")
        if device.split(":")[0] not in ("cpu", "cuda"):
            raise EngineError(f"torch engine has no device '{device}'; choose cpu or cuda")
        if threads:
            torch.set_num_threads(threads)
        self.model, self.device, self.reason = model, device, reason
        generator, encoder, recipe = networks_of_model(model.folder)
        scale = recipe.network.intensity_scale
        folded = round_to_half(fold(generator, scale, model.card.vacuum))
        self._pull_back = PullBack(folded).to(device).eval()  # type: ignore[arg-type]
        self._encoder = None if encoder is None else round_to_half(EncoderMean(encoder, scale)).to(device).eval()

    def _tensor(self, array: Array) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self.device)

    @torch.no_grad()
    def generate(self, z: Array) -> Array:
        """See `Engine.generate`."""
        x = self._pull_back.generator(self._tensor(check_latents(z, self.model)))
        return np.asarray(x[:, 0].cpu().numpy())

    @torch.no_grad()
    def pull_back(self, z: Array, data: TileData, scale: Array, shift: Array) -> tuple[Array, Array]:
        """See `Engine.pull_back`."""
        z = check_latents(z, self.model)
        check_tiles(z, data, scale, shift, self.model)
        arrays = (z, data.counts[:, None], data.weights[:, None], scale, shift)
        x, dz = self._pull_back(
            *(self._tensor(a) for a in arrays),
            torch.tensor(data.alpha, device=self.device),
            torch.tensor(data.beta, device=self.device),
        )
        return x[:, 0].cpu().numpy(), dz.cpu().numpy()

    @torch.no_grad()
    def encode(self, images: Array, sigma: Array) -> Array | None:
        """See `Engine.encode`."""
        if self._encoder is None:
            return None
        return np.asarray(self._encoder(self._tensor(images[:, None]), self._tensor(sigma)).cpu().numpy())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
