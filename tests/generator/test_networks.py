"""Networks of every kind of recipe."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.helpers.needs import needs_training
from tests.helpers.recipes import FULL, tiny

pytestmark = needs_training


def test_a_flow_is_its_inverses_inverse_and_knows_its_volume() -> None:
    import torch

    from gdn.generator.prior_flow import PriorFlow

    torch.manual_seed(1)
    for shape in ((3, 4, 4), (6, 1, 1)):
        flow = PriorFlow(6, shape, 8).double()
        for parameter in flow.parameters():
            torch.nn.init.normal_(parameter, 0, 0.2)
        u = torch.randn(2, int(np.prod(shape))).double()
        e = flow(u)
        back, log_determinant = flow.inverse(e)
        torch.testing.assert_close(back, u)
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0], u[0])  # noqa: B023 - used at once
        torch.testing.assert_close(log_determinant[0], -torch.linalg.slogdet(jacobian).logabsdet)


def test_without_training_a_flow_changes_nothing() -> None:
    import torch

    from gdn.generator.networks import Generator, initialise

    torch.manual_seed(0)
    generator = Generator(tiny(network=FULL).network)
    initialise(generator, "he")
    u = torch.randn(3, 80)
    torch.testing.assert_close(generator.to_latents(u), u)
    e, log_determinant = generator.to_normal(u)
    torch.testing.assert_close(e, u)
    assert log_determinant.abs().max() == 0


def test_every_latent_reaches_the_image() -> None:
    import torch

    from gdn.generator.networks import Generator

    torch.manual_seed(0)
    for changes in (FULL, {"body": "style"}, {"body": "waves"}):
        generator = Generator(tiny(network=changes).network).eval()
        z = torch.randn(1, generator.latent, requires_grad=True)
        (gradient,) = torch.autograd.grad(generator(z).square().sum(), z)
        assert (gradient != 0).all(), changes


@pytest.mark.parametrize(
    "bad",
    [
        {"latent": 15},
        {"patch": 48},
        {"rungs": (9,), "latent": 80},
        {"rungs": (1, 1, 1), "latent": 900},
    ],
)
def test_shapes_that_do_not_fit_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"patch|latent|rungs"):
        tiny(network=bad)
