"""The restorer: a network from noisy frames of any crystal to the expected clean one. It is not
told noise, gain or offset.

It is a U-Net (Ronneberger et al. 2015) of residual blocks that works at half the resolution and
below. Frames are binned to about 0.35 Å per pixel. At half that resolution, the four interleaved
copies still hold the whole band of every image (pixel unshuffling loses nothing). The input is
standardised by its own mean and deviation, and the output is scaled back. So an affine change of
the frame changes the result in the same way, and gain, offset and dose need not be known.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdn.models import SLOTS

SHUFFLE = 2  # px of the frame for one of the finest map


@dataclass(frozen=True)
class RestorerShape:
    """Channels of the maps at 1/2, 1/4, ... of the resolution, and the number of residual blocks of
    each on the way down (on the way up there is one each)."""

    widths: tuple[int, ...] = (128, 192, 256, 256)
    blocks: tuple[int, ...] = (2, 1, 1, 2)

    @property
    def multiple(self) -> int:
        """The sides of a frame are multiples of this, px."""
        return SHUFFLE << (len(self.widths) - 1)

    def record(self) -> dict[str, list[int]]:
        """JSON-ready."""
        return {name: list(value) for name, value in asdict(self).items()}


class ResidualBlock(nn.Module):
    """Two convolutions beside the identity (He et al. 2016), no normalisation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h, w)."""
        y: Tensor = self.second(F.silu(self.first(F.silu(x)))) + self.skip(x)
        return y


def _stack(inputs: int, outputs: int, count: int) -> nn.Sequential:
    return nn.Sequential(
        *(ResidualBlock(inputs if i == 0 else outputs, outputs) for i in range(count))
    )


class Restorer(nn.Module):
    """Frames and masks (n, SLOTS, h, w) -> the expected clean image (n, 1, h, w) of slot 0, in its
    units.

    `frames` float in any linear units, those of the slots the same; `mask` is 1 where a slot's
    pixel is valid and 0 elsewhere (an empty slot is 0 throughout). Slot 0 has at least one valid
    pixel. h and w are multiples of `shape.multiple`.
    """

    def __init__(self, shape: RestorerShape = RestorerShape()) -> None:
        super().__init__()
        self.shape, w = shape, shape.widths
        self.enter = nn.Conv2d(2 * SLOTS * SHUFFLE**2, w[0], 3, padding=1)
        steps = [w[0], *w]
        self.down = nn.ModuleList(
            _stack(a, b, n)
            for (a, b), n in zip(itertools.pairwise(steps), shape.blocks, strict=True)
        )
        self.up = nn.ModuleList(_stack(b + a, a, 1) for a, b in itertools.pairwise(w))
        self.leave = nn.Conv2d(w[0], SHUFFLE**2, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        mean, deviation = moments(frames, mask)
        standard = self.restore((frames - mean) / deviation, mask)
        return mean + deviation * standard

    def restore(self, standard: Tensor, mask: Tensor) -> Tensor:
        """The network alone: standardised frames in, standardised image out."""
        x = F.pixel_unshuffle(torch.cat([standard * mask, mask - 1], 1), SHUFFLE)
        x, kept = self.enter(x), []
        for i, layer in enumerate(self.down):
            x = layer(F.avg_pool2d(x, 2) if i else x)
            kept.append(x)
        for i in reversed(range(len(self.up))):
            x = self.up[i](torch.cat([double_size(x), kept[i]], 1))
        return F.pixel_shuffle(self.leave(F.silu(x)), SHUFFLE)


def double_size(x: Tensor) -> Tensor:
    """(n, c, h, w) -> (n, c, 2h, 2w), bilinear, the edge repeated beyond itself.

    What `F.interpolate(x, scale_factor=2, mode="bilinear")` gives, from shifted copies: the
    compiled backward pass of that function adds atomically, and took a third of a training step on
    an H100.
    """
    for dim in (2, 3):
        size = x.shape[dim]
        before = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, size - 1)], dim)
        after = torch.cat([x.narrow(dim, 1, size - 1), x.narrow(dim, size - 1, 1)], dim)
        x = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], dim + 1).flatten(
            dim, dim + 1
        )
    return x


def moments(frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (n, 1, 1, 1) of the valid pixels of slot 0."""
    own, valid = frames[:, :1], mask[:, :1]
    count = valid.sum((1, 2, 3), keepdim=True).clamp_min(1)
    mean = (own * valid).sum((1, 2, 3), keepdim=True) / count
    variance = ((own - mean) ** 2 * valid).sum((1, 2, 3), keepdim=True) / count
    return mean, (variance + 1e-12 * mean**2 + 1e-24).sqrt()
