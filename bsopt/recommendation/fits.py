"""Records in, fitted laws out: everything that answers, figures and reports know about a study, in one value."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TypeVar, cast

import numpy as np
import optuna

from bsopt.laws.communication import CommunicationFit, PlacementPoint, fit_communication
from bsopt.laws.estimate import Estimate, FitStatus
from bsopt.laws.lattice import Lattice
from bsopt.laws.learning_curves import PredictedFinal
from bsopt.laws.lr_ridge import LrRidgeFit, fit_lr_ridge, read_ridge
from bsopt.laws.scaling import default_reference
from bsopt.laws.step_time import MemoryFit, PowerFit, StepTimeFit, fit_memory, fit_power, fit_step_time
from bsopt.laws.steps_to_target import StepsToTargetFit, TargetRun, fit_steps_to_target
from bsopt.laws.surface_prior import RidgePrior, ridge_prior
from bsopt.laws.value_surface import RidgePoint, ValueSurface, fit_values
from bsopt.recommendation.target_runs import runs_to_target
from bsopt.search.history import joint_space
from bsopt.search.learning_curves import means_of_reports, predicted_finals, what_is_reported
from bsopt.search.model import ANSWER_SEED, Model, Settings
from bsopt.storage.parameter_names import BATCH_SIZE, LR, ParameterNames, find_names
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason, StudyInfo, TrialRecord

__all__ = ["Fits", "as_reported", "fit_laws"]

_K = TypeVar("_K", bound=Hashable)

MIN_REPEATS = 3
"""Degrees of freedom from repeated settings below which the noise is taken from the fit."""
NOISE_TRIALS = 8
"""Complete trials from which the fit tells the noise: with 5, 90 % intervals for one more run held 44 to 67 %."""
REPEATS = 1.05
"""Published repeats of a step on several devices differ by 5 to 10 %: at least so far its interval reaches."""
NOISE_METRIC = "bsopt/noise_scale"
"""What the callback GradientNoiseScale logs."""


@dataclass(frozen=True, slots=True)
class Fits:
    """Every law fitted to a study; each says in its `status` and `message` what it is worth.

    Attributes:
        surface: What is believed of the value over batch size and learning rate; None without any value.
        ridge: The best learning rate at each batch size, and the value there.
        steps: Samples and steps to the target, and the critical batch size.
        target_runs: What that was fitted to: the quickest run of each batch size.
        step_time: Seconds of a step against the micro-batch, on placements of `step_time_world` ranks.
        memory: Peak bytes of a device against the micro-batch.
        power: Mean watts of a device.
        communication: What several devices add.
        updates: Seconds of an update where ranks ran, by (micro-batch, accumulation, devices, nodes), each the median
            over its trials.
        noise_sd: Standard deviation of a repeated trial's value; None where nothing tells it.
        run_sd: What noise adds to one more run's value: by the ridge, what isn't known of it included, or by repeated
            settings where those say more: noise that differs from place to place, or has heavy tails. None where fewer
            than `NOISE_TRIALS` trials ran to their end and no setting was repeated often enough.
        noise_is_repeated: Whether it comes from repeated settings, and not from the ridge's fit.
        repeats_agree: Whether settings repeated as often gave the very same values: of the same seed, or no noise.
        noise_scale: The gradient noise scale in samples, the median over the trials that measured it.
        num_complete: Complete trials with a finite value.
    """

    surface: ValueSurface | None
    ridge: LrRidgeFit
    steps: StepsToTargetFit
    target_runs: tuple[TargetRun, ...]
    step_time: StepTimeFit
    memory: MemoryFit
    power: PowerFit
    communication: CommunicationFit
    step_time_world: int = 1
    updates: Mapping[tuple[int, int, int, int], Estimate] = field(default_factory=dict)
    noise_sd: float | None = None
    run_sd: float | None = None
    noise_is_repeated: bool = False
    repeats_agree: bool = False
    noise_scale: Estimate | None = None
    num_complete: int = 0

    @property
    def spread(self) -> float:
        """Median − best of the values to expect over the searched ranges, in the objective's unit; 0 without any."""
        if self.surface is None or len(told := self.surface.belief.data.y) == 0 or np.ptp(told) <= 0:
            return 0.0
        return self.surface.spread

    def measured_update(self, plan: Plan) -> Estimate | None:
        """Return the seconds of an update as trials of several devices ran it; None where none ran this plan."""
        return self.updates.get(_placement(plan)) if plan.world_size > 1 else None


