"""What learning from the frame itself is worth: gdn alone and with `--adapt`, on the far set
(`far.py`, for reporting) or on validation frames (`near.py`, for choosing).

Each frame is a recording of its own: the restorer is tuned on it for so many seconds, and joins the
other candidates. PSNR in dB, and the share that the mixture gives it.

    python benchmarks/adapting.py --frames far --names mos2-vacancies,cdse --seconds 30,100 \\
        --rows adapting.jsonl
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import far
from learning_tables import adapting_table

from gdn import Denoiser
from gdn.adaptation.adapt import adapt, recordings_of
from gdn.adaptation.learn import LearningSettings
from gdn.evaluation.metrics import psnr
from gdn.evaluation.noise_suite import parse_suite
from gdn.frames.source import of_array
from gdn.models import LEARNED, RESTORER, RestorerModel, find_any
from gdn.pipeline.budget import Budget
from gdn.pipeline.open_models import models_named
from gdn.pipeline.options import Options


def result_of(models: Any, noisy: Any, sampling: float, options: Options) -> tuple[Any, Any]:
    """The image, and the shares of the candidates."""
    with Denoiser.of(models, options) as denoiser:
        result = denoiser.denoise(noisy, sampling)
    record = result.record
    assert isinstance(record, dict)
    return result.image, (record.get("mixture") or {}).get("shares", {})


def words(budget: Budget) -> str:
    """As the rows have it."""
    if budget.steps is None:
        return f"{budget.seconds:g} s"
    return f"{budget.steps},{budget.anew} steps"


def measure(path: Path, budgets: list[Budget], noise: str, options: Options) -> dict[str, Any]:
    """One frame: without learning, and after so many seconds or steps of it."""
    content = far.read(path)
    clean, sampling = content["image"], float(content["sampling_angstrom"])
    noisy = parse_suite(noise)[0].apply(clean, 0)
    base, models = find_any(RESTORER), models_named("auto")
    assert isinstance(base, RestorerModel)
    image, _ = result_of(models, noisy, sampling, options)
    row: dict[str, Any] = {"name": path.stem, "noise": noise, "group": content["record"]["group"]}
    row["alone"] = round(float(psnr(clean, image)), 3)
    source = of_array(path, noisy, "YX", [(sampling, "Å")] * 2, "array")
    for budget in budgets:
        settings = LearningSettings(
            seconds=budget.seconds,
            steps=budget.steps,
            anew_steps=budget.anew,
            threads=options.threads,
        )
        begun = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            recording = recordings_of([(source, sampling)], lambda _: source, None)[0]
            learned = adapt(recording, base, None, settings, Path(folder) / "adapted")
            spent = time.process_time() - begun
            image, shares = result_of([*models, *learned], noisy, sampling, options)
        row[words(budget)] = {
            "db": round(float(psnr(clean, image)), 3),
            "share": sum(shares.get(name, 0.0) for name in LEARNED),
            "shares": {name: shares.get(name, 0.0) for name in LEARNED},
            "cpu_seconds": round(spent, 1),
            "learned": {tuned.card.name: tuned.card.training["learned"] for tuned in learned},
        }
        print(row["name"], row["alone"], words(budget), row[words(budget)]["db"], flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=Path, required=True, help="folder of far.py or near.py")
    parser.add_argument("--names", default="", help="of frames, with commas between; all")
    parser.add_argument("--seconds", default="60", help="of learning, with commas between")
    parser.add_argument(
        "--steps", help="instead: of the tuned restorer, and of the network from nothing: 75,300"
    )
    parser.add_argument("--noise", default="poisson:1")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rows", type=Path, help="JSON lines; rows of the same names are replaced")
    given = parser.parse_args()
    paths = sorted(given.frames.glob("*.npz"))
    chosen = [name for name in given.names.split(",") if name]
    if chosen:
        paths = [path for path in paths if path.stem in chosen]
    options = Options(threads=given.threads, score=False)
    if given.steps:
        tuned, anew = map(int, given.steps.split(","))
        budgets = [Budget(steps=tuned, anew=anew)]
    else:
        budgets = [Budget(float(value)) for value in given.seconds.split(",")]
    rows: list[dict[str, Any]] = []
    if given.rows and given.rows.exists():
        rows = [json.loads(line) for line in given.rows.read_text().splitlines()]
    for path in paths:
        row = measure(path, budgets, given.noise, options)
        same = [r for r in rows if (r["name"], r["noise"]) != (row["name"], row["noise"])]
        rows = [*same, row]
        if given.rows:
            given.rows.write_text("".join(json.dumps(r) + "\n" for r in rows))
    print(adapting_table(rows))


if __name__ == "__main__":
    main()
