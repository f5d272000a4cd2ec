"""The operations of a folded generator, each with its derivative in both directions written by hand.

`back` is the transposed derivative (for a gradient), `push` the derivative itself along several tangents.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Operation(nn.Module):
    """One differentiable step y = f(x): the pull-back of a cotangent g of y, the push-forward of tangents t."""

    def back(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        """J(x)^T g."""
        raise NotImplementedError

    def push(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """J(x) t for k tangents of each of n samples, t (n k, ...)."""
        raise NotImplementedError


def _per_tangent(derivative: Tensor, t: Tensor) -> Tensor:
    """Tangents (n k, ...) times the pointwise derivative (n, ...) of their sample."""
    grouped = t.reshape(derivative.shape[0], -1, *derivative.shape[1:])
    return (grouped * derivative.unsqueeze(1)).reshape(-1, *derivative.shape[1:])


class Affine(Operation):
    """Per-channel scale and shift: what is left of batch norm."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale.view(1, -1, 1, 1), requires_grad=False)
        self.shift = nn.Parameter(shift.view(1, -1, 1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift

    def back(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        return g * self.scale

    def push(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        return t * self.scale


class Relu(Operation):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x)

    def back(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        return torch.where(y > 0, g, torch.zeros_like(g))

    def push(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        return _per_tangent((y > 0).to(t.dtype), t)


class Tanh(Operation):
    """tanh(x)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def back(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        return g * (1 - y * y)

    def push(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        return _per_tangent(1 - y * y, t)


class Conv(Operation):
    """Convolution that keeps the size (3x3, or 1x1), stride 1."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.padding = weight.shape[2] // 2
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=self.padding)

    def back(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        return F.conv_transpose2d(g, self.weight, padding=self.padding)

    def push(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        return F.conv2d(t, self.weight, padding=self.padding)


class Up(Operation):
    """Transposed convolution: 4x4 of stride 2 and padding 1, or from a 1x1 map (stride 1, padding 0)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding)

    def back(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        return F.conv2d(g, self.weight, None, self.stride, self.padding)

    def push(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        return F.conv_transpose2d(t, self.weight, None, self.stride, self.padding)


class Full(Operation):
    """Fully connected layer on (n, features)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def back(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        return g @ self.weight

    def push(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        return F.linear(t, self.weight)


class Reshape(Operation):
    """To (n, *shape) of each sample."""

    def __init__(self, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        super().__init__()
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.after)

    def back(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        return g.reshape(-1, *self.before)

    def push(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        return t.reshape(-1, *self.after)


class Chain(Operation):
    """Operations one after the other; with `skip`, their result is added to the input."""

    def __init__(self, operations: list[Operation], skip: bool = False) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for operation in self.operations:
            y = operation(y)
        return x + y if self.skip else y

    def values(self, x: Tensor) -> list[Tensor]:
        """The input and what each operation makes of it."""
        found = [x]
        for operation in self.operations:
            found.append(operation(found[-1]))
        return found

    def back(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        return self.back_from(self.values(x), g)

    def push(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        values, pushed = self.values(x), t
        for i, operation in enumerate(self.operations):
            assert isinstance(operation, Operation)
            pushed = operation.push(values[i], values[i + 1], pushed)
        return t + pushed if self.skip else pushed

    def back_from(self, values: list[Tensor], g: Tensor) -> Tensor:
        """The pull-back where the intermediate `values` (input first) are at hand."""
        pulled = g
        for i in range(len(self.operations) - 1, -1, -1):
            operation = self.operations[i]
            assert isinstance(operation, Operation)
            pulled = operation.back(values[i], values[i + 1], pulled)
        return g + pulled if self.skip else pulled


def cut(z: Tensor, widths: list[int]) -> list[Tensor]:
    """Neighbouring parts of (n, d, ...) along d, of the `widths`. By slices: `split` and `chunk` become sequences in ONNX,
    which TensorRT refuses."""
    ends = [0, *itertools.accumulate(widths)]
    return [z[:, low:high] for low, high in itertools.pairwise(ends)]


def halves(x: Tensor) -> list[Tensor]:
    """The first and the second half of the channels."""
    return cut(x, [x.shape[1] // 2] * 2)


class Ladder(Operation):
    """Chains one after the other, the map between two of them joined by latents of its own.

    `chains[0]` takes the first `splits[0]` latents of z (n, d); before `chains[i]` the next `splits[i]`,
    shaped `shapes[i - 1]` and sent through `entries[i - 1]`, are added.
    """

    def __init__(self, chains: list[Chain], entries: list[Conv], shapes: list[tuple[int, ...]], splits: list[int]) -> None:
        super().__init__()
        self.chains, self.entries = nn.ModuleList(chains), nn.ModuleList(entries)
        self.shapes, self.splits = shapes, splits

    def _pairs(self) -> list[tuple[Chain, Conv | None]]:
        entries: list[Conv | None] = [None, *(m for m in self.entries if isinstance(m, Conv))]
        return list(zip((m for m in self.chains if isinstance(m, Chain)), entries, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.values(x)[-1][-1]

    def values(self, z: Tensor) -> list[list[Tensor]]:
        """The values of every chain."""
        found: list[list[Tensor]] = []
        for i, (part, (chain, entry)) in enumerate(zip(cut(z, self.splits), self._pairs(), strict=True)):
            start = part if entry is None else found[-1][-1] + entry(part.reshape(-1, *self.shapes[i - 1]))
            found.append(chain.values(start))
        return found

    def back_from(self, values: list[list[Tensor]], g: Tensor) -> Tensor:
        """The pull-back where the `values` are at hand."""
        parts: list[Tensor] = []
        for (chain, entry), inner in zip(self._pairs()[::-1], values[::-1], strict=True):
            g = chain.back_from(inner, g)
            parts.append(g if entry is None else entry.back(g, g, g).flatten(1))
        return torch.cat(parts[::-1], 1)

    def back(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        return self.back_from(self.values(x), g)

    def push(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        pushed = t
        for i, (part, (chain, entry), inner) in enumerate(zip(cut(t, self.splits), self._pairs(), self.values(x), strict=True)):
            start = part if entry is None else pushed + entry.push(part, part, part.reshape(-1, *self.shapes[i - 1]))
            pushed = chain.push(inner[0], inner[-1], start)
        return pushed


class Coupling(Operation):
    """Affine coupling y = m x + (1 - m)(x exp(s) + t), (s, t) from `net` of m x, |s| below `bound` (RealNVP)."""

    def __init__(self, mask: Tensor, net: Chain, bound: float) -> None:
        super().__init__()
        self.mask = nn.Parameter(mask, requires_grad=False)
        self.free = nn.Parameter(1 - mask, requires_grad=False)
        self.net, self.bound = net, bound
        self.channels = int(mask.shape[1])

    def _parts(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """tanh, exp(s) and t of what the net says."""
        squashed = torch.tanh(h[:, : self.channels] / self.bound)
        return squashed, torch.exp(self.free * self.bound * squashed), h[:, self.channels :]

    def forward(self, x: Tensor) -> Tensor:
        _, factor, t = self._parts(self.net(self.mask * x))
        return self.mask * x + self.free * (x * factor + t)

    def back(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        values = self.net.values(self.mask * x)
        squashed, factor, _ = self._parts(values[-1])
        free = self.free * g
        ds = free * x * factor * (1 - squashed * squashed)
        kept = self.net.back_from(values, torch.cat([ds, free], 1))
        return self.mask * (g + kept) + free * factor

    def push(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        kept = self.mask * x
        values = self.net.values(kept)
        squashed, factor, _ = self._parts(values[-1])
        pushed = self.net.push(kept, values[-1], self.mask * t)
        ds, dt = pushed[:, : self.channels], pushed[:, self.channels :]
        moved = _per_tangent(factor, t) + _per_tangent(x * factor * (1 - squashed * squashed), ds) + dt
        return self.mask * t + self.free * moved
