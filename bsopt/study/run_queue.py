"""What a run of a study still has to do, and how it ended: the same for a run here and for a leader of many hosts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import optuna

from bsopt.config import StudyConfig
from bsopt.experiment.design import queue_designed
from bsopt.search.pausing import worth_continuing
from bsopt.storage import ownership, queue
from bsopt.storage.attributes import read_record, read_records
from bsopt.trial.events import Listener, RunSummary

__all__ = ["Ending", "RunQueue", "interrupted_by"]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ends.

    Attributes:
        ended: As in `RunSummary`, or "failed".
        message: The same in a sentence; empty where the counts of trials say it.
        error: What is raised once everything has ended; None for nothing.
        signal: Number of the signal that interrupted it; None where none did.
    """

    ended: str = "finished"
    message: str = ""
    error: BaseException | None = None
    signal: int | None = None


def interrupted_by(number: int) -> Ending:
    """Return the ending of a run that a signal interrupted."""
    return Ending("interrupted", "interrupted; the same command continues the study", signal=number)


class RunQueue:
    """The trials that a run queues, and those that it could begin; everything queued is told to the listener.

    Args:
        study: The study.
        config: The study file.
        listener: Receives notes.
    """

    def __init__(self, study: optuna.Study, config: StudyConfig, listener: Listener) -> None:
        self._study = study
        self._config = config
        self._listener = listener
        self._began = time.monotonic()
        self._looked = -float("inf")

    def look_for_lost(self) -> None:
        """Give up the trials whose process is gone, and queue them and interrupted ones again."""
        self._looked = time.monotonic()
        for number in ownership.give_up_lost(self._study):
            self._listener.note(f"trial {number} was lost, its process is gone; it is run again")
        queue.queue_retries(self._study, total=self._config.num_searched)

    def look_for_lost_if_due(self) -> None:
        """Do so if the last time is as long ago as a living trial's last sign of life may be."""
        if time.monotonic() - self._looked > ownership.SIGN_OF_LIFE_SECONDS:
            self.look_for_lost()

    def queue_design(self) -> int:
        """Queue the designed runs that aren't there yet; return how many the design has."""
        queued = queue_designed(self._study, self._config)
        if queued.new:
            self._listener.note(f"{queued.new} of the experiment's {queued.total} designed runs are to be trained")
        return queued.total

    def queue_confirmations(self) -> int:
        """Queue the finalists' repeats, when the search has its trials and none is running; return how many."""
        asked = self._config.confirm_seeds
        if asked == "auto":
            most = self._config.num_repeats
            queued = queue.queue_confirmations(self._study, replicates=most - 1, most=most) if most else 0
        else:
            queued = queue.queue_confirmations(self._study, replicates=asked) if asked else 0
        if queued:
            self._listener.note(f"the search is done; {queued} repeats of the finalists over fresh seeds follow")
        return queued

    def queue_continuation(self, has_state: Callable[[int], bool], *, at_end: bool = False) -> bool:
        """Queue the paused trial that is most worth going on with, if there is one; return whether there is.

        Args:
            has_state: Whether the state of a trial, given by its first try's number, is on this host to go on from.
            at_end: No new trial is to be begun: then any that isn't hopeless is worth it.
        """
        number = worth_continuing(
            self._study, at_end=at_end, can_continue=lambda trial: has_state(queue.root_of(trial))
        )
        if number is None:
            return False
        queue.queue_continuation(self._study, number)
        why = "nothing new is to come, and it isn't hopeless" if at_end else "its chance to be the best has come back"
        self._listener.note(f"trial {number} is gone on with: {why}")
        return True

    def num_open(self) -> int:
        """Return the number of trials that could be begun now."""
        return queue.num_open(self._study, total=self._config.num_searched)

    def num_begun(self) -> int:
        """Return the number of trials that count, running ones included: searched and designed."""
        return queue.num_counted(self._study) + queue.num_designed(self._study)

    @property
    def is_time_up(self) -> bool:
        """Whether the study's wall time (`budget.time`) is over, counted from when this was made."""
        limit = self._config.budget.time
        return limit is not None and time.monotonic() - self._began > limit.value

    def time_up(self) -> Ending:
        """Return the ending of a run whose time is over."""
        return Ending("time_up", f"the study's {self._config.budget.time} are over")

    def nothing_to_do(self, total: int) -> Ending:
        """Return the ending of a run that found the study finished, with its total number of trials."""
        message = f"the study is finished: it has its {total} trials. Raise budget.trials to go on."
        return Ending("nothing_to_do", message)

    def summary(self, ending: Ending, *, ended: Collection[int], num_asked: int) -> RunSummary:
        """Return how the run ended, with the study's counts and its best trial; what was gone on with counts once.

        Args:
            ending: How; with an empty message the counts are the message.
            ended: Numbers of the trials that ended in this run.
            num_asked: The study's total number of trials.
        """
        gone_on_with = queue.numbers_gone_on_with(self._study)
        records = [record for record in read_records(self._study) if record.number not in gone_on_with]
        failed = [r for r in records if r.outcome == "fail" and not (r.stop_reason and r.stop_reason.is_retried)]
        best = None
        with contextlib.suppress(ValueError):
            best = read_record(self._study, self._study.best_trial)
        complete = sum(r.outcome == "complete" for r in records)
        pruned = sum(r.outcome == "pruned" for r in records)
        return RunSummary(
            num_complete=complete,
            num_pruned=pruned,
            num_failed=len(failed),
            num_new=len(set(ended) - gone_on_with),
            num_asked=num_asked,
            ended=ending.ended,  # type: ignore[arg-type]
            message=ending.message or f"{complete} trials complete, {pruned} pruned, {len(failed)} failed",
            best=best,
            seconds=time.monotonic() - self._began,
            signal=ending.signal,
        )
