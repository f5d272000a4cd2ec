"""PyTorch: the engine for machines that have it, and the reference for the others."""

from __future__ import annotations

import numpy as np
import torch

from gdn.engines.base import EngineError, Graph, GraphEngine
from gdn.engines.folded import FoldedGenerator, PullBack, PushForward
from gdn.engines.observation import Array
from gdn.models import Model


class TorchEngine(GraphEngine):
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
        graphs: dict[Graph, torch.nn.Module] = {"generator": folded}
        assert isinstance(folded, FoldedGenerator)
        graphs |= {"gradient": PullBack(folded), "tangent": PushForward(folded)}
        if encoder is not None:
            graphs["encoder"] = round_to_half(EncoderMean(encoder, scale))
        self._graphs = {graph: module.to(device).eval() for graph, module in graphs.items()}

    @torch.no_grad()
    def _run(self, graph: Graph, feed: dict[str, Array]) -> list[Array]:
        # ascontiguousarray would make a vector of a scalar, which torch takes as it is.
        tensors = [torch.from_numpy(np.require(a, np.float32, "C")).to(self.device) for a in feed.values()]
        found = self._graphs[graph](*tensors)
        return [t.cpu().numpy() for t in (found if isinstance(found, tuple) else (found,))]

    def _has_encoder(self) -> bool:
        return "encoder" in self._graphs
