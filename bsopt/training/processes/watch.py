"""Watching a trial's ranks from the process that has started them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from bsopt.training.processes.crash import Crash, error_of
from bsopt.training.processes.logs import last_log_lines, trim_log
from bsopt.training.processes.memory import MemoryEvidence
from bsopt.training.processes.rank import Message
from bsopt.training.processes.supervision import Supervision
from bsopt.trial.record import StopReason

__all__ = ["RankProcess", "Watch"]

_POLL_SECONDS = 0.5
_LAST_WORDS_SECONDS = 2.0
_CLOSING_SECONDS = 10.0


class RankProcess:
    """A rank's process as the parent sees it.

    Args:
        number: Of the rank, from 0.
        process: A multiprocessing Process that was started.
        line: To the rank.
        anchor: Our end of the rank's lifeline; the rank ends when it is closed.
    """

    def __init__(self, number: int, process: Any, line: Connection, anchor: Connection) -> None:
        self.number = number
        self.process = process
        self.line = line
        self._anchor = anchor

    def end(self) -> None:
        """Make sure that nothing of the rank is left."""
        pid = self.process.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # its DataLoader workers too
            if self.process.is_alive():
                self.process.kill()
        self.process.join(10)  # but no close(): an interpreter that ends meanwhile joins it, too
        self.line.close()
        self._anchor.close()


class Watch:
    """Listens to a trial's ranks until rank 0 has a result or one of them fails.

    Args:
        ranks: All that were started here.
        supervision: Who is told.
        log: The trial's log.
    """

    def __init__(self, ranks: list[RankProcess], supervision: Supervision, log: Path) -> None:
        self._supervision = supervision
        self._log = log
        self._ranks = ranks
        self._lines = {rank.line: rank for rank in ranks}
        self._sentinels = {rank.process.sentinel: rank for rank in ranks}
        self._failures: dict[int, Message] = {}
        self._memory = MemoryEvidence()
        self._alive_at = self._looked_at = time.monotonic()
        self._cancelled_at: float | None = None

    def result(self) -> Any:
        """Wait for rank 0's result and return it.

        Raises:
            Crash: A rank failed or died, nothing was heard for too long, or the trial was cancelled.
            BsoptError: The user's code or settings are wrong.
        """
        while True:
            ready = wait([*self._lines, *self._sentinels], timeout=_POLL_SECONDS)
            if self._supervision.is_cancelled() and self._has_no_grace():
                raise Crash(StopReason.INTERRUPTED, "interrupted")
            self._supervision.on_idle()
            self._look_after()
            for rank in [self._lines[item] for item in ready if item in self._lines]:
                done = self._hear(rank)
                if done is not None:
                    self._let_end()
                    return done.value
            ended = [item for item in ready if item in self._sentinels and self._has_ended(item)]
            if ended or self._failures:
                raise self._error()
            if time.monotonic() - self._alive_at > self._supervision.stall_seconds:
                message = (
                    f"no tick for {self._supervision.stall_seconds:g} s (limits.stall_timeout): "
                    "it hangs, or validate_every is too long"
                )
                raise Crash(StopReason.FAILED, message, log_tail=last_log_lines(self._log))

    def _let_end(self) -> None:
        """Give every rank the time to run the project's last hooks and to close its loaders and loggers."""
        until = time.monotonic() + _CLOSING_SECONDS
        for rank in self._ranks:
            rank.process.join(max(0.0, until - time.monotonic()))

    def _has_no_grace(self) -> bool:
        """Return whether a cancelled trial is ended now, and not at a validation that may still come."""
        if self._cancelled_at is None:
            self._cancelled_at = time.monotonic()
        return time.monotonic() - self._cancelled_at >= self._supervision.grace_seconds

    def _look_after(self) -> None:
        """Keep an eye on memory and the log, as often as that is worth it."""
        if time.monotonic() - self._looked_at >= _POLL_SECONDS:
            self._looked_at = time.monotonic()
            self._memory.look_at(rank.process.pid for rank in self._ranks)
            trim_log(self._log)

    def _hear(self, rank: RankProcess) -> Message | None:
        """Take one message of a rank, and return it where it is the trial's result."""
        message = _receive(rank.line)
        if message is None:
            del self._lines[rank.line]
            return None
        if message.kind == "tick":
            rank.line.send(self._supervision.answer(message.value))
        elif message.kind == "progress":
            self._supervision.on_progress(*message.value)
        elif message.kind == "error":
            self._failures[rank.number] = message
        self._alive_at = time.monotonic()  # after the answer, which may take long
        return message if message.kind == "done" and rank.number == 0 else None

    def _has_ended(self, sentinel: Any) -> bool:
        """Return whether a rank whose process has ended did so too early."""
        rank = self._sentinels[sentinel]
        if rank.line in self._lines and rank.line.poll():
            return False  # its last words come first
        if rank.process.exitcode == 0 and rank.number != 0:
            del self._sentinels[sentinel]
            return False
        return True

    def _error(self) -> Exception:
        """Collect every rank's last words and exit code, and return the failure that caused the others."""
        until = time.monotonic() + _LAST_WORDS_SECONDS
        for rank in self._ranks:
            rank.process.join(max(0.0, until - time.monotonic()))
            while rank.line.poll() and (message := _receive(rank.line)) is not None:
                if message.kind == "error":
                    self._failures.setdefault(rank.number, message)
        exit_codes = {rank.number: rank.process.exitcode for rank in self._ranks}
        tail = last_log_lines(self._log)
        return error_of(self._failures, exit_codes, log_tail=tail, is_memory_short=self._memory.is_found)


def _receive(line: Connection) -> Any:
    """Return the next message on a line; None where its other end is closed."""
    try:
        return line.recv()
    except (EOFError, OSError):
        return None
