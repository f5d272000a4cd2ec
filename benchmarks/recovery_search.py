"""The study's first validation: its search against gdn's, on DCGANs of small pictures.

Test 1: the targets are the generator's own images; one counts as recovered at 60 dB and more.
Test 2: the targets are pictures that the generator was not trained on. The loss is the study's, the
squared error summed over a picture in network units, [-1, 1]; PSNR has the data range 1.

`study`: 10 random latents, 1,500 steps of Adam at 1e-2 each, one after the other; then 10,000 more
for the best. `gdn`: 4,096 restarts in one batch, whose images serve all targets; the best 64 by
their loss are refined briefly (one truncated Gauss-Newton step); the best 8 take 24 steps of
Levenberg-Marquardt (Nocedal & Wright 2006, ch. 10), or more while the loss falls fast, one after
the other until one is recovered; only four of them if none comes near. The best is then moved at
random 30 times, less and less, and refined by five steps each time; what is better is kept (basin
hopping, Wales & Doye 1997). The generator is used with batch norm folded in, as in a model folder.

Each search is a line in `--rows`; what is there is not done again, so that hours can be spent in
parts. The table is printed from that file.

    gdn train --recipe dcgan --data mnist.npz -o mnist --patch 32 --channels 1
    python benchmarks/recovery_search.py mnist --data mnist.npz --rows rows.jsonl --study 25
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recovery_tables import RECOVERED, decibels, recovery_table, speed_table
from torch import Tensor

from gdn.generator.chains import Ladder
from gdn.generator.folding import fold
from gdn.training.patch_stream import open_stream
from gdn.training.state import networks_of_run

Row = dict[str, Any]
RESTARTS, STEPS, FINAL, RATE = 10, 1_500, 10_000, 1e-2  # the study's
BANK, BRIEF, FULL, FIRST = 4_096, 64, 8, 4
NEAR = 40.0  # dB, to try more than FIRST
STEPS_EACH, STEPS_HOP, STEPS_LAST = 24, 5, 40  # of Levenberg-Marquardt
HOPS = np.geomspace(0.8, 0.3, 30)  # standard deviations of the moves, in latents
LEAST_GAIN = 1e-3  # relative fall of the loss over five steps, below which a search ends


@dataclass(frozen=True)
class Folded:
    """A generator by its chain of operations; images are flat (n, size)."""

    chain: Ladder
    latent: int

    def images(self, z: Tensor) -> Tensor:
        """The images of z (n, d)."""
        return torch.cat([self.chain(part).flatten(1) for part in z.split(256)])

    def jacobian(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The images (n, size) and their derivatives (n, d, size)."""
        at, n = self.chain.trace(z), len(z)
        each = torch.eye(self.latent).repeat(n, 1)
        return at.y.flatten(1), self.chain.push(at, each).reshape(n, self.latent, -1)

    def brief(self, z: Tensor, target: Tensor, iterations: int = 3) -> tuple[Tensor, Tensor]:
        """z after one Gauss-Newton step of a few conjugate-gradient iterations, the best of three
        lengths, if it lowers the loss; and the loss."""
        at = self.chain.trace(z)
        misfit = target - at.y.flatten(1)
        loss = (misfit**2).sum(1)
        residual = self.chain.back(at, misfit.reshape(at.y.shape))
        step, search, strength = torch.zeros_like(z), residual, (residual**2).sum(1)
        for _ in range(iterations):
            pushed = self.chain.push(at, search)
            length = strength / (pushed.flatten(1) ** 2).sum(1).clamp_min(1e-12)
            step = step + length[:, None] * search
            residual = residual - length[:, None] * self.chain.back(at, pushed)
            before, strength = strength, (residual**2).sum(1)
            search = residual + (strength / before.clamp_min(1e-20))[:, None] * search
        best = z
        for fraction in (0.25, 0.5, 1.0):
            trial = z + fraction * step
            lower = ((target - self.images(trial)) ** 2).sum(1)
            best = torch.where((lower < loss)[:, None], trial, best)
            loss = torch.minimum(lower, loss)
        return best, loss

    def converge(self, z: Tensor, target: Tensor, steps: int) -> tuple[Tensor, float]:
        """z (1, d) and its loss after `steps` of Levenberg-Marquardt on one target (1, size), or
        fewer where it is recovered or hardly changes, or more while it halves in three steps."""
        damping, (y, j) = 0.1, self.jacobian(z)
        losses = [float(((target - y) ** 2).sum())]
        while len(losses) <= steps or losses[-1] < losses[-4] / 2:
            normal, gradient = j[0] @ j[0].T, j[0] @ (target - y)[0]
            scale = normal.diagonal().mean()
            for _ in range(6):
                system = normal + damping * scale * torch.eye(self.latent)
                trial = z + torch.linalg.solve(system, gradient)[None]
                loss = float(((target - self.images(trial)) ** 2).sum())
                if loss < losses[-1]:
                    break
                damping *= 6
            else:
                break
            z, damping = trial, max(damping / 5, 1e-7)
            losses.append(loss)
            if decibels(loss, target.shape[1]) > RECOVERED:
                break
            if len(losses) > 5 and losses[-6] - loss < LEAST_GAIN * loss:
                break
            y, j = self.jacobian(z)
        return z, losses[-1]


