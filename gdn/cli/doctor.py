"""`gdn doctor`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
from importlib import metadata
from typing import Any

import typer

from gdn import __version__
from gdn.batch.printed import wrapped
from gdn.cli.help import Grouped
from gdn.engines.table import REFERENCE, RUNTIMES
from gdn.environment import install_command
from gdn.models import DEFAULT_MODEL
from gdn.storage import json_line

OTHERS = (
    "numpy",
    "scipy",
    "tifffile",
    "imagecodecs",
    "onnx",
    "abtem",
    "bm3d",
    "cuda-python",
)
# A module that an extra brings, the extra, and what it is for.
EXTRAS = (
    ("rsciio", "formats", "to read DM3, DM4, EMD and SER files"),
    ("h5py", "formats", "to read HDF5 files"),
    ("zarr", "formats", "to read and write Zarr"),
    ("torch", "adapt", "for --adapt and gdn adapt; gdn[train] to train a model"),
    ("ase", "structures", "to simulate structures from CIF and XYZ files"),
    ("distributed", "cluster", "for --cluster"),
    ("av", "video", "for --movie-file"),
    ("napari", "napari", "to work in napari"),
    ("hyperspy", "hyperspy", "to denoise HyperSpy signals"),
)
PACKAGES = (
    *OTHERS,
    *(name for runtime in RUNTIMES for name in (*runtime.packages, *runtime.builds)),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor", cls=Grouped)(doctor)


def doctor(
    model: str = typer.Option(DEFAULT_MODEL, metavar="NAME|DIR", help="Model to check."),
    engine: str = typer.Option("auto", help="Engine to check."),
    device: str = typer.Option("auto", help="Device to check."),
    require_gpu: bool = typer.Option(
        False, "--require-gpu", help="Report 'not ready' if there is no usable GPU."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> int:
    """Show what this machine has: devices, libraries, versions, the model, and the engine that gdn
    uses; and what to do about what is missing.

    Exit code 1 if nothing can run.

    \b
    Examples:
      gdn doctor
      gdn doctor --model models/mine --device cuda --json
    """
    report = examine(model, engine, device, require_gpu)
    if as_json:
        print(json_line(report))
    else:
        for key, value in report.items():
            if key != "advice":
                _print_fact(key, _text(value))
        for line in report["advice"]:
            _print_fact("to do", line)
    return 0 if report["ready"] is True else 1


def _print_fact(name: str, words: str) -> None:
    print(wrapped(f"{name:12} ", words, sys.stdout, indent=13))


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return "yes" if value is True else str(value)


def examine(model: str, engine: str, device: str, require_gpu: bool = False) -> dict[str, Any]:
    """Facts about this machine; 'ready' is True or the reason why nothing can run."""
    from gdn.engines.base import EngineError
    from gdn.engines.choose import open_engine
    from gdn.models import ModelError, find_model
    from gdn.restarts import restart_latents
    from gdn.storage import cache_folder, cache_limit, cached_bytes

    report: dict[str, Any] = {
        "gdn": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count() or 1,
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": _devices(),
        "cache": f"{cache_folder()}: banks take {cached_bytes() / 2**30:.2f} of at most "
        f"{cache_limit() / 2**30:g} GiB",
    }
    try:
        generator = find_model(model)
        card = generator.card
        report["model"] = (
            f"{card.name}: {card.patch} px at {card.sampling_angstrom} Å, {card.latent} "
            f"latents, sha256 {generator.hash[:12]}"
        )
        with open_engine(generator, engine, device, require_gpu=require_gpu) as opened:
            image = opened.generate(restart_latents(0, range(1), card.latent))
            report["engine"] = f"{opened.name} on {opened.device}: {opened.reason}"
            report["self-test"] = (
                f"one restart gives an image of mean {float(image.mean()):.3f} (vacuum is "
                f"{card.vacuum:g})"
            )
        report["restorer"] = _restorer(device)
        report["ready"] = True
    except (ModelError, EngineError) as error:
        report["ready"] = f"no: {error}"
    report["advice"] = advise(report)
    return report


def advise(report: dict[str, Any]) -> list[str]:
    """What to do about each thing that is missing, a line each."""
    from gdn.engines.choose import has_driver
    from gdn.storage import cache_folder

    advice = []
    if report["ready"] is not True:
        advice.append(
            "nothing can be denoised: choose another --model, --engine or --device, or install "
            "gdn again"
        )
    if has_driver() and " on cpu" in str(report.get("engine", "")):
        advice.append(
            f"the card is not used: pip uninstall {REFERENCE.packages[0]}, then "
            f"{install_command('gpu')} (docs/gpu.md)"
        )
    folder = next(place for place in (cache_folder(), *cache_folder().parents) if place.exists())
    if not os.access(folder, os.W_OK):
        advice.append(f"{folder} cannot be written to: set GDN_CACHE_DIR to a folder of your own")
    lacking: dict[str, list[str]] = {}
    for module, extra, purpose in EXTRAS:
        if importlib.util.find_spec(module) is None:
            lacking.setdefault(extra, []).append(purpose)
    return advice + [
        f"{'; '.join(purposes)}: {install_command(extra)}" for extra, purposes in lacking.items()
    ]


def _restorer(device: str) -> str:
    """The shipped restorer and what it makes of a flat frame. Raises ModelError, EngineError."""
    import numpy as np

    from gdn.engines.restorer import open_restorer
    from gdn.models import RESTORER, RestorerModel, load_any, shipped_models

    folder = shipped_models().get(RESTORER)
    if folder is None:
        return "none is shipped: --model auto uses generators only"
    model = load_any(folder)
    assert isinstance(model, RestorerModel)
    with open_restorer(model, "auto", device) as session:
        mean = float(session.restore(np.ones((1, 64, 64), np.float32)).mean())
    return (
        f"{model.card.name}: {model.card.sampling_angstrom} Å, sha256 "
        f"{model.hash[:12]}, on {session.device}; "
        f"a flat frame of 1 gives {mean:.3f}"
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "-"


def _devices() -> str:
    from gdn.engines.choose import has_driver

    devices = ["cpu"]
    if not has_driver():
        return devices[0]
    if REFERENCE.installed and importlib.import_module(REFERENCE.module).card_reason():
        devices.append(f"cuda ({REFERENCE.name})")
    devices.append(_card())
    return ", ".join(devices)


def _card() -> str:
    """The CUDA card, by what TensorRT would use, or why there is none."""
    from gdn.engines.base import EngineError
    from gdn.engines.cuda_memory import open_device

    try:
        card = open_device()
    except EngineError as error:
        return f"there is a CUDA driver, but no card ({error})"
    return f"{card.name}, compute capability {card.capability}, driver {card.driver}"
