"""A learnt prior: coupling layers between u ~ N(0, I) and the latents that real patches have.

If the latents of a grid of cells are independent under N(0, I), random ones make lattices without
long-range order. An invertible map e = h(u) adds that order (RealNVP, Dinh et al. 2017). u stays
normal, so search, bank and likelihood do not change.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gdn.generator.chains import halves

BOUND = 1.5  # largest |log scale| of one layer


class CouplingLayer(nn.Module):
    """y = m x + (1 - m)(x exp(s) + t) with (s, t) = net(m x), on maps (n, c, g, g); the identity at
    first."""

    mask: Tensor
    net: nn.Sequential

    def __init__(self, channels: int, size: int, width: int, kind: int) -> None:
        super().__init__()
        self.register_buffer("mask", _mask(channels, size, kind), persistent=False)
        kernel, pad = (3, 1) if size > 1 else (1, 0)
        last = nn.Conv2d(width, 2 * channels, kernel, 1, pad)
        self.net = nn.Sequential(
            nn.Conv2d(channels, width, kernel, 1, pad),
            nn.ReLU(),
            nn.Conv2d(width, width, kernel, 1, pad),
            nn.ReLU(),
            last,
        )

    def start_as_identity(self) -> None:
        """Set the last layer to zero, so that the flow changes nothing until it is trained."""
        last = self.net[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def _scale_and_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        s, t = halves(self.net(kept).to(kept.dtype))
        free = 1 - self.mask
        return free * BOUND * torch.tanh(s / BOUND), free * t

    def forward(self, x: Tensor) -> Tensor:
        """y from x."""
        kept = self.mask * x
        s, t = self._scale_and_shift(kept)
        return kept + (1 - self.mask) * x * s.exp() + t

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """x from y, and log |dx/dy| (n,)."""
        kept = self.mask * y
        s, t = self._scale_and_shift(kept)
        return kept + (1 - self.mask) * (y - t) * (-s).exp(), -s.sum((1, 2, 3))


def _mask(channels: int, size: int, kind: int) -> Tensor:
    """The mask of a layer's `kind`. Checkerboards of cells alternate with halves of channels, and
    each with its complement."""
    cells = torch.arange(size)
    if kind % 2 == 0 and size > 1:
        board = ((cells[:, None] + cells[None, :]) % 2).float().expand(channels, size, size)
    else:
        # Halves in another pairing each time: bit b of the channel's number.
        bit = (kind // 4) % max(1, (channels - 1).bit_length())
        board = (
            ((torch.arange(channels) >> bit) % 2)
            .float()[:, None, None]
            .expand(channels, size, size)
        )
    return (1 - board if kind % 4 >= 2 else board)[None].contiguous()


class PriorFlow(nn.Module):
    """`layers` couplings on latents (n, d) seen as (c, g, g). Its weights serve a grid of any
    size."""

    def __init__(self, layers: int, shape: tuple[int, int, int], width: int) -> None:
        super().__init__()
        self.shape = shape
        self.layers = nn.ModuleList(
            CouplingLayer(shape[0], shape[1], width, i) for i in range(layers)
        )

    def forward(self, u: Tensor) -> Tensor:
        """Latents e (n, d) of normal `u` (n, d)."""
        e = u.view(-1, *self.shape)
        for layer in self.layers:
            e = layer(e)
        return e.flatten(1)

    def inverse(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """u (n, d) of latents `e` and log |du/de| (n,)."""
        u = e.view(-1, *self.shape)
        total = u.new_zeros(u.shape[0])  # len() would fix the batch in an exported graph
        for layer in reversed(self.layers):
            assert isinstance(layer, CouplingLayer)
            u, log_determinant = layer.inverse(u)
            total = total + log_determinant
        return u.flatten(1), total
