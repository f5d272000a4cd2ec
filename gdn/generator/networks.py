"""Generator, discriminator and encoder: the convolutional networks of DCGAN (Radford et al. 2016).

All images are (n, channels, patch, patch) in network units, [-1, 1]; latents are (n, latent).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from gdn.generator.blocks import STEMS, PlaneWaves, Residual, Rung, StyleBlock, widths
from gdn.generator.chains import halves
from gdn.generator.prior_flow import CouplingLayer, PriorFlow
from gdn.recipes import Network


class Generator(nn.Module):
    """Transposed convolutions from a latent to an image; tanh at the end.

    Input (n, latent) float, output (n, channels, patch, patch) in [-1, 1]. `residual` adds that
    many residual blocks at each of the three coarsest maps. With a flow, input u ~ N(0, I) becomes
    the latents e = h(u) of the layers behind it; `decode` starts from those.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        n = network
        size = widths(n.patch, n.coarse, n.base_channels, n.channel_cap)
        self.network, self.latent, self.channels = network, n.latent, n.channels
        stem = n.stem_latent
        per_cell = (stem // n.coarse**2, n.coarse, n.coarse) if n.stem == "grid" else (stem, 1, 1)
        self.flow = PriorFlow(n.flow, per_cell, n.flow_width) if n.flow else None
        self.stem = STEMS[n.stem](stem, size[0], n.coarse)
        layers: list[nn.Module] = [Residual(size[0]) for _ in range(n.residual)]
        # Beside the layers, not among them: weights of a generator without rungs fit one with them.
        self.rungs = nn.ModuleDict()
        for i, (wide, narrow) in enumerate(itertools.pairwise(size)):
            layers += [nn.BatchNorm2d(wide), *self._entry(wide, n.patch // n.coarse >> i)]
            layers += [nn.ReLU(), nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False)]
            if i < len(n.rungs) and n.rungs[i]:
                self.rungs[str(len(layers) - 1)] = Rung(
                    stem, n.rungs[i], n.coarse << (i + 1), narrow
                )
                stem += n.rungs[i] * (n.coarse << (i + 1)) ** 2
            layers += [Residual(narrow) for _ in range(n.residual if i < 2 else 0)]
        layers += [nn.BatchNorm2d(size[-1]), *self._entry(size[-1], 2)]
        layers += [nn.ReLU(), nn.ConvTranspose2d(size[-1], n.channels, 4, 2, 1)]
        self.layers = nn.Sequential(*layers)

    def _entry(self, width: int, pixel: int) -> list[nn.Module]:
        """Where the latent enters a stage of `width` channels. A pixel of its map covers `pixel` px
        of the patch."""
        if self.network.body == "style":
            return [StyleBlock(self.latent, width)]
        return (
            [PlaneWaves(self.latent, width, self.network.waves, pixel)]
            if self.network.body == "waves"
            else []
        )

    @property
    def foldable(self) -> bool:
        """Whether `gdn.generator.folded` has its derivatives, so that it can be exported."""
        return self.network.body == "conv"

    def decode(self, e: Tensor) -> Tensor:
        """Images from latents behind the flow."""
        y: Tensor = self.stem(e[:, : self.network.stem_latent])
        for i, layer in enumerate(self.layers):
            y = layer(y, e) if isinstance(layer, StyleBlock | PlaneWaves) else layer(y)
            if str(i) in self.rungs:
                y = self.rungs[str(i)](y, e)
        return torch.tanh(y)

    def forward(self, u: Tensor) -> Tensor:
        return self.decode(self.to_latents(u))

    def to_latents(self, u: Tensor) -> Tensor:
        """Latents e from normal `u` (n, d). Those of the stem pass through the flow; those of the
        rungs do not change."""
        if self.flow is None:
            return u
        stem = self.network.stem_latent
        return torch.cat([self.flow(u[:, :stem]), u[:, stem:]], 1)

    def to_normal(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """u ~ N(0, I) from latents `e` (n, d), and log |du/de| (n,)."""
        if self.flow is None:
            return e, e.new_zeros(len(e))
        stem = self.network.stem_latent
        u, log_determinant = self.flow.inverse(e[:, :stem])
        return torch.cat([u, e[:, stem:]], 1), log_determinant


class Discriminator(nn.Module):
    """Mirror image of the generator ("symmetric"): strided convolutions, leaky ReLU 0.2, one
    logit."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        n = network
        size = widths(n.patch, n.coarse, n.base_channels, n.channel_cap)[::-1]
        norm = n.discriminator_norm
        layers: list[nn.Module] = [nn.Conv2d(n.channels, size[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for narrow, wide in itertools.pairwise(size):
            layers += [
                nn.Conv2d(narrow, wide, 4, 2, 1, bias=not norm),
                *([nn.BatchNorm2d(wide)] if norm else []),
            ]
            layers += [nn.LeakyReLU(0.2)]
        layers += [nn.Conv2d(size[-1], 1, n.coarse, 1, 0)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y.flatten(1)


class Encoder(nn.Module):
    """Noisy image and its noise level -> mean and log-variance of the latent, before any flow.

    Input (n, channels, patch, patch) in network units and sigma (n,), the noise's standard
    deviation in network units at the vacuum level; output two (n, latent).
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        n = network
        size = widths(n.patch, n.coarse, n.base_channels, n.channel_cap)[::-1]
        layers: list[nn.Module] = [nn.Conv2d(n.channels + 1, size[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        ends = [len(layers) - 1]
        for i, (narrow, wide) in enumerate(itertools.pairwise(size)):
            layers += [
                nn.Conv2d(narrow, wide, 4, 2, 1, bias=False),
                nn.BatchNorm2d(wide),
                nn.LeakyReLU(0.2),
            ]
            layers += [Residual(wide) for _ in range(n.residual if i >= len(size) - 3 else 0)]
            ends.append(len(layers) - 1)
        self.trunk = nn.Sequential(*layers, *_head(n, size[-1]))
        self.latent = n.latent
        self._ends = ends[::-1]  # index of the last layer at each map, coarsest first
        above = [size[-1], *[n.rung_width] * len(n.rungs)]
        self.rungs = nn.ModuleList(
            _RungHead(above[i], size[-2 - i], n.rung_width, c) for i, c in enumerate(n.rungs)
        )

    def forward(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        # Whitening keeps the input's scale within bounds; the level itself comes as a plane.
        level = torch.log10(sigma.clamp_min(1e-3))[:, None, None, None] / 3
        plane = level.expand(-1, 1, x.shape[2], x.shape[3])
        scaled = x / torch.sqrt(0.1 + sigma**2)[:, None, None, None]
        y, maps = torch.cat([scaled, plane], 1), []
        for i, layer in enumerate(self.trunk):
            y = layer(y)
            if i in self._ends:
                maps.append(y)
        features = [part.flatten(1) for part in halves(y)]
        means, log_variances = [features[0]], [features[1]]
        above = maps[-1]
        for i, head in enumerate(self.rungs):
            above, mean, log_variance = head(above, maps[-2 - i])
            means.append(mean)
            log_variances.append(log_variance)
        return torch.cat(means, 1), torch.cat(log_variances, 1).clamp(-12, 4)


class _RungHead(nn.Module):
    """Mean and log-variance of a finer grid's latents, from the map there and from the coarser one
    above it."""

    def __init__(self, above: int, here: int, width: int, channels: int) -> None:
        super().__init__()
        widen = nn.ConvTranspose2d(above, width, 4, 2, 1, bias=False)
        join = nn.Conv2d(width + here, width, 3, 1, 1, bias=False)
        self.widen = nn.Sequential(widen, nn.BatchNorm2d(width), nn.LeakyReLU(0.2))
        self.join = nn.Sequential(join, nn.BatchNorm2d(width), nn.LeakyReLU(0.2))
        self.refine = Residual(width)
        self.head = nn.Conv2d(width, 2 * channels, 3, 1, 1) if channels else None

    def forward(self, above: Tensor, here: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.refine(self.join(torch.cat([self.widen(above), here], 1)))
        if self.head is None:
            nothing = y.new_zeros((y.shape[0], 0))
            return y, nothing, nothing
        mean, log_variance = halves(self.head(y))
        return y, mean.flatten(1), log_variance.flatten(1)


def _head(network: Network, wide: int) -> list[nn.Module]:
    """The encoder's last layers: the mirror image of the generator's stem."""
    latent, cells = network.stem_latent, network.coarse**2
    if network.stem == "grid":
        return [nn.Conv2d(wide, 2 * latent // cells, 3, 1, 1)]
    if network.stem == "linear":
        return [nn.Conv2d(wide, 2 * latent, network.coarse, 1, 0)]
    hidden = [nn.Linear(cells * wide, 384), nn.ReLU(), nn.Linear(384, 384), nn.ReLU()]
    return [nn.Flatten(), *hidden, nn.Linear(384, 2 * latent)]


def initialise(module: nn.Module, rule: str) -> None:
    """`dcgan`: weights N(0, 0.02), batch-norm scales N(1, 0.02). `he`: fan-in scaled (He et al.
    2015)."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
            if rule == "dcgan":
                nn.init.normal_(m.weight, 0.0, 0.02)
            else:
                fan = m.weight.shape[1] if isinstance(m, nn.Conv2d) else m.weight.shape[0]
                taps = m.weight[0, 0].numel() / (
                    1 if isinstance(m, nn.Conv2d) else m.stride[0] ** 2
                )
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
    for m in module.modules():
        if isinstance(m, CouplingLayer):
            m.start_as_identity()
        elif isinstance(m, Rung):
            m.conv.weight.data *= 0.1


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
        heads = [
            head,
            *(m.head for m in module.rungs if isinstance(m, _RungHead) and m.head is not None),
        ]
        for head in heads:
            assert head.bias is not None
            head.bias[len(head.bias) // 2 :] -= 4


def freeze_statistics(module: nn.Module) -> None:
    """Put every batch norm in evaluation mode: its running statistics become constants."""
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()