def fit_laws(
    records: Sequence[TrialRecord],
    info: StudyInfo,
    *,
    study: optuna.Study | None = None,
    names: ParameterNames | None = None,
    budget_samples: float | None = None,
) -> Fits:
    """Fit every law to the records; with too few, each fit says so. Those of an experiment's variants don't count.

    Args:
        records: The trials, in any order.
        info: What the study searches.
        study: The study that they belong to, where it is at hand: then a pruned trial counts with the final value
            predicted for it, else with the best that it reached.
        names: What that study calls its batch size and learning rate; None finds them.
        budget_samples: Judge each trial by its best value within this many samples, as if it had ended there;
            predictions, which are for the study's own budget, don't count then.
    """
    predicted: Mapping[int, PredictedFinal] = {}
    if study is not None:
        records = as_reported(records, study)
    own = [record for record in records if record.design_variant is None]
    has_variants, records = len(own) < len(records), own
    if budget_samples is not None:
        records = [_truncated(record, budget_samples, info) for record in records]
    elif study is not None:
        called = names or find_names(study)
        predicted = predicted_finals(
            study,
            study.get_trials(deepcopy=False),
            batch_size=called.batch_size or BATCH_SIZE,
            lr=called.lr or LR,
        )
    surface = None
    if study is not None and budget_samples is None and not has_variants:  # its sampler sees all trials alike
        surface = _belief(study, info, names or find_names(study))
    if surface is None:
        surface = _fitted(records, info, predicted)
    ridge = read_ridge(surface) if surface is not None else fit_lr_ridge([])
    target, runs = runs_to_target(records, info, ridge)
    runs = tuple(run.scaled(info.units_per_sample) for run in runs)
    world = _common_world(records)
    step_time = fit_step_time(_step_seconds(records, world))
    between_repeats = _repeated_sd(records)
    repeated = between_repeats or None  # the very same values tell nothing of seeds
    num_complete = sum(_is_complete(record) for record in records)
    fitted_sd = ridge.run_sd if num_complete >= NOISE_TRIALS else None
    return Fits(
        surface=surface,
        ridge=ridge,
        steps=_steps_to_target(runs, target, info),
        target_runs=runs,
        step_time=step_time,
        memory=fit_memory(_peak_bytes(records)),
        power=fit_power(_watts(records), step_time=step_time),
        communication=fit_communication(_placements(records), step_time=step_time if world == 1 else None),
        step_time_world=world,
        updates=_updates(records),
        noise_sd=repeated if repeated is not None else ridge.noise_sd,
        run_sd=fitted_sd if repeated is None else max(repeated, ridge.run_sd or 0.0),
        noise_is_repeated=repeated is not None,
        repeats_agree=between_repeats == 0.0,
        noise_scale=_noise_scale(records),
        num_complete=num_complete,
    )


def as_reported(records: Sequence[TrialRecord], study: optuna.Study) -> Sequence[TrialRecord]:
    """Return records as they are, unless their reports are no curve (`what_is_reported`).

    Then a pruned trial has no value. Where reports are the parts of a value it has their mean, and no record has ticks.

    Args:
        records: Of the study's trials.
        study: The study.
    """
    trials = study.get_trials(deepcopy=False)
    if len(study.directions) > 1 or (kind := what_is_reported(study, trials)) == "curve":
        return records
    if kind == "parts":
        means = {number: mean for number, (mean, _) in means_of_reports(trials).items()}
        records = [replace(record, ticks=(), best_tick=None) for record in records]
    else:
        means = {}
    return [replace(r, value=means.get(r.number)) if r.outcome == "pruned" else r for r in records]


# --- what the records say --------------------------------------------------------------------------------------


def _is_complete(record: TrialRecord) -> bool:
    return record.has_result and record.outcome == "complete"


