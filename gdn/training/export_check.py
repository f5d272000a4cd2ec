"""Compare an exported model's graphs with torch, on random latents and counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gdn.engines.onnx_session import open_session
from gdn.generator.folded import PullBack, PushForward
from gdn.generator.gauss_newton import INPUTS as STEP_INPUTS
from gdn.generator.gauss_newton import GaussNewton
from gdn.models.graphs import complete_graph

CHECKED = 64  # random latents compared with torch
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2}  # largest difference allowed, vacuum units
GRADIENT_INPUTS = ["z", "y", "w", "scale", "shift", "factor", "alpha", "beta"]


def example(card: dict[str, Any], n: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Inputs of the gradient graph: random latents and Poisson counts."""
    rng = torch.Generator().manual_seed(11)
    shape = (n, card["channels"], card["patch"], card["patch"])
    z = torch.randn(n, card["latent"], generator=rng)
    y = torch.poisson(torch.full(shape, 19.0), generator=rng)
    scale = torch.full((n,), 19.0)
    # `factor` is another tensor with other values: one tensor given twice would become one input.
    parameters = (scale, torch.zeros(shape), scale - 2, torch.tensor(1.0), torch.tensor(0.0))
    return tuple(t.to(dtype) for t in (z, y, torch.ones(shape), *parameters))


def tangents(z: Tensor) -> Tensor:
    """Three random directions for each latent, (n, 3, d)."""
    rng = torch.Generator().manual_seed(12)
    return torch.randn(len(z), 3, z.shape[1], generator=rng).to(z.dtype)


def step_example(card: dict[str, Any], n: int) -> tuple[Tensor, ...]:
    """Inputs of the step graph, always in single precision."""
    z, y, w, *_, alpha, beta = example(card, n, torch.float32)
    nuisance = torch.tensor([np.log(19.0), 0.0, 0.0, 0.0], dtype=torch.float32).repeat(n, 1)
    return (
        z,
        nuisance,
        y,
        w,
        alpha,
        beta,
        torch.tensor(100.0),
        torch.tensor([0.0, 100.0, 2500.0, 2500.0]).repeat(n, 1),
    )


@torch.no_grad()
def compare(
    work: Path,
    reference: PullBack,
    mean: nn.Module | None,
    sizes: dict[str, Any],
    precision: str,
    prefix: str = "",
) -> dict[str, float]:
    """Largest differences between the outputs of onnxruntime and torch on random latents. Raises
    ValueError if they are too large."""
    inputs = example(sizes, CHECKED, torch.float16 if precision == "fp16" else torch.float32)
    single = [t.float() for t in inputs]
    x, dz = reference(*single)
    got_x, got_dz = _run(work, f"{prefix}gradient", dict(zip(GRADIENT_INPUTS, inputs, strict=True)))
    images = _run(work, f"{prefix}generator", {"z": inputs[0]})[0]
    off = _apart(got_dz, dz)
    errors = {
        "generator": max(float(np.abs(step - x.numpy()).max()) for step in (images, got_x)),
        "gradient": float(np.median(off)),
        "gradient_p90": float(np.percentile(off, 90)),
    }
    t = tangents(inputs[0])
    pushed = _run(work, f"{prefix}tangent", {"z": inputs[0], "t": t})[0]
    errors["tangent"] = float(
        np.median(_apart(pushed, PushForward(reference.generator)(single[0], t.float())))
    )
    if not prefix and sizes["channels"] == 1:
        tile = step_example(sizes, CHECKED)
        step = _run(work, "step", dict(zip(STEP_INPUTS, tile, strict=True)))[0]
        errors["step"] = float(
            np.median(_apart(step, GaussNewton(reference.generator, sizes["patch"])(*tile)[0]))
        )
    worst = max(
        *(value for name, value in errors.items() if name != "gradient_p90"),
        0.01 * errors["gradient_p90"],
    )
    if mean is not None:
        image, sigma = inputs[1] / 19, torch.full_like(inputs[3], 0.23)
        codes = _run(work, "encoder", {"image": image, "sigma": sigma})[0]
        errors["encoder"] = float(np.abs(codes - mean(image.float(), sigma.float()).numpy()).max())
    if not worst < TOLERANCE[precision]:
        shown = ", ".join(f"{name} {value:.2g}" for name, value in errors.items())
        raise ValueError(
            f"the exported graphs differ from torch ({shown}; allowed "
            f"{TOLERANCE[precision]:g}); not kept"
        )
    return errors


def _run(work: Path, graph: str, feed: dict[str, Tensor]) -> list[np.ndarray[Any, Any]]:
    """A graph's outputs in onnxruntime."""
    session = open_session(complete_graph(work, graph))
    outputs: list[np.ndarray[Any, Any]] = session.run(None, {k: v.numpy() for k, v in feed.items()})
    return [f.astype(np.float32) for f in outputs]


def _apart(computed: np.ndarray[Any, Any], expected: Tensor) -> np.ndarray[Any, Any]:
    """Differences as shares of a length, for each latent. Their median is compared with the limit.
    If a ReLU's input is zero to the last bit, the two runtimes may take different sides of the
    kink, and that latent's gradient jumps although both are right."""
    rows, wanted = computed.reshape(CHECKED, -1), expected.numpy().reshape(CHECKED, -1)
    share: np.ndarray[Any, Any] = np.linalg.norm(rows - wanted, axis=1) / np.linalg.norm(
        wanted, axis=1
    )
    return share
