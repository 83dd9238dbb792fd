"""A run in plain lines, for logs and pipes."""

from __future__ import annotations

from collections.abc import Callable

from bsopt.cli.terminal.run_progress import RunProgress
from bsopt.trial.events import Listener, TrialStart
from bsopt.trial.record import StopReason, StudyInfo, Tick, TrialRecord
from bsopt.units import format_duration, format_number

__all__ = ["PlainLines"]

SECONDS_BETWEEN_TICKS = 30.0
"""A trial under way is mentioned at most this often, so that the log of a fast study stays short."""


class PlainLines(Listener):
    """Writes a line when a trial starts and when it ends, and now and then one on its way.

    Args:
        write: Takes one line without its end.
        progress: The run, which passes its events on to this.
    """

    def __init__(self, write: Callable[[str], object], progress: RunProgress) -> None:
        self._write = write
        self._progress = progress
        self._last_tick = 0.0

    def study_started(self, info: StudyInfo, *, done: int, total: int) -> None:
        what = f"{info.objective.value_direction} {info.objective.value_name}"
        self._write(f"study {info.name}: {what}, {done} of {total} trials done")

    def trial_started(self, start: TrialStart) -> None:
        plan = f" ({start.plan})" if str(start.plan) != str(start.batch_size) else ""
        words = f"batch size {start.batch_size}{plan}, lr {format_number(start.lr)}{start.words}"
        self._write(f"trial {start.number}: {words}")

    def ticked(self, number: int, tick: Tick) -> None:
        now = self._progress.elapsed
        if now - self._last_tick < SECONDS_BETWEEN_TICKS:
            return
        self._last_tick = now
        value = f"{self._progress.info.objective.monitor} {format_number(tick.value)}"
        self._write(f"trial {number}: {value} at {tick.where}")

    def trial_ended(self, record: TrialRecord) -> None:
        progress = self._progress
        parts = [f"trial {record.number}: {record.ending}"]
        if record.seconds is not None:
            parts.append(f" after {format_duration(record.seconds)}")
        if record.value is not None:
            best = " (the best)" if progress.best is record else ""
            parts.append(f", {progress.info.objective.value_name} {format_number(record.value)}{best}")
        if record.stop_reason is StopReason.FAILED and record.message:
            parts.append(f": {record.message}")
        left = progress.seconds_left
        parts.append(f" [{progress.num_done}/{progress.total}")
        parts.append(f", about {format_duration(left)} left]" if left else "]")
        self._write("".join(parts))

    def note(self, message: str) -> None:
        self._write(f"note: {message}")