def study_search(generator: torch.nn.Module, latent: int, target: Tensor, seed: int) -> Row:
    """The study's search for one target (1, c, h, w)."""
    rng = torch.Generator().manual_seed(seed)

    def descend(z: Tensor, steps: int) -> tuple[Tensor, float]:
        z = z.clone().requires_grad_(True)
        optimiser = torch.optim.Adam([z], lr=RATE)
        for _ in range(steps):
            optimiser.zero_grad()
            ((generator(z) - target) ** 2).sum().backward()
            optimiser.step()
        with torch.no_grad():
            return z.detach(), float(((generator(z) - target) ** 2).sum())

    starts = [torch.randn(1, latent, generator=rng) for _ in range(RESTARTS)]
    with torch.no_grad():
        before = min(float(((generator(z) - target) ** 2).sum()) for z in starts)
    ends = [descend(z, STEPS) for z in starts]
    best, _ = min(ends, key=lambda end: end[1])
    return {"before": before, "loss": descend(best, FINAL)[1]}


@torch.no_grad()
def gdn_search(folded: Folded, bank: tuple[Tensor, Tensor], target: Tensor, seed: int) -> Row:
    """gdn's search for one target (1, size); `bank`: latents and their images."""
    latents, images = bank
    scores = (images**2).sum(1) - 2 * images @ target[0]
    best = scores.argsort()[:BRIEF]
    before = float(scores[best[0]] + (target**2).sum())
    z, loss = folded.brief(latents[best], target)
    ends: list[tuple[Tensor, float]] = []
    for index in loss.argsort()[:FULL].tolist():
        ends.append(folded.converge(z[index : index + 1], target, STEPS_EACH))
        if decibels(ends[-1][1], target.shape[1]) > RECOVERED:
            return {"before": before, "loss": ends[-1][1], "tried": len(ends)}
        least = min(end[1] for end in ends)
        if len(ends) >= FIRST and decibels(least, target.shape[1]) < NEAR:
            break
    z, least = min(ends, key=lambda end: end[1])
    rng = torch.Generator().manual_seed(seed)
    for size in HOPS.tolist():
        moved = z + size * torch.randn(z.shape, generator=rng)
        trial, loss_there = folded.converge(moved, target, STEPS_HOP)
        if loss_there < least:
            z, least = trial, loss_there
    return {
        "before": before,
        "loss": folded.converge(z, target, STEPS_LAST)[1],
        "tried": len(ends),
    }


def search_all(
    rows: list[Row],
    keep: Callable[[Row], None],
    head: Row,
    targets: Tensor,
    search: Callable[[int], Row],
) -> None:
    """Search every target that has no row yet."""
    done = {json.dumps([r[k] for k in (*head, "target")]) for r in rows}
    for number in range(len(targets)):
        row = head | {"target": number}
        if json.dumps([row[k] for k in (*head, "target")]) in done:
            continue
        started = time.perf_counter()
        row |= search(number)
        row |= {
            "seconds": time.perf_counter() - started,
            "psnr_db": decibels(row["loss"], targets[0].numel()),
        }
        keep(row)


def search_run(
    run: Path, options: argparse.Namespace, rows: list[Row], keep: Callable[[Row], None]
) -> None:
    """Both tests and both searches for one generator."""
    generator, _, recipe, training = networks_of_run(run)
    generator.eval().requires_grad_(False)
    folded = Folded(fold(generator, 1.0, 0.0).chain, generator.latent)
    rng = torch.Generator().manual_seed(99)
    with torch.no_grad():
        own = generator(torch.randn(options.targets, generator.latent, generator=rng))
        latents = torch.randn(BANK, generator.latent, generator=rng)
        started = time.perf_counter()
        bank = latents, folded.images(latents)
        print(f"{run}: the bank of {BANK} took {time.perf_counter() - started:.1f} s", flush=True)
    unseen = torch.from_numpy(open_stream(options.data, recipe).validation(options.unseen))
    for test, targets in ((1, own), (2, unseen)):
        head = {"set": run.name, "images": training["images"], "test": test}

        def ours(number: int, flat: Tensor = targets.flatten(1)) -> Row:
            return gdn_search(folded, bank, flat[number : number + 1], 1 + number)

        def theirs(number: int, targets: Tensor = targets) -> Row:
            target = targets[number : number + 1]
            return study_search(generator, generator.latent, target, 1 + number)

        search_all(rows, keep, head | {"method": "gdn"}, targets, ours)
        search_all(rows, keep, head | {"method": "study"}, targets[: options.study], theirs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="*", help="runs of gdn train --recipe dcgan")
    parser.add_argument("--data", type=Path, help="the .npz of their pictures")
    parser.add_argument("--targets", type=int, default=100, help="of test 1")
    parser.add_argument("--unseen", type=int, default=100, help="targets of test 2")
    parser.add_argument(
        "--study", type=int, default=25, help="targets that the study's search gets"
    )
    parser.add_argument("--rows", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = options.rows.read_text().splitlines() if options.rows.exists() else []
    rows: list[Row] = [json.loads(line) for line in kept]

    def keep(row: Row) -> None:
        rows.append(row)
        with options.rows.open("a") as stream:
            stream.write(json.dumps(row) + "\n")

    for run in options.runs:
        search_run(run, options, rows, keep)
    print(recovery_table(rows), speed_table(rows), sep="\n\n")


if __name__ == "__main__":
    main()
