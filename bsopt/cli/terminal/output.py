"""Standard output that may go away while a study runs: a closed terminal, a pipe whose reader has ended."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, TextIO

__all__ = ["closing_hangs_up"]

_GONE = {errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO}


@contextlib.contextmanager
def closing_hangs_up() -> Iterator[None]:
    """Treat output that nobody can read any more as a terminal that hung up: an orderly end, in place of an error.

    What can't be written for another reason (a full disk) is left out; the study is more than its log.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Outlet(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Outlet:
    """A stream whose writes don't fail."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_gone = False

    def write(self, text: str) -> int:
        with self._without_errors():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._without_errors():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _without_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._is_gone:
                return
            self._is_gone = True
            _discard(self._stream)
            if error.errno in _GONE and hasattr(signal, "SIGHUP") and callable(signal.getsignal(signal.SIGHUP)):
                os.kill(os.getpid(), signal.SIGHUP)


def _discard(stream: TextIO) -> None:
    """Let the stream's file go nowhere, so that what is still in its buffer is no error at the end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
