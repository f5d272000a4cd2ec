"""The options of `gdn denoise` that say how it denoises and judges, and on which machine, each with
its help, in the order of `--help`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gdn.cli.config import load
from gdn.cli.help import MACHINE, SEARCH, TRUST
from gdn.engines.table import ENGINE_HELP

Restarts = Annotated[
    int,
    typer.Option(
        min=1,
        max=1_000_000,
        help="Number of random starting points of the search. They are a check on the encoder's "
        "guess; more than 256 change a result only where that guess fails.",
        rich_help_panel=SEARCH,
    ),
]
Model = Annotated[
    str,
    typer.Option(
        metavar="NAME|DIR",
        help="Name of a shipped model, or a model folder; or several, separated by "
        "commas. auto: the shipped generator that explains the frame best, mixed "
        "with filters and the shipped restorer. Held-out electrons decide how much "
        "of each is used.",
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
Straighten = Annotated[
    str,
    typer.Option(
        metavar="auto|off",
        help="auto: where the rows of a scan (STEM) are seen to be displaced or uneven in "
        "brightness, take that off before denoising, and say so. off: leave rows as recorded.",
        rich_help_panel=SEARCH,
    ),
]
Estimate = Annotated[
    str,
    typer.Option(
        help="mean: the average of the candidates, the better image. map: the single best "
        "candidate, refined longer.",
        rich_help_panel=SEARCH,
    ),
]
Adapt = Annotated[
    bool,
    typer.Option(
        "--adapt",
        help="First train a network on the noisy frames, and mix in its image as far as "
        "it helps. Files of the same pixel size and noise count as one recording; "
        "each stack is one.",
        rich_help_panel=SEARCH,
    ),
]
AdaptSeconds = Annotated[
    float,
    typer.Option(
        min=1,
        help="Training time for each recording, in seconds.",
        rich_help_panel=SEARCH,
    ),
]
STEPS = (
    "Train for exactly this number of steps instead: N for the restorer, M for the small network "
    "(default: 10 N). The record of a run says how many steps it took."
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
        help="Model folder that 'gdn adapt' wrote: use it instead of --adapt. Needs no torch.",
        rich_help_panel=SEARCH,
    ),
]
Candidate = Annotated[
    list[str] | None,
    typer.Option(
        "--candidate",
        metavar="NAME|COMMAND",
        help="Mix in the image of your own denoiser; held-out electrons decide how much. "
        "Give [NAME[@Å]=]COMMAND, in which {input} and {output} become names of .npy "
        "files, or the NAME of an installed denoiser. May be repeated "
        "(docs/howto/own-denoiser.md).",
        rich_help_panel=SEARCH,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        min=0,
        help="Seed of the random starting points.",
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
        help="Add the Laplace variance of each tile to the spread before calibration: "
        "none, sampled or exact (slow).",
        rich_help_panel=SEARCH,
    ),
]
Method = Annotated[
    str,
    typer.Option(
        help="gdn, or original: the search of the study from which gdn started, for "
        "comparison (hours per frame).",
        rich_help_panel=SEARCH,
    ),
]
OriginalSteps = Annotated[
    str,
    typer.Option(
        help="For --method original: number of restarts, steps of each restart, further "
        "steps of the best.",
        rich_help_panel=SEARCH,
    ),
]
Score = Annotated[
    bool,
    typer.Option(
        help="Compare the result with a blur and a flat image on held-out electrons. The "
        "run takes half as long again.",
        rich_help_panel=TRUST,
    ),
]
Atoms = Annotated[
    bool,
    typer.Option(
        "--atoms",
        help="Find atom columns and test each against the counts. Writes NAME_atoms.csv "
        "and a picture.",
        rich_help_panel=TRUST,
    ),
]
Fdr = Annotated[
    float,
    typer.Option(
        min=0.001,
        max=0.5,
        help="Largest average share of false columns among those called present.",
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
        help="auto, cpu, cuda or tensorrt. If the device that you name cannot be used, gdn stops.",
        rich_help_panel=MACHINE,
    ),
]
RequireGpu = Annotated[
    bool,
    typer.Option(
        "--require-gpu",
        help="Stop if there is no usable GPU; do not run on the CPU.",
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
        help="Distribute the files to Dask workers (docs/scaling.md).",
        rich_help_panel=MACHINE,
    ),
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Do not write the bank of restarts to the cache on disk, and do not read it "
        "from there.",
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
