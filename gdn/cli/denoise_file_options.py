"""The options of `gdn denoise` that say what it reads and writes, each with its help, in the order
of `--help`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gdn.cli.config import typed_or_loaded
from gdn.cli.help import INPUT, OUTPUT

Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILES",
        callback=typed_or_loaded,
        help="Files of frames, or folders of them. Wildcards are expanded; - reads names "
        "from standard input.",
        rich_help_panel=INPUT,
    ),
]
FindSampling = Annotated[
    bool,
    typer.Option(
        "--find-sampling",
        help="Look for the pixel size that the generator explains best, within a factor of 1.5, "
        "and say so. It is not used: gdn keeps to the one given. Without this option gdn looks "
        "only where p < 0.01.",
        rich_help_panel=INPUT,
    ),
]
Channel = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Channel to denoise if a file has several (TIFF, OME, Zarr, HDF5). The first is 0.",
        rich_help_panel=INPUT,
    ),
]
Summed = Annotated[
    bool,
    typer.Option(
        "--sum",
        help="Denoise the sum of a movie's frames, not each frame.",
        rich_help_panel=INPUT,
    ),
]
Movie = Annotated[
    str,
    typer.Option(
        metavar="on|auto|off",
        help="For a stack that shows one object, which may drift. on: align the frames, "
        "and use the neighbouring frames to denoise each one. Held-out electrons "
        "decide how much the neighbours contribute. auto: first test whether this helps.",
        rich_help_panel=INPUT,
    ),
]
Recursive = Annotated[
    bool,
    typer.Option(
        "--recursive",
        help="Also look for files in subfolders. Results go into subfolders of the same names.",
        rich_help_panel=INPUT,
    ),
]
Null = Annotated[
    bool,
    typer.Option(
        "-0",
        "--null",
        help="Names on standard input end with a zero byte, as from 'find -print0'.",
        rich_help_panel=INPUT,
    ),
]
Partial = Annotated[
    bool,
    typer.Option(
        "--partial",
        help="If a file is cut off, denoise the frames that are there. Without this "
        "option such a file fails.",
        rich_help_panel=INPUT,
    ),
]
Mask = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Image of the same shape as the frames. Pixels that are not zero in it are "
        "left out of every frame (beam stop, dead part of the detector).",
        rich_help_panel=INPUT,
    ),
]
Watch = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Watch a folder until Ctrl-C, and denoise each new file when it is complete.",
        rich_help_panel=INPUT,
    ),
]
Idle = Annotated[
    float | None,
    typer.Option(
        "--watch-idle",
        min=0,
        metavar="SECONDS",
        help="End --watch after this time without a new file.",
        rich_help_panel=INPUT,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="DIR",
        help="Folder for results [default: beside each input].",
        rich_help_panel=OUTPUT,
    ),
]
Kind = Annotated[
    str,
    typer.Option(
        "--format",
        help="File format of the results: tif, mrc, zarr, or same (as the input).",
        rich_help_panel=OUTPUT,
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        help="Number type of the results: float32, float16, uint16 or uint8 (integers "
        "carry a scale). Refused if its steps are too large for the spread.",
        rich_help_panel=OUTPUT,
    ),
]
Png = Annotated[
    bool,
    typer.Option(
        "--png",
        help="Also write each result as a PNG for slides, with a scale bar, the dose, and the "
        "gray range.",
        rich_help_panel=OUTPUT,
    ),
]
MovieFile = Annotated[
    str,
    typer.Option(
        "--movie-file",
        metavar="mp4|gif",
        help="Of a stack also write a movie of the noisy frames beside the denoised ones, with "
        "scale bar and dose.",
        rich_help_panel=OUTPUT,
    ),
]
Fill = Annotated[
    str,
    typer.Option(
        help="Value of pixels that were left out: model (the search fills them in), or nan.",
        rich_help_panel=OUTPUT,
    ),
]
Report = Annotated[
    bool,
    typer.Option(
        "--report",
        help="Write report.html, one file for the run, into the output folder.",
        rich_help_panel=OUTPUT,
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object per frame on standard output, and nothing else.",
        rich_help_panel=OUTPUT,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace existing results. Without this option they are kept.",
        rich_help_panel=OUTPUT,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        help="Skip files that have complete results with the same settings.",
        rich_help_panel=OUTPUT,
    ),
]
