"""The report of a run: pictures, numbers and warnings on one page, in one file that needs no
other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from gdn.pipeline.column_picture import COLOURS
from gdn.pipeline.options import FEWEST
from gdn.report.ledger import Entry, Ledger, decibels, sentence
from gdn.report.pictures import Picture
from gdn.report.stacks import stack_section, stacks_of
from gdn.report.style import SCRIPT, STYLE, policy
from gdn.report.words import NOTHING, glossary, unexplained
from gdn.storage import write_text
from gdn.trust.fit import REFUSED

INPUTS = '<meta name="gdn-inputs" content="{}">'


@dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """What the page says about the whole run.

    - `title`, and `facts`: lines of (name, value), as text.
    - `commands`: what repeats the run, a command line each.
    - `inputs`: marks of the run's inputs, by which the next run recognises the page as its own.
    - `models`: the model of a frame, by the name that the page gives the frame.
    - `movies`: what the record of a stack says of it as a movie, by the file's name.
    - `learned`: whether networks that learned from a recording were among the candidates.
    """

    title: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    models: Mapping[str, str] = field(default_factory=dict)
    movies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    learned: bool = False


def write_report(path: Path, run: ReportedRun, ledger: Ledger) -> None:
    """Write the page; its name appears only when it is complete."""
    write_text(path, page(run, ledger))


def page(run: ReportedRun, ledger: Ledger) -> str:
    """The page's HTML."""
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in run.facts)
    pooled = "".join(f"<li>{escape(line)}</li>" for line in ledger.words())
    groups = stacks_of(ledger.entries)
    stacks = "".join(stack_section(group, run.movies.get(group[0].file)) for group in groups)
    later = {entry.name for group in groups for entry in group[1:]}
    alone = {g[0].file for g in groups if len(g) >= FEWEST and g[0].file not in run.movies}
    frames = "".join(
        _section(
            number,
            e,
            run.models.get(e.name, ""),
            folded=e.name in later,
            advice=unexplained(run.learned, movie=e.file in alone),
        )
        for number, e in enumerate(ledger.entries)
        if e.pictures
    )
    hidden = sum(not e.pictures for e in ledger.entries)
    note = f"<p>{hidden} further frames are only in the table.</p>" if hidden else ""
    inputs = INPUTS.format(" ".join(run.inputs))
    commands = "".join(f"<pre>{escape(command)}</pre>" for command in run.commands)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">{policy()}'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(run.title)}</title><style>{STYLE}</style>"
        f"{inputs}</head><body><h1>{escape(run.title)}</h1><dl>{facts}</dl>{glossary()}{_key()}"
        f"<ul>{pooled}</ul>{_table(ledger.entries, run.models)}{note}{stacks}{frames}"
        f"<section><h2>How to repeat it</h2>{commands}<p>In the folder where the run was started. "
        "--overwrite replaces its results.</p></section>"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _key() -> str:
    names = "".join(
        f'<span><i style="border-color:rgb{colour}"></i>{escape(name)}</span>'
        for name, colour in COLOURS.items()
    )
    return (
        f'<p class="key">Columns: {names} (missing: the counts show a column where the '
        "image has none)</p>"
    )


def _table(entries: list[Entry], models: Mapping[str, str]) -> str:
    head = (
        "frame",
        "pixel, Å",
        "dose, e/px",
        "dose, e/Å²",
        "model",
        "p",
        "error expected, % of the vacuum level",
        "against best blur",
        "against flat",
        "columns: present / cannot tell / absent",
        "warnings",
    )
    rows = "".join(_row(number, e, models.get(e.name, "–")) for number, e in enumerate(entries))
    heads = "".join(f"<th>{h}</th>" for h in head)
    return f'<div class="scroll"><table><tr>{heads}</tr>{rows}</table></div>'


