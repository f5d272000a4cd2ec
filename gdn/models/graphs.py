"""Graphs without weights: those lie in weights.safetensors alone, once for all graphs of a model,
and are put in as it is opened.

A generator's graph says in its metadata which tensor each weight that it lacks is made of
(`WeightSource`); a weight's name is a hash of its numbers, so that only the numbers with which the
graph was checked are ever run. A restorer's graph lacks every tensor there is. In a serialised
message of protocol buffers a field that is not repeated may come in pieces, which are merged, lists
being joined (Protocol Buffers' documentation, "Encoding"): a graph is made whole by appending a
piece that holds the weights and nothing else. ONNX's package is not needed for it. Before schema 5
a generator's graphs took what they lacked from generator.onnx, which was whole.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

STEP_ITERATIONS = 3  # of conjugate gradients in the graph `step`, where they are unrolled
WEIGHTS = "weights.safetensors"  # and the entry of a graph's metadata that says what is made of it
GRAPH, METADATA = 7, 14  # fields of ModelProto
KEY, VALUE = 1, 2  # fields of StringStringEntryProto
INITIALIZER = 5  # field of GraphProto
DIMS, DATA_TYPE, NAME, RAW_DATA = 1, 2, 8, 9  # fields of TensorProto
FLOAT, FLOAT16 = 1, 10  # data types of TensorProto
# how the names of weights begin that graphs may lack; the rest of a name is a hash of the values
SHARED = "weight_"
_BYTES = 2  # wire type: a length, then so many bytes
_FIXED = {1: 8, 5: 4}  # wire types of fixed size


class WeightSource(BaseModel):
    """What a weight is made of: `tensor` of weights.safetensors, times a factor for each index of
    `axis` (`factors`: base64 of float32, little-endian; none: as it is), in half precision."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tensor: str
    axis: int = Field(default=0, ge=0, le=8)
    factors: str = ""

    def made_of(self, tensor: NDArray[Any]) -> NDArray[np.float16]:
        """The weight, in the shape of `tensor`. Raises ValueError where the factors do not fit
        it."""
        if self.factors:
            factors = np.frombuffer(base64.b64decode(self.factors, validate=True), "<f4")
            if tensor.ndim <= self.axis or tensor.shape[self.axis] != len(factors):
                raise ValueError(f"{len(factors)} factors for a shape of {tensor.shape}")
            factors = factors.reshape(-1, *[1] * (tensor.ndim - 1 - self.axis))
        with np.errstate(
            all="ignore"
        ):  # of another model's numbers, which are refused by their hash
            return np.ascontiguousarray(
                tensor.astype(np.float32) * factors if self.factors else tensor, dtype="<f2"
            )


SOURCES = TypeAdapter(dict[str, WeightSource])  # by the names of the weights that a graph lacks


def name_of(values: NDArray[Any]) -> str:
    """The name of a weight of these numbers in this shape and type."""
    digest = hashlib.sha256(str((values.shape, values.dtype)).encode())
    digest.update(np.ascontiguousarray(values).data)
    return f"{SHARED}{digest.hexdigest()[:24]}"


def complete_graph(folder: Path, graph: str) -> bytes:
    """A model folder's graph as it is run, whole. Raises ValueError, of one line that names the
    file, where a graph or the weights are damaged or do not belong together; OSError for a missing
    file."""
    name = f"{graph}.onnx"
    own = (folder / name).read_bytes()
    try:
        rest, sources = without_sources(own)
        if sources is None:  # of a model older than schema 5
            return (
                own
                if graph == "generator"
                else own + weights_of((folder / "generator.onnx").read_bytes())
            )
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return b"".join(
        [rest, encoded_field(GRAPH, b"".join(_weights_for(name, sources, folder / WEIGHTS)))]
    )


def without_sources(content: bytes) -> tuple[bytes, dict[str, WeightSource] | None]:
    """A graph without that part of its metadata which says what its weights are made of, and that
    (None: it has none). Raises ValueError."""
    rest, sources = [], None
    for number, whole, payload in _fields(memoryview(content)):
        entry = (
            {inner: bytes(text) for inner, _, text in _fields(payload)}
            if number == METADATA
            else {}
        )
        if entry.get(KEY) != WEIGHTS.encode():
            rest.append(whole)
            continue
        try:
            sources = SOURCES.validate_json(entry.get(VALUE, b""))
        except ValidationError:
            raise ValueError("its list of weights cannot be read") from None
    return content if sources is None else b"".join(rest), sources


