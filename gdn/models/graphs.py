"""Graphs that share their weights: what a graph has in common with generator.onnx is kept there alone, and a restorer's
graph holds none, for weights.safetensors has them all.

A model's graphs are products of one generator and its Jacobian, with the same weights. In a serialised message of protocol
buffers a field that is not repeated may come in pieces, which are merged, lists being joined
(Protocol Buffers' documentation, "Encoding"): a graph is made whole by appending a piece that holds the generator's weights and
nothing else. Neither ONNX's package nor another copy of the weights is needed for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

GRAPH = 7  # field of ModelProto
INITIALIZER = 5  # field of GraphProto
DIMS, DATA_TYPE, NAME, RAW_DATA = 1, 2, 8, 9  # fields of TensorProto
FLOAT = 1  # data type of TensorProto
SHARED = "weight_"  # how the names of weights begin that graphs may share; the rest of a name is a hash of the values
_BYTES = 2  # wire type: a length, then so many bytes
_FIXED = {1: 8, 5: 4}  # wire types of fixed size


def complete_graph(folder: Path, graph: str) -> bytes:
    """A model folder's graph as it is run. Raises ValueError where generator.onnx is no graph, OSError for a missing file."""
    own = (folder / f"{graph}.onnx").read_bytes()
    return own if graph == "generator" else own + weights_of((folder / "generator.onnx").read_bytes())


def weights_of(content: bytes) -> bytes:
    """A piece of a ModelProto with the weights of `content`, a whole one, that graphs may share, and nothing else."""
    view, weights = memoryview(content), bytearray()
    for number, _, payload in _fields(view):
        if number == GRAPH:
            for inner, whole, tensor in _fields(payload):
                if inner == INITIALIZER and _name(tensor).startswith(SHARED.encode()):
                    weights += whole
    return _field(GRAPH, bytes(weights))


def restorer_graph(folder: Path) -> bytes:
    """A restorer's graph with the weights of weights.safetensors in single precision. Raises ValueError where those are no
    weights, OSError for a missing file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load((folder / "weights.safetensors").read_bytes())
    except SafetensorError as error:
        raise ValueError(f"weights.safetensors: no weights ({' '.join(str(error).split())})") from None
    # In pieces, joined once: each copy of the weights takes as long as all else.
    pieces = [piece for name, value in tensors.items() for piece in _tensor(name, value)]
    head = _head(GRAPH, sum(map(len, pieces)))
    return b"".join([(folder / "restorer.onnx").read_bytes(), head, *pieces])


def _tensor(name: str, value: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> tuple[bytes, bytes]:
    """An initializer, a TensorProto of single-precision numbers: what comes before its values, and those."""
    dims = b"".join(bytes([DIMS << 3]) + _varint(n) for n in value.shape)
    raw = np.ascontiguousarray(value, dtype="<f4").tobytes()
    about = dims + bytes([DATA_TYPE << 3, FLOAT]) + _field(NAME, name.encode()) + _head(RAW_DATA, len(raw))
    return _head(INITIALIZER, len(about) + len(raw)) + about, raw


def _field(number: int, content: bytes) -> bytes:
    """A field of a length and so many bytes."""
    return _head(number, len(content)) + content


def _head(number: int, length: int) -> bytes:
    """What comes before the bytes of such a field."""
    return bytes([number << 3 | _BYTES]) + _varint(length)


def _name(tensor: memoryview) -> bytes:
    return next((bytes(payload) for number, _, payload in _fields(tensor) if number == NAME), b"")


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """The fields of a message: number, the field as it stands, and what it holds (of a length and bytes: the bytes)."""
    at = 0
    while at < len(view):
        begin = at
        key, at = _read_varint(view, at)
        kind, first = key & 7, at
        if kind == _BYTES:
            size, first = _read_varint(view, at)
            at = first + size
        elif kind == 0:
            at = _read_varint(view, at)[1]
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise ValueError("not an ONNX graph")
        if at > len(view):
            raise ValueError("not an ONNX graph, or cut off")
        yield key >> 3, view[begin:at], view[first:at]


def _read_varint(view: memoryview, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            break
        byte = view[at]
        value, at = value | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            return value, at
    raise ValueError("not an ONNX graph, or cut off")


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