def _truncated(record: TrialRecord, budget: float, info: StudyInfo) -> TrialRecord:
    ticks = tuple(t for t in record.ticks if t.samples <= 1.001 * budget)
    finite = [t for t in ticks if math.isfinite(t.value)]
    if not record.ticks or not finite or info.objective.cost is not None:
        return record
    sign = info.objective.metric_sign
    best = min(finite, key=lambda t: sign * t.value)
    is_whole = record.ticks[-1].samples >= 0.999 * budget and record.outcome == "pruned"
    outcome = "complete" if is_whole and record.stop_reason is not StopReason.DIVERGED else record.outcome
    return replace(record, ticks=ticks, value=best.value, best_tick=best.index, outcome=outcome)


def _belief(study: optuna.Study, info: StudyInfo, names: ParameterNames) -> ValueSurface | None:
    """Return what the search believes of the study's values; None where it searches not both parameters."""
    trials = study.get_trials(deepcopy=False)
    lattice: Lattice = info.search.lattice if info.search is not None else "pow2"
    size, rate = names.batch_size or BATCH_SIZE, names.lr or LR
    settings = Settings(_ridge_prior(info), lattice, size, rate, ANSWER_SEED)
    distributions = joint_space(trials)
    if len(study.directions) > 1 or not {size, rate} <= distributions.keys():
        return None
    model = Model.of(study, trials, distributions, settings=settings, is_thorough=True)
    has_both = model.prior.has_batch_size and model.prior.has_lr  # a name alone may hold what can't be read
    return model.values if has_both else None


def _fitted(
    records: Sequence[TrialRecord], info: StudyInfo, predicted: Mapping[int, PredictedFinal]
) -> ValueSurface | None:
    """Return the belief that records alone give; None where none has a value."""
    points = _ridge_points(records, predicted)
    if not any(math.isfinite(point.value) for point in points):
        return None
    return fit_values(
        points,
        ridge=_ridge_prior(info),
        direction=info.objective.value_direction,
        batch_size_range=info.batch_size_range,
        lr_range=info.lr_range,
    )


def _ridge_prior(info: StudyInfo) -> RidgePrior:
    """Return where the study expected lr*(B): what its sampler was told, or nothing where the sampler isn't ours."""
    asked = info.search
    reference = info.reference or (default_reference(info.optimizer) if info.optimizer else None)
    return ridge_prior(info.optimizer, asked.rule if asked is not None else info.rule, reference)


def _ridge_points(records: Sequence[TrialRecord], predictions: Mapping[int, PredictedFinal]) -> list[RidgePoint]:
    points = []
    for record in records:
        if not record.is_placed or not record.is_feasible:
            continue
        size, lr = cast(int, record.batch_size), cast(float, record.lr)
        predicted = predictions.get(record.number)
        if record.stop_reason is StopReason.DIVERGED:
            points.append(RidgePoint(size, lr, math.nan))
        elif record.outcome == "complete" and record.value is not None:
            points.append(RidgePoint(size, lr, record.value))
        elif (
            record.outcome == "pruned" and predicted is not None and record.stop_reason is not StopReason.OUT_OF_MEMORY
        ):
            points.append(RidgePoint(size, lr, predicted.mean, predicted.sd))
        elif record.outcome == "pruned" and record.value is not None and record.ticks:
            points.append(RidgePoint(size, lr, record.value))
    return points


def _steps_to_target(runs: Sequence[TargetRun], target: float | None, info: StudyInfo) -> StepsToTargetFit:
    if info.step_unit is None and runs:
        message = (
            "The study doesn't say what its reports are counted in, so nothing is told of samples to a target: "
            "--step-unit samples, epochs or steps (optimizer updates) says it."
        )
        return StepsToTargetFit(FitStatus.TOO_FEW, message, 0, len(runs))
    gaps = [run.resolution_samples for run in runs if run.resolution_samples is not None]
    default = info.units_per_sample * (info.tick_samples or 0.0)
    return fit_steps_to_target(runs, target=target, resolution_samples=median(gaps) if gaps else default)


