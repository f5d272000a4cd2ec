"""The options of `gdn denoise`, each with its help, in the order of `--help`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gdn.cli.config import load, typed_or_loaded
from gdn.cli.help import INPUT, MACHINE, OUTPUT, SEARCH, TRUST
from gdn.engines.table import ENGINE_HELP

Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILES",
        callback=typed_or_loaded,
        help="Files of frames, or folders of such files. Wildcards are expanded; - reads "
        "names from standard input.",
        rich_help_panel=INPUT,
    ),
]
Sampling = Annotated[
    float | None,
    typer.Option(
        metavar="Å/px",
        help="Pixel size: needed where the file has none, used instead where it has one.",
        rich_help_panel=INPUT,
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Name of the image to read, where a file holds several; in a TIFF, the "
        "number of the series.",
        rich_help_panel=INPUT,
    ),
]
Channel = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Channel to denoise, from 0, where a file has several (TIFF, OME, Zarr, HDF5).",
        rich_help_panel=INPUT,
    ),
]
Summed = Annotated[
    bool,
    typer.Option(
        "--sum",
        help="Denoise the sum of a movie's frames instead of each frame.",
        rich_help_panel=INPUT,
    ),
]
Movie = Annotated[
    str,
    typer.Option(
        metavar="on|auto|off",
        help="The frames of a stack show one object, which may drift: align them, and denoise each "
        "with what the others say of it, as far as held-out electrons bear that out. auto: see "
        "whether it helps.",
        rich_help_panel=INPUT,
    ),
]
Recursive = Annotated[
    bool,
    typer.Option(
        "--recursive",
        help="Look for files in the subfolders of a folder too; results go into subfolders of the "
        "same names.",
        rich_help_panel=INPUT,
    ),
]
Null = Annotated[
    bool,
    typer.Option(
        "-0",
        "--null",
        help="Names on standard input end with a zero byte, as 'find -print0' writes them.",
        rich_help_panel=INPUT,
    ),
]
Partial = Annotated[
    bool,
    typer.Option(
        "--partial",
        help="Take the frames that are there of a file that is cut off; without it such a file "
        "fails.",
        rich_help_panel=INPUT,
    ),
]
Mask = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Image of the frames' shape, not zero where a pixel is no count (beam stop, "
        "dead part of the detector): left out of every frame.",
        rich_help_panel=INPUT,
    ),
]
Watch = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Denoise the files that are written into a folder, each once it is complete, "
        "until Ctrl-C.",
        rich_help_panel=INPUT,
    ),
]
Idle = Annotated[
    float | None,
    typer.Option(
        "--watch-idle",
        min=0,
        metavar="SECONDS",
        help="End --watch when no new file has come for so long.",
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
        help="Number type of the results: float32, float16, or uint16 or uint8 with a scale; "
        "refused where it is too coarse for the spread.",
        rich_help_panel=OUTPUT,
    ),
]
Fill = Annotated[
    str,
    typer.Option(
        help="What the results hold where pixels were left out: model (as the search fills "
        "them in), or nan.",
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
        help="Replace existing results; without it they are kept.",
        rich_help_panel=OUTPUT,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        help="Skip files that have complete results of the same settings.",
        rich_help_panel=OUTPUT,
    ),
]
Restarts = Annotated[
    int,
    typer.Option(
        min=1,
        max=1_000_000,
        help="Random starting points of the search, compared with every part of the frame.",
        rich_help_panel=SEARCH,
    ),
]
Model = Annotated[
    str,
    typer.Option(
        metavar="NAME|DIR",
        help="Shipped model or model folder, or several with commas between. auto: the "
        "shipped generator that explains the frame "
        "best, mixed with filters and the shipped restorer as far as they help on "
        "electrons held out.",
        rich_help_panel=SEARCH,
    ),
]
Noise = Annotated[
    str,
    typer.Option(
        help="auto, poisson, gaussian, gaussian:S or poisson-gaussian; S is the standard "
        "deviation in the file's units.",
        rich_help_panel=SEARCH,
    ),
]
Estimate = Annotated[
    str,
    typer.Option(
        help="mean: the average over what the search finds, the better image. map: the "
        "single best find, refined longer.",
        rich_help_panel=SEARCH,
    ),
]
Adapt = Annotated[
    bool,
    typer.Option(
        "--adapt",
        help="First learn from the frames themselves: a network tuned on them joins the "
        "candidates. Files of one pixel size and noise are one recording, each stack is one.",
        rich_help_panel=SEARCH,
    ),
]
AdaptSeconds = Annotated[
    float,
    typer.Option(
        min=1,
        help="Learn from a recording for so long.",
        rich_help_panel=SEARCH,
    ),
]
STEPS = (
    "Learn exactly so many steps instead: N of the tuned restorer, M of the network that begins "
    "from nothing (10 N where it is not given). What a run took is in its record."
)
AdaptSteps = Annotated[
    str | None,
    typer.Option(
        metavar="N[,M]",
        help=STEPS,
        rich_help_panel=SEARCH,
    ),
]
Adapted = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Use what 'gdn adapt' left, in place of --adapt; needs no torch.",
        rich_help_panel=SEARCH,
    ),
]
Candidate = Annotated[
    list[str] | None,
    typer.Option(
        "--candidate",
        metavar="NAME|COMMAND",
        help="Mix in a denoiser of your own as far as it helps on electrons held out: "
        "[NAME[@Å]=]COMMAND with {input} and {output}, which become .npy files, or the NAME of an "
        "installed one. May be given several times (docs/howto/own-denoiser.md).",
        rich_help_panel=SEARCH,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        min=0,
        help="Seed of the restarts.",
        rich_help_panel=SEARCH,
    ),
]
Residual = Annotated[
    bool,
    typer.Option(
        help="Add what the counts clearly show and the generator cannot draw.",
        rich_help_panel=SEARCH,
    ),
]
Laplace = Annotated[
    str,
    typer.Option(
        help="Add the Laplace variance to the spread before calibration: none, sampled or "
        "exact (slow).",
        rich_help_panel=SEARCH,
    ),
]
Method = Annotated[
    str,
    typer.Option(
        help="gdn, or original: the search of the study that gdn began with, to compare "
        "with (hours a frame).",
        rich_help_panel=SEARCH,
    ),
]
OriginalSteps = Annotated[
    str,
    typer.Option(
        help="For --method original: restarts, steps of each, steps of the best.",
        rich_help_panel=SEARCH,
    ),
]
Score = Annotated[
    bool,
    typer.Option(
        help="Score the result against a blur and a flat image on counts held out; takes "
        "half as long again.",
        rich_help_panel=TRUST,
    ),
]
Atoms = Annotated[
    bool,
    typer.Option(
        "--atoms",
        help="Find atom columns and test each: NAME_atoms.csv and a picture.",
        rich_help_panel=TRUST,
    ),
]
Fdr = Annotated[
    float,
    typer.Option(
        min=0.001,
        max=0.5,
        help="False-discovery rate of the columns called present.",
        rich_help_panel=TRUST,
    ),
]
Intervals = Annotated[
    str,
    typer.Option(
        metavar="LEVELS",
        help="Also write the half-widths of these intervals, in per cent: any of 50,68,90,99.",
        rich_help_panel=TRUST,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Exit code 1 if the generator cannot explain a frame (p < 0.01).",
        rich_help_panel=TRUST,
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        help=ENGINE_HELP,
        rich_help_panel=MACHINE,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda or tensorrt. One that you ask for is used, or it is an error.",
        rich_help_panel=MACHINE,
    ),
]
RequireGpu = Annotated[
    bool,
    typer.Option(
        "--require-gpu",
        help="Fail rather than run on the CPU.",
        rich_help_panel=MACHINE,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="CPU threads [default: all cores].",
        rich_help_panel=MACHINE,
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS|local:N",
        help="Share the files out among Dask workers (docs/scaling.md).",
        rich_help_panel=MACHINE,
    ),
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Do not keep the bank of restarts on disk, nor use one kept there.",
        rich_help_panel=MACHINE,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        is_eager=True,
        callback=load,
        help="Read settings from a TOML file, such as the gdn-run.toml that every run writes.",
        rich_help_panel=MACHINE,
    ),
]
