"""Recipes of a few images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TINY = """
schema_version = 1
name = "tiny"
[specimen]
description = "nothing in particular"
[network]
latent = 16
patch = 32
base_channels = 8
channel_cap = 16
stem = "grid"
residual = 1
initialisation = "he"
[optimiser]
images = 256
batch = 16
lr_generator = 1e-3
beta1 = 0.9
ema_images = 64
[loss]
kind = "range"
adversarial_weight = 0.01
[stream]
reservoir = 64
patches_per_image = 8
"""


FULL = {"latent": 80, "rungs": (1,), "rung_width": 8, "flow": 2, "flow_width": 8}


def tiny(**sections: dict[str, Any]):
    """The tiny recipe with changed settings."""
    import tomllib

    from gdn.recipes import Recipe

    content = tomllib.loads(TINY)
    content["optimiser"]["images"] = 64
    for section, changes in sections.items():
        content[section] |= changes
    return Recipe.model_validate(content)


def trained(recipe: Any, folder: Path, dataset: Path) -> dict[str, Any]:
    """The last line of the statistics of a short run."""
    from gdn.training.loop import RunOptions, train

    train(recipe, RunOptions(run=folder, data=dataset, threads=1, status_every=64))
    found: dict[str, Any] = json.loads((folder / "stats.jsonl").read_text().splitlines()[-1])
    return found