def _weights_for(graph: str, sources: dict[str, WeightSource], path: Path) -> Iterator[bytes]:
    """The initialisers that a graph lacks. Raises ValueError where the file at `path` is not the
    one it was made with."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as stored:
            names = set(stored.keys())
            for name, source in sources.items():
                if source.tensor not in names:
                    raise ValueError(
                        f"{path.name}: has no tensor '{source.tensor}', which {graph} needs"
                    )
                try:
                    value = source.made_of(stored.get_tensor(source.tensor))
                except ValueError as error:
                    raise ValueError(
                        f"{path.name}: '{source.tensor}' does not fit {graph} ({error})"
                    ) from None
                if name_of(value) != name:
                    words = (
                        f"'{source.tensor}' has another shape or other numbers than {graph} "
                        "was made with"
                    )
                    raise ValueError(f"{path.name}: {words}")
                yield encoded_field(INITIALIZER, _tensor(name, value))
    except (
        SafetensorError,
        TypeError,
        AttributeError,
    ) as error:  # the latter of types of numbers that numpy has not
        raise ValueError(f"{path.name}: no weights ({' '.join(str(error).split())})") from None


def weights_of(content: bytes) -> bytes:
    """A piece of a ModelProto with the weights of `content`, a whole one, that graphs may share,
    and nothing else."""
    view, weights = memoryview(content), bytearray()
    for number, _, payload in _fields(view):
        if number == GRAPH:
            for inner, whole, tensor in _fields(payload):
                if inner == INITIALIZER and _name(tensor).startswith(SHARED.encode()):
                    weights += whole
    return encoded_field(GRAPH, bytes(weights))


def restorer_graph(folder: Path) -> bytes:
    """A restorer's graph with the weights of weights.safetensors in single precision. Raises
    ValueError where those are no weights, OSError for a missing file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load((folder / "weights.safetensors").read_bytes())
    except SafetensorError as error:
        raise ValueError(
            f"weights.safetensors: no weights ({' '.join(str(error).split())})"
        ) from None
    # In pieces, joined once: each copy of the weights takes as long as all else.
    pieces = [piece for name, value in tensors.items() for piece in _pieces(name, value)]
    head = _head(GRAPH, sum(map(len, pieces)))
    return b"".join([(folder / "restorer.onnx").read_bytes(), head, *pieces])


def _pieces(name: str, value: NDArray[Any]) -> tuple[bytes, bytes]:
    """An initializer of single-precision numbers: what comes before its values, and those."""
    raw = np.ascontiguousarray(value, dtype="<f4").tobytes()
    head = _about(name, value.shape, FLOAT) + _head(RAW_DATA, len(raw))
    return _head(INITIALIZER, len(head) + len(raw)) + head, raw


def _tensor(name: str, value: NDArray[Any]) -> bytes:
    """A TensorProto of float16 or float32."""
    kind = FLOAT16 if value.dtype == np.float16 else FLOAT
    return _about(name, value.shape, kind) + encoded_field(RAW_DATA, value.tobytes())


def _about(name: str, shape: tuple[int, ...], kind: int) -> bytes:
    dims = b"".join(bytes([DIMS << 3]) + _varint(n) for n in shape)
    return dims + bytes([DATA_TYPE << 3, kind]) + encoded_field(NAME, name.encode())


def encoded_field(number: int, content: bytes) -> bytes:
    """A field of a length and so many bytes."""
    return _head(number, len(content)) + content


def _head(number: int, length: int) -> bytes:
    """What comes before the bytes of such a field."""
    return bytes([number << 3 | _BYTES]) + _varint(length)


def _name(tensor: memoryview) -> bytes:
    return next((bytes(payload) for number, _, payload in _fields(tensor) if number == NAME), b"")


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """The fields of a message: number, the field as it stands, and what it holds (of a length and
    bytes: the bytes)."""
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
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
