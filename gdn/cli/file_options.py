"""Options of commands that read frames beside `gdn denoise`."""

from __future__ import annotations

from typing import Annotated

import typer

from gdn.cli.help import INPUT

Sampling = Annotated[
    float | None,
    typer.Option(
        metavar="Å/px",
        help="Pixel size: needed where the files have none.",
        rich_help_panel=INPUT,
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Name of the image to read, where a file holds several.",
        rich_help_panel=INPUT,
    ),
]
NOISE = "auto, poisson, gaussian, gaussian:S or poisson-gaussian, as of gdn denoise."
