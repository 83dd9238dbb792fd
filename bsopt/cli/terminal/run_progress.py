"""What a running study amounts to so far: counted, the best, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bsopt.trial.events import TrialStart
from bsopt.trial.record import StudyInfo, Tick, TrialRecord

__all__ = ["RunProgress", "Running"]


@dataclass(slots=True)
class Running:
    """A trial under way: how it began, and its curve so far."""

    start: TrialStart
    ticks: list[Tick] = field(default_factory=list)

    @property
    def fraction(self) -> float:
        """How far it is, from 0 to 1; 0 where its length isn't known."""
        if not self.ticks or not self.start.num_ticks:
            return 0.0
        return min(1.0, self.ticks[-1].index / self.start.num_ticks)


class RunProgress:
    """Counts trials as they end. Trials that are run again, since they were interrupted or lost, don't count.

    Args:
        earlier: Records of the trials that ended before this run.
        clock: Seconds, for the time left.
    """

    def __init__(self, earlier: Iterable[TrialRecord] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        self.info = StudyInfo(name="")
        self.total = 0
        self.counts = {"complete": 0, "pruned": 0, "fail": 0}
        self.num_new = 0
        self.best: TrialRecord | None = None
        self.running: dict[int, Running] = {}
        self._earlier = tuple(earlier)
        self._clock = clock
        self._began = clock()

    @property
    def num_done(self) -> int:
        """Trials that ended and count."""
        return sum(self.counts.values())

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._began

    def begin(self, info: StudyInfo, *, total: int) -> None:
        """Start counting, the trials of earlier runs first."""
        self.info, self.total = info, total
        self._began = self._clock()
        for record in self._earlier:
            self._count(record)

    def end(self, record: TrialRecord) -> bool:
        """Count a trial that ended and return whether it is the best so far."""
        self.running.pop(record.number, None)
        if self._counts(record):
            self.num_new += 1
        return self._count(record)

    def seconds_left(self) -> float | None:
        """Return the seconds that the remaining trials take at this run's pace; None until there is one."""
        done = self.num_new + sum(trial.fraction for trial in self.running.values())
        if done <= 0:
            return None
        return self.elapsed / done * max(0.0, self.total - self.num_done - (done - self.num_new))

    def _count(self, record: TrialRecord) -> bool:
        if not self._counts(record):
            return False
        self.counts[record.outcome] += 1
        is_best = record.outcome == "complete" and record.value is not None and self._beats_best(record.value)
        if is_best:
            self.best = record
        return is_best

    @staticmethod
    def _counts(record: TrialRecord) -> bool:
        return record.outcome != "running" and not (record.stop_reason and record.stop_reason.is_retried)

    def _beats_best(self, value: float) -> bool:
        if self.best is None or self.best.value is None:
            return True
        return self.info.objective.is_better(value, self.best.value)
