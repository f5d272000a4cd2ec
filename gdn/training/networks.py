"""Generator, discriminator and encoder: the convolutional networks of DCGAN (Radford et al. 2016).

All images are (n, channels, patch, patch) in network units, [-1, 1]; latents are (n, latent).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn


def _widths(patch: int, base: int, cap: int) -> list[int]:
    """Channels of the stages from 4x4 up to patch/2; doubling towards the coarse end, at most `cap`."""
    stages = int(math.log2(patch)) - 2
    if patch < 8 or 2 ** (stages + 2) != patch:
        raise ValueError(f"patch must be a power of two of at least 8, got {patch}")
    return [min(base * 2**i, cap) for i in range(stages)][::-1]


class _Residual(nn.Module):
    """x + conv(relu(bn(conv(relu(bn(x)))))), 3x3, at constant width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y


class _GridStem(nn.Module):
    """Latents on a 4x4 grid of cells: (n, 16 c) -> (n, width, 4, 4)."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        if latent % 16:
            raise ValueError(f"a grid of latents needs a multiple of 16, got {latent}")
        self.per_cell = latent // 16
        self.conv = nn.Conv2d(self.per_cell, width, 3, 1, 1, bias=False)

    def forward(self, z: Tensor) -> Tensor:
        y: Tensor = self.conv(z.view(-1, self.per_cell, 4, 4))
        return y


class _MappingStem(nn.Module):
    """Two hidden layers before the 4x4 map: the phase of a lattice is not linear in its wave vector."""

    def __init__(self, latent: int, width: int, hidden: int = 384) -> None:
        super().__init__()
        self.width = width
        self.mapping = nn.Sequential(
            nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 16 * width)
        )

    def forward(self, z: Tensor) -> Tensor:
        y: Tensor = self.mapping(z)
        return y.view(-1, self.width, 4, 4)


class _LinearStem(nn.Module):
    """DCGAN's first layer: a transposed convolution from 1x1 to 4x4."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(latent, width, 4, 1, 0, bias=False)

    def forward(self, z: Tensor) -> Tensor:
        y: Tensor = self.conv(z[:, :, None, None])
        return y


class Generator(nn.Module):
    """Transposed convolutions from a latent to an image; tanh at the end.

    Input (n, latent) float, output (n, channels, patch, patch) in [-1, 1]. `residual` adds that many
    residual blocks at each of the 4x4, 8x8 and 16x16 maps.
    """

    def __init__(
        self, latent: int, patch: int, channels: int = 1, base: int = 64, cap: int = 1024,
        stem: str = "linear", residual: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        widths = _widths(patch, base, cap)
        self.stem = {"linear": _LinearStem, "mlp": _MappingStem, "grid": _GridStem}[stem](latent, widths[0])
        layers: list[nn.Module] = [_Residual(widths[0]) for _ in range(residual)]
        for i, (wide, narrow) in enumerate(itertools.pairwise(widths)):
            layers += [nn.BatchNorm2d(wide), nn.ReLU(), nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False)]
            layers += [_Residual(narrow) for _ in range(residual if i < 2 else 0)]
        layers += [nn.BatchNorm2d(widths[-1]), nn.ReLU(), nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1)]
        self.layers = nn.Sequential(*layers)
        self.latent, self.patch, self.channels = latent, patch, channels

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.layers(self.stem(z)))


