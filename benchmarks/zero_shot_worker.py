"""Zero-shot Noise2Noise (Mansour & Heckel 2023) for rivals.py, written from the paper: needs torch
and NumPy alone.

Two half-size images are means of the diagonals of each 2 x 2 block (their figure 1). A network of
three layers and 48 channels predicts the noise of one from the other, with the residual and the
consistency loss (eqs. 5 and 6); Adam at 1e-3, halved after every 1,000 steps, up to 3,000 steps or
the seconds of the request.
"""

import time

import numpy as np
import torch
from rival_worker import Image, Request, normalised, serve
from torch import Tensor, nn
from torch.nn import functional

CHANNELS, STEPS, HALVE_EVERY, RATE = 48, 3000, 1000, 1e-3


def halves(image: Tensor) -> tuple[Tensor, Tensor]:
    """Two images (n, 1, h/2, w/2) of one (n, 1, h, w): the means of the two diagonals."""
    first = torch.tensor([[0.0, 0.5], [0.5, 0.0]])[None, None]
    second = torch.tensor([[0.5, 0.0], [0.0, 0.5]])[None, None]
    return functional.conv2d(image, first, stride=2), functional.conv2d(image, second, stride=2)


def loss_of(network: nn.Module, noisy: Tensor) -> Tensor:
    """Residual loss and consistency loss."""
    left, right = halves(noisy)
    clean_left, clean_right = left - network(left), right - network(right)
    residual = ((left - clean_right) ** 2).mean() + ((right - clean_left) ** 2).mean()
    down_left, down_right = halves(noisy - network(noisy))
    consistent = ((clean_left - down_left) ** 2).mean() + ((clean_right - down_right) ** 2).mean()
    loss: Tensor = 0.5 * (residual + consistent)
    return loss


def restore(image: Image, request: Request) -> Image:
    """Train on the image, then take its predicted noise off."""
    end = time.process_time() + request["seconds"]
    torch.manual_seed(request["seed"])
    values, mean, deviation = normalised(image)
    noisy = torch.from_numpy(values)[None, None]
    network = nn.Sequential(
        nn.Conv2d(1, CHANNELS, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(CHANNELS, 1, 1),
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, HALVE_EVERY, 0.5)
    for _ in range(STEPS):
        if time.process_time() > end:
            break
        optimiser.zero_grad()
        loss_of(network, noisy).backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        clean = (noisy - network(noisy))[0, 0].numpy()
    made: Image = clean * np.float32(deviation) + np.float32(mean)
    return made


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(restore)
