"""`--help` with options in groups."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

# Groups of options; a command names them in the order in which they are shown.
INPUT = "Input"
OUTPUT = "Output"
SEARCH = "Search"
TRUST = "How far to trust it"
MACHINE = "Machine and run"
NETWORK = "Recipe, and what overrides it"
COMPARED = "Compared with"


class Grouped(TyperCommand):
    """A command whose options are listed under their `rich_help_panel`, as plain text: it is copied
    into documents and read over slow lines."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, each group under its name, the ungrouped last."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            name = getattr(parameter, "rich_help_panel", None)
            fallback = "Arguments" if parameter.param_type_name == "argument" else "Options"
            groups.setdefault(name or fallback, []).append(record)
        last = groups.pop("Options", None)
        if last:
            grouped = any(name != "Arguments" for name in groups)
            groups["Other options" if grouped else "Options"] = last
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)
