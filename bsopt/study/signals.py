"""Ctrl-C, SIGTERM, a closed terminal and SIGQUIT: the first asks for an orderly end, the second wants it at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

__all__ = ["first_signal_calls"]

_ASKED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
_MAY_BE_IGNORED = ("SIGHUP", "SIGQUIT")
"""A process started by `nohup`, or in the background of a script, is to live on through these."""


@contextlib.contextmanager
def first_signal_calls(stop: Callable[[int], object]) -> Iterator[None]:
    """Have the first of these signals call `stop` with its number; a second one raises KeyboardInterrupt with its.

    SIGHUP never is the second: a terminal that is closed tells it once, and output that finds it gone tells it again.
    Signals reach the main thread alone: in another one this changes nothing. SIGHUP and SIGQUIT stay ignored where
    they were.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_told = False

    def handle(number: int, frame: object) -> None:
        nonlocal is_told
        if is_told:
            if number == getattr(signal, "SIGHUP", None):
                return
            raise KeyboardInterrupt(number)
        is_told = True
        stop(number)

    before = {number: signal.signal(number, handle) for number in _handled()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handled() -> list[int]:
    there = [name for name in _ASKED if hasattr(signal, name)]  # Windows has neither SIGHUP nor SIGQUIT
    ignored = {n for n in _MAY_BE_IGNORED if n in there and signal.getsignal(getattr(signal, n)) is signal.SIG_IGN}
    return [getattr(signal, name) for name in there if name not in ignored]
