"""A run in plain lines, for logs and pipes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from bsopt.cli.terminal.formatting import ending
from bsopt.cli.terminal.run_progress import Running, RunProgress
from bsopt.trial.events import Listener, RunSummary, TrialStart
from bsopt.trial.record import StopReason, StudyInfo, Tick, TrialRecord
from bsopt.units import format_duration, format_number

__all__ = ["PlainLines"]

SECONDS_BETWEEN_TICKS = 30.0
"""A trial under way is mentioned at most this often, so that the log of a fast study stays short."""


class PlainLines(Listener):
    """Writes a line when a trial starts and when it ends, and now and then one on its way.

    Args:
        write: Takes one line without its end.
        progress: Counts the study's trials.
    """

    def __init__(self, write: Callable[[str], object], progress: RunProgress) -> None:
        self._write = write
        self._progress = progress
        self._lock = threading.RLock()  # a signal may call `note` in the middle of another event
        self._last_tick = 0.0

    def study_started(self, info: StudyInfo, *, done: int, total: int) -> None:
        with self._lock:
            self._progress.begin(info, total=total)
            what = f"{info.objective.value_direction} {info.objective.value_name}"
            self._write(f"study {info.name}: {what}, {done} of {total} trials done")

    def trial_started(self, start: TrialStart) -> None:
        with self._lock:
            self._progress.running[start.number] = Running(start)
            plan = f" ({start.plan})" if str(start.plan) != str(start.batch_size) else ""
            self._write(f"trial {start.number}: batch size {start.batch_size}{plan}, lr {format_number(start.lr)}")

    def ticked(self, number: int, tick: Tick) -> None:
        with self._lock:
            trial = self._progress.running.get(number)
            if trial is None:
                return
            trial.ticks.append(tick)
            if self._progress.elapsed - self._last_tick < SECONDS_BETWEEN_TICKS:
                return
            self._last_tick = self._progress.elapsed
            monitor = self._progress.info.objective.monitor
            self._write(f"trial {number}: {monitor} {format_number(tick.value)} at epoch {tick.epoch:.3g}")

    def trial_ended(self, record: TrialRecord) -> None:
        with self._lock:
            is_best = self._progress.end(record)
            parts = [f"trial {record.number}: {ending(record)}"]
            if record.seconds is not None:
                parts.append(f" after {format_duration(record.seconds)}")
            if record.value is not None:
                name = self._progress.info.objective.value_name
                parts.append(f", {name} {format_number(record.value)}{' (the best)' if is_best else ''}")
            if record.stop_reason is StopReason.FAILED and record.message:
                parts.append(f": {record.message}")
            left = self._progress.seconds_left()
            parts.append(f" [{self._progress.num_done}/{self._progress.total}")
            parts.append(f", about {format_duration(left)} left]" if left else "]")
            self._write("".join(parts))

    def note(self, message: str) -> None:
        with self._lock:
            self._write(f"note: {message}")

    def study_ended(self, summary: RunSummary) -> None:
        """The command prints the summary."""
