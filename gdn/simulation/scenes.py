"""The scenes that `gdn simulate` can make, by name: each is a function from a seed to a structure.

A new specimen needs a function that returns a `Structure` for every seed, a line here, and a recipe
whose `[specimen]` names it.
"""

from __future__ import annotations

from collections.abc import Callable

from gdn.errors import InputError
from gdn.simulation.structures import Structure, random_structure
from gdn.simulation.wide_scenes import wide_structure

DEFAULT = "pt-ceo2"
FILES = "files"  # scenes of a user's own structures (gdn.simulation.own_crystals), by no name here
IMAGES = "images"  # clean images from any simulator (gdn.simulation.clean_images)
SCENES: dict[str, Callable[[int], Structure]] = {
    DEFAULT: random_structure,
    "pt-ceo2-wide": wide_structure,
}


def scene_maker(name: str) -> Callable[[int], Structure]:
    """The function of the scene `name`. Raises InputError if there is none."""
    if name not in SCENES:
        raise InputError(f"scenes {name}: choose {' or '.join(SCENES)}", "scenes")
    return SCENES[name]
