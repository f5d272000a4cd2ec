"""Generators with random weights."""

from __future__ import annotations


def random_generator(stem: str, residual: int):
    """A float64 generator of 32 px whose batch-norm statistics, and flow, are not the identity."""
    import torch

    from gdn.generator.networks import Generator, initialise
    from gdn.recipes import Network

    torch.manual_seed(0)
    # The elaborate kind has everything: residual blocks, a flow, latents of a finer grid.
    extra = (
        {"flow": 5, "flow_width": 8, "rungs": (1,), "latent": 96} if residual else {"latent": 32}
    )
    network = Network(
        patch=32, base_channels=8, channel_cap=16, stem=stem, residual=residual, **extra
    )
    generator = Generator(network)
    initialise(generator, "dcgan")
    for name, parameter in generator.named_parameters():
        if name.startswith("flow."):
            torch.nn.init.normal_(parameter, 0, 0.3)
    for _ in range(3):
        generator(torch.randn(16, network.latent))
    return generator.double().eval()
