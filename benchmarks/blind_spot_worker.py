"""Noise2Self (Batson & Royer 2019) for rivals.py, written from the paper and its published code's
defaults: needs torch and NumPy alone.

A small U-Net learns to predict the pixels of one of 16 interleaved grids from an image in which
they are replaced by the mean of their neighbours (J-invariance); the result is the mean of what it
predicts at each of the 16 grids, each blind to its own pixels.
"""

import time
from itertools import pairwise

import numpy as np
import torch
from rival_worker import Image, Request, normalised, serve
from torch import Tensor, nn
from torch.nn import functional

GRID, WIDTH, SCALES, RATE = 4, 32, 3, 1e-3
CROP, BATCH, MOST_STEPS = 96, 8, 4000


class UNet(nn.Module):
    """Two 3 x 3 layers a scale, means to go down, nearest pixels to go up."""

    def __init__(self) -> None:
        super().__init__()
        widths = [WIDTH * 2**scale for scale in range(SCALES)]
        self.down = nn.ModuleList(
            _block(before, width) for before, width in zip([1, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(_block(deep + width, width) for width, deep in pairwise(widths))
        self.last = nn.Conv2d(widths[0], 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        rows, columns = image.shape[2:]
        multiple = 2 ** (SCALES - 1)
        x = functional.pad(image, (0, -columns % multiple, 0, -rows % multiple), mode="reflect")
        kept = []
        for scale, block in enumerate(self.down):
            x = block(x if scale == 0 else functional.avg_pool2d(x, 2))
            kept.append(x)
        for block, beside in zip(reversed(self.up), reversed(kept[:-1]), strict=True):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2.0), beside], 1))
        made: Tensor = self.last(x)[:, :, :rows, :columns]
        return made


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(after, after, 3, padding=1),
        nn.LeakyReLU(0.1),
    )


def masked(image: Tensor, place: int) -> tuple[Tensor, Tensor]:
    """The image with one grid's pixels replaced by the mean of their eight neighbours, the nearer
    ones with twice the weight; and the mask of that grid."""
    mask = torch.zeros_like(image)
    mask[:, :, place // GRID :: GRID, place % GRID :: GRID] = 1
    kernel = torch.tensor([[0.5, 1.0, 0.5], [1.0, 0.0, 1.0], [0.5, 1.0, 0.5]])
    padded = functional.pad(image, (1, 1, 1, 1), mode="reflect")
    around = functional.conv2d(padded, (kernel / kernel.sum())[None, None])
    return torch.where(mask > 0, around, image), mask


def restore(image: Image, request: Request) -> Image:
    """Train on crops of the image, then predict every pixel from its surroundings."""
    end = time.process_time() + request["seconds"]
    random = torch.Generator().manual_seed(request["seed"])
    torch.manual_seed(request["seed"])
    values, mean, deviation = normalised(image)
    noisy = torch.from_numpy(values)[None, None]
    side = min(CROP, *noisy.shape[2:])
    network = UNet()
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    for step in range(MOST_STEPS):
        if time.process_time() > end:
            break
        corners = [
            [int(torch.randint(0, n - side + 1, (1,), generator=random)) for n in noisy.shape[2:]]
            for _ in range(BATCH)
        ]
        crops = torch.cat([noisy[:, :, y : y + side, x : x + side] for y, x in corners])
        seen, mask = masked(crops, step % GRID**2)
        loss = (((network(seen) - crops) * mask) ** 2).sum() / mask.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    whole = torch.zeros_like(noisy)
    with torch.no_grad():
        for place in range(GRID**2):
            seen, mask = masked(noisy, place)
            whole += network(seen) * mask
    made: Image = whole[0, 0].numpy() * np.float32(deviation) + np.float32(mean)
    return made


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(restore)
