"""What `gdn denoise` says at the end of a run: what became of the files, what its restarts did, and
what might help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gdn.batch.printed import note
from gdn.batch.tally import Tally

if TYPE_CHECKING:  # the heavy imports wait until the arguments are known to be good
    from gdn.pipeline.options import Options
    from gdn.report.ledger import Ledger


def say_end(tally: Tally, ledger: Ledger, options: Options, learned: bool) -> None:
    """Say on stderr what became of the files of a run, what its restarts did, and what to try next.
    `learned`: see `hints`."""
    for line in tally.failures:
        note(line)
    if tally.failed and tally.files > 1:
        note(f"{tally.failed} of {tally.files} files failed; the others are done")
    if tally.skipped:
        note(f"{tally.skipped} of {tally.files} files were already complete")
    left_out = sum(row["noise"] is None for row in tally.rows)
    if left_out:
        note(
            f"{left_out} of {len(tally.rows)} frames could not be denoised; they are flat in the "
            "results"
        )
    if words := restarts_said(tally.rows):
        note(words)
    for words in (*ledger.score_words(), *hints(tally.rows, ledger, options, learned)):
        note(words)


def hints(rows: list[dict[str, Any]], ledger: Ledger, options: Options, learned: bool) -> list[str]:
    """What to try next, from the `rows` of a run's frames: where frames may be a movie, where no
    generator explains them; and what the results may be used for. `learned`: networks that learned
    from a recording were among the candidates."""
    from gdn.pipeline.options import FEWEST
    from gdn.report.words import unexplained
    from gdn.trust.standing import FILTERED, UNSUPPORTED

    inputs = [row["input"] for row in rows]
    stacks = [name for name in dict.fromkeys(inputs) if inputs.count(name) >= FEWEST]
    searched = options.method == "gdn"
    movie = bool(stacks) and searched and options.movie == "off"
    said = []
    if movie:
        said.append(
            f"{stacks[0]} has {inputs.count(stacks[0])} frames. If they show one object, try "
            "--movie on: it uses the neighbouring frames to denoise each one, and takes two to "
            "three times as long"
        )
    if ledger.unlike and searched:
        said.append(
            f"the generator cannot explain {ledger.unlike} of {ledger.frames} frames. "
            + unexplained(learned, movie)
        )
    standings = (
        (s, sum(row["standing"] == s.name for row in rows)) for s in (FILTERED, UNSUPPORTED)
    )
    said += [f"{count} of {len(rows)} results: {s.words}" for s, count in standings if count]
    return said


def restarts_said(rows: list[dict[str, Any]]) -> str:
    """What the restarts of a run did, in a sentence, from the rows of its frames; nothing where no
    generator was searched."""
    searched = [row for row in rows if row.get("tiles")]
    if not searched:
        return ""
    tiles, taken = (sum(row[name] for row in searched) for name in ("tiles", "tiles_from_bank"))
    restarts = max(row["restarts"] for row in searched)
    if not taken:
        return f"{restarts:,} restarts: the encoder's guess was better in all {tiles:,} tiles"
    head = f"{restarts:,} restarts: {taken:,} of {tiles:,} tiles took one"
    return head if taken == tiles else f"{head}; the encoder's guess was better elsewhere"
