"""Test 1 and Test 2 of the original study on a trained run: which optimiser finds a latent?

Test 1: targets are the generator's own images; a target counts as recovered above 60 dB.
Test 2: targets are unseen images of the data set: the ceiling of the generator.
Loss, optimisers and learning rates are the study's: MSE; Adam, SGD with momentum 0.9, RMSprop,
L-BFGS; 1e-1, 1e-2, 1e-3. PSNR with data range 1 (images mapped to [0, 1]).

    python benchmarks/latent_recovery.py runs/mnist --data mnist.npz
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gdn.generator.networks import Generator
from gdn.training.patch_stream import open_stream
from gdn.training.state import networks_of_run

RATES = (1e-1, 1e-2, 1e-3)


def psnr(images: Tensor, target: Tensor) -> Tensor:
    """dB per sample; network units are [-1, 1], so the range is 2."""
    return -10 * torch.log10(((images - target) ** 2).mean((1, 2, 3)).clamp_min(1e-20) / 4)


def search(
    generator: Generator,
    target: Tensor,
    name: str,
    rate: float,
    steps: int,
    restarts: int,
    seed: int,
) -> Tensor:
    """Best PSNR (n,) over `restarts` latents for each target (n, c, h, w)."""
    rng = torch.Generator().manual_seed(seed)
    n = len(target)
    z = torch.randn(n * restarts, generator.latent, generator=rng, requires_grad=True)
    wanted = target.repeat_interleave(restarts, 0)
    if name == "lbfgs":
        return _lbfgs(generator, z.detach(), wanted, rate, steps).view(n, restarts).max(1).values
    makers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "adam": lambda: torch.optim.Adam([z], lr=rate),
        "sgd": lambda: torch.optim.SGD([z], lr=rate, momentum=0.9),
        "rmsprop": lambda: torch.optim.RMSprop([z], lr=rate),
    }
    optimiser = makers[name]()
    for _ in range(steps):
        optimiser.zero_grad()
        # Summed over samples: each latent sees the gradient of its own mean-squared error.
        ((generator(z) - wanted) ** 2).mean((1, 2, 3)).sum().backward()
        optimiser.step()
    with torch.no_grad():
        return psnr(generator(z), wanted).view(n, restarts).max(1).values


def _lbfgs(generator: Generator, start: Tensor, wanted: Tensor, rate: float, steps: int) -> Tensor:
    """L-BFGS couples the samples of a batch, so each latent has its own."""
    solutions = []
    for z0, target in zip(start, wanted, strict=True):
        z = z0[None].clone().requires_grad_(True)
        optimiser = torch.optim.LBFGS([z], lr=rate, max_iter=steps, history_size=10)

        def closure(
            z: Tensor = z, target: Tensor = target, optimiser: torch.optim.LBFGS = optimiser
        ) -> Tensor:
            optimiser.zero_grad()
            loss: Tensor = ((generator(z) - target[None]) ** 2).mean()
            loss.backward()
            return loss

        optimiser.step(closure)
        with torch.no_grad():
            solutions.append(psnr(generator(z), target[None])[0])
    return torch.stack(solutions)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--targets", type=int, default=16)
    parser.add_argument("--restarts", type=int, default=4)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--lbfgs-steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator, _, recipe, training = networks_of_run(options.run)
    generator.requires_grad_(False)
    stream = open_stream(options.data, recipe)
    unseen = torch.from_numpy(stream.validation(options.targets))
    rng = torch.Generator().manual_seed(99)
    with torch.no_grad():
        own = generator(torch.randn(options.targets, generator.latent, generator=rng))
    print(
        f"{options.run}: {training['images']:,} images, {options.targets} targets,"
        f" {options.restarts} restarts, {options.steps} steps"
    )
    print("| test | optimiser | rate | PSNR dB mean | min | recovered (> 60 dB) | s |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for test, target in (("1 (own images)", own), ("2 (unseen images)", unseen)):
        for name in ("adam", "sgd", "rmsprop", "lbfgs"):
            for rate in RATES:
                started = time.perf_counter()
                steps = options.lbfgs_steps if name == "lbfgs" else options.steps
                recovered = search(generator, target, name, rate, steps, options.restarts, 1)
                seconds = time.perf_counter() - started
                share = float((recovered > 60).float().mean())
                print(
                    f"| {test} | {name} | {rate:g} | {recovered.mean():.2f} | "
                    f"{recovered.min():.2f} | {share:.2f} | {seconds:.0f} |",
                    flush=True,
                )
                if options.json:
                    row = {
                        "test": test[0],
                        "optimiser": name,
                        "rate": rate,
                        "psnr_db": float(recovered.mean()),
                        "recovered": share,
                    }
                    print(json.dumps(row))


if __name__ == "__main__":
    main()
