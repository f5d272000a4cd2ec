"""The same bits for any number of BLAS threads, and nothing of the limit left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import scipy.linalg  # noqa: F401 - brings a BLAS of its own
import threadpoolctl
import tifffile

from gdn.blas import BLOCK, one_blas_thread, product


def blas_threads() -> set[int]:
    return {
        library["num_threads"]
        for library in threadpoolctl.threadpool_info()
        if library["user_api"] == "blas"
    }


@pytest.mark.slow
def test_a_frame_has_the_same_bits_for_any_number_of_blas_threads(tmp_path: Path) -> None:
    # A long strip: OpenBLAS divides sums of more than some hundred terms only.
    y, x = np.mgrid[:120, :1000] * 0.0612
    clean = 1 - 0.4 * np.cos(2 * np.pi * y / 4.6) ** 2 * np.cos(2 * np.pi * x / 5.4) ** 2
    tifffile.imwrite(tmp_path / "f.tif", np.random.default_rng(0).poisson(clean).astype(np.uint8))
    options = ("--sampling", "0.0612", "--no-score", "--model", "pt-ceo2-64", "--restarts", "16")
    found = []
    for threads in ("1", "2"):
        command = [
            sys.executable,
            "-m",
            "gdn",
            "denoise",
            "f.tif",
            "-o",
            threads,
            "--threads",
            threads,
            *options,
        ]
        environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=300,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        found.append(
            [(tmp_path / threads / f"f_{name}.tif").read_bytes() for name in ("denoised", "spread")]
        )
    assert found[0] == found[1]


def test_products_in_blocks_are_those_of_one_thread() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((37, 700), np.float32), rng.random((2 * BLOCK + 5, 700), np.float32)
    found = []
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads, user_api="blas"), one_blas_thread():
            found.append(product(a, b))
    assert np.array_equal(*found)
    np.testing.assert_allclose(found[0], a.astype(np.float64) @ b.T, rtol=1e-5)


def test_blas_has_its_threads_back_once_the_last_one_is_out() -> None:
    meeting = Barrier(2)

    @one_blas_thread()
    def inside() -> set[int]:
        meeting.wait(10)
        with one_blas_thread():
            return blas_threads()

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        with ThreadPoolExecutor(2) as pool:
            assert [f.result() for f in [pool.submit(inside) for _ in range(2)]] == [{1}, {1}]
        assert blas_threads() == {2}
        with pytest.raises(ZeroDivisionError), one_blas_thread():
            raise ZeroDivisionError
        assert blas_threads() == {2}
