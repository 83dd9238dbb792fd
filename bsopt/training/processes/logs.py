"""A trial's log: its last lines, and a size that it doesn't outgrow."""

from __future__ import annotations

import os
from pathlib import Path

from bsopt.units import printable

__all__ = ["last_log_lines", "trim_log"]

_MOST_BYTES = 8 << 20
"""Of a log; what is longer loses its middle."""
_KEPT_BYTES = 1 << 20  # at each end
_TAIL_BYTES = 1 << 16
_LINES = 15


def last_log_lines(path: Path, lines: int = _LINES) -> str:
    """Return the last lines of a log, of at most 64 kB together, as they can be printed; empty where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return printable("\n".join(text.splitlines()[-lines:]))


def trim_log(path: Path, *, most: int = _MOST_BYTES, kept: int = _KEPT_BYTES) -> bool:
    """Cut the middle out of a log that has grown too long; processes that append to it go on behind what is left.

    What is appended while this runs may be lost.

    Args:
        path: The log.
        most: Bytes that it may have.
        kept: Bytes kept of its beginning, and of its end.

    Returns:
        Whether it was too long.
    """
    try:
        size = path.stat().st_size
        if size <= most:
            return False
        with path.open("rb+") as file:
            file.seek(size - kept)
            tail = file.read(kept)
            tail = tail[tail.find(b"\n") + 1 :]
            file.seek(kept)
            file.write(f"\n[... {size - kept - len(tail):,} bytes left out ...]\n".encode() + tail)
            file.truncate()
    except OSError:  # it is gone, or the disk is full: a log is no reason to end a trial
        return False
    return True
