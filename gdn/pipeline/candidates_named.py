"""Candidates from outside gdn, from words on the command line or from functions in Python."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gdn.errors import CandidateError, InputError
from gdn.models import LEARNED, RESTORER
from gdn.pipeline.pixel_sizes import COARSEST, FINEST
from gdn.search.collaborative import CollaborativeCandidate
from gdn.search.command_candidate import INPUT, OUTPUT, Command
from gdn.search.lattice_candidate import LatticeCandidate
from gdn.search.mixture_weights import OWN
from gdn.search.outside_candidates import (
    GROUP,
    OutsideCandidate,
    PythonFunction,
    installed_functions,
)

Wanted = str | Callable[..., Any]

PARAMETER = "candidate"
MOST = 8  # every set of candidates is tried: each one more takes twice as long
TAKEN = (*OWN, CollaborativeCandidate().name, LatticeCandidate().name, RESTORER, *LEARNED)
NAME = r"[A-Za-z][\w.-]*"
PREFIX = re.compile(rf"({NAME})(?:@([^\s=]*))?=(?=\S)")  # of a command
INSTALLED = re.compile(rf"({NAME})(?:@(\S*))?")
FORMS = f"NAME of an installed one, or '[NAME[@Å]=]COMMAND {INPUT} {OUTPUT}'"


def candidates_named(wanted: Sequence[Wanted]) -> tuple[OutsideCandidate, ...]:
    """The candidates that were asked for: each is `[NAME[@Å]=]COMMAND`, `NAME[@Å]` of an installed
    function, or a Python function. Raises InputError."""
    candidates = tuple(_candidate(candidate) for candidate in wanted)
    names = [candidate.name for candidate in candidates]
    for name in names:
        if name in TAKEN:
            raise InputError(
                f"candidate {name}: gdn has a candidate of this name; choose another name "
                "(NAME=COMMAND)",
                PARAMETER,
            )
        if names.count(name) > 1:
            raise InputError(
                f"candidate {name}: two candidates have this name; give them different names "
                "(NAME=COMMAND)",
                PARAMETER,
            )
    if len(candidates) > MOST:
        raise InputError(
            f"candidate {names[MOST]}: too many; at most {MOST} can be given", PARAMETER
        )
    return candidates


def _candidate(wanted: Wanted) -> OutsideCandidate:
    if callable(wanted):
        return _function(wanted)
    if not isinstance(wanted, str):
        raise InputError(f"candidate {wanted!r}: wanted a function, or {FORMS}", PARAMETER)
    text = wanted.strip()
    installed = INSTALLED.fullmatch(text)
    shown = text if len(text) < 80 else f"{text[:76]} ..."
    try:
        return _installed(*installed.groups()) if installed else _command(text)
    except CandidateError as error:
        raise InputError(f"candidate {shown}: {error}", PARAMETER) from None


def _function(function: Callable[..., Any]) -> OutsideCandidate:
    """A Python function by its own name, or that in its attribute `name`."""
    name = getattr(function, "name", None) or getattr(function, "__name__", None)
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise InputError(
            f"candidate {function!r}: has no name that can be used; give it an attribute 'name'",
            PARAMETER,
        )
    return OutsideCandidate(name, PythonFunction(function), _wish(name, function))


def _installed(name: str, angstrom: str | None) -> OutsideCandidate:
    """What an installed package offers under a name. Raises CandidateError."""
    known = installed_functions()
    offered = known.get(name, [])
    if not offered:
        there = ", ".join(sorted(known)) or "none"
        raise CandidateError(
            f"no installed package offers it (entry points of {GROUP}: {there}); a "
            f"command must contain {INPUT} and {OUTPUT}"
        )
    if len(offered) > 1:
        packages = ", ".join(function.package for function in offered)
        raise CandidateError(f"several packages offer it: {packages}; uninstall all but one")
    asked = None if angstrom is None else _pixel(angstrom)
    return OutsideCandidate(name, offered[0], asked or _wish(name, offered[0].load()))


def _command(text: str) -> OutsideCandidate:
    """A command, by the name before it or that of its program. Raises CandidateError."""
    prefix = PREFIX.match(text)
    name, angstrom = prefix.groups() if prefix else (None, None)
    command = Command.read(text[prefix.end() :] if prefix else text)
    if name is None:
        name = Path(shlex.split(command.text)[0]).name
    return OutsideCandidate(name, command, None if angstrom is None else _pixel(angstrom))


def _wish(name: str, function: Callable[..., Any]) -> float | None:
    """The pixel size that a function wants."""
    wish = getattr(function, "sampling_angstrom", None)
    try:
        return None if wish is None else _pixel(wish)
    except CandidateError as error:
        raise InputError(f"candidate {name}: {error}", PARAMETER) from None


def _pixel(value: Any) -> float:
    """A pixel size. Raises CandidateError."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not FINEST <= number <= COARSEST:
        raise CandidateError(
            f"pixel size {value!r}: wanted Å per pixel, from {FINEST:g} to {COARSEST:g}, as in "
            "NAME@0.35"
        )
    return number
