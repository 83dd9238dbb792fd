"""Evidence that memory ran out, for a process that was killed without a word: anybody may have killed it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["MemoryEvidence"]

_NEAR_LIMIT = 0.9


class MemoryEvidence:
    """Whether the system killed something for want of memory, or a trial's processes filled it, since this was made.

    Args:
        root: Where `proc` and `sys` are; for tests.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._files = _event_files(root)
        self._kills = self._count_kills()
        self._limit = _limit_bytes(root)
        self._was_near_limit = False

    def look_at(self, pids: Iterable[int | None]) -> None:
        """Measure what living processes take of memory; asked about twice a second.

        Args:
            pids: The trial's processes.
        """
        if self._limit is None or self._was_near_limit:
            return
        taken = sum(_resident_bytes(self._root, pid) for pid in pids if pid is not None)
        self._was_near_limit = taken >= _NEAR_LIMIT * self._limit

    @property
    def is_found(self) -> bool:
        """Whether there is any."""
        return self._was_near_limit or self._count_kills() > self._kills

    def _count_kills(self) -> int:
        return sum(_value_in(path, "oom_kill") for path in self._files)


def _event_files(root: Path) -> list[Path]:
    """Return the files in which the kernel counts what it killed: of the machine, and of this process's cgroup."""
    found = [root / "proc/vmstat"]
    for hierarchy, controllers, group in _cgroups(root):
        if hierarchy == "0":
            found.append(root / "sys/fs/cgroup" / group / "memory.events")
        elif "memory" in controllers:
            found.append(root / "sys/fs/cgroup/memory" / group / "memory.oom_control")
    return found


def _limit_bytes(root: Path) -> int | None:
    """Return the least of the machine's memory and the limits of this process's cgroup; None where none is known."""
    limits = [1024 * _value_in(root / "proc/meminfo", "MemTotal:")]
    for hierarchy, controllers, group in _cgroups(root):
        if hierarchy == "0":
            limits.append(_number_in(root / "sys/fs/cgroup" / group / "memory.max"))
        elif "memory" in controllers:
            limits.append(_number_in(root / "sys/fs/cgroup/memory" / group / "memory.limit_in_bytes"))
    return min((limit for limit in limits if limit > 0), default=None)


def _cgroups(root: Path) -> list[tuple[str, list[str], str]]:
    """Return hierarchy, controllers and path of each cgroup of this process."""
    lines = [line.split(":", 2) for line in _text_of(root / "proc/self/cgroup").splitlines()]
    return [(line[0], line[1].split(","), line[2].lstrip("/")) for line in lines if len(line) == 3]


def _resident_bytes(root: Path, pid: int) -> int:
    pages = _text_of(root / "proc" / str(pid) / "statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else 0


def _value_in(path: Path, name: str) -> int:
    """Return the number behind a name in a file of one a line; 0 where there is none."""
    for line in _text_of(path).splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == name and words[1].isdigit():
            return int(words[1])
    return 0


def _number_in(path: Path) -> int:
    text = _text_of(path).strip()
    return int(text) if text.isdigit() else 0


def _text_of(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
