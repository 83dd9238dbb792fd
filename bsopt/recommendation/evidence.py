"""All that a choice is made from, laid out once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import optuna

from bsopt.errors import ConfigError, PlanError
from bsopt.laws.communication import CommunicationFit, given_communication
from bsopt.laws.estimate import FitStatus
from bsopt.laws.lattice import lattice_sizes
from bsopt.recommendation.fits import Fits, fit_laws
from bsopt.recommendation.result import TIE_CHANCE
from bsopt.search.learning_curves import predicted_finals
from bsopt.storage.attributes import read_info, read_records
from bsopt.trial.plan import Limits, Plan, nearest_realisable, realise
from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.units import parse_amount

__all__ = ["Evidence", "best_size", "counts", "has_target", "plan_or_none"]


@dataclass(frozen=True, slots=True)
class Evidence:
    info: StudyInfo
    records: tuple[TrialRecord, ...]
    fits: Fits
    num_devices: int
    num_nodes: int
    budget: float | None  # samples
    max_micro: int | None
    sizes: tuple[int, ...]
    best: TrialRecord | None
    ties: tuple[int, ...]

    @classmethod
    def of(
        cls,
        study: optuna.Study,
        *,
        devices: int | None = None,
        nodes: int | None = None,
        budget: float | str | None = None,
        bandwidth: float | None = None,
        fits: Fits | None = None,
    ) -> Evidence:
        info, records = read_info(study), tuple(read_records(study))
        samples = _budget_samples(budget, info)
        shorter = samples is not None and info.budget_samples is not None and samples < 0.99 * info.budget_samples
        if shorter:
            fits = fit_laws(records, info, predictions={}, budget_samples=samples)
        elif fits is None:
            fits = fit_laws(records, info, predictions=predicted_finals(study, study.get_trials(deepcopy=False)))
        if bandwidth is not None:
            fits = replace(fits, communication=_given(info, bandwidth, many_nodes=(nodes or info.num_nodes) > 1))
        evidence = cls(
            info=info,
            records=records,
            fits=fits,
            num_devices=devices or info.num_devices,
            num_nodes=nodes or info.num_nodes,
            budget=samples or info.budget_samples,
            max_micro=info.max_micro_batch_size,
            sizes=(),
            best=_best(records, info),
            ties=(),
        )
        evidence = replace(evidence, sizes=evidence._candidates())
        own = {best_size(evidence)} if evidence.is_fitted else set()
        return replace(
            evidence, ties=tuple(b for b in evidence.sizes if b in own or evidence.chance(b) >= evidence.tie_chance)
        )

    @property
    def sign(self) -> float:
        return self.info.objective.sign

    @property
    def is_fitted(self) -> bool:
        return self.fits.ridge.status is FitStatus.OK

    @property
    def tried(self) -> tuple[float, float]:
        tried = [r.batch_size for r in self.records if r.batch_size and r.value is not None]
        return (float(min(tried)), float(max(tried))) if tried else (1.0, 1.0)

    def plan(self, size: int, devices: int | None = None, nodes: int | None = None) -> Plan:
        limits = Limits(
            num_devices=devices or self.num_devices,
            num_nodes=nodes or self.num_nodes,
            max_micro_batch_size=self.max_micro,
            max_global_batch_size=self.info.num_train_samples,
        )
        try:
            return realise(size, limits)
        except PlanError:
            return nearest_realisable(size, limits)

    def chance(self, size: int) -> float:
        """The chance that a batch size is within two noise deviations of the best, interpolated in log B."""
        ridge = self.fits.ridge
        if not self.is_fitted or not ridge.table:
            return 1.0 if self.best is not None and size == self.best.batch_size else 0.0
        at = [math.log2(row.batch_size) for row in ridge.table]
        x = min(max(math.log2(size), at[0]), at[-1])
        i = max(1, next((i for i, a in enumerate(at) if a >= x), len(at) - 1))
        share = (x - at[i - 1]) / (at[i] - at[i - 1])
        return (1.0 - share) * ridge.quality[i - 1] + share * ridge.quality[i]

    @property
    def tie_chance(self) -> float:
        return min(TIE_CHANCE, max((self.chance(b) for b in self.sizes), default=1.0))

    def _candidates(self) -> tuple[int, ...]:
        """Realisable sizes within the tried range: the study's lattice, else powers of two and the best trial's."""
        low, high = self.tried
        sizes = {b for b in self.info.batch_sizes if low <= b <= high}
        if not sizes:
            sizes = set(lattice_sizes("pow2", int(low), int(high)))
        if self.best is not None and self.best.batch_size:
            sizes.add(self.best.batch_size)
        plans = (plan_or_none(self, size) for size in sizes)
        return tuple(sorted({plan.global_batch_size for plan in plans if plan is not None}))


def _given(info: StudyInfo, bandwidth: float, *, many_nodes: bool) -> CommunicationFit:
    """The all-reduce of this model's gradients, 4 bytes each, over a link of a given bandwidth."""
    parameters = info.environment.get("num_parameters")
    if not parameters:
        raise ConfigError("a bandwidth needs the model's number of parameters, which this study doesn't know.")
    if bandwidth <= 0:
        raise ConfigError(f"bandwidth must be positive, got {bandwidth:g} bytes per second.")
    return given_communication(4.0 * parameters, bandwidth_bytes_per_second=bandwidth, many_nodes=many_nodes)


def plan_or_none(evidence: Evidence, size: int, devices: int | None = None, nodes: int | None = None) -> Plan | None:
    try:
        return evidence.plan(size, devices, nodes)
    except PlanError:
        return None


def _best(records: Sequence[TrialRecord], info: StudyInfo) -> TrialRecord | None:
    sign = info.objective.sign
    ended = [r for r in records if r.batch_size and r.lr and r.value is not None and math.isfinite(r.value)]
    complete = [r for r in ended if r.outcome == "complete"] or [r for r in ended if r.outcome == "pruned"]
    return min(complete, key=lambda r: sign * cast(float, r.value), default=None)


def _budget_samples(budget: float | str | None, info: StudyInfo) -> float | None:
    if budget is None:
        return None
    amount = parse_amount(budget, default="samples", allowed=("samples", "epochs"))
    if amount.unit == "samples":
        return amount.value
    if info.num_train_samples is None:
        raise ConfigError(
            f"a budget of {amount} needs the training set's size, which this study doesn't know; give samples."
        )
    return amount.value * info.num_train_samples


def best_size(evidence: Evidence) -> int:
    """The size with the best predicted value, doubt counted against it; a tie goes to the best trial's."""
    best_trial = cast(int, cast(TrialRecord, evidence.best).batch_size)

    def score(size: int) -> float:
        found = evidence.fits.ridge.predict(size)
        if found is None:
            return math.inf
        worse = found.value.high if evidence.sign > 0 else found.value.low
        return evidence.sign * (found.value.value + 0.5 * (worse - found.value.value))

    size = min(evidence.sizes, key=score)
    if best_trial in evidence.sizes and score(best_trial) - score(size) <= (evidence.fits.noise_sd or 0.0):
        return best_trial
    return size


def counts(evidence: Evidence, size: int) -> bool:
    """To a target every size that reaches it counts; over a budget only those that tie with the best."""
    return has_target(evidence) or size in evidence.ties


def has_target(evidence: Evidence) -> bool:
    return evidence.fits.steps.status in (FitStatus.OK, FitStatus.NOT_IDENTIFIED)
