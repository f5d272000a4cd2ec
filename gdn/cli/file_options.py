"""Options of every command that reads frames."""

from __future__ import annotations

from typing import Annotated

import typer

from gdn.cli.help import INPUT

Sampling = Annotated[
    float | None,
    typer.Option(
        metavar="Å/px",
        help="Pixel size in Å. Needed if the file does not say it; replaces the file's "
        "value if it does.",
        rich_help_panel=INPUT,
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Which image to read if a file holds several: its name, or in a TIFF the "
        "number of the series.",
        rich_help_panel=INPUT,
    ),
]
NOISE = "auto, poisson, gaussian, gaussian:S or poisson-gaussian, as in 'gdn denoise'."
