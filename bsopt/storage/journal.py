"""Optuna's journal file, which a full disk or a kill in the midst of a line doesn't spoil."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from bsopt.storage.failures import DamagedJournalError

__all__ = ["Journal"]

_CHUNK = 1 << 16


class Journal(JournalFileBackend):
    """A journal file that several processes append to.

    A line that was cut off (by a kill, or since the disk was full) is dropped before the next one is written; nobody
    has read it.

    Args:
        path: The file, made where missing.
    """

    def __init__(self, path: Path) -> None:
        # Absolute, for the lock is a link to it: a lock that a killed process left is recognised by what it points to.
        self._path = path.absolute()
        self._writing = JournalFileSymlinkLock(str(self._path))
        super().__init__(str(self._path), lock_obj=self._writing)
        self._size_written = 0

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines at the end, all of them or none.

        Args:
            logs: What Optuna logs.

        Raises:
            OSError: They can't be written; the file is as it was.
            DamagedJournalError: The file was cut.
        """
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        self._writing.acquire()
        try:
            size = self._drop_cut_line()
            self._check_not_cut(size)
            try:
                with self._path.open("ab") as file:
                    file.write(lines)
                    file.flush()
                    os.fsync(file.fileno())
                self._size_written = size + len(lines)
            except OSError:
                os.truncate(self._path, size)
                raise
        finally:
            self._writing.release()

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Yield what was logged from that line on.

        Args:
            log_number_from: Number of the first line, from 0.

        Raises:
            DamagedJournalError: A line isn't Optuna's.
        """
        number = log_number_from
        self._check_not_cut(self._path.stat().st_size)
        try:
            for log in super().read_logs(log_number_from):
                if not isinstance(log, dict):
                    raise ValueError("no log of Optuna's")
                number += 1
                yield log
        except ValueError as error:
            raise DamagedJournalError(
                f"line {number + 1} of {self._path} is damaged, so what follows can't be trusted; restore the file "
                f"from a copy, or keep the first {number} lines (head -n {number})"
            ) from error

    def _check_not_cut(self, size: int) -> None:
        if size < self._size_written:
            raise DamagedJournalError(f"{self._path} was cut to {size:,} bytes while it was in use")

    def _drop_cut_line(self) -> int:
        """Cut the file behind its last whole line and return its size."""
        with self._path.open("rb+") as file:
            size = end = file.seek(0, os.SEEK_END)
            while end:
                start = max(0, end - _CHUNK)
                file.seek(start)
                at = file.read(end - start).rfind(b"\n")
                if at >= 0:
                    end = start + at + 1
                    break
                end = start
            if end < size:
                file.truncate(end)
            return end
