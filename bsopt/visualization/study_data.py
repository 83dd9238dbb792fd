"""What a figure is drawn from: a study's description and the records of its trials, read once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TypeAlias, TypeVar, cast

import numpy as np
import optuna

from bsopt.experiment.measurements import Experiment, experiment_of
from bsopt.recommendation.evidence import Evidence
from bsopt.recommendation.fits import Fits, fit_laws
from bsopt.recommendation.recommender import recommend_from
from bsopt.recommendation.result import Recommendation
from bsopt.storage.attributes import read_info, read_records
from bsopt.storage.parameter_names import ParameterNames, find_names, unknown_names
from bsopt.trial.record import Outcome, StopReason, StudyInfo, TrialRecord, ranked

__all__ = ["MOST_SIZES", "Source", "Status", "StudyData", "load", "load_all", "spread_evenly", "status_of", "why_empty"]

T = TypeVar("T")
MOST_SIZES = 12
"""Batch sizes that are told apart one by one."""


class Status(str, Enum):
    """How a trial is told apart in a figure."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out of memory"
    FAILED = "failed"
    RUNNING = "running"


_BY_REASON = {
    StopReason.DIVERGED: Status.DIVERGED,
    StopReason.OUT_OF_MEMORY: Status.OUT_OF_MEMORY,
}
_BY_OUTCOME: dict[Outcome, Status] = {
    "complete": Status.COMPLETE,
    "pruned": Status.PRUNED,
    "fail": Status.FAILED,
    "running": Status.RUNNING,
}


@dataclass(frozen=True)  # no slots: the fits are made on first use and kept
class StudyData:
    """A study as figures and the report read it.

    Attributes:
        info: What the study searches.
        records: Every trial, oldest first.
        study: The study itself, for the sampler's belief; None where only records are at hand.
        names: What that study calls its batch size and learning rate.
        whole: The data of all trials, where `records` are only those to draw: what the laws and the answer rest on.
    """

    info: StudyInfo
    records: tuple[TrialRecord, ...]
    study: optuna.Study | None = None
    whole: StudyData | None = None
    names: ParameterNames | None = None

    @property
    def name(self) -> str:
        """The study's name."""
        return self.info.name

    @cached_property
    def fits(self) -> Fits:
        """The laws fitted to all trials, once; pruned ones count with the final value predicted for them."""
        return (
            self.whole.fits
            if self.whole is not None
            else fit_laws(self.records, self.info, study=self.study, names=self.names)
        )

    @cached_property
    def evidence(self) -> Evidence:
        """What the answer rests on: the trials and these fits."""
        if self.whole is not None:
            return self.whole.evidence
        return Evidence.of(self.info, self.records, study=self.study, names=self.names, fits=self.fits)

    @cached_property
    def recommendation(self) -> Recommendation:
        """The answer, chosen once: the report and the dashboard only show it."""
        return self.whole.recommendation if self.whole is not None else recommend_from(self.evidence)

    @cached_property
    def experiment(self) -> Experiment | None:
        """The study's designed batch-size experiment; None where it has none."""
        return experiment_of(self.study, self.records) if self.study is not None else None

    @property
    def unknown_names(self) -> str:
        """Which parameters there are, where it isn't known which are the two; else empty."""
        return unknown_names(self.study, self.names) if self.study is not None and self.names is not None else ""

    @property
    def sign(self) -> float:
        """1 where a smaller value is better, −1 where a larger one is: sign × value is always to be minimised."""
        return self.info.objective.sign

    @property
    def valued(self) -> list[TrialRecord]:
        """Trials with a batch size, a learning rate and a finite value, complete or pruned; diverged ones left out."""
        return [record for record in self.records if record.has_result]

    @property
    def completed(self) -> list[TrialRecord]:
        """Those of `valued` that ran to their end."""
        return [record for record in self.valued if record.outcome == "complete"]

    @property
    def best(self) -> TrialRecord | None:
        """The completed trial with the best value."""
        return next(iter(ranked(self.records, self.info.objective)), None)

    @property
    def by_batch_size(self) -> dict[int, list[TrialRecord]]:
        """Batch size, smallest first, -> its completed trials, the best first.

        Of more than 12 batch sizes the trials of each doubling stand together, by the batch size of the best of them:
        lines through each by itself would only show how lucky the learning rates were.
        """
        best_first = ranked(self.records, self.info.objective)
        has_many = len({record.batch_size for record in best_first}) > MOST_SIZES
        groups: dict[int, list[TrialRecord]] = {}
        for record in best_first:
            size = cast(int, record.batch_size)
            groups.setdefault(round(math.log2(size)) if has_many else size, []).append(record)
        return {cast(int, found[0].batch_size): found for _, found in sorted(groups.items())}

    def best_measured(self, read: Callable[[TrialRecord], T | None]) -> list[T]:
        """Return what `read` finds in the best trial of each batch size in which it finds anything."""
        found = (next((item for record in records if (item := read(record)) is not None), None)
                 for records in self.by_batch_size.values())  # fmt: skip
        return [item for item in found if item is not None]

    def rank(self, record: TrialRecord) -> float:
        """Return a number that is smaller for better trials, and infinite without a finite value."""
        return self.sign * record.value if record.value is not None and record.has_value else math.inf

    @property
    def batch_sizes(self) -> list[int]:
        """Global batch sizes that trials ran at, in samples, smallest first."""
        return sorted({record.batch_size for record in self.records if record.batch_size})


Source: TypeAlias = optuna.Study | StudyData
"""What every `plot_*` takes, alone or in a list."""


def load(study: Source, *, batch_size: str | None = None, lr: str | None = None) -> StudyData:
    """Return the study's data; data that is already read is returned as it is.

    Args:
        study: The study, ours or anyone's.
        batch_size: Name of the parameter that holds the global batch size, or its log2 where its name says so, where
            the study doesn't tell.
        lr: Name of the parameter that holds the learning rate, where the study doesn't tell.

    Raises:
        StorageError: Another version of bsopt wrote the study, in a format that this one doesn't read.
        ConfigError: A name was given that no trial of the study has.
    """
    if isinstance(study, StudyData):
        return study
    names = find_names(study, batch_size=batch_size, lr=lr)
    records = tuple(read_records(study, names=names))
    return StudyData(read_info(study, names=names), records, study, names=names)


def load_all(
    studies: Source | Sequence[Source], *, batch_size: str | None = None, lr: str | None = None
) -> list[StudyData]:
    """Return the data of one study or several, in their order; the names are as for `load`."""
    sources = studies if isinstance(studies, Sequence) else [studies]
    return [load(study, batch_size=batch_size, lr=lr) for study in sources]


def why_empty(sources: Sequence[StudyData], sentence: str) -> str:
    """Return why there is nothing to draw: that a study's two parameters are unknown, else the sentence given."""
    return next((data.unknown_names for data in sources if data.unknown_names), sentence)


def status_of(record: TrialRecord) -> Status:
    """Return how the trial is told apart."""
    if record.stop_reason in _BY_REASON and record.outcome != "running":
        return _BY_REASON[record.stop_reason]
    if record.outcome == "complete" and record.value is not None and not math.isfinite(record.value):
        return Status.DIVERGED
    return _BY_OUTCOME[record.outcome]


def spread_evenly(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many items, first and last among them, evenly spread over the others.

    >>> spread_evenly([1, 2, 3, 4, 5], 3)
    [1, 3, 5]
    """
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).astype(int)]
