"""The hand-written derivatives of the generator against autograd."""

from __future__ import annotations

import pytest

from tests.helpers.generators import random_generator
from tests.helpers.needs import needs_training
from tests.helpers.tiles import poisson_tiles


@needs_training
@pytest.mark.parametrize("stem", ["linear", "mlp", "grid"])
@pytest.mark.parametrize("residual", [0, 2])
def test_push_forward_is_autograds_in_float64(stem: str, residual: int) -> None:
    import torch

    from gdn.generator.folded import PushForward
    from gdn.generator.folding import fold

    generator = random_generator(stem, residual)
    z, t = torch.randn(2, generator.latent).double(), torch.randn(2, 3, generator.latent).double()
    found = PushForward(fold(generator, 0.9))(z, t).view(2, 3, 1, 32, 32)
    for n in range(2):
        for k in range(3):
            _, expected = torch.autograd.functional.jvp(
                lambda v: 0.9 * generator(v[None])[0], z[n], t[n, k]
            )
            torch.testing.assert_close(found[n, k], expected, rtol=1e-8, atol=1e-10)


@needs_training
@pytest.mark.parametrize("stem", ["linear", "mlp", "grid"])
@pytest.mark.parametrize("residual", [0, 2])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (1.0, 7.0), (0.0, 3.0)])
def test_pull_back_is_autograds_in_float64(
    stem: str, residual: int, alpha: float, beta: float
) -> None:
    import torch

    from gdn.generator.folded import PullBack
    from gdn.generator.folding import fold

    generator = random_generator(stem, residual)
    graph = PullBack(fold(generator, 0.9))
    z = torch.randn(4, generator.latent, dtype=torch.float64, requires_grad=True)
    x = 1 + 0.9 * generator(z)
    y, w = torch.poisson(19 * x.detach()), (torch.rand_like(x) > 0.1).double()
    scale, shift = torch.full((4,), 20.0).double(), 1.5 + torch.rand_like(x).detach()
    mu = scale.view(-1, 1, 1, 1) * x + shift
    nll = (
        (w * (mu - (y + beta) * torch.log(mu + beta))).sum()
        if alpha
        else (w * (mu - y) ** 2).sum() / (2 * beta)
    )
    (expected,) = torch.autograd.grad(nll, z)
    one = [torch.tensor(v).double() for v in (alpha, beta)]
    found_x, found = graph(z.detach(), y, w, scale, shift, scale, *one)
    torch.testing.assert_close(found_x, x.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
@needs_training
@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("residual", [0, 2])
def test_a_step_is_conjugate_gradients_on_autograds_curvature(residual: int, alpha: float) -> None:
    """In float64, against H = J^T W J + P made of autograd's Jacobian of the mean, and the
    textbook's recurrence."""
    import torch

    from gdn.generator.folding import fold
    from gdn.generator.gauss_newton import GaussNewton

    generator = random_generator("grid", residual)
    n, d, beta, damping = 2, generator.latent, 0.7, 30.0
    folded = fold(generator, 0.8)
    module = GaussNewton(folded, 32).double()
    tiles = poisson_tiles(n, 32)
    y, w = (torch.tensor(a[:, None]).double() for a in (tiles.counts, tiles.weights))
    z, nuisance = (
        torch.randn(n, d).double(),
        torch.tensor([[2.8, 0.1, 0.03, -0.02], [3.1, -0.1, 0, 0.04]]).double(),
    )
    prior = torch.tensor([0.0, 100, 2500, 2500]).double().repeat(n, 1)
    one = [torch.tensor(v).double() for v in (alpha, beta, damping)]
    direction, promised = module(z, nuisance, y, w, *one, prior)
    axis = torch.linspace(-1, 1, 32).double()

    def mean(theta: torch.Tensor) -> torch.Tensor:
        dose, contrast = torch.exp(theta[d]), torch.exp(theta[d + 1])
        x = folded(theta[None, :d])[0, 0]
        return (
            dose
            * (contrast * (x - 1) + 1 + theta[d + 2] * axis[:, None] + theta[d + 3] * axis[None])
        ).flatten()

    for i in range(n):
        theta = torch.cat([z[i], nuisance[i]])
        mu, j = mean(theta), torch.autograd.functional.jacobian(mean, theta)
        weight = w[i].flatten() / (alpha * mu + beta)
        own = torch.cat([torch.ones(d), prior[i]])
        extra = torch.cat([torch.full((d,), damping), torch.zeros(4)])
        h = (j.T * weight) @ j + torch.diag(own + extra)
        gradient = j.T @ (weight * (mu - y[i].flatten())) + own * theta
        scale = torch.cat([own[:d] + damping, torch.diag(h)[d:]])
        p, r = torch.zeros_like(theta), -gradient
        s = r / scale
        for _ in range(3):
            length = (r @ (r / scale)) / (s @ h @ s)
            p, new = p + length * s, r - length * h @ s
            s, r = new / scale + (new @ (new / scale)) / (r @ (r / scale)) * s, new
        torch.testing.assert_close(direction[i], p, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(promised[i], p @ h @ p, rtol=1e-6, atol=1e-8)
