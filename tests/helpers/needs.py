"""Marks of tests that need more than the core."""

from __future__ import annotations

import importlib.util

import pytest

from tests.helpers.places import SHARED


def missing(module: str) -> bool:
    return importlib.util.find_spec(module) is None


needs_training = pytest.mark.skipif(missing("torch"), reason="needs the train extra (torch)")
needs_formats = pytest.mark.skipif(
    missing("rsciio"), reason="needs the formats extra (rosettasciio)"
)
needs_rtx = pytest.mark.skipif(missing("tensorrt_rtx"), reason="needs the tensorrt-rtx extra")
needs_cluster = pytest.mark.skipif(missing("distributed"), reason="needs the extra 'cluster'")
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"internal test data not found at {SHARED}"
)
