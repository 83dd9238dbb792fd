"""How long a trial takes to start, as `--verbose` tells it."""

from __future__ import annotations

from bsopt.cli.terminal.start_times import StartTimes
from bsopt.trial.events import Listener, TrialStart
from bsopt.trial.plan import Plan
from bsopt.trial.record import StudyInfo, Tick, TrialRecord


class Notes(Listener):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_a_trial_s_start_is_told_from_the_last_one_s_end() -> None:
    now, view = [0.0], Notes()
    times = StartTimes(view, clock=lambda: now[0])
    times.study_started(StudyInfo("mine"), done=0, total=2)
    for number, (start, first_tick, end) in enumerate([(0.1, 3.0, 9.0), (9.1, 12.0, 20.0)]):
        now[0] = start
        plan = Plan(8)
        times.trial_started(TrialStart(number, 8, 0.1, {}, plan, num_ticks=2, log="log.txt"))
        now[0] = first_tick
        for index in (1, 2):
            times.ticked(number, Tick(index, samples=8, step=1, epoch=1, seconds=2.5, value=1.0))
        now[0] = end
        times.trial_ended(TrialRecord(number, "complete"))
    assert view.notes == [
        "trial 0 began to train 0.50 s after the run began",
        "trial 1 began to train 0.50 s after trial 0 ended",
    ]
