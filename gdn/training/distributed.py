"""Several processes on one model, started by torchrun: averaged gradients over gloo or NCCL.

Every function is a no-op in a single process.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import nn


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
    """Copy parameters and buffers of rank 0 to all."""
    if dist.is_initialized():
        for module in modules:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, 0)


def any_true(value: bool) -> bool:
    """Whether any process says so; all get the same answer."""
    if not dist.is_initialized():
        return value
    flag = torch.tensor(float(value), device="cuda" if torch.cuda.is_available() else "cpu")
    dist.all_reduce(flag)
    return bool(flag > 0)
