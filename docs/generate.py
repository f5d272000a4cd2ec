"""Write docs/commands.md from the program's own help, or check that it is current (--check)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COMMANDS = (
    "denoise",
    "adapt",
    "align",
    "demo",
    "simulate",
    "train",
    "export",
    "evaluate",
    "doctor",
    "engines list",
    "engines build",
    "engines clear",
)
PATH = Path(__file__).parent / "commands.md"


def render() -> str:
    """Help of every command as Markdown."""
    parts = [
        "# Commands",
        "",
        "Written by `python docs/generate.py` from the program's own help; CI checks "
        "that it is current.",
        "",
    ]
    environment = os.environ | {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    for command in COMMANDS:
        result = subprocess.run(
            [sys.executable, "-m", "gdn", *command.split(), "--help"],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        lines = [line.rstrip() for line in result.stdout.strip().splitlines()]
        parts += [f"## gdn {command}", "", "```", *lines, "```", ""]
    return "\n".join(parts)


def main() -> int:
    """Write or check; returns the exit code."""
    if "--check" not in sys.argv:
        PATH.write_text(render())
        return 0
    if PATH.read_text() != render():
        print(f"{PATH}: not what the program says; run 'python docs/generate.py'")
        return 1
    print(f"{PATH}: current")
    return 0


if __name__ == "__main__":
    sys.exit(main())
