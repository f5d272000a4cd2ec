"""The report of a run: pictures, numbers and warnings on one page, in one file that needs no
other."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from gdn.pipeline.column_picture import COLOURS
from gdn.report.ledger import Entry, Ledger, decibels, sentence
from gdn.storage import write_text

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1240px;padding:0 1em}
body{color:#222;background:#fff}table{border-collapse:collapse;margin:1em 0}
td,th{border:1px solid #ccc;padding:.25em .6em;text-align:right;font-size:14px}
td:first-child,th:first-child,td.w{text-align:left}th{background:#f3f3f3}
.p{display:flex;flex-wrap:wrap;gap:10px}figure{margin:0;max-width:290px}img{width:290px;display:block}
figcaption,svg text{font-size:12px;fill:#333}svg .t{font-weight:600}
.warn{background:#fff3cd;border-left:4px solid #e69f00;padding:.4em .8em;margin:.4em 0}
.key span{margin-right:1em}
.key i{display:inline-block;width:.8em;height:.8em;margin-right:.3em}
.key i{border-radius:50%;border:2px solid}
section{border-top:1px solid #ddd;margin-top:1.5em}dt{font-weight:600}dd{margin:0 0 .3em 0}
"""
GUIDE = """\
<p>Spread: half-width of the interval that holds the truth in 68 of 100 pixels, as measured on
simulated frames of the kind the model was trained for. p: the share of such frames that fit as
badly as this frame or worse; if it is below 0.01, do not rely on this page. Held out: gdn
denoised three quarters of the electrons, and the result was compared on the other quarter with a
Gaussian blur of the best width and with a flat image; ± is one standard error. Columns: each is
tested against the counts and called present, cannot tell or absent, at the stated false-discovery
rate. None of this replaces a second recording of the same object.</p>"""


INPUTS = '<meta name="gdn-inputs" content="{}">'


@dataclass(frozen=True)
class ReportedRun:
    """What the page says about the whole run: lines of (name, value), all as text; and marks of its
    inputs, by which the next run recognises the page as its own."""

    title: str
    facts: list[tuple[str, str]]
    inputs: list[str] = field(default_factory=list)


def write_report(path: Path, run: ReportedRun, ledger: Ledger) -> None:
    """Write the page; its name appears only when it is complete."""
    write_text(path, page(run, ledger))


def page(run: ReportedRun, ledger: Ledger) -> str:
    """The page's HTML."""
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in run.facts)
    pooled = "".join(f"<li>{escape(line)}</li>" for line in ledger.words())
    frames = "".join(_section(number, e) for number, e in enumerate(ledger.entries) if e.pictures)
    hidden = sum(not e.pictures for e in ledger.entries)
    note = f"<p>{hidden} further frames are only in the table.</p>" if hidden else ""
    inputs = INPUTS.format(" ".join(run.inputs))
    return (
        '<!DOCTYPE html><html lang="en"><head><meta '
        f'charset="utf-8"><title>{escape(run.title)}</title><style>{STYLE}</style>'
        f"{inputs}</head><body><h1>{escape(run.title)}</h1>{GUIDE}{_key()}<ul>{pooled}</ul>"
        f"{_table(ledger.entries)}{note}{frames}"
        f"<section><h2>How to repeat it</h2><dl>{facts}</dl></section></body></html>\n"
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


def _table(entries: list[Entry]) -> str:
    head = (
        "frame",
        "dose, e/px",
        "p",
        "error expected",
        "against best blur",
        "against flat",
        "columns: present / cannot tell / absent",
        "warnings",
    )
    rows = "".join(_row(number, e) for number, e in enumerate(entries))
    return f"<table><tr>{''.join(f'<th>{h}</th>' for h in head)}</tr>{rows}</table>"


def _row(number: int, entry: Entry) -> str:
    p, atoms = entry.row["explained_p"], entry.row["atoms"]
    by_name = {c.against: c for c in entry.scores}
    scores = [
        f"{decibels(c)}, {c.verdict}" if (c := by_name.get(name)) else "–"
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
        f"{entry.row['dose']:.3g}",
        "–" if p is None else f"{p:.3g}",
        f"{100 * entry.expected_rms:.2g} %",
        *scores,
        columns,
        str(len(entry.row["warnings"])),
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _section(number: int, entry: Entry) -> str:
    warnings = "".join(f'<p class="warn">{escape(w)}</p>' for w in entry.row["warnings"])
    scores = "".join(f"<li>{escape(sentence(c))}; verdict: {c.verdict}</li>" for c in entry.scores)
    calibrated = (
        "The spread is calibrated." if entry.calibrated else "The spread is NOT calibrated."
    )
    figures = "".join(
        f'<figure><img src="{uri}" '
        f'alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
        for caption, uri in entry.pictures
    )
    return (
        f'<section id="f{number}"><h2>{escape(entry.name)}</h2>{warnings}<div '
        f'class="p">{figures}</div>{_candidates(entry)}'
        f'<div class="p">{"".join(entry.charts)}</div><p>Noise: '
        f"{escape(entry.noise)}. {calibrated} "
        f"Objective of the search (smaller fits better): {_nats(entry.row['objective'])}.</p>"
        f"<ul>{scores}</ul></section>"
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
