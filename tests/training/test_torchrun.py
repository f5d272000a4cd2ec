"""Several processes that share a training run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.commands import gdn
from tests.helpers.needs import needs_training

pytestmark = [needs_training, pytest.mark.torchrun]


def shared_training(processes: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`gdn train` by torchrun, over gloo."""
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        "-m",
        "gdn",
    ]
    command = [*launcher, "train", *map(str, arguments), "--threads", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment
    )


def curve(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]


def test_two_processes_have_the_loss_curve_of_one(
    tmp_path: Path, dataset: Path, tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tolerance: every loss of the first step to 1e-5, of 16 steps to 1 %, of 20 to 5 %. The
    batches are the same; sums in another order differ in the last bits, and training amplifies
    that."""
    recipe = tmp_path / "single.toml"
    recipe.write_text(tiny_recipe.read_text().replace("images = 256", "images = 320\nbf16 = false"))
    settings = ("--recipe", recipe, "--data", dataset, "--status-every", "80")
    alone = gdn("train", *settings, "-o", tmp_path / "one", "--threads", "1")
    assert alone.returncode == 0, alone.stderr
    shared = shared_training(2, *settings, "-o", tmp_path / "two")
    assert shared.returncode == 0, shared.stderr
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert (
        [row["images"] for row in one] == [row["images"] for row in two] == [16, 96, 176, 256, 320]
    )
    for name in ("fit", "kl", "d_loss", "g_loss", "psnr_study_db"):
        mine, its = ([row[name] for row in rows] for rows in (one, two))
        for first, last, tolerance in ((0, 1, 1e-5), (1, 4, 0.01), (4, 5, 0.05)):
            np.testing.assert_allclose(
                its[first:last], mine[first:last], rtol=tolerance, err_msg=name
            )
    assert one[-1]["fit"] != one[0]["fit"]
    # The recipe in half precision goes on with one process, and with two again; a checkpoint is one
    # file, written by one.
    longer = (
        "--recipe",
        tmp_path / "longer.toml",
        "--data",
        dataset,
        "--status-every",
        "80",
        "-o",
        tmp_path / "two",
    )
    for images in (400, 480):
        (tmp_path / "longer.toml").write_text(
            recipe.read_text().replace("images = 320", f"images = {images}")
        )
        resumed = (
            gdn("train", *longer, "--threads", "1")
            if images == 400
            else shared_training(2, *longer)
        )
        assert resumed.returncode == 0, resumed.stderr
        assert curve(tmp_path / "two")[-1]["images"] == images
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == [
        "checkpoint.pt",
        "grids",
        "recipe.json",
        "stats.jsonl",
    ]
    monkeypatch.setattr("gdn.training.distributed.start", lambda: (0, 3))  # as the first of three
    refused = gdn("train", *settings, "-o", tmp_path / "three", "--threads", "1")
    assert refused.returncode != 0
    assert "3 processes cannot share this batch evenly; start 1 or 2 or 4" in " ".join(
        refused.stderr.split()
    )


def test_synchronised_batch_norm_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SYNCED)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(tmp_path / "script.py"),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the same") == 2


SYNCED = """
import torch, torch.distributed as dist
from torch import nn
from gdn.training.distributed import SyncedBatchNorm2d, average_gradients, synchronise_norms

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
x = (3 + 2 * torch.randn(8, 4, 5, 5)).double().float()
weight = torch.randn(8, 4, 5, 5)
one, two = nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4))
whole = x.clone().requires_grad_()
(one(whole) * weight).mean().backward()
synchronise_norms(two)
assert type(two[0]) is SyncedBatchNorm2d
part = x[4 * rank : 4 * rank + 4].clone().requires_grad_()
found = two(part)
(found * weight[4 * rank : 4 * rank + 4]).mean().backward()
average_gradients(two)
with torch.no_grad():
    torch.testing.assert_close(found, one(x)[4 * rank : 4 * rank + 4], atol=1e-5, rtol=1e-5)
torch.testing.assert_close(part.grad / 2, whole.grad[4 * rank : 4 * rank + 4], atol=1e-6, rtol=1e-4)
torch.testing.assert_close(two[0].weight.grad, one.weight.grad, atol=1e-6, rtol=1e-4)
torch.testing.assert_close(two[0].bias.grad, one.bias.grad, atol=1e-6, rtol=1e-4)
first = nn.BatchNorm2d(4)
first(x)
torch.testing.assert_close(two[0].running_mean, first.running_mean)
torch.testing.assert_close(two[0].running_var, first.running_var)
print("the same", flush=True)
"""
