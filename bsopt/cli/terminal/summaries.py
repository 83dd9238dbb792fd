"""Each study of a storage in one line."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["StudySummary", "summarise"]


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


def summarise(storage: str) -> list[StudySummary]:
    """Return what a storage holds, by name.

    Raises:
        StorageError: It can't be opened.
    """
    from bsopt.storage.attributes import read_info, read_records
    from bsopt.study.study import list_studies

    summaries = []
    for study in list_studies(storage):
        info, records = read_info(study), read_records(study)
        complete = [r for r in records if r.outcome == "complete" and r.value is not None]
        best = min(complete, key=lambda r: info.objective.sign * (r.value or 0.0), default=None)
        summaries.append(
            StudySummary(
                name=study.study_name,
                value_name=info.objective.value_name,
                direction=info.objective.value_direction,
                num_trials=len(records),
                num_complete=len([r for r in records if r.outcome == "complete"]),
                num_pruned=len([r for r in records if r.outcome == "pruned"]),
                num_failed=len([r for r in records if r.outcome == "fail"]),
                best_value=best.value if best else None,
                best_batch_size=best.batch_size if best else None,
                best_lr=best.lr if best else None,
            )
        )
    return summaries
