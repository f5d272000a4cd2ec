"""The state of a run: networks, optimisers and counters; its checkpoint, and networks from runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gdn.generator.loading import networks_of_model, networks_of_weights, write_weights
from gdn.generator.networks import Discriminator, Encoder, Generator, initialise
from gdn.generator.torch_globals import own_random_numbers
from gdn.recipes import Recipe
from gdn.storage import writing
from gdn.training.unet_network import UNet

ADDITIONS = (
    "flow.",
    "rungs.",
)  # parts that a network may have or lack, by the start of their weights' names


def _network(recipe: Recipe) -> Generator | UNet:
    n = recipe.network
    return (
        UNet(n.scales, n.base_channels, n.channel_cap)
        if recipe.loss.kind == "unet"
        else Generator(n)
    )


def load_common(mine: nn.Module, its: nn.Module) -> None:
    """Load the weights `its`. A flow and rungs that they lack, or have in another shape, keep their
    initial values, which change little.

    Raises RuntimeError for any other difference.
    """
    own = mine.state_dict()
    taken = {
        k: v
        for k, v in its.state_dict().items()
        if not k.startswith(ADDITIONS) or (k in own and own[k].shape == v.shape)
    }
    lacking, unknown = mine.load_state_dict(taken, strict=False)
    if unknown or any(not name.startswith(ADDITIONS) for name in lacking):
        raise RuntimeError


class State:
    """Networks, optimisers and counters of a run."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        n, self.recipe = recipe.network, recipe
        with own_random_numbers(recipe.stream.seed):
            self.generator, self.average = _network(recipe), _network(recipe)
            # A U-Net has no adversary; the place in the checkpoint is kept.
            self.discriminator = (
                Discriminator(n) if recipe.loss.kind != "unet" else nn.Conv2d(1, 1, 1)
            )
            self.encoder = Encoder(n) if recipe.loss.kind == "range" else None
            for module in self.modules().values():
                initialise(module, n.initialisation)
                module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average.load_state_dict(self.generator.state_dict())
        self.average.requires_grad_(False)
        o = recipe.optimiser
        betas = (o.beta1, o.beta2)
        own = [{"params": self.generator.parameters(), "lr": o.lr_generator}]
        if self.encoder is not None:
            own.append({"params": self.encoder.parameters(), "lr": o.lr_encoder})
        self.opt_g = torch.optim.Adam(own, betas=betas)
        self.opt_d = torch.optim.Adam(
            self.discriminator.parameters(), lr=o.lr_discriminator, betas=betas
        )
        self.images, self.seconds = 0, 0.0

    def modules(self) -> dict[str, torch.nn.Module]:
        """Every network by its name in the checkpoint."""
        modules = {
            "generator": self.generator,
            "average": self.average,
            "discriminator": self.discriminator,
        }
        return modules | ({"encoder": self.encoder} if self.encoder is not None else {})

    def save(self, path: Path) -> None:
        """Write the checkpoint under a temporary name, then rename it."""
        content: dict[str, Any] = {name: m.state_dict() for name, m in self.modules().items()}
        content |= {"opt_g": self.opt_g.state_dict(), "opt_d": self.opt_d.state_dict()}
        content |= {"images": self.images, "seconds": self.seconds}
        with writing(path) as temporary:
            torch.save(content, temporary)

    def save_weights(self, path: Path) -> None:
        """Write only the averaged generator and the encoder, in the format of a model folder."""
        write_weights(path, self.average, self.encoder)

    def start_from(self, folder: Path) -> None:
        """Load generator and encoder of a model or run folder. A flow that they lack starts as the
        identity. Weights for another intensity scale are loaded unchanged, because encoder and
        decoder work in network units.

        Raises ValueError if their shapes differ.
        """
        generator, encoder = (networks_of_run if is_run(folder) else networks_of_model)(folder)[:2]
        try:
            load_common(self.generator, generator)
            load_common(self.average, generator)
            if self.encoder is not None and encoder is not None:
                load_common(self.encoder, encoder)
        except RuntimeError:
            raise ValueError(
                f"{folder}: its networks do not have the shape of the recipe's; use the "
                "recipe in its model.json"
            ) from None

    def load(self, path: Path, device: str) -> None:
        """Restore what `save` wrote. Only tensors and numbers are unpickled."""
        content = torch.load(path, map_location=device, weights_only=True)
        for name, module in self.modules().items():
            module.load_state_dict(content[name])
        self.opt_g.load_state_dict(content["opt_g"])
        self.opt_d.load_state_dict(content["opt_d"])
        self.images, self.seconds = content["images"], content["seconds"]


def is_run(folder: Path) -> bool:
    """Whether `folder` is the folder of a run or of a sitting, and not of a model."""
    return (folder / "recipe.json").exists() and not (folder / "model.json").exists()


def networks_of_run(
    run: Path, report: Callable[[str], None] = lambda line: None
) -> tuple[Generator, Encoder | None, Recipe, dict[str, Any]]:
    """Averaged generator and encoder from a run's last checkpoint, or from the weights of a sitting
    (`benchmarks/sitting.py`); and the record of its training. Raises ValueError."""
    try:
        content = dict(json.loads((run / "recipe.json").read_text(encoding="utf-8")))
        content["recipe"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{run / 'recipe.json'}: not the settings of a run ({error})") from None
    weights = run / "weights.safetensors"
    if weights.is_file() and not (run / "checkpoint.pt").is_file():
        generator, encoder, recipe = networks_of_weights(weights, content["recipe"])
        statistics = content.get("training", {})
        training = {
            "images": statistics.get("images", 0),
            "seconds": round(statistics.get("seconds", 0)),
        }
        return generator, encoder, recipe, training | {"statistics": statistics}
    if not (run / "checkpoint.pt").is_file():
        raise ValueError(f"{run}: no checkpoint.pt in it; 'gdn train' makes one")
    recipe = Recipe.model_validate(content["recipe"])
    state = State(recipe, "cpu")
    state.load(run / "checkpoint.pt", "cpu")
    lines = (run / "stats.jsonl").read_text().splitlines() if (run / "stats.jsonl").exists() else []
    training = {
        "images": state.images,
        "seconds": round(state.seconds),
        "statistics": json.loads(lines[-1]) if lines else {},
    }
    report(f"{run}: checkpoint at {state.images:,} images")
    if not isinstance(state.average, Generator):
        raise ValueError(f"{run}: a U-Net, not a generator; 'gdn export' makes a comparator of it")
    return (
        state.average.eval(),
        None if state.encoder is None else state.encoder.eval(),
        recipe,
        training,
    )
