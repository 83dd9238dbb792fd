"""A study in short: its counts and its best trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bsopt.trial.record import StudyInfo, TrialRecord, ranked

__all__ = ["StudySummary", "summarise", "summary_of"]


@dataclass(frozen=True, slots=True)
class StudySummary:
    """A study in short.

    Attributes:
        name: Its name.
        value_name: What its value is.
        direction: Which way it gets better.
        num_trials: Trials of any state.
        num_complete: Complete ones.
        num_pruned: Pruned ones.
        num_failed: Failed ones.
        best_value: The best complete trial's value, and its
        best_batch_size: global batch size and
        best_lr: learning rate; None without a complete trial.
    """

    name: str
    value_name: str
    direction: str
    num_trials: int
    num_complete: int
    num_pruned: int
    num_failed: int
    best_value: float | None = None
    best_batch_size: int | None = None
    best_lr: float | None = None


def summary_of(info: StudyInfo, records: Sequence[TrialRecord]) -> StudySummary:
    """Return a study in short."""
    best = next(iter(ranked(records, info.objective)), None)
    counts = Counter(record.outcome for record in records)
    return StudySummary(
        name=info.name,
        value_name=info.objective.value_name,
        direction=info.objective.value_direction,
        num_trials=len(records),
        num_complete=counts["complete"],
        num_pruned=counts["pruned"],
        num_failed=counts["fail"],
        best_value=best.value if best else None,
        best_batch_size=best.batch_size if best else None,
        best_lr=best.lr if best else None,
    )


def summarise(storage: str) -> list[StudySummary]:
    """Return what a storage holds, by name.

    Raises:
        StorageError: It can't be opened.
    """
    from bsopt.storage.attributes import read_info, read_records
    from bsopt.study.study import list_studies

    return [
        replace(summary_of(read_info(study), read_records(study)), name=study.study_name)  # a copy may have another
        for study in list_studies(storage)
    ]
