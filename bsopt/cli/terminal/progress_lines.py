"""A run in plain lines, for logs and pipes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from bsopt.cli.terminal.formatting import ending, format_duration, format_number
from bsopt.cli.terminal.run_progress import Running, Tally
from bsopt.trial.events import Listener, RunSummary, TrialStart
from bsopt.trial.record import StopReason, StudyInfo, Tick, TrialRecord

__all__ = ["PlainLines"]

SECONDS_BETWEEN_TICKS = 30.0
"""A trial under way is mentioned at most this often, so that the log of a fast study stays short."""


class PlainLines(Listener):
    """Writes a line when a trial starts and when it ends, and now and then one on its way.

    Args:
        write: Takes one line without its end.
        tally: Counts the study's trials.
    """

    def __init__(self, write: Callable[[str], object], tally: Tally) -> None:
        self._write = write
        self._tally = tally
        self._lock = threading.RLock()  # a signal may call `note` in the middle of another event
        self._last_tick = 0.0

    def study_started(self, info: StudyInfo, *, done: int, total: int) -> None:
        with self._lock:
            self._tally.begin(info, total=total)
            self._write(f"study {info.name}: {info.direction} {self._tally.value_name}, {done} of {total} trials done")

    def trial_started(self, start: TrialStart) -> None:
        with self._lock:
            self._tally.running[start.number] = Running(start)
            plan = f" ({start.plan})" if str(start.plan) != str(start.batch_size) else ""
            self._write(f"trial {start.number}: batch size {start.batch_size}{plan}, lr {format_number(start.lr)}")

    def ticked(self, number: int, tick: Tick) -> None:
        with self._lock:
            trial = self._tally.running.get(number)
            if trial is None:
                return
            trial.ticks.append(tick)
            if self._tally.elapsed - self._last_tick < SECONDS_BETWEEN_TICKS:
                return
            self._last_tick = self._tally.elapsed
            self._write(
                f"trial {number}: {self._tally.info.monitor} {format_number(tick.value)} at epoch {tick.epoch:.3g}"
            )

    def trial_ended(self, record: TrialRecord) -> None:
        with self._lock:
            is_best = self._tally.end(record)
            parts = [f"trial {record.number}: {ending(record)}"]
            if record.seconds is not None:
                parts.append(f" after {format_duration(record.seconds)}")
            if record.value is not None:
                parts.append(
                    f", {self._tally.value_name} {format_number(record.value)}{' (the best)' if is_best else ''}"
                )
            if record.stop_reason is StopReason.FAILED and record.message:
                parts.append(f": {record.message}")
            left = self._tally.seconds_left()
            parts.append(f" [{self._tally.num_done}/{self._tally.total}")
            parts.append(f", about {format_duration(left)} left]" if left else "]")
            self._write("".join(parts))

    def note(self, message: str) -> None:
        with self._lock:
            self._write(f"note: {message}")

    def study_ended(self, summary: RunSummary) -> None:
        """The command prints the summary."""
