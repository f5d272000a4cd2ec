"""Writing ONNX graphs: the exporter without its remarks, half-precision storage, folders put in place at once."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

OPSET = 20


@contextmanager
def quiet_onnx_export() -> Iterator[None]:
    """Without the exporter's remarks on packages that are not needed."""
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def export_graph(module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], outputs: list[str], path: Path) -> None:
    """One ONNX file with a dynamic first axis on every input of more than zero dimensions."""
    batch = torch.export.Dim("batch", min=1, max=2**20)
    tangents = torch.export.Dim("tangents", min=1, max=2**16)
    dynamic = tuple({0: batch} | ({1: tangents} if t.ndim == 3 else {}) if t.ndim else None for t in inputs)
    with quiet_onnx_export():
        # Unoptimised: the optimiser would merge weights, and they must stay exact in half precision.
        program = torch.onnx.export(
            module, inputs, dynamo=True, opset_version=OPSET, input_names=names, output_names=outputs,
            dynamic_shapes=dynamic, verbose=False, optimize=False,
        )  # fmt: skip
    assert program is not None
    program.save(str(path))


def store_half(path: Path) -> None:
    """Keep large float32 weights as float16 with a Cast behind: half the size, float32 arithmetic.

    The weights must already be float16-exact, so that nothing changes. The exporter's notes on where each
    operation came from, up to a third of the file, go.
    """
    model = onnx.load(str(path))
    graph = model.graph
    del graph.value_info[:]
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    casts = []
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < 256:
            continue
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name + "_half")
        casts.append(helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT))
        graph.initializer.remove(tensor)
        graph.initializer.append(half)
    for node in reversed(casts):
        graph.node.insert(0, node)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def round_to_half(module: nn.Module) -> nn.Module:
    """Round every floating parameter and buffer to float16, kept as float32."""
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())
    return module


def replace_folder(work: Path, out: Path) -> None:
    """Put the finished folder `work` in the place of `out`."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.replace(old)
    work.replace(out)
    shutil.rmtree(old, ignore_errors=True)
