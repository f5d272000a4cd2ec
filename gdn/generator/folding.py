"""Turn trained layers into the operations of a folded generator: batch norm is merged into the
convolutions before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gdn.generator import prior_flow as flow
from gdn.generator.blocks import GridStem, LinearStem, MappingStem, Rung
from gdn.generator.chains import Chain, FoldedCoupling, Ladder
from gdn.generator.folded import FoldedGenerator
from gdn.generator.networks import Generator
from gdn.generator.operations import Affine, Conv, Full, Operation, Relu, Reshape, Tanh, Up


def fold(generator: Generator, intensity_scale: float, vacuum: float = 1.0) -> FoldedGenerator:
    """The generator in evaluation mode with batch norm folded. Raises ValueError for a body that
    cannot be folded."""
    if not generator.foldable:
        raise ValueError(
            f"a generator with the body '{generator.network.body}' cannot be exported; "
            "only 'conv' can"
        )
    operations = _entrance(generator)
    chains, entries = [], []
    shapes: list[tuple[int, ...]] = []
    splits = [generator.network.stem_latent]
    layers, first = list(generator.layers), 0
    for index, rung in generator.rungs.items():
        assert isinstance(rung, Rung)
        chains.append(Chain(operations + fold_sequence(layers[first : int(index) + 1])))
        entries.append(Conv(rung.conv.weight.detach(), None))
        shapes.append(rung.shape)
        splits.append(rung.place[1] - rung.place[0])
        operations, first = [], int(index) + 1
    chains.append(Chain([*operations, *fold_sequence(layers[first:]), Tanh()]))
    return FoldedGenerator(Ladder(chains, entries, shapes, splits), intensity_scale, vacuum).eval()


def _entrance(generator: Generator) -> list[Operation]:
    """The flow and the stem."""
    n = generator.network
    operations: list[Operation] = []
    flat = (n.stem_latent,)
    if generator.flow is not None:
        operations.append(Reshape(flat, generator.flow.shape))
        for layer in generator.flow.layers:
            assert isinstance(layer, flow.CouplingLayer)
            operations.append(
                FoldedCoupling(
                    layer.mask.detach().clone(), Chain(fold_sequence([*layer.net])), flow.BOUND
                )
            )
        operations.append(Reshape(generator.flow.shape, flat))
    stem = generator.stem
    if isinstance(stem, MappingStem):
        full = [m for m in stem.mapping if isinstance(m, nn.Linear)]
        operations += [o for m in full for o in (Full(m.weight.detach(), m.bias.detach()), Relu())][
            :-1
        ]
        return [*operations, Reshape((n.coarse**2 * stem.shape[0],), stem.shape)]
    assert isinstance(stem, GridStem | LinearStem)
    operations.append(
        Reshape(flat, stem.shape if isinstance(stem, GridStem) else (n.stem_latent, 1, 1))
    )
    return operations + fold_sequence([stem.conv])


def fold_norm(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift of a batch norm in evaluation mode (Ioffe & Szegedy 2015, algorithm 2)."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias.detach() - norm.running_mean * scale


def fold_sequence(modules: list[nn.Module]) -> list[Operation]:
    """Operations for convolutions, batch norms and ReLUs. A norm after a convolution is merged into
    it."""
    operations: list[Operation] = []
    for m in modules:
        last = operations[-1] if operations else None
        if isinstance(m, nn.BatchNorm2d):
            scale, shift = fold_norm(m)
            if isinstance(last, Conv | Up):
                operations[-1] = _scaled(last, scale, shift)
            else:
                operations.append(Affine(scale, shift))
        elif isinstance(m, nn.ReLU):
            operations.append(Relu())
        elif isinstance(m, nn.ConvTranspose2d):
            bias = None if m.bias is None else m.bias.detach()
            operations.append(Up(m.weight.detach(), bias, m.stride[0], int(m.padding[0])))
        elif isinstance(m, nn.Conv2d):
            operations.append(Conv(m.weight.detach(), None if m.bias is None else m.bias.detach()))
        else:  # a residual block: anything with its own `layers`
            inner = list(getattr(m, "layers"))  # noqa: B009 - typed as Tensor | Module otherwise
            operations.append(Chain(fold_sequence(inner), skip=True))
    return operations


def _scaled(operation: Conv | Up, scale: Tensor, shift: Tensor) -> Conv | Up:
    """The convolution followed by a per-channel affine map, as one convolution."""
    bias = shift if operation.bias is None else operation.bias * scale + shift
    if isinstance(operation, Conv):
        return Conv(operation.weight * scale.view(-1, 1, 1, 1), bias)
    return Up(operation.weight * scale.view(1, -1, 1, 1), bias, operation.stride, operation.padding)
