"""The command line: one file per command. It parses, calls and prints; no science."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import Any

import typer

from gdn import __version__
from gdn.batch.printed import note, plain, printing_safely
from gdn.batch.terminal import UsageFault, in_options
from gdn.cli import (
    adapting,
    align,
    demo,
    denoise,
    doctor,
    engines,
    evaluate,
    export,
    simulate,
    train,
)
from gdn.environment import start_safely
from gdn.errors import DEBUG, debugging
from gdn.interruption import interrupted, remember_signals

app = typer.Typer(
    name="gdn",
    help="Denoise electron micrographs by searching the latent space of a generator.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    denoise,
    adapting,
    align,
    simulate,
    train,
    export,
    evaluate,
    demo,
    doctor,
    engines,
):
    _command.register(app)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", is_eager=True
    ),
    debug: bool = typer.Option(
        False, "--debug", help="Show the traceback of every error, as GDN_DEBUG=1 does."
    ),
) -> None:
    if version:
        print(f"gdn {__version__}")
        raise typer.Exit
    if debug:
        os.environ[DEBUG] = "1"  # for the processes that a command starts, too


def main(arguments: list[str] | None = None) -> None:
    """Run the program and exit: 0 done, 1 some work failed, 2 bad usage, 130 interrupted. No
    tracebacks."""
    with printing_safely():
        code = _run(arguments)
    # Python remembers an interruption that left a string given to exec, as data classes are made,
    # though it was caught, and `python -m gdn` would end by SIGINT: it forgets it with the next.
    exec("")
    sys.exit(code)


def _run(arguments: list[str] | None) -> int:
    """The exit code of the program."""
    command = typer.main.get_command(app)
    _speak()
    start_safely()
    remember_signals()
    try:
        result: Any = command.main(args=arguments, prog_name="gdn", standalone_mode=False)
        code = result if isinstance(result, int) else 0
        if code and interrupted():  # nobody heard of it, but something failed by it
            code = _interrupted()
    except KeyboardInterrupt:
        code = _interrupted()
    except BrokenPipeError:
        plain(sys.stderr).close()
        code = 1
    except Exception as error:
        # Within the import of a library an interruption may come out as any other fault.
        code = _interrupted() if interrupted() else _explain(error)
    return code


def _interrupted() -> int:
    note("interrupted; what is finished is complete")
    return 130


class _Notes(logging.Handler):
    """Says what the library logs."""

    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


def _speak() -> None:
    """The library's warnings, each as a message on stderr."""
    logger = logging.getLogger("gdn")
    logger.handlers, logger.propagate = [_Notes()], False


def _explain(error: Exception) -> int:
    """Say what went wrong; returns the exit code."""
    show = getattr(error, "format_message", None)
    if type(error).__name__ == "NoArgsIsHelpError" and show is not None:
        print(show())
        return 2
    if show is not None and hasattr(error, "exit_code"):
        context = getattr(error, "ctx", None)
        speaker = "gdn" if context is None else context.command_path
        note(f"{' '.join(str(show()).split())} (see --help)", speaker)
        return int(error.exit_code)
    if type(error).__name__ == "Abort":
        note("interrupted")
        return 130
    if debugging():
        traceback.print_exception(error)
    text = " ".join(in_options(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.filename and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    expected = isinstance(
        error, ValueError | OSError | RuntimeError | FloatingPointError | MemoryError | ImportError
    )
    if not expected:
        text = f"internal error, please report it: {type(error).__name__}: {text}"
    note(text)
    return 2 if isinstance(error, UsageFault) else 1
