"""Ctrl-C and SIGTERM: the first asks for an orderly end, the second wants it at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

__all__ = ["first_signal_calls"]


@contextlib.contextmanager
def first_signal_calls(stop: Callable[[], object]) -> Iterator[None]:
    """Have a first SIGINT or SIGTERM call `stop`; a second one raises KeyboardInterrupt.

    Signals reach the main thread alone: in another one this changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_told = False

    def handle(number: int, frame: object) -> None:
        nonlocal is_told
        if is_told:
            raise KeyboardInterrupt
        is_told = True
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
