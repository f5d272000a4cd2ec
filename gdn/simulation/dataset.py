"""`dataset.json`: the record of what a data set of `gdn simulate` contains."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gdn import __version__
from gdn.errors import InputError
from gdn.recipes import Specimen
from gdn.simulation.imaging import ENERGY_KV
from gdn.simulation.scenes import DEFAULT, FILES, IMAGES, SCENES
from gdn.storage import write_json

DATASET_SCHEMA = 1
FILE = "dataset.json"
UNNAMED = {FILES: "structures of your own", IMAGES: "clean images"}  # scenes without a name


def structure_seed(seed: int, index: int) -> int:
    """Seed of structure `index` of the data set with `seed`. It has 48 bits, so that data sets do
    not share structures."""
    return int(
        np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> np.uint64(16)
    )


def read_dataset(path: Path) -> dict[str, Any]:
    """Read the record. Raises ValueError, in one line, if it is not a `dataset.json`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        float(
            content.setdefault("energy_kv", ENERGY_KV)
        )  # data sets made before it was recorded lack it
        content.setdefault("multislice", "abtem")
        content.setdefault("scenes", DEFAULT)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        why = " ".join(str(error).split())
        raise ValueError(
            f"{path}: is not the dataset.json of a data set ({why}); simulate it again"
        ) from None
    return dict(content)


def open_dataset(
    out: Path,
    seed: int,
    count: int,
    energy_kv: float,
    multislice: str = "torch",
    scenes: str | Mapping[str, Any] = DEFAULT,
) -> None:
    """Create the folder of a data set, or continue the one in it. `scenes` is a name, or the record
    of a user's own structures. Raises ValueError if that one has another seed, voltage, multislice
    or other scenes."""
    own = None if isinstance(scenes, str) else dict(scenes)
    scenes = scenes if isinstance(scenes, str) else FILES
    for name in ("waves", "frames"):
        (out / name).mkdir(parents=True, exist_ok=True)
    for stale in out.glob("waves/*.part"):
        stale.unlink(missing_ok=True)
    path = out / FILE
    if path.exists():
        content = read_dataset(path)
        if (content.get("schema"), content.get("seed")) != (DATASET_SCHEMA, seed):
            raise ValueError(
                f"{path}: made with seed {content.get('seed')} (schema {content.get('schema')}), "
                "asked for seed"
                f" {seed}; choose another folder or the same seed"
            )
        if content["energy_kv"] != energy_kv:
            raise InputError(
                f"{path}: made at {content['energy_kv']:g} kV, asked for {energy_kv:g} kV; "
                f"choose another folder, or {content['energy_kv']:g} kV",
                "energy_kv",
            )
        if content["multislice"] != multislice:
            raise InputError(
                f"{path}: its waves were made by {content['multislice']}, asked for "
                f"{multislice}; choose another folder, or {content['multislice']}",
                "multislice",
            )
        if content["scenes"] != scenes:
            raise InputError(
                f"{path}: has the scenes {content['scenes']}, asked for {scenes}; choose another "
                f"folder, or {content['scenes']}",
                "scenes",
            )
        if content.get("structures") != own:
            raise ValueError(
                f"{path}: made of other structures, zone or thickness; choose another folder"
            )
    content = {
        "schema": DATASET_SCHEMA,
        "seed": seed,
        "count": count,
        "energy_kv": energy_kv,
        "multislice": multislice,
    }
    content |= {"scenes": scenes, "gdn": __version__}
    content |= {} if own is None else {"structures": own}
    write_json(path, content)


def check_specimen(data: Path, specimen: Specimen) -> None:
    """Check that the waves in the folder `data` are of the recipe's specimen. Raises ValueError in
    one line."""
    if specimen.source not in (*SCENES, FILES, IMAGES):
        raise ValueError(
            f"{data}: 'gdn simulate' does not make the recipe's '{specimen.source}' "
            f"({', '.join(SCENES)}); benchmarks/sitting.py trains it without data"
        )
    path = data / FILE
    content = read_dataset(path) if path.exists() else {"energy_kv": ENERGY_KV, "scenes": DEFAULT}
    if content["scenes"] != specimen.source:
        source = specimen.source
        wanted_scenes = UNNAMED.get(source, f"the scenes {source}")
        raise ValueError(
            f"{path}: has the scenes {content['scenes']}, the recipe {source}; simulate "
            f"{wanted_scenes}, or set source under [specimen] in the recipe"
        )
    energy_kv = content["energy_kv"]
    (wanted,) = specimen.energies_kv
    if energy_kv != wanted:
        raise ValueError(
            f"{path}: made at {energy_kv:g} kV, the recipe is for {wanted:g} kV; simulate at "
            f"{wanted:g} kV, or set energies_kv under [specimen]"
        )
