"""A run that was told to end remembers it. The interruption itself, a KeyboardInterrupt, is lost
where a library takes any exception for its own, as some do in the import of a missing part."""

from __future__ import annotations

import signal
import threading

_LOOKED_FOR = ("SIGTERM", "SIGHUP", "SIGINT")  # a batch system, a closed terminal, Ctrl-C
_ended, _ctrl_c = threading.Event(), threading.Event()


def remember_signals() -> None:
    """From now on a signal that ends the run raises KeyboardInterrupt, and is remembered. A signal
    that is ignored stays ignored: SIGHUP under nohup, Ctrl-C in a background job of a script."""
    _ended.clear()
    _ctrl_c.clear()
    for name in _LOOKED_FOR:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    """The end is polite: half-written files are removed."""
    (_ctrl_c if number == signal.SIGINT else _ended).set()
    raise KeyboardInterrupt


def interrupted() -> bool:
    """Whether the run was told to end."""
    return _ended.is_set() or _ctrl_c.is_set()


def check_interrupted() -> None:
    """Raises KeyboardInterrupt if the run was told to end."""
    if interrupted():
        raise KeyboardInterrupt


def forget_ctrl_c() -> None:
    """For work that Ctrl-C ends, and that is followed by more. Other signals end the run."""
    _ctrl_c.clear()
