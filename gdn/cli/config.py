"""Settings of a run from a TOML file, and the file that repeats a run."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import typer

from gdn import __version__
from gdn.batch.terminal import UsageFault
from gdn.storage import read_text

NAME = "gdn-run.toml"
_NOT_KEPT = {"config", "resume", "overwrite", "help"}  # how to go about a run, not what it computes


def _long(parameter: Any) -> str:
    """The name of an option as it is typed, without dashes; of an argument its own."""
    return str(max(parameter.opts, key=len)).lstrip("-")


def load(context: typer.Context, parameter: typer.CallbackParam, value: Path | None) -> Path | None:
    """Take the values of a TOML file as defaults: what is typed wins. An eager callback; raises
    UsageFault."""
    if value is None:
        return None
    known = {_long(p): p.name for p in context.command.params if _long(p) not in _NOT_KEPT}
    try:
        content = tomllib.loads(read_text(value))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageFault(f"--config {value}: cannot be read ({reason})") from None
    content.pop("gdn", None)
    wrong = [name for name in content if name not in known]
    if wrong:
        raise UsageFault(
            f"--config {value}: no such option: {', '.join(wrong)}; there are: {', '.join(known)}"
        )
    context.default_map = {str(known[name]): setting for name, setting in content.items()}
    return value


def typed_or_loaded(
    context: typer.Context, parameter: typer.CallbackParam, value: list[str] | None
) -> list[str]:
    """What was typed, or else the setting of the TOML file: click before 8.2 does not look there
    for an argument that takes any number of values. A callback; old versions of typer ask for the
    length of what it returns."""
    return value or (context.default_map or {}).get(str(parameter.name)) or []


def text_of(context: typer.Context) -> str:
    """The TOML text that repeats this command. Values are strings, numbers, booleans and lists:
    JSON's forms are TOML's."""
    lines = [
        f"# gdn {context.command.name} --config {NAME} repeats this run, from the "
        "folder it was started in",
        "",
    ]
    lines.append(f'gdn = "{__version__}"')
    for parameter in context.command.params:
        value: Any = context.params.get(str(parameter.name))
        name = _long(parameter)
        if value is None or value == [] or name in _NOT_KEPT:
            continue
        lines.append(
            f"{json.dumps(name) if not name.replace('-', '').isalnum() else name} = "
            f"{json.dumps(value, default=str)}"
        )
    return "\n".join(lines) + "\n"
