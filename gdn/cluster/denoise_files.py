"""`gdn denoise --cluster`: each file is denoised by one worker. Names and contents of the results
are the same as without a cluster."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from distributed import Client, get_worker

from gdn.batch.inputs import Planned
from gdn.batch.printed import note
from gdn.batch.settings import BatchRun
from gdn.batch.single_file import attempt
from gdn.batch.tally import Outcome, Tally
from gdn.batch.terminal import UsageFault, progress_bar
from gdn.cluster.chunks import Lost, Unfit
from gdn.cluster.connect import ClusterError, connect
from gdn.cluster.shipment import LARGEST, PackedBank, PackedModel, Parcel, own_card
from gdn.cluster.work_sharing import WorkSharing, deaths_noted
from gdn.engines.base import EngineError
from gdn.errors import CandidateError
from gdn.models import Model, ModelError
from gdn.pipeline.denoiser import Denoiser
from gdn.pipeline.output_files import Outputs
from gdn.report.ledger import PICTURES, Entry, Ledger
from gdn.search.progress import Reached
from gdn.storage import CacheError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # a disk's fault, not a file's


@dataclass(frozen=True)
class FileTask:
    """One file. `pictures` is set for the first files, for a report."""

    number: int
    path: Path
    outputs: Outputs
    pictures: bool


@dataclass(frozen=True)
class Answer:
    """The outcome of a file, and what the run's ledger needs of its frames."""

    outcome: Outcome
    entries: list[Entry] = field(default_factory=list)


def denoise_task(name: str, task: FileTask) -> Answer:
    """On a worker: denoise one file with the run that was sent as the parcel `name`. Raises
    Unfit."""
    parcel = get_worker().plugins.get(name)
    if not isinstance(parcel, Parcel):
        raise Unfit(
            "the worker did not get the settings of the run, or the scheduler was "
            "restarted; --resume continues"
        )
    try:
        with parcel.at_work():
            return _denoised(parcel, task)
    except (OSError, ModelError, EngineError, CacheError, CandidateError, ImportError) as error:
        raise Unfit(f"{' '.join(str(error).split())[:200]}") from None


def _denoised(parcel: Parcel, task: FileTask) -> Answer:
    run, denoiser = _opened(parcel)
    ledger = Ledger(keep=True, pictures=task.pictures)
    # Progress within a file is not sent.
    outcome = attempt(task.path, task.outputs, replace(run, witness=ledger), denoiser, Reached())
    if outcome.errno in NO_ROOM:
        raise Unfit(str(outcome.failure), perhaps_item=True)
    return Answer(outcome, ledger.entries)


def _opened(parcel: Parcel) -> tuple[BatchRun, Denoiser]:
    """The run and its Denoiser on this worker, opened once."""
    if "denoiser" not in parcel.opened:
        run: BatchRun = parcel.content
        threads = parcel.worker.state.nthreads
        given = run.options
        for candidate in given.outside:
            candidate.check()
        options = replace(
            given,
            device=own_card(given.device, parcel.worker.name),
            threads=given.threads or threads,
        )
        denoiser = Denoiser.of(
            parcel.receive(), options, partial(parcel.bank, make=options.open_bank)
        )
        parcel.closing.append(denoiser.close)
        # What may be written was looked at before any worker began: what one that died has
        # left is not in the way of the next.
        parcel.opened["denoiser"] = replace(run, overwrite=True), denoiser
    opened: tuple[BatchRun, Denoiser] = parcel.opened["denoiser"]
    return opened


def process_on(
    address: str,
    files: list[Planned],
    run: BatchRun,
    ledger: Ledger,
    tally: Tally,
) -> None:
    """Denoise every file on the workers of `address`. Raises UsageFault if there are no workers, or
    if none can do any file."""
    begun, total = False, tally.files + len(files)
    try:
        with connect(address) as client, progress_bar("denoising", total) as update:
            name = f"gdn-{uuid.uuid4().hex}"
            client.register_plugin(_parcel(name, run), name)
            try:
                with deaths_noted(client):
                    for answer in _answers(client, name, files, run, ledger):
                        begun = True
                        tally.add(answer.outcome, run.as_json)
                        update(tally.files)
            finally:
                if client.status == "running":
                    with contextlib.suppress(OSError):  # the scheduler may end at this very moment
                        client.unregister_worker_plugin(name)
    except ClusterError as error:
        if not begun:
            raise UsageFault(str(error)) from None
        tally.failures.append(f"{error}; {tally.files} of {total} files are done")
    except KeyboardInterrupt:
        note(
            f"interrupted; {tally.files} of {total} files are done. The same command with "
            "--resume continues"
        )
        raise


def _answers(
    client: Client, name: str, files: list[Planned], run: BatchRun, ledger: Ledger
) -> Iterator[Answer]:
    """An answer for every file as it is done. The ledger gets the frames, in the files' order if it
    keeps them."""

    def tasks() -> Iterator[FileTask]:
        for number, (path, outputs, _) in enumerate(files):
            yield FileTask(number, path, outputs, ledger.keep and number < PICTURES)

    kept: dict[int, list[Entry]] = {}
    flow: WorkSharing[FileTask, Answer] = WorkSharing(
        client, partial(denoise_task, name), len(files)
    )
    for task, answer in flow.run(tasks()):
        if isinstance(answer, Lost):
            answer = Answer(Outcome(failure=f"{task.path}: {answer.reason}"))
        if ledger.keep:
            kept[task.number] = answer.entries
        else:
            for entry in answer.entries:
                ledger.add(entry)
        yield answer
    for number in sorted(kept):
        for entry in kept[number]:
            ledger.add(entry)


def _parcel(name: str, run: BatchRun) -> Parcel:
    """Models and banks of a run. Banks are made here by the chosen engine. If this machine has no
    such engine (a head node without the workers' card), or if they are large, each worker makes its
    own from the same latents."""
    banks: dict[str, PackedBank] = {}
    generators = [model for model in run.models if isinstance(model, Model)]
    small = run.options.bank_size * sum(2 * m.card.patch**2 for m in generators) <= LARGEST
    for model in generators if small else ():
        try:
            with run.options.open_engine(model) as engine:
                banks[model.hash] = PackedBank.of(run.options.open_bank(engine))
        except (EngineError, CacheError):
            break
    return Parcel(
        name,
        [PackedModel.of(m) for m in run.models],
        banks,
        replace(run, witness=None),
        os.getcwd(),  # noqa: PTH109
    )
