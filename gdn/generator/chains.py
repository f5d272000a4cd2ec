"""The parts of a folded generator: chains of operations, a ladder of chains, and the flow's
couplings."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from gdn.generator.operations import Conv, Operation, Trace, per_tangent


class Chain(Operation):
    """Operations in sequence. With `skip`, their result is added to the input."""

    def __init__(self, operations: list[Operation], skip: bool = False) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)
        self.skip = skip

    def _all(self) -> list[Operation]:
        return [o for o in self.operations if isinstance(o, Operation)]

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for operation in self.operations:
            y = operation(y)
        return x + y if self.skip else y

    def trace(self, x: Tensor) -> Trace:
        y, inner = x, []
        for operation in self._all():
            inner.append(operation.trace(y))
            y = inner[-1].y
        return Trace(x, x + y if self.skip else y, tuple(inner))

    def back(self, at: Trace, g: Tensor) -> Tensor:
        pulled = g
        for operation, inner in zip(self._all()[::-1], at.inner[::-1], strict=True):
            pulled = operation.back(inner, pulled)
        return g + pulled if self.skip else pulled

    def push(self, at: Trace, t: Tensor) -> Tensor:
        pushed = t
        for operation, inner in zip(self._all(), at.inner, strict=True):
            pushed = operation.push(inner, pushed)
        return t + pushed if self.skip else pushed


def cut(z: Tensor, widths: list[int]) -> list[Tensor]:
    """Split (n, d, ...) along d into neighbouring parts of the `widths`. It uses slices: `split`
    and `chunk` become sequences in ONNX, which TensorRT refuses."""
    ends = [0, *itertools.accumulate(widths)]
    return [z[:, low:high] for low, high in itertools.pairwise(ends)]


def halves(x: Tensor) -> list[Tensor]:
    """The first and the second half of the channels."""
    return cut(x, [x.shape[1] // 2] * 2)


class Ladder(Operation):
    """Chains in sequence. Between two of them, latents are added to the map.

    `chains[0]` takes the first `splits[0]` latents of z (n, d). Before `chains[i]` the next
    `splits[i]` are added, shaped `shapes[i - 1]` and passed through `entries[i - 1]`.
    """

    def __init__(
        self,
        chains: list[Chain],
        entries: list[Conv],
        shapes: list[tuple[int, ...]],
        splits: list[int],
    ) -> None:
        super().__init__()
        self.chains, self.entries = nn.ModuleList(chains), nn.ModuleList(entries)
        self.shapes, self.splits = shapes, splits

    def _pairs(self) -> list[tuple[Chain, Conv | None]]:
        entries: list[Conv | None] = [None, *(m for m in self.entries if isinstance(m, Conv))]
        return list(zip((m for m in self.chains if isinstance(m, Chain)), entries, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.trace(x).y

    def trace(self, x: Tensor) -> Trace:
        inner: list[Trace] = []
        for i, (part, (chain, entry)) in enumerate(
            zip(cut(x, self.splits), self._pairs(), strict=True)
        ):
            start = (
                part
                if entry is None
                else inner[-1].y + entry(part.reshape(-1, *self.shapes[i - 1]))
            )
            inner.append(chain.trace(start))
        return Trace(x, inner[-1].y, tuple(inner))

    def back(self, at: Trace, g: Tensor) -> Tensor:
        parts: list[Tensor] = []
        for (chain, entry), inner in zip(self._pairs()[::-1], at.inner[::-1], strict=True):
            g = chain.back(inner, g)
            parts.append(g if entry is None else entry.back(inner, g).flatten(1))
        return torch.cat(parts[::-1], 1)

    def push(self, at: Trace, t: Tensor) -> Tensor:
        pushed = t
        for i, (part, (chain, entry), inner) in enumerate(
            zip(cut(t, self.splits), self._pairs(), at.inner, strict=True)
        ):
            start = (
                part
                if entry is None
                else pushed + entry.push(inner, part.reshape(-1, *self.shapes[i - 1]))
            )
            pushed = chain.push(inner, start)
        return pushed


class FoldedCoupling(Operation):
    """Affine coupling y = m x + (1 - m)(x exp(s) + t), with (s, t) from `net` of m x and |s| below
    `bound` (RealNVP, Dinh et al. 2017)."""

    def __init__(self, mask: Tensor, net: Chain, bound: float) -> None:
        super().__init__()
        self.mask = nn.Parameter(mask, requires_grad=False)
        self.free = nn.Parameter(1 - mask, requires_grad=False)
        self.net, self.bound = net, bound
        self.channels = int(mask.shape[1])

    def _parts(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """tanh, exp(s) and t from the net's output."""
        squashed = torch.tanh(h[:, : self.channels] / self.bound)
        return squashed, torch.exp(self.free * self.bound * squashed), h[:, self.channels :]

    def forward(self, x: Tensor) -> Tensor:
        _, factor, t = self._parts(self.net(self.mask * x))
        return self.mask * x + self.free * (x * factor + t)

    def trace(self, x: Tensor) -> Trace:
        net = self.net.trace(self.mask * x)
        squashed, factor, t = self._parts(net.y)
        return Trace(x, self.mask * x + self.free * (x * factor + t), (net,), (squashed, factor))

    def back(self, at: Trace, g: Tensor) -> Tensor:
        squashed, factor = at.kept
        free = self.free * g
        ds = free * at.x * factor * (1 - squashed * squashed)
        pulled = self.net.back(at.inner[0], torch.cat([ds, free], 1))
        return self.mask * (g + pulled) + free * factor

    def push(self, at: Trace, t: Tensor) -> Tensor:
        squashed, factor = at.kept
        pushed = self.net.push(at.inner[0], self.mask * t)
        ds, dt = pushed[:, : self.channels], pushed[:, self.channels :]
        moved = (
            per_tangent(factor, t) + per_tangent(at.x * factor * (1 - squashed * squashed), ds) + dt
        )
        return self.mask * t + self.free * moved
