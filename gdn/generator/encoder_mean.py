"""The encoder for evaluation: from a noisy image to latents of the generator's prior."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gdn.generator.networks import Encoder, Generator


class EncoderMean(nn.Module):
    """(noisy image with vacuum 1, sigma) -> latent mean, through the inverse of the generator's
    flow if it has one."""

    def __init__(self, encoder: Encoder, generator: Generator) -> None:
        super().__init__()
        self.encoder, self.intensity_scale = encoder, generator.network.intensity_scale
        self.flow, self.stem_latent = generator.flow, generator.network.stem_latent

    def forward(self, image: Tensor, sigma: Tensor) -> Tensor:
        mean: Tensor = self.encoder(
            (image - 1) / self.intensity_scale, sigma / self.intensity_scale
        )[0]
        if self.flow is None:
            return mean
        # The flow alone and not the generator: the graph is to hold no more weights than it needs.
        return torch.cat(
            [self.flow.inverse(mean[:, : self.stem_latent])[0], mean[:, self.stem_latent :]], 1
        )