def _common_world(records: Sequence[TrialRecord]) -> int:
    worlds = [record.plan.world_size for record in records if record.plan is not None and record.seconds_per_step]
    return 1 if not worlds or 1 in worlds else max(sorted(set(worlds)), key=worlds.count)


def _medians(groups: Mapping[_K, Sequence[float]]) -> list[tuple[_K, float]]:
    """One median per setting: how many trials ran there says nothing more about the hardware."""
    return [(key, median(values)) for key, values in groups.items()]


def _step_seconds(records: Sequence[TrialRecord], world: int) -> list[tuple[float, float]]:
    groups: dict[float, list[float]] = {}
    for record in records:
        plan = record.plan
        if plan is not None and plan.world_size == world and record.seconds_per_step:
            seconds = record.seconds_per_step / plan.accumulate_grad_batches
            groups.setdefault(plan.micro_batch_size, []).append(seconds)
    return _medians(groups)


def _peak_bytes(records: Sequence[TrialRecord]) -> list[tuple[float, float]]:
    groups: dict[float, list[float]] = {}
    for record in records:
        size = record.plan.micro_batch_size if record.plan is not None else record.batch_size
        if size and record.peak_memory_bytes and record.stop_reason is not StopReason.OUT_OF_MEMORY:
            groups.setdefault(size, []).append(record.peak_memory_bytes)
    return _medians(groups)


def _watts(records: Sequence[TrialRecord]) -> list[tuple[float, float]]:
    groups: dict[float, list[float]] = {}
    for record in records:
        if record.plan is not None and record.energy_joules and record.seconds:
            watts = record.energy_joules / record.seconds / record.plan.world_size
            groups.setdefault(record.plan.micro_batch_size, []).append(watts)
    return _medians(groups)


def _placements(records: Sequence[TrialRecord]) -> list[PlacementPoint]:
    groups: dict[tuple[int, int, int], list[float]] = {}
    for record in records:
        plan = record.plan
        if plan is not None and plan.accumulate_grad_batches == 1 and record.seconds_per_step:
            key = (plan.micro_batch_size, plan.num_devices, plan.num_nodes)
            groups.setdefault(key, []).append(record.seconds_per_step)
    return [PlacementPoint(*key, seconds) for key, seconds in _medians(groups)]


def _placement(plan: Plan) -> tuple[int, int, int, int]:
    return plan.micro_batch_size, plan.accumulate_grad_batches, plan.num_devices, plan.num_nodes


def _updates(records: Sequence[TrialRecord]) -> dict[tuple[int, int, int, int], Estimate]:
    groups: dict[tuple[int, int, int, int], list[float]] = {}
    for record in records:
        if record.plan is not None and record.plan.world_size > 1 and record.seconds_per_step:
            groups.setdefault(_placement(record.plan), []).append(record.seconds_per_step)
    found = {}
    for key, middle in _medians(groups):
        low, high = min(groups[key]), max(groups[key])
        found[key] = Estimate(middle, min(low, middle / REPEATS), max(high, middle * REPEATS))
    return found


def _repeated_sd(records: Sequence[TrialRecord]) -> float | None:
    """Pooled standard deviation of complete trials whose every parameter is the same to 1 %; None of too few."""
    groups: dict[tuple[object, ...], list[float]] = {}
    for record in records:
        if _is_complete(record):
            others = sorted((k, str(v)) for k, v in record.further.items())
            key = (record.batch_size, round(math.log(cast(float, record.lr)), 2), *others)
            groups.setdefault(key, []).append(cast(float, record.value))
    repeats = [values for values in groups.values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in repeats)
    if freedom < MIN_REPEATS:
        return None
    if all(min(values) == max(values) for values in repeats):
        return 0.0
    return math.sqrt(sum(float(np.var(values)) * len(values) for values in repeats) / freedom)


def _noise_scale(records: Sequence[TrialRecord]) -> Estimate | None:
    last = [
        next((t.metrics[NOISE_METRIC] for t in reversed(record.ticks) if NOISE_METRIC in t.metrics), math.nan)
        for record in records
    ]
    found = [scale for scale in last if math.isfinite(scale) and scale > 0]
    if not found:
        return None
    return Estimate(median(found), min(found), max(found))
