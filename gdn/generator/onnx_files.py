"""Write ONNX graphs: the exporter without its log messages, storage in half precision, and folders
that are replaced in one step."""

from __future__ import annotations

import base64
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from torch import Tensor, nn

from gdn.models.graphs import SHARED, SOURCES, WEIGHTS, WeightSource, name_of

OPSET = 20
LARGE = 256  # numbers: smaller weights stay as the exporter wrote them
NORM_EPS = 1e-5  # torch's, which the networks keep


@contextmanager
def quiet_onnx_export() -> Iterator[None]:
    """Silence the exporter's messages about packages that are not needed."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def export_graph(
    module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], outputs: list[str], path: Path
) -> None:
    """Export one ONNX file. Every input of more than zero dimensions has a dynamic first axis."""
    batch = torch.export.Dim("batch", min=1, max=2**20)
    tangents = torch.export.Dim("tangents", min=1, max=2**16)
    dynamic = tuple(
        {0: batch} | ({1: tangents} if t.ndim == 3 else {}) if t.ndim else None for t in inputs
    )
    with quiet_onnx_export():
        # Unoptimised: the optimiser would merge weights, and they must stay exact in half
        # precision.
        program = torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=names,
            output_names=outputs,
            dynamic_shapes=dynamic,
            verbose=False,
            optimize=False,
        )
    assert program is not None
    program.save(str(path))


def store(path: Path, halve: bool = True) -> None:
    """Write a graph in the form that a model stores.

    The exporter's notes on the origin of each operation, up to half of the file, are left out.
    Every large weight is named after what it holds, so that graphs can share it. With `halve`,
    float32 weights that are exact in float16 are stored as float16 with a Cast behind them: half
    the size, float32 arithmetic, and the same results.
    """
    model = onnx.load(str(path))
    graph = model.graph
    del graph.value_info[:]
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    given: dict[str, str] = {}  # the exporter's names -> ours
    casts, kept = [], {}
    for tensor in list(graph.initializer):
        if np.prod(tensor.dims) < LARGE or tensor.data_type not in (
            TensorProto.FLOAT,
            TensorProto.FLOAT16,
        ):
            continue
        values, old = numpy_helper.to_array(tensor), tensor.name
        narrow = (
            values.astype(np.float16)
            if halve and (values == values.astype(np.float16)).all()
            else values
        )
        name = name_of(narrow)
        graph.initializer.remove(tensor)
        kept[name] = numpy_helper.from_array(narrow, name)
        if narrow.dtype == values.dtype:
            given[old] = name
        else:
            casts.append(helper.make_node("Cast", [name], [old], to=TensorProto.FLOAT))
    graph.initializer.extend(kept.values())
    for node in graph.node:
        node.input[:] = [given.get(name, name) for name in node.input]
    for node in reversed(casts):
        graph.node.insert(0, node)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def share_weights(folder: Path) -> None:
    """Remove from a folder's complete graphs the weights that can be computed from the folder's
    weights.safetensors (see `gdn.models.graphs`). Other weights, such as a flow's masks, stay in
    each graph."""
    known = _sources(folder / WEIGHTS)
    for path in folder.glob("*.onnx"):
        model = onnx.load(str(path))
        used = {name for node in model.graph.node for name in node.input}
        held = [
            tensor
            for tensor in model.graph.initializer
            if tensor.name in used or not tensor.name.startswith(SHARED)
        ]
        lacking = {tensor.name: known[tensor.name] for tensor in held if tensor.name in known}
        del model.graph.initializer[:]
        model.graph.initializer.extend(tensor for tensor in held if tensor.name not in known)
        helper.set_model_props(
            model, {WEIGHTS: SOURCES.dump_json(lacking, exclude_defaults=True).decode()}
        )
        onnx.save(model, str(path))


def _sources(weights: Path) -> dict[str, WeightSource]:
    """The tensors that can be computed from a file of weights, by name: each large tensor, and each
    layer's weights folded with the norm after it."""
    stored = load_file(str(weights))
    by_name: dict[str, WeightSource] = {}
    for name, tensor in stored.items():
        if tensor.size < LARGE or tensor.dtype not in (np.float16, np.float32):
            continue
        sources = [WeightSource(tensor=name)]
        layer, _, number = name.removesuffix(".weight").rpartition(".")
        norm = f"{layer}.{int(number) + 1}" if number.isdecimal() and tensor.ndim > 1 else ""
        if f"{norm}.running_var" in stored:
            scales = _scales(stored[f"{norm}.weight"], stored[f"{norm}.running_var"])
            axes = [axis for axis in (0, 1) if tensor.shape[axis] == scales[0].size]
            coded = [base64.b64encode(scale.astype("<f4").tobytes()).decode() for scale in scales]
            sources += [
                WeightSource(tensor=name, axis=axis, factors=factors)
                for axis in axes
                for factors in coded
            ]
        by_name |= {name_of(source.made_of(tensor)): source for source in sources}
    return by_name


def _scales(
    weight: NDArray[np.float32], variance: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """A batch norm's factors as in `gdn.generator.folding`, computed by torch and rounded exactly.
    torch's square root may differ in the last bit between machines, and the graphs may come from
    another machine (Ioffe & Szegedy 2015, algorithm 2)."""
    here = torch.from_numpy(weight) / torch.sqrt(torch.from_numpy(variance) + NORM_EPS)
    return [here.numpy(), weight / np.sqrt(variance + np.float32(NORM_EPS))]


def round_to_half(module: nn.Module) -> nn.Module:
    """Round every floating parameter and buffer to float16, kept as float32."""
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())
    return module
