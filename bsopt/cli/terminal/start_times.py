"""How long each trial takes from the last one's end, or from the run's start, until it trains: for `--verbose`."""

from __future__ import annotations

import time
from collections.abc import Callable

from bsopt.trial.events import Listener, RunSummary, TrialStart
from bsopt.trial.record import StudyInfo, Tick, TrialRecord

__all__ = ["StartTimes"]


class StartTimes(Listener):
    """Passes every event on to a view, with a note when a trial's first validation tells when it began to train.

    Args:
        view: Shows the run.
        clock: Monotonic seconds.
    """

    def __init__(self, view: Listener, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._view = view
        self._clock = clock
        self._free_since = (clock(), "the run began")
        self._waiting: dict[int, tuple[float, str]] = {}

    def study_started(self, info: StudyInfo, *, done: int, total: int) -> None:
        self._free_since = (self._clock(), "the run began")
        self._view.study_started(info, done=done, total=total)

    def trial_started(self, start: TrialStart) -> None:
        self._waiting[start.number] = self._free_since
        self._view.trial_started(start)

    def ticked(self, number: int, tick: Tick) -> None:
        since = self._waiting.pop(number, None)
        if since is not None:
            seconds = self._clock() - tick.seconds - since[0]
            self._view.note(f"trial {number} began to train {seconds:.2f} s after {since[1]}")
        self._view.ticked(number, tick)

    def trial_ended(self, record: TrialRecord) -> None:
        self._free_since = (self._clock(), f"trial {record.number} ended")
        self._view.trial_ended(record)

    def note(self, message: str) -> None:
        self._view.note(message)

    def study_ended(self, summary: RunSummary) -> None:
        self._view.study_ended(summary)
