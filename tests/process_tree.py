"""Which processes live, and whose children they are, as Linux's /proc tells it."""

from __future__ import annotations

import contextlib
from pathlib import Path

__all__ = ["family", "identity", "parents"]


def parents() -> dict[int, int]:
    """Return process -> parent of all that live."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    found[int(entry.name)] = int(parent)
    return found


def family(pid: int) -> list[int]:
    """Return all that descend from a process, nearest first."""
    tree, found = parents(), [pid]
    for member in found:
        found += [child for child, parent in tree.items() if parent == member]
    return found[1:]


def identity(pid: int) -> tuple[int, str] | None:
    """Return a living process's number with its start time, in clock ticks: numbers are used again; None if gone."""
    with contextlib.suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else (pid, fields[18])
    return None
