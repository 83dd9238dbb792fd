"""A listener that acts on what happens, and what tests of engines do to workers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from bsopt.trial.events import Listener, RunSummary, TrialStart
from bsopt.trial.record import StudyInfo, Tick, TrialRecord


class Script(Listener):
    """Keeps what it is told, and acts on it: `act(event, argument)` is called in the leader's thread."""

    def __init__(self, act: Callable[[str, Any], None] = lambda event, argument: None) -> None:
        self.act = act
        self.notes: list[str] = []
        self.started: list[TrialStart] = []
        self.ticks: list[tuple[int, Tick]] = []
        self.ended: list[TrialRecord] = []
        self.info: StudyInfo | None = None
        self.done: int | None = None

    @property
    def held(self) -> set[int]:
        """Trials that have ticked and not ended."""
        return {number for number, _ in self.ticks} - {record.number for record in self.ended}

    def study_started(self, info: StudyInfo, *, done: int, total: int) -> None:
        self.info, self.done = info, done

    def trial_started(self, start: TrialStart) -> None:
        self.started.append(start)
        self.act("started", start)

    def ticked(self, number: int, tick: Tick) -> None:
        self.ticks.append((number, tick))
        self.act("ticked", number)

    def trial_ended(self, record: TrialRecord) -> None:
        self.ended.append(record)
        self.act("ended", record)

    def note(self, message: str) -> None:
        self.notes.append(message)
        self.act("note", message)

    def study_ended(self, summary: RunSummary) -> None:
        self.act("over", summary)


def owner(study: Any, number: int) -> dict[str, Any]:
    """Return the process that runs a trial."""
    found: dict[str, Any] = study.get_trials(deepcopy=False)[number].user_attrs["bsopt:owner"]
    return found


def press_ctrl_c() -> None:
    """Interrupt this process."""
    assert threading.current_thread() is threading.main_thread()
    os.kill(os.getpid(), signal.SIGINT)
