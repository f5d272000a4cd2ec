"""The supervised comparator: a U-Net (Ronneberger et al. 2015) from a noisy patch to its clean one,
by squared error.

It is of the kind of Vincent et al. 2021 (several scales, skip connections, trained on simulated
pairs). It works on frames binned to the generator's sampling, where it needs a fortieth of the work
and loses nothing.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, 1, 1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(outputs, outputs, 3, 1, 1),
        nn.LeakyReLU(0.1),
    )


class UNet(nn.Module):
    """(n, 1, h, w) noisy -> (n, 1, h, w) clean, network units; h and w multiples of 2^(scales -
    1)."""

    def __init__(self, scales: int, base: int, cap: int) -> None:
        super().__init__()
        sizes = [min(base * 2**i, cap) for i in range(scales)]
        self.down = nn.ModuleList(_double(a, b) for a, b in zip([1, *sizes], sizes, strict=False))
        self.widen = nn.ModuleList(
            nn.ConvTranspose2d(b, a, 2, 2) for a, b in itertools.pairwise(sizes)
        )
        self.up = nn.ModuleList(_double(2 * a, a) for a in sizes[:-1])
        self.last = nn.Conv2d(sizes[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The denoised patch."""
        skips: list[Tensor] = []
        y = x
        for i, block in enumerate(self.down):
            y = block(F.max_pool2d(y, 2) if i else y)
            skips.append(y)
        for i in range(len(self.up) - 1, -1, -1):
            y = self.up[i](torch.cat([skips[i], self.widen[i](y)], 1))
        z: Tensor = self.last(y)
        return z
