"""What the designed runs of a study measured, as figures, verdicts and the report read it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import optuna

from bsopt.experiment.design import Design, design_of
from bsopt.experiment.findings.table import MEASUREMENTS, Run
from bsopt.experiment.findings.variants import arm_of_variant, findings_of_variant
from bsopt.experiment.findings.verdicts import Verdict, verdicts
from bsopt.experiment.measuring import Analysis, common_of, contour_rise, line_rises, measured, sharpness_of
from bsopt.serialization import to_plain
from bsopt.storage.attributes import read_analyses, read_info, read_records
from bsopt.trial.designed import DesignedRun
from bsopt.trial.record import StopReason, StudyInfo, TrialRecord

__all__ = ["Experiment", "ExperimentRun", "Minimizers", "experiment_of", "landscape_key", "line_key", "sharpness_key"]


@dataclass(frozen=True, slots=True)
class ExperimentRun:
    """One designed run that ended.

    Attributes:
        trial: Optuna's trial number.
        batch_size: Global batch size, samples.
        lr: Learning rate.
        seed: Runs of one seed started from the same weights.
        arms: Those that its configuration belongs to.
        record: All that the trial measured; its ticks are the curves.
        variant: Name of the variant whose settings it had; None for the study's own.
        measurements: Names of `bsopt.experiment.findings.table.MEASUREMENTS`, and `best_train_loss`,
            `curvature_times_lr` and `examined_loss` (the training loss where sharpness was examined) -> finite number;
            what wasn't measured isn't there. A run that diverged has its best losses alone.
    """

    trial: int
    batch_size: int
    lr: float
    seed: int
    arms: tuple[str, ...]
    record: TrialRecord
    variant: str | None = None
    measurements: Mapping[str, float] = field(default_factory=dict)

    @property
    def designed(self) -> DesignedRun:
        """Which run of the design it is."""
        return DesignedRun(self.batch_size, self.lr, self.seed, self.variant)

    @property
    def is_diverged(self) -> bool:
        """Whether its loss became NaN or infinite, or exploded."""
        return self.record.stop_reason is StopReason.DIVERGED or not math.isfinite(self.record.ticks[-1].value)


@dataclass(frozen=True, slots=True)
class Minimizers:
    """An analysis of one run's best weights, or of two runs'.

    Attributes:
        runs: The run, or the small-batch and the large-batch run.
        result: What `bsopt.analysis` found, as plain data: an `Interpolation` or a `Landscape2D`.
    """

    runs: tuple[ExperimentRun, ...]
    result: Analysis


@dataclass(frozen=True)  # no slots: what is derived is made on first use and kept
class Experiment:
    """A study's batch-size experiment.

    Attributes:
        info: What the study searches and how it trains.
        design: Which runs it consists of.
        runs: Those that ended, by batch size, learning rate and seed; without those of variants.
        analyses: Key -> stored analysis.
        varied: Runs of variants that ended, in the same order.
    """

    info: StudyInfo
    design: Design
    runs: tuple[ExperimentRun, ...]
    analyses: Mapping[str, Analysis] = field(default_factory=dict)
    varied: tuple[ExperimentRun, ...] = ()

    @property
    def num_missing(self) -> int:
        """Runs of the design that haven't ended yet; those that settle something come on top of it."""
        ended = {run.designed.key for run in (*self.runs, *self.varied)}
        return len({run.key for run in self.design.runs} - ended)

    def arm(self, name: str) -> tuple[ExperimentRun, ...]:
        """Return the runs of an arm, by batch size, learning rate and seed; `ARM/NAME` is a variant's."""
        arm, _, variant = name.partition("/")
        if variant:
            return tuple(run for run in self.varied if run.variant == variant and arm in run.arms)
        return tuple(run for run in self.runs if arm in run.arms)

    def values(self, measurement: str, arm: str) -> dict[int, dict[int, float]]:
        """Return batch size -> seed -> value of a measurement in an arm with one learning rate per batch size."""
        found: dict[int, dict[int, float]] = {}
        for run in self.arm(arm):
            if measurement in run.measurements:
                found.setdefault(run.batch_size, {})[run.seed] = run.measurements[measurement]
        return found

    @cached_property
    def lines(self) -> tuple[Minimizers, ...]:
        """The loss between the best weights of the smallest and of the largest batch size, by arm and seed."""
        by_trial = {run.trial: run for run in self.runs}
        found = []
        for key, result in self.analyses.items():
            kind, *trials = key.split(":")
            if kind == "line" and all(int(t) in by_trial for t in trials):
                found.append(Minimizers(tuple(by_trial[int(t)] for t in trials), result))
        return tuple(sorted(found, key=lambda pair: [(r.lr, r.seed, r.batch_size) for r in pair.runs]))

    @cached_property
    def landscapes(self) -> tuple[Minimizers, ...]:
        """The loss around the best weights, in two directions."""
        found = [
            Minimizers((run,), self.analyses[landscape_key(run.trial)])
            for run in self.runs
            if landscape_key(run.trial) in self.analyses
        ]
        return tuple(sorted(found, key=lambda one: (one.runs[0].lr, one.runs[0].batch_size)))

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The article's findings, judged by these runs."""
        return verdicts(list(self._rows(self.runs)))

    @cached_property
    def variant_verdicts(self) -> Mapping[str, tuple[Verdict, ...]]:
        """What these runs say of each variant, by its name; a family of tests of their own, beside the article's."""
        asked = {
            variant.name: findings_of_variant(variant.name, variant.arms, is_precision=variant.is_precision)
            for variant in self.design.variants
        }
        findings = [finding for found in asked.values() for finding in found]
        rows = [*self._rows(self.runs), *self._rows(self.varied)]
        judged = iter(verdicts(rows, findings=findings))
        return {name: tuple(next(judged) for _ in found) for name, found in asked.items()}

    def document(self) -> dict[str, Any]:
        """Return the design, what every run measured, the verdicts and the analyses, as plain data."""
        runs = [
            {
                "trial": run.trial,
                "batch_size": run.batch_size,
                "lr": run.lr,
                "seed": run.seed,
                "arms": list(run.arms),
                "variant": run.variant,
                "measurements": dict(run.measurements),
            }
            for run in (*self.runs, *self.varied)
        ]
        return {
            "study": self.info.name,
            "design": to_plain(self.design),
            "num_missing": self.num_missing,
            "runs": runs,
            "verdicts": to_plain(self.verdicts),
            "variant_verdicts": to_plain(self.variant_verdicts),
            "analyses": dict(self.analyses),
        }

    def _rows(self, runs: Iterable[ExperimentRun]) -> Iterator[Run]:
        known = set(MEASUREMENTS)
        for run in runs:
            found = {name: value for name, value in run.measurements.items() if name in known}
            for arm in run.arms:
                name = arm_of_variant(arm, run.variant)
                yield Run(run.batch_size, run.lr, name, run.seed, found, run.record.design_look)


