"""Chunks of Zarr arrays. The codecs unpack a chunk to whatever it holds, and only then is it
compared with the size that the array declares. Here it is compared before, by a codec pipeline of
gdn's own, which Zarr uses within `bounded_chunks`."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from gdn.frames.packed import (
    Exceeds,
    bzip2_exceeds,
    gzip_exceeds,
    stated,
    zlib_exceeds,
    zstd_exceeds,
)

_UNPACK: dict[str, Exceeds] = {
    "zlib": zlib_exceeds,
    "gzip": gzip_exceeds,
    "bz2": bzip2_exceeds,
    "zstd": zstd_exceeds,
    "blosc": stated("<I", 4),
    "lz4": stated("<I"),
}
_SUMS = ("crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3")
_KEEP_SIZE = ("bytes", "transpose", "sharding_indexed", "shuffle", "bitround")
_CHANGE_TYPE = ("delta", "fixedscaleoffset", "quantize")  # the number of values stays
_EXTRA_BYTES = 4096  # of checksums, and of an index
_only_this_thread = threading.RLock()  # Zarr's settings belong to the process
Step = tuple[str, dict[str, Any]]  # a codec's name and parameters


@contextmanager
def bounded_chunks() -> Iterator[None]:
    """Arrays that are opened and read within unpack no chunk that is larger than it declares, and
    use no codec of which that cannot be told before: ValueError."""
    import zarr

    with _only_this_thread, zarr.config.set({"codec_pipeline.path": _pipeline()}):
        yield


def check_packed(steps: list[Step], packed: bytes, declared: int) -> None:
    """Raises ValueError unless a chunk that is unpacked by these `steps`, the first one first,
    gives at most `declared` bytes."""
    bound, earlier = declared + _EXTRA_BYTES, ""
    for name, parameters in steps:
        if name in _UNPACK and not earlier:
            if _UNPACK[name](packed, bound):
                raise ValueError(
                    f"a chunk does not unpack into the {declared} bytes that it declares"
                )
        elif name in _CHANGE_TYPE:
            kinds = [np.dtype(parameters.get(key) or "u1").kind for key in ("dtype", "astype")]
            if not set(kinds) <= set("iuf"):
                raise ValueError(f"values that codec {name} makes no numbers")
        elif name not in _KEEP_SIZE + _SUMS:
            again = " and another codec" if name in _UNPACK else ""
            raise ValueError(
                f"compressed by {name!r}{again}, which gdn does not unpack, because it may take "
                "any memory; write it again with zstd"
            )
        if name not in _SUMS:
            earlier = name


@cache
def _pipeline() -> str:
    """The name under which Zarr knows the pipeline. Zarr is imported only where it is needed."""
    from zarr.core.codec_pipeline import BatchedCodecPipeline
    from zarr.registry import fully_qualified_name, register_pipeline

    class BoundedPipeline(BatchedCodecPipeline):
        """Zarr's pipeline, which looks at each chunk before it unpacks it, also within shards."""

        async def decode_batch(
            self, chunk_bytes_and_specs: Iterable[tuple[Any, Any]]
        ) -> Iterable[Any]:
            chunks = list(chunk_bytes_and_specs)
            await asyncio.to_thread(_check_chunks, self, chunks)
            return await super().decode_batch(chunks)

    register_pipeline(BoundedPipeline)
    return fully_qualified_name(BoundedPipeline)


def _check_chunks(pipeline: Any, chunks: list[tuple[Any, Any]]) -> None:
    steps = list(_steps(pipeline))
    for packed, spec in chunks:
        if packed is not None:
            check_packed(steps, packed.to_bytes(), _stored_size(pipeline, spec))


def _steps(pipeline: Any) -> Iterator[Step]:
    """The codecs of a pipeline as they unpack."""
    codec = pipeline.array_bytes_codec
    if hasattr(codec, "compressor"):  # Zarr 2
        for each in (codec.compressor, *reversed(codec.filters or ())):
            if each is not None:
                parameters = each.get_config()
                yield parameters["id"], parameters
        return
    for each in (*reversed(pipeline.bytes_bytes_codecs), codec, *pipeline.array_array_codecs):
        described = each.to_dict()
        yield described["name"].removeprefix("numcodecs."), described.get("configuration") or {}


def _stored_size(pipeline: Any, spec: Any) -> int:
    """Bytes of a chunk between its packing and the filters that change the type of its values."""
    for codec in pipeline.array_array_codecs:
        spec = codec.resolve_metadata(spec)
    item = spec.dtype.to_native_dtype().itemsize
    for each in getattr(pipeline.array_bytes_codec, "filters", None) or ():
        item = np.dtype(each.get_config().get("astype") or f"V{item}").itemsize
    return int(math.prod(spec.shape) * item)
