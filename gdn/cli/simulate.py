"""`gdn simulate`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gdn.batch.terminal import UsageFault, expand, progress_bar, usage_fault
from gdn.cli.common import need, writable_folder
from gdn.cli.help import Grouped
from gdn.cli.import_images import check_alone, check_structures, import_files

if TYPE_CHECKING:
    from gdn.simulation.own_crystals import OwnCrystals
    from gdn.simulation.simulate import FrameChoice
    from gdn.simulation.structures import Split


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate", cls=Grouped)(simulate)


def simulate(
    out: Path = typer.Argument(
        ..., metavar="OUT", help="Folder of the data set. An unfinished data set is continued."
    ),
    count: int | None = typer.Option(
        None,
        min=1,
        help="Number of structures (one exit wave each, about 0.35 MB). Needed without --images.",
    ),
    seed: int = typer.Option(..., min=0, help="Seed of the whole data set."),
    frames: int = typer.Option(
        0, min=0, help="Also make this number of frames, 850x850 px at 0.0612 Å/px, as TIFF."
    ),
    frames_of: str = typer.Option(
        "all",
        "--frames-of",
        metavar="SPLIT",
        help="Structures that --frames show: all, train, validation or test.",
    ),
    recipe: str | None = typer.Option(
        None,
        metavar="NAME|FILE",
        help="Image --frames under the conditions of this recipe ([imaging]), in the folder "
        "frames-NAME.",
    ),
    movies: int = typer.Option(
        0, min=0, help="Also make this number of movies with drift and events (about 70 MB each)."
    ),
    movie_frames: int = typer.Option(
        0, min=0, help="Number of frames of each movie. 0: 20 to 40, by the seed."
    ),
    movie_side: int = typer.Option(
        850, min=64, help="Width and height of a movie's frames, in pixels of 0.0612 Å."
    ),
    energy_kv: float = typer.Option(
        300.0, "--energy-kv", min=1, max=3000, help="Accelerating voltage of the microscope, kV."
    ),
    scenes: str = typer.Option(
        "pt-ceo2",
        help="Kind of structures: pt-ceo2, or pt-ceo2-wide (thicker, more tilted, some "
        "with an amorphous film).",
    ),
    structures: list[str] | None = typer.Option(
        None,
        "--structures",
        metavar="FILES",
        help="Make scenes of your own crystals instead: CIF files, or XYZ files (with a lattice a "
        "crystal, without one a particle that is placed as it is). May be repeated; wildcards in "
        "quotes are expanded. Needs gdn[structures].",
    ),
    zone: str = typer.Option(
        "001",
        metavar="UVW",
        help="With --structures: zone axis along the beam, or several, such as 110,1-10.",
    ),
    thickness: str = typer.Option(
        "30-60", metavar="Å", help="With --structures: thickness along the beam, from and to."
    ),
    images: list[str] | None = typer.Option(
        None,
        "--images",
        metavar="FILES",
        help="Make a data set of clean images of any simulator instead (TIFF, .npz, and all that "
        "'gdn denoise' reads). May be repeated; wildcards in quotes are expanded.",
    ),
    sampling: float | None = typer.Option(
        None,
        metavar="Å/px",
        help="With --images: pixel size in Å. Needed if the files do not say it.",
    ),
    vacuum: str = typer.Option(
        "1",
        metavar="LEVEL|mean",
        help="With --images: gray value of the vacuum in the files. mean divides each image by its "
        "mean, as for dark field.",
    ),
    independent: bool = typer.Option(
        False,
        "--independent",
        help="With --images: the frames of one file show different structures. Without it a file "
        "is one structure, and all its frames are in one split.",
    ),
    multislice: str = typer.Option(
        "torch",
        help="Library that computes the waves: torch, or abtem (needs the extra 'abtem', GPL).",
    ),
    device: str = typer.Option(
        "cpu", help="Device on which torch computes the waves: cpu, cuda or cuda:N."
    ),
    workers: int = typer.Option(1, min=1, max=1024, help="Processes of one thread each."),
    cluster: str | None = typer.Option(
        None,
        metavar="ADDRESS|local:N",
        help="Distribute the structures to Dask workers (docs/scaling.md).",
    ),
) -> int:
    """Make a data set to train on: random structures of Pt on CeO2 or of your own crystals, their
    multislice exit waves, frames and movies; or clean images of any simulator.

    Training makes its images from the exit waves, so --frames is needed only to look at frames and
    for 'gdn evaluate'. One structure in ten belongs to the test split and one to validation, by its
    seed. dataset.json records seed, voltage, scenes and multislice; 'gdn train' refuses a data set
    if its voltage or scenes are not those of the recipe.

    A movie is a stack of clean frames, stacks of counts at 0.045, 0.45 and 4.5 electrons a pixel,
    and a record of its drift and of what happens in it (docs/simulation.md). Existing movies are
    kept.

    \b
    Examples:
      gdn simulate data --count 1000 --seed 1 --workers 2
      gdn simulate data --count 1000 --seed 1 --frames 40      (adds frames to it)
      gdn simulate data --count 1000 --seed 1 --frames 20 --frames-of test
      gdn simulate data --count 1000 --seed 1 --movies 20      (adds movies to it)
      gdn simulate data200 --count 1000 --seed 1 --energy-kv 200
      gdn simulate wide --count 3000 --seed 2 --scenes pt-ceo2-wide
      gdn simulate mine --count 1200 --seed 1 --structures SrTiO3.cif --zone 110 --thickness 30-60
      gdn simulate theirs --images 'clean/*.tif' --sampling 0.08 --seed 1
      gdn simulate data --count 20000 --seed 1 --device cuda
      gdn simulate data --count 20000 --seed 1 --cluster tls://head:8786
    """
    if images:
        check_alone(
            {
                "count": count,
                "frames": frames,
                "movies": movies,
                "structures": structures,
                "cluster": cluster,
            }
        )
        return import_files(out, images, seed, vacuum, sampling, energy_kv, independent)
    count = check_structures(count, sampling, vacuum, independent)
    if multislice not in ("torch", "abtem"):
        raise UsageFault(f"--multislice {multislice}: torch or abtem")
    if multislice == "abtem":
        need("abtem", "abtem")
        if device != "cpu":
            raise UsageFault(
                f"--device {device}: gdn runs abTEM on the CPU only; leave out --device or "
                "--multislice"
            )
    need("torch", "train")
    from gdn.errors import InputError
    from gdn.simulation.movies import MovieSettings, room_of
    from gdn.simulation.scenes import scene_maker

    try:
        scene_maker(scenes)
        crystals = _own_crystals(structures, zone, thickness, movies) if structures else None
    except InputError as error:
        raise usage_fault(error) from None
    imaged = _frame_choice(recipe, frames_of)
    _check_device(device)
    if movie_frames == 1:
        raise UsageFault("--movie-frames 1: a movie needs at least 2 frames (0 makes 20 to 40)")
    try:
        room_of(movie_side)
    except ValueError as error:
        raise UsageFault(f"--movie-side {movie_side}: {error}") from None
    from gdn.simulation.exit_waves import ABTEM, TORCH
    from gdn.simulation.simulate import SimulationPlan
    from gdn.simulation.simulate import simulate as run

    writable_folder(out)
    if cluster is not None:
        need("distributed", "cluster")
    with ExitStack() as stack:
        runner = None
        if cluster is not None:
            from gdn.cluster.simulate_waves import runner_on

            runner = stack.enter_context(runner_on(cluster))
        update = stack.enter_context(progress_bar("simulating", count + frames + movies))
        way = ABTEM if multislice == "abtem" else TORCH
        plan = SimulationPlan(
            out=out.resolve(),
            count=count,
            seed=seed,
            frames=frames,
            workers=workers,
            energy_kv=energy_kv,
            multislice=way,
            device=device,
            imaged=imaged,
            scenes=scenes if crystals is None else crystals,
            movies=MovieSettings(count=movies, frames=movie_frames, side=movie_side),
        )
        paths = run(plan, update, runner)
    made = f", {movies} movies" if movies else ""
    print(f"{out}: {len(paths)} exit waves, {frames} frames{made}")
    return 0


def _own_crystals(files: list[str], zone: str, thickness: str, movies: int) -> OwnCrystals:
    """The scenes of the user's own structures. Raises UsageFault, InputError."""
    need("ase", "structures")
    from gdn.simulation.own_crystals import OwnCrystals, parse_thickness, parse_zones, read_models

    if movies:
        raise UsageFault("--movies cannot be used with --structures: its events are those of Pt")
    return OwnCrystals(
        models=read_models(expand(files)),
        zones=parse_zones(zone),
        thickness_angstrom=parse_thickness(thickness),
    )


def _frame_choice(recipe: str | None, split: str) -> FrameChoice:
    """How and of what --frames are made. Raises UsageFault."""
    from gdn.recipes import load_recipe
    from gdn.simulation.simulate import FrameChoice

    chosen: dict[str, Split | None] = {
        "all": None,
        "train": "train",
        "validation": "validation",
        "test": "test",
    }
    if split not in chosen:
        raise UsageFault(f"--frames-of {split}: {', '.join(chosen)}")
    try:
        known = None if recipe is None else load_recipe(recipe)
    except ValueError as error:
        raise UsageFault(f"--recipe {error}") from None
    if known is None:
        return FrameChoice(split=chosen[split])
    return FrameChoice(known.imaging, known.name, chosen[split])


def _check_device(device: str) -> None:
    """Raises UsageFault for a device that torch has not got here."""
    import torch

    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or not (number or "0").isdecimal() or (kind == "cpu" and number):
        raise UsageFault(f"--device {device}: cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UsageFault(
            f"--device {device}: torch sees {torch.cuda.device_count()} CUDA cards here"
        )
