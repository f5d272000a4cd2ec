"""Several processes on one model, started by torchrun: averaged gradients over gloo or NCCL.

Every function is a no-op in a single process.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


def start() -> tuple[int, int]:
    """Join the process group that torchrun's environment describes; returns (rank, world size)."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return (dist.get_rank(), world) if world > 1 else (0, 1)


def stop() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def local_rank() -> int:
    """Index of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def average_gradients(*modules: nn.Module | None) -> None:
    """Replace every gradient by its mean over the processes."""
    if not dist.is_initialized():
        return
    for module in modules:
        for parameter in module.parameters() if module is not None else ():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= world_size()


def same_weights(*modules: nn.Module) -> None:
    """Copy parameters and buffers from rank 0 to all ranks."""
    if dist.is_initialized():
        for module in modules:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, 0)


def mean_of(row: dict[str, float]) -> dict[str, float]:
    """The mean over the processes of every number."""
    if not dist.is_initialized() or not row:
        return row
    values = torch.tensor(
        list(row.values()),
        dtype=torch.float64,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    dist.all_reduce(values)
    return dict(zip(row, (values / world_size()).tolist(), strict=True))


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with the statistics of the whole batch, of all processes (torch's own version
    needs a GPU)."""

    def forward(self, x: Tensor) -> Tensor:
        """The input (n, channels, h, w), normalised. n is the same on every process."""
        if not (self.training and dist.is_initialized()):
            return super().forward(x)
        wide, world = x.float(), world_size()
        mean = all_reduce(wide.mean((0, 2, 3))) / world
        apart = wide - mean[:, None, None]
        variance = all_reduce((apart**2).mean((0, 2, 3))) / world
        if (
            self.running_mean is not None
            and self.running_var is not None
            and self.num_batches_tracked is not None
        ):
            with torch.no_grad():
                self.num_batches_tracked += 1
                n = wide.numel() // wide.shape[1] * world
                rate = (
                    self.momentum
                    if self.momentum is not None
                    else 1 / float(self.num_batches_tracked)
                )
                self.running_mean.lerp_(mean, rate)
                self.running_var.lerp_(variance * n / (n - 1), rate)
        normalised: Tensor = apart * torch.rsqrt(variance + self.eps)[:, None, None]
        normalised = normalised * self.weight[:, None, None] + self.bias[:, None, None]
        return normalised.to(x.dtype)


def synchronise_norms(*modules: nn.Module | None) -> None:
    """Make every batch norm compute its statistics over all processes."""
    if dist.is_initialized():
        for module in modules:
            for child in module.modules() if module is not None else ():
                if type(child) is nn.BatchNorm2d:
                    child.__class__ = SyncedBatchNorm2d


def any_true(value: bool) -> bool:
    """Whether the flag is true on any process. All processes get the same answer."""
    if not dist.is_initialized():
        return value
    flag = torch.tensor(float(value), device="cuda" if torch.cuda.is_available() else "cpu")
    dist.all_reduce(flag)
    return bool(flag > 0)