class Discriminator(nn.Module):
    """Mirror image of the generator ("symmetric"): strided convolutions, leaky ReLU 0.2, one logit.

    With `outputs` > 1 the same trunk serves as an encoder.
    """

    def __init__(self, patch: int, channels: int = 1, base: int = 64, cap: int = 1024, outputs: int = 1) -> None:
        super().__init__()
        widths = _widths(patch, base, cap)[::-1]
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for narrow, wide in itertools.pairwise(widths):
            layers += [nn.Conv2d(narrow, wide, 4, 2, 1, bias=False), nn.BatchNorm2d(wide), nn.LeakyReLU(0.2)]
        layers += [nn.Conv2d(widths[-1], outputs, 4, 1, 0)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y.flatten(1)


class Encoder(nn.Module):
    """Noisy image and its noise level -> mean and log-variance of the latent.

    Input (n, channels, patch, patch) in network units and sigma (n,), the noise's standard
    deviation in network units at the vacuum level; output two (n, latent).
    """

    def __init__(
        self, latent: int, patch: int, channels: int = 1, base: int = 64, cap: int = 1024,
        stem: str = "linear", residual: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        widths = _widths(patch, base, cap)[::-1]
        layers: list[nn.Module] = [nn.Conv2d(channels + 1, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for i, (narrow, wide) in enumerate(itertools.pairwise(widths)):
            layers += [nn.Conv2d(narrow, wide, 4, 2, 1, bias=False), nn.BatchNorm2d(wide), nn.LeakyReLU(0.2)]
            layers += [_Residual(wide) for _ in range(residual if i >= len(widths) - 3 else 0)]
        wide = widths[-1]
        heads: dict[str, list[nn.Module]] = {
            "linear": [nn.Conv2d(wide, 2 * latent, 4, 1, 0)],
            "grid": [nn.Conv2d(wide, latent // 8, 3, 1, 1)],
            "mlp": [
                nn.Flatten(),
                nn.Linear(16 * wide, 384),
                nn.ReLU(),
                nn.Linear(384, 384),
                nn.ReLU(),
                nn.Linear(384, 2 * latent),
            ],
        }
        self.trunk = nn.Sequential(*layers, *heads[stem])
        self.latent = latent

    def forward(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        # Whitening keeps the input's scale within bounds; the level itself comes as a plane.
        level = torch.log10(sigma.clamp_min(1e-3))[:, None, None, None] / 3
        plane = level.expand(-1, 1, x.shape[2], x.shape[3])
        scaled = x / torch.sqrt(0.1 + sigma**2)[:, None, None, None]
        mean, log_variance = self.trunk(torch.cat([scaled, plane], 1)).chunk(2, 1)
        return mean.flatten(1), log_variance.flatten(1).clamp(-12, 4)


def initialise(module: nn.Module, rule: str) -> None:
    """`dcgan`: weights N(0, 0.02), batch-norm scales N(1, 0.02). `he`: fan-in scaled (He et al. 2015)."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
            if rule == "dcgan":
                nn.init.normal_(m.weight, 0.0, 0.02)
            else:
                fan = m.weight.shape[1] if isinstance(m, nn.Conv2d) else m.weight.shape[0]
                taps = m.weight[0, 0].numel() / (1 if isinstance(m, nn.Conv2d) else m.stride[0] ** 2)
                nn.init.normal_(m.weight, 0.0, math.sqrt(2 / (fan * taps)))
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.Linear):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            nn.init.zeros_(m.bias)
        elif isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight, 1.0, 0.02)
            nn.init.zeros_(m.bias)
    if rule == "he":
        _start_small(module)


@torch.no_grad()
def _start_small(module: nn.Module) -> None:
    """Start from a nearly grey generator and a nearly certain encoder.

    A last layer at full scale starts with images of far too much contrast; the first steps then
    shrink every weight on the path, and training stays grey for hundreds of thousands of images.
    """
    if isinstance(module, Generator):
        last = module.layers[-1]
        assert isinstance(last, nn.ConvTranspose2d)
        last.weight *= 0.1
    if isinstance(module, Encoder):
        head = module.trunk[-1]
        assert isinstance(head, nn.Conv2d | nn.Linear)
        assert head.bias is not None
        head.bias[len(head.bias) // 2 :] -= 4


def freeze_statistics(module: nn.Module) -> None:
    """Put every batch norm in evaluation mode: its running statistics become constants."""
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()


def parameter_count(module: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in module.parameters())
