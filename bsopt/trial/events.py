"""What a running study tells whoever watches it: the terminal, a program, a dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bsopt.trial.plan import Plan
from bsopt.trial.record import StudyInfo, Tick, TrialRecord

__all__ = ["Listener", "RunSummary", "TrialStart"]


@dataclass(frozen=True, slots=True)
class TrialStart:
    """A trial that is about to train.

    Attributes:
        number: Optuna's trial number.
        batch_size: Global batch size to be trained, in samples.
        lr: Learning rate.
        params: Every parameter of the trial.
        plan: How the batch size is realised.
        num_ticks: Ticks of a full trial; None when a trial is limited by time.
        log: Path of the trial's log.
        variant: Name of the experiment's variant that it trains; None for the study's own settings.
        continues: Number of the paused trial that it goes on from; None where it starts anew.
    """

    number: int
    batch_size: int
    lr: float
    params: Mapping[str, Any]
    plan: Plan
    num_ticks: int | None
    log: str
    variant: str | None = None
    continues: int | None = None

    @property
    def words(self) -> str:
        """What to add where it is named: the variant that it trains, and which trial it goes on from."""
        variant = f", with {self.variant}" if self.variant else ""
        return variant + ("" if self.continues is None else f", going on from trial {self.continues}")


@dataclass(frozen=True, slots=True)
class RunSummary:
    """How a run of a study ended.

    Attributes:
        num_complete: Trials of the study that are complete, earlier runs' included.
        num_pruned: Pruned trials.
        num_failed: Failed trials that count.
        num_new: Trials that ended in this run; one that was paused and gone on with counts once, here and above.
        num_asked: The study's total number of trials.
        ended: Why the run ended.
        message: The same in a sentence.
        best: The best trial; None when no trial succeeded.
        seconds: Wall time of this run.
        signal: Number of the signal that interrupted it; None where none did.
    """

    num_complete: int
    num_pruned: int
    num_failed: int
    num_new: int
    num_asked: int
    ended: Literal["finished", "nothing_to_do", "interrupted", "time_up", "same_failure"]
    message: str
    best: TrialRecord | None = None
    seconds: float = field(default=0.0)
    signal: int | None = None


class Listener:
    """Receives a run's events, in order for each trial; with several workers from several threads.

    Every method does nothing here: override those of interest.
    """

    def study_started(self, info: StudyInfo, *, done: int, total: int) -> None:
        """A run begins with `done` of `total` trials ended."""

    def trial_started(self, start: TrialStart) -> None:
        """A trial is about to train."""

    def ticked(self, number: int, tick: Tick) -> None:
        """A trial was validated."""

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial ended, for whatever reason."""

    def note(self, message: str) -> None:
        """Something the user should know now."""

    def study_ended(self, summary: RunSummary) -> None:
        """The run ended."""
