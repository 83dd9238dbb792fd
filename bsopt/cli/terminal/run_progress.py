"""What a running study amounts to so far: counted, the best, the trials under way, and how long it will take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bsopt.trial.events import Listener, RunSummary, TrialStart
from bsopt.trial.record import StopReason, StudyInfo, Tick, TrialRecord, ranked

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


class RunProgress(Listener):
    """The one state of a run; takes in each event, then passes it on to the view that shows it.

    Events are taken in and shown one at a time, whichever thread they come from. Reading waits for nothing, so that
    a view may also read from a thread of its own. Trials that are run again, since they were interrupted or lost,
    don't count, and a paused trial that is gone on with counts once.

    Args:
        earlier: Records of the trials that ended before this run.
        clock: Seconds, for the time left.
    """

    def __init__(self, earlier: Iterable[TrialRecord] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        self.info = StudyInfo(name="")
        self.total = 0
        self.counts = {"complete": 0, "pruned": 0, "fail": 0}
        self._new: set[int] = set()
        self._paused: set[int] = set()
        self.best: TrialRecord | None = None
        self._running: dict[int, Running] = {}
        self._earlier = tuple(earlier)
        self._view = Listener()
        self._lock = threading.RLock()  # a signal may call `note` in the middle of another event
        self._clock = clock
        self._began = clock()

    def shown_by(self, view: Listener) -> RunProgress:
        """Pass every event on to a view and return this."""
        self._view = view
        return self

    @property
    def running(self) -> tuple[Running, ...]:
        """The trials under way, in the order of their starts."""
        return tuple(self._running.values())

    @property
    def num_new(self) -> int:
        """Trials that ended in this run and count."""
        return len(self._new)

    @property
    def num_done(self) -> int:
        """Trials that ended and count."""
        return sum(self.counts.values())

    @property
    def num_done_in_part(self) -> float:
        """The same with what those under way have done of theirs."""
        return self.num_done + sum(trial.fraction for trial in self.running)

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._began

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the remaining trials take at this run's pace; None until there is one."""
        done = self.num_done_in_part
        done_now = done - self.num_done + self.num_new
        return self.elapsed / done_now * max(0.0, self.total - done) if done_now > 0 else None

    def curve(self, number: int) -> tuple[float, ...]:
        """Return the values so far of a trial under way; none for another."""
        trial = self._running.get(number)
        return tuple(tick.value for tick in trial.ticks) if trial else ()

    def study_started(self, info: StudyInfo, *, done: int, total: int) -> None:
        with self._lock:
            self.info, self.total = info, total
            self._began = self._clock()
            for record in self._earlier:
                self._count(record)
            self._view.study_started(info, done=done, total=total)

    def trial_started(self, start: TrialStart) -> None:
        with self._lock:
            self._running[start.number] = Running(start)
            if start.continues in self._paused:  # it was counted as pruned, and is under way again
                self.counts["pruned"] -= 1
                self._paused.discard(start.continues)
                self._new.discard(start.continues)
            self.total = max(self.total, self.num_done + len(self._running))  # repeats come on top of the search
            self._view.trial_started(start)

    def ticked(self, number: int, tick: Tick) -> None:
        with self._lock:
            if number in self._running:
                self._running[number].ticks.append(tick)
            self._view.ticked(number, tick)

    def trial_ended(self, record: TrialRecord) -> None:
        with self._lock:
            self._running.pop(record.number, None)
            if self._count(record):
                self._new.add(record.number)
            self._view.trial_ended(record)

    def note(self, message: str) -> None:
        with self._lock:
            self._view.note(message)

    def study_ended(self, summary: RunSummary) -> None:
        with self._lock:
            self._view.study_ended(summary)

    def _count(self, record: TrialRecord) -> bool:
        """Count a trial that ended and return whether it counts; `best` is it if it is the best so far."""
        if record.outcome == "running" or (record.stop_reason and record.stop_reason.is_retried):
            return False
        self.counts[record.outcome] += 1
        if record.stop_reason is StopReason.PAUSED:
            self._paused.add(record.number)
        self.best = next(iter(ranked([*([self.best] if self.best else []), record], self.info.objective)), None)
        return True