def _row(number: int, entry: Entry, model: str) -> str:
    p, atoms = entry.row["explained_p"], entry.row["atoms"]
    sampling, dose = entry.row["sampling_angstrom"], entry.row["dose"]
    by_name = {c.against: c for c in entry.scores}
    scores = [
        (decibels(c) if c.unresolved else f"{decibels(c)}, {c.verdict}")
        if (c := by_name.get(name))
        else "–"
        for name in ("best blur", "constant")
    ]
    columns = (
        "–"
        if atoms is None
        else " / ".join(str(v) for v in atoms.values()) + (f" ({entry.missing} missing)")
    )
    name = escape(entry.name)
    cells = [
        f'<a href="#f{number}">{name}</a>' if entry.pictures else name,
        f"{sampling:.4g}",
        f"{dose:.3g}",
        f"{dose / sampling**2:.3g}",
        escape(model),
        "–" if p is None else f"{p:.3g}",
        f"{100 * entry.expected_rms:.2g} %" if math.isfinite(entry.expected_rms) else "–",
        *scores,
        columns,
        str(len(entry.row["warnings"])),
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _section(number: int, entry: Entry, model: str, folded: bool, advice: str) -> str:
    warnings = "".join(f'<p class="warn">{escape(w)}</p>' for w in entry.row["warnings"])
    p = entry.row["explained_p"]
    if p is not None and p < REFUSED:
        warnings += f'<p class="warn">{escape(advice)}</p>'
    if entry.scores and all(score.unresolved for score in entry.scores):
        warnings += f'<p class="warn">{escape(NOTHING)}</p>'
    if entry.standing:
        warnings += f"<p>What it may be used for: {escape(entry.standing)}.</p>"
    scores = "".join(f"<li>{escape(sentence(c))}</li>" for c in entry.scores)
    calibrated = (
        "The spread is calibrated." if entry.calibrated else "The spread is NOT calibrated."
    )
    figures = "".join(_figure(picture) for picture in entry.pictures)
    compare = (
        '<div class="compare" hidden><div class="stage"></div><label>before<input type="range" '
        'value="50" aria-label="before or after">after</label></div>'
    )
    top = f'<div class="top">{compare}{entry.profile}</div>'
    charts = "".join(entry.charts)
    body = (
        f'{warnings}{_size_words(entry, model)}{top}<div class="p">{figures}</div>'
        f'{_candidates(entry)}<div class="p">{charts}</div><p>Noise: '
        f"{escape(entry.noise)}. {calibrated} "
        f"Objective of the search (smaller fits better): {_nats(entry.row['objective'])}.</p>"
        f"<ul>{scores}</ul>"
    )
    name = escape(entry.name)
    if folded:  # of a stack the first frame is open
        body = f"<details><summary>{name}</summary>{body}</details>"
    else:
        body = f"<h2>{name}</h2>{body}"
    return f'<section id="f{number}">{body}</section>'


def _size_words(entry: Entry, model: str) -> str:
    sampling, dose = entry.row["sampling_angstrom"], entry.row["dose"]
    rows, columns = entry.row["frame_shape"]
    field_nm = " x ".join(f"{n * sampling / 10:.3g}" for n in (columns, rows))
    its = f"; model {escape(model)}" if model else ""
    return (
        f"<p>{columns} x {rows} px of {sampling:.4g} Å ({field_nm} nm); dose {dose:.3g} e/px, "
        f"{dose / sampling**2:.3g} e/Å²{its}. Click a picture to enlarge it.</p>"
    )


def _figure(picture: Picture) -> str:
    caption = escape(picture.caption)
    bar = "" if picture.scale is None else picture.scale.bar()
    return (
        f'<figure><label class="z"><input type="checkbox" aria-label="enlarge {caption}">'
        f'<img src="{picture.uri}" alt="{caption}"></label>'
        f"<figcaption>{caption}{bar}</figcaption></figure>"
    )


def _candidates(entry: Entry) -> str:
    """The legend of the picture of shares."""
    if not entry.candidates:
        return ""
    names = "".join(
        f'<span><i style="background:rgb{line.colour};border-color:rgb{line.colour}"></i>'
        f"{escape(line.name)} {line.share:.0%}</span>"
        for line in entry.candidates
    )
    return (
        f'<p class="key">Contrast of the image, by candidate: {names} (gray: places with hardly '
        "any contrast). Electrons held out of this frame chose the shares, for each band of "
        "detail. The picture says which candidate drew a place, not whether it is right.</p>"
    )


def _nats(objective: float) -> str:
    """An objective in words. A result of a restorer alone has none."""
    return f"{objective:.1f} nats per tile" if math.isfinite(objective) else "none"