def experiment_of(study: optuna.Study, records: Sequence[TrialRecord] | None = None) -> Experiment | None:
    """Return a study's experiment, None where its file asks for none.

    Args:
        study: The study.
        records: Its trials' records, where they are already read.
    """
    info = read_info(study)
    design = design_of(info)
    if design is None:
        return None
    analyses = read_analyses(study)
    ended = [r for r in (records if records is not None else read_records(study)) if _is_run(r)]
    runs = [run for record in ended if (run := _run(record, design)) is not None]
    runs = _with_measurements(runs, info.objective.monitor, analyses)
    runs.sort(key=lambda r: (r.batch_size, r.lr, r.seed))
    own, varied = ([r for r in runs if (r.variant is not None) is is_varied] for is_varied in (False, True))
    return Experiment(info, design, tuple(own), analyses, tuple(varied))


def sharpness_key(trial: int) -> str:
    """Return the key of the sharpness of a trial's best weights."""
    return f"sharpness:{trial}"


def line_key(first: int, second: int) -> str:
    """Return the key of the line between two trials' best weights."""
    return f"line:{first}:{second}"


def landscape_key(trial: int) -> str:
    """Return the key of the landscape around a trial's best weights."""
    return f"landscape:{trial}"


def _is_run(record: TrialRecord) -> bool:
    return record.design_seed is not None and record.outcome in ("complete", "pruned") and bool(record.ticks)


def _run(record: TrialRecord, design: Design) -> ExperimentRun | None:
    assert record.batch_size is not None
    assert record.lr is not None
    assert record.design_seed is not None
    arms, name = design.arms_of(record.batch_size, record.lr), record.design_variant
    if name is not None:
        wanted = next((variant.arms for variant in design.variants if variant.name == name), ())
        arms = tuple(arm for arm in arms if arm in wanted)
    if not arms:  # of an earlier design
        return None
    return ExperimentRun(record.number, record.batch_size, record.lr, record.design_seed, arms, record, name)


def _with_measurements(
    runs: Sequence[ExperimentRun], monitor: str, analyses: Mapping[str, Analysis]
) -> list[ExperimentRun]:
    """Return the runs with what they measured; what is compared at equal epochs or loss, as the fixed arm's allow."""
    own = [run for run in runs if run.variant is None]
    fixed = [run for run in own if "fixed_lr" in run.arms]
    common = common_of([run.record for run in fixed or own], monitor)
    rises = _line_rises({run.trial for run in fixed}, analyses)
    found = []
    for run in runs:
        examined: dict[str, float | None] = {}
        if not run.is_diverged:
            landscape = analyses.get(landscape_key(run.trial))
            examined = {
                **sharpness_of(analyses.get(sharpness_key(run.trial), {}), run.lr),
                "line_rise": rises.get(run.trial),
                "contour_rise": contour_rise(landscape) if landscape else None,
            }
        known = {name: value for name, value in examined.items() if value is not None}
        found.append(replace(run, measurements={**measured(run.record, monitor, common), **known}))
    return found


def _line_rises(fixed: Collection[int], analyses: Mapping[str, Analysis]) -> dict[int, float | None]:
    """Return trial -> range of the loss around its weights, on the line to the other end of the fixed arm."""
    found: dict[int, float | None] = {}
    for key, line in analyses.items():
        kind, *trials = key.split(":")
        if kind == "line" and all(int(trial) in fixed for trial in trials):
            found |= dict(zip(map(int, trials), line_rises(line), strict=True))
    return found
