"""How often to measure, so that measuring costs at most a given share of the training time."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from statistics import median

from bsopt.errors import ConfigError

__all__ = ["DEFAULT_OVERHEAD", "OverheadBudget"]

DEFAULT_OVERHEAD = 0.01
"""Share of the training time; leaves room within 3 % for the hooks of every step and for a busy machine."""

_WARMUP_UPDATES = 3  # lazy initialisation makes the first updates slow


class OverheadBudget:
    """Counts updates and says which ones to measure.

    With `every` given, updates 0, every, 2·every, … are measured. Without it the interval is c/(overhead·d), where c
    is the measured cost of a measurement and d the median duration of an unmeasured update; it is revised after each
    measurement. Which updates are measured then depends on the machine, but never on the values measured.

    Args:
        every: Fixed interval in updates, or None.
        overhead: Share of the training time that measuring may take, in (0, 1].
        clock: Seconds; a monotonic clock.

    Raises:
        ConfigError: `every` below 1 or `overhead` outside (0, 1].
    """

    def __init__(
        self, every: int | None, *, overhead: float = DEFAULT_OVERHEAD, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        if every is not None and every < 1:
            raise ConfigError(f"every must be at least 1 update, or None to choose it by the overhead; got {every}.")
        if not 0 < overhead <= 1:
            raise ConfigError(f"overhead is a share of the training time in (0, 1], got {overhead}.")
        self._every = every
        self._overhead = overhead
        self._clock = clock
        self._wait = 0 if every is not None else _WARMUP_UPDATES
        self._first_end: float | None = None
        self._last_end: float | None = None
        self._total_cost = 0.0
        self._durations: deque[float] = deque(maxlen=15)
        self._costs: deque[float] = deque(maxlen=5)

    def restarted(self) -> OverheadBudget:
        """Return a new one with the same settings, for another fit."""
        return OverheadBudget(self._every, overhead=self._overhead, clock=self._clock)

    @property
    def is_due(self) -> bool:
        """Whether the update in progress is one to measure."""
        return self._wait == 0

    @property
    def interval(self) -> int:
        """Updates from one measurement to the next, as far as is known now."""
        if self._every is not None:
            return self._every
        if not self._costs or not self._durations:
            return 1
        # the first measurement pays for lazy initialisation, so of two the smaller counts
        cost = min(self._costs) if len(self._costs) == 2 else median(self._costs)
        return max(1, math.ceil(cost / (self._overhead * max(median(self._durations), 1e-9))))

    @property
    def share(self) -> float:
        """What measuring took so far over what training took without it; 0 before two updates have ended."""
        if self._first_end is None or self._last_end is None or self._last_end <= self._first_end:
            return 0.0
        training = self._last_end - self._first_end - self._total_cost
        return self._total_cost / max(training, 1e-9)

    def add_cost(self, seconds: float) -> None:
        """Tell what the measurement of this update cost."""
        self._costs.append(seconds)
        if self._first_end is not None:
            self._total_cost += seconds

    def end_update(self, *, interval: int | None = None) -> None:
        """Close the update; `interval`, where ranks agreed on one, replaces this rank's own."""
        now = self._clock()
        if self.is_due:
            self._wait = (self.interval if interval is None else interval) - 1
        else:
            if self._last_end is not None:
                self._durations.append(now - self._last_end)
            self._wait -= 1
        self._last_end = now
        self._first_end = now if self._first_end is None else self._first_end
