"""The operations of a folded generator, each with its derivative in both directions written by
hand. They are written out because no exporter makes them (docs/method.md, "What does not work").

`back` is the transposed derivative (for a gradient), `push` the derivative itself along several
tangents.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Trace:
    """The output of an operation for x, and everything that its derivatives at x need. It is
    computed once and serves all of them."""

    x: Tensor
    y: Tensor
    inner: tuple[Trace, ...] = ()
    kept: tuple[Tensor, ...] = ()


class Operation(nn.Module):
    """One differentiable step y = f(x): the pull-back of a cotangent g of y, the push-forward of
    tangents t."""

    def trace(self, x: Tensor) -> Trace:
        """f(x) with what is needed for derivatives at x."""
        return Trace(x, self(x))

    def back(self, at: Trace, g: Tensor) -> Tensor:
        """J(x)^T g."""
        raise NotImplementedError

    def push(self, at: Trace, t: Tensor) -> Tensor:
        """J(x) t for k tangents of each of n samples, t (n k, ...)."""
        raise NotImplementedError


def per_tangent(derivative: Tensor, t: Tensor) -> Tensor:
    """Tangents (n k, ...) times the pointwise derivative (n, ...) of their sample."""
    grouped = t.reshape(derivative.shape[0], -1, *derivative.shape[1:])
    return (grouped * derivative.unsqueeze(1)).reshape(-1, *derivative.shape[1:])


class Affine(Operation):
    """Per-channel scale and shift: batch norm in evaluation mode (Ioffe & Szegedy 2015, algorithm
    2)."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale.view(1, -1, 1, 1), requires_grad=False)
        self.shift = nn.Parameter(shift.view(1, -1, 1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift

    def back(self, at: Trace, g: Tensor) -> Tensor:
        return g * self.scale

    def push(self, at: Trace, t: Tensor) -> Tensor:
        return t * self.scale


class Relu(Operation):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x)

    def trace(self, x: Tensor) -> Trace:
        y = self(x)
        return Trace(
            x, y, kept=((y > 0).to(y.dtype),)
        )  # a factor: choosing takes runtimes five times as long

    def back(self, at: Trace, g: Tensor) -> Tensor:
        return g * at.kept[0]

    def push(self, at: Trace, t: Tensor) -> Tensor:
        return per_tangent(at.kept[0], t)


class Tanh(Operation):
    """tanh(x)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def back(self, at: Trace, g: Tensor) -> Tensor:
        return g * (1 - at.y * at.y)

    def push(self, at: Trace, t: Tensor) -> Tensor:
        return per_tangent(1 - at.y * at.y, t)


class Conv(Operation):
    """Convolution that keeps the size (3x3, or 1x1), stride 1."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.padding = weight.shape[2] // 2
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=self.padding)

    def back(self, at: Trace, g: Tensor) -> Tensor:
        return F.conv_transpose2d(g, self.weight, padding=self.padding)

    def push(self, at: Trace, t: Tensor) -> Tensor:
        return F.conv2d(t, self.weight, padding=self.padding)


class Up(Operation):
    """Transposed convolution: 4x4 of stride 2 and padding 1, or from a 1x1 map (stride 1, padding
    0)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding)

    def back(self, at: Trace, g: Tensor) -> Tensor:
        return F.conv2d(g, self.weight, None, self.stride, self.padding)

    def push(self, at: Trace, t: Tensor) -> Tensor:
        return F.conv_transpose2d(t, self.weight, None, self.stride, self.padding)


class Full(Operation):
    """Fully connected layer on (n, features)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def back(self, at: Trace, g: Tensor) -> Tensor:
        return g @ self.weight

    def push(self, at: Trace, t: Tensor) -> Tensor:
        return F.linear(t, self.weight)


class Reshape(Operation):
    """To (n, *shape) of each sample."""

    def __init__(self, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        super().__init__()
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.after)

    def back(self, at: Trace, g: Tensor) -> Tensor:
        return g.reshape(-1, *self.before)

    def push(self, at: Trace, t: Tensor) -> Tensor:
        return t.reshape(-1, *self.after)
