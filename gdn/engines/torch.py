"""PyTorch: the engine for machines that have it, and the reference for the other engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from gdn.engines.base import OUTPUTS, EngineError, Graph, OutOfMemory, is_out_of_memory, kind_of
from gdn.engines.device_arrays import Resident
from gdn.engines.graph_engine import GraphEngine
from gdn.generator import autograd
from gdn.generator.folded import PullBack, PushForward
from gdn.generator.gauss_newton import GaussNewton
from gdn.generator.torch_globals import torch_threads
from gdn.likelihood import Array
from gdn.models import Model

if TYPE_CHECKING:
    from gdn.generator.networks import Encoder, Generator


def card_reason() -> str | None:
    """Why it can use a card on this machine, or None."""
    return "torch sees a CUDA device" if torch.cuda.is_available() else None


class TorchEngine(GraphEngine):
    """See `gdn.engines.base.Engine`. `networks`, the generator and encoder of a run, replace the
    model's own."""

    name = "torch"

    def __init__(
        self,
        model: Model,
        device: str = "cpu",
        threads: int | None = None,
        reason: str = "asked for",
        networks: tuple[Generator, Encoder | None] | None = None,
    ) -> None:
        from gdn.generator.loading import networks_of_model
        from gdn.recipes import Recipe

        if device.startswith("cuda") and not torch.cuda.is_available():
            raise EngineError(
                "torch sees no CUDA device; choose device cpu, or install a CUDA build and driver"
            )
        if device.split(":")[0] not in ("cpu", "cuda"):
            raise EngineError(f"torch engine has no device '{device}'; choose cpu or cuda")
        self.model, self.device, self.reason = model, device, reason
        self._threads = threads
        generator, encoder = networks or networks_of_model(model.folder)[:2]
        scale = Recipe.model_validate(model.card.recipe).network.intensity_scale
        graphs = _graphs(generator, encoder, scale, model.card.vacuum)
        self._graphs = {graph: module.to(device).eval() for graph, module in graphs.items()}
        self.resident: dict[Graph, Resident[torch.Tensor]] = {}

    @torch.no_grad()
    def run_graph(
        self, graph: Graph, feed: dict[str, Array], outputs: tuple[str, ...]
    ) -> list[list[Array]]:
        """Run one batch through the networks."""
        try:
            tensors = [self._tensor(graph, name, a) for name, a in feed.items()]
            with torch_threads(self._threads):
                results = self._graphs[kind_of(graph)](*tensors)
            named = dict(
                zip(
                    OUTPUTS[kind_of(graph)],
                    results if isinstance(results, tuple) else (results,),
                    strict=True,
                )
            )
            return [[named[name].cpu().numpy() for name in outputs]]
        except RuntimeError as error:  # of the CPU's allocator torch has no class of its own
            if not is_out_of_memory(error):
                raise
        raise OutOfMemory(f"torch: memory ran out for a batch of {len(next(iter(feed.values())))}")

    def _tensor(self, graph: Graph, name: str, array: Array) -> torch.Tensor:
        """An input as the graph takes it. On a card, an input that cannot have changed is there
        already."""
        if self.device == "cpu":
            return _shared(array)
        place = self.resident.setdefault(
            graph, Resident(lambda _, new, former: _shared(new).to(self.device))
        )
        return place.of(name, array)

    def _has(self, graph: Graph) -> bool:
        return kind_of(graph) in self._graphs


def _shared(array: Array) -> torch.Tensor:
    """A tensor that shares an array's memory. torch warns of arrays that cannot be written to; here
    it is only read."""
    # ascontiguousarray would make a vector of a scalar, which torch takes as it is.
    array = np.require(array, np.float32, "C")
    if not array.flags.writeable:
        array = array.view()
        try:
            array.flags.writeable = True
        except ValueError:  # its memory is another's, truly read-only
            array = array.copy()
    return torch.from_numpy(array)


def _graphs(
    generator: Generator, encoder: Encoder | None, scale: float, vacuum: float
) -> dict[Graph, torch.nn.Module]:
    """The graphs: folded if the generator can be folded, else by autograd."""
    from gdn.generator.encoder_mean import EncoderMean
    from gdn.generator.folding import fold
    from gdn.generator.onnx_files import round_to_half

    graphs: dict[Graph, torch.nn.Module]
    if generator.foldable:
        folded = fold(generator, scale, vacuum)
        round_to_half(folded)
        graphs = {"generator": folded, "gradient": PullBack(folded), "tangent": PushForward(folded)}
        if generator.network.channels == 1:
            graphs["step"] = GaussNewton(folded, generator.network.patch)
    else:
        images = autograd.Images(generator.eval(), scale, vacuum)
        graphs = {
            "generator": images,
            "gradient": autograd.AutogradPullBack(images),
            "tangent": autograd.AutogradPushForward(images),
        }
    if encoder is not None:
        graphs["encoder"] = round_to_half(EncoderMean(encoder.eval(), generator))
    return graphs
