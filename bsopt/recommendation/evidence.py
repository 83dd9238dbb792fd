"""All that a choice is made from: what was measured, the laws fitted to it, and what is asked about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import optuna

from bsopt.errors import ConfigError, PlanError
from bsopt.laws.communication import CommunicationFit, given_communication
from bsopt.laws.direction import best_possible
from bsopt.laws.estimate import FitStatus
from bsopt.laws.lattice import lattice_sizes, nearest_in_ratio
from bsopt.recommendation.equivalence import NEAR_OCTAVES, judge_sizes, trials_by_size
from bsopt.recommendation.fits import Fits, as_reported, fit_laws
from bsopt.recommendation.result import FrontPoint, SizeFinding, SizeState
from bsopt.storage.parameter_names import ParameterNames, find_names, unknown_names
from bsopt.trial.plan import Limits, Plan, nearest_realisable, realise
from bsopt.trial.record import StudyInfo, TrialRecord, ranked
from bsopt.units import parse_amount

__all__ = ["Evidence"]

MOST_SIZES = 12
"""A study with more sizes than this, on its lattice or else run, is told by powers of two."""
SPREAD_SHARE = 0.02
"""Share of (median − best) below which a difference doesn't matter, whatever the noise."""
ROOM_SHARE = 0.1
"""Share of what the best value could still improve by, up to which a difference may not matter: of a loss its tenth."""
SHORTER = 0.99
"""Share of the study's budget below which another budget needs a fit of its own."""


@dataclass(frozen=True)  # no slots: what follows from the fields is worked out on first use and kept
class Evidence:
    """What is known of a study, for the devices and the budget that are asked about.

    Attributes:
        info: What the study searches.
        records: Every trial.
        fits: The laws fitted to them.
        num_devices: Devices per node to plan for.
        num_nodes: Nodes to plan for.
        budget_samples: Nominal samples of a full training; None where nothing says.
        own_margin: Difference in value up to which a batch size counts as good as the best; None for the default.
        num_objectives: Values per trial; records and fits hold the first.
        front: With several, the trials that no other beats in all of them, by batch size.
        unknown: Why nothing can be told of the trials: which parameter is the batch size or the learning rate isn't
            known. Empty where it is.
    """

    info: StudyInfo
    records: tuple[TrialRecord, ...]
    fits: Fits
    num_devices: int
    num_nodes: int
    budget_samples: float | None
    own_margin: float | None = None
    num_objectives: int = 1
    front: tuple[FrontPoint, ...] = ()
    unknown: str = ""

    @classmethod
    def of(
        cls,
        info: StudyInfo,
        records: Sequence[TrialRecord],
        *,
        study: optuna.Study | None = None,
        names: ParameterNames | None = None,
        fits: Fits | None = None,
        num_devices: int | None = None,
        num_nodes: int | None = None,
        budget: float | str | None = None,
        bandwidth: float | None = None,
        margin: float | None = None,
        target: float | None = None,
    ) -> Evidence:
        """Return the evidence of a study or of records alone.

        Args:
            info: What the study searches.
            records: Its trials.
            study: The study itself, where it is at hand; `fit_laws` says what for.
            names: What that study calls its batch size and learning rate; None finds them.
            fits: The laws fitted to these records, where they are at hand.
            num_devices: Devices per node to plan for; the study's by default.
            num_nodes: Nodes to plan for; the study's by default.
            budget: Another training budget than the study's: samples, or text such as "40 epochs".
            bandwidth: Of the slowest link between the devices, in bytes per second, where no trial measured it.
            margin: Difference in value up to which a batch size counts as good as the best, in the objective's unit;
                by default the larger of one seed's deviation and 2 % of (median − best), the latter at most a tenth
                of the best loss.
            target: Value of the metric that times and costs are to; by default the study's own, and without one they
                are over the budget.

        Raises:
            ConfigError: A budget that can't be read, a bandwidth for a model of unknown size, a negative margin, or
                another target for a study whose values are the cost of reaching its own.
        """
        if target is not None:
            info, fits = _with_target(info, target), None
        if margin is not None and not margin >= 0:
            raise ConfigError(f"margin must be 0 or more, in the unit of {info.objective.value_name}; got {margin:g}.")
        records = records if study is None else as_reported(records, study)
        asked, own = _asked_samples(budget, info), info.budget_samples
        if asked is not None and own is not None and asked < SHORTER * own:
            fits = fit_laws(records, info, budget_samples=asked)
        elif fits is None:
            fits = fit_laws(records, info, study=study, names=names)
        if bandwidth is not None:
            has_many_nodes = (num_nodes or info.num_nodes) > 1
            fits = replace(fits, communication=_given_link(info, bandwidth, has_many_nodes=has_many_nodes))
        return cls(
            info=info,
            records=tuple(records),
            fits=fits,
            num_devices=num_devices or info.num_devices,
            num_nodes=num_nodes or info.num_nodes,
            budget_samples=asked or own,
            own_margin=margin,
            num_objectives=len(study.directions) if study is not None else 1,
            front=_front(study, records) if study is not None and len(study.directions) > 1 else (),
            unknown=unknown_names(study, names or find_names(study)) if study is not None else "",
        )

    @property
    def is_fitted(self) -> bool:
        """Whether the ridge says where the best value is; no law is fitted to several objectives."""
        return self.num_objectives == 1 and self.fits.ridge.status is FitStatus.OK

    @property
    def target(self) -> float | None:
        """The metric's value that times and costs are to; None where they are over the budget.

        Over the budget they are without a target of the study's own or of who asks: where runs cross another value,
        which tells batch sizes apart, says when the critical batch size is reached and not when the training is done.
        """
        steps = self.fits.steps
        if self.info.objective.target is None:
            return None
        return steps.target if steps.status in (FitStatus.OK, FitStatus.NOT_IDENTIFIED) else None

    @cached_property
    def best(self) -> TrialRecord | None:
        """The complete trial with the best finite value, or without one the best pruned trial."""
        pruned = [record for record in self.records if record.outcome == "pruned" and record.has_result]
        return next(iter(ranked(self.records, self.info.objective)), None) or min(
            pruned, key=lambda r: self.info.objective.sign * cast(float, r.value), default=None
        )

    @property
    def all_alike(self) -> bool:
        """Whether several trials ran to their end, all at the very same value."""
        values = [record.value for record in ranked(self.records, self.info.objective)]
        return len(values) > 1 and values[0] == values[-1]

    @cached_property
    def tried(self) -> tuple[float, float]:
        """The smallest and the largest batch size with a value; (1, 1) without any."""
        tried = [record.batch_size for record in self.records if record.batch_size and record.value is not None]
        return (float(min(tried)), float(max(tried))) if tried else (1.0, 1.0)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The sizes that are told apart: within the tried range the study's lattice, else those that ran.

        Of many the nearest to each power of two, and the best trial's own.
        """
        low, high = self.tried
        lattice = [size for size in self.info.batch_sizes if low <= size <= high]
        own = {record.batch_size for record in self.records if record.has_result and record.batch_size}
        best = self.best.batch_size if self.best is not None else None
        sizes = {*lattice, *([best] if best else [])} if lattice else own
        if len(sizes) <= MOST_SIZES:
            return tuple(sorted(sizes))
        powers = lattice_sizes("pow2", int(low), int(high))
        told = [nearest_in_ratio(power, lattice) for power in powers] if lattice else powers
        far = [size for size in told if best is None or abs(math.log2(size / best)) > NEAR_OCTAVES]
        return tuple(sorted({*far, *([best] if best else [])}))

    @cached_property
    def realisable(self) -> tuple[int, ...]:
        """Those of `sizes` that the devices asked about can train as they are."""
        plans = {size: self.plan_or_none(size) for size in self.sizes}
        return tuple(size for size, plan in plans.items() if plan is not None and plan.global_batch_size == size)

    @cached_property
    def by_size(self) -> Mapping[int, Sequence[TrialRecord]]:
        """The trials with a result at each of `sizes`."""
        return trials_by_size(self.records, self.sizes)

    @cached_property
    def margin(self) -> float:
        """Difference in value up to which a batch size counts as good as the best, in the objective's unit."""
        if self.own_margin is not None:
            return self.own_margin
        return max(self.fits.noise_sd or 0.0, min(SPREAD_SHARE * self.fits.spread, ROOM_SHARE * self._room))

    @property
    def _room(self) -> float:
        """How far the best value is from one that none can beat; infinite where there is no such value.

        Ranges that reach far beyond what trains well have a median far above the best, and 2 % of that may be half of a
        small loss.
        """
        sign, perfect = self.info.objective.sign, self.perfect_value
        values = [sign * cast(float, record.value) for record in self.records if record.has_result]
        return math.inf if perfect is None else min(values) - sign * perfect

    @property
    def perfect_value(self) -> float | None:
        """The value that none can beat, as far as the trials tell: 0 for a loss; None where there is no such value."""
        sign = self.info.objective.sign
        values = [sign * cast(float, record.value) for record in self.records if record.has_result]
        perfect = best_possible(min(values), max(values), sign=sign) if values else None
        return None if perfect is None else sign * perfect + 0.0  # which makes 0 of −0

    @cached_property
    def findings(self) -> tuple[SizeFinding, ...]:
        """What is known of each batch size beside the best one, smallest first; nothing before a trial has a result."""
        if self.best is None:
            return ()
        ridge = self.fits.ridge if self.is_fitted else None
        sign = self.info.objective.sign
        return judge_sizes(self.by_size, ridge, best=self.best_size, margin=self.margin, sign=sign)

    @cached_property
    def ties(self) -> tuple[int, ...]:
        """The sizes that were tested to be as good as the best, the best among them; smallest first."""
        return tuple(found.batch_size for found in self.findings if found.state is SizeState.TESTED)

    @cached_property
    def best_size(self) -> int:
        """The size with the best predicted value; a tie within the margin goes to the best trial's."""
        own = cast(int, cast(TrialRecord, self.best).batch_size)
        if not self.is_fitted:
            return own
        size = self.best_predicted_size
        if own in self._choosable and self._doubtful_value(own) - self._doubtful_value(size) <= self.margin:
            return own
        return size

    @cached_property
    def best_predicted_size(self) -> int:
        """The size with the best predicted value, doubt counted against it, of those where a trial ran to its end."""
        return min(self._choosable, key=self._doubtful_value)

    def is_predicted_best(self, size: int) -> bool:
        """Return whether no other of those sizes has a better predicted value, doubt left aside."""
        sign, found = self.info.objective.sign, {s: self.fits.ridge.predict(s) for s in (size, *self._choosable)}
        values = {s: sign * told.value.value for s, told in found.items() if told is not None}
        return size in values and values[size] <= min(values.values())

    @cached_property
    def _choosable(self) -> list[int]:
        complete = [s for s in self.sizes if any(r.outcome == "complete" for r in self.by_size[s])]
        own = cast(int, cast(TrialRecord, self.best).batch_size)
        return [size for size in complete if size in self.realisable] or complete or [own]

    @cached_property
    def size_beyond(self) -> int | None:
        """The next batch size beyond those tried, where the best one is the last of them; None where it isn't.

        Nor where the search ends there, the devices can't train it, or trials without a result show what is there.
        """
        low, high = self.info.batch_size_range or self.tried
        for end, factor in ((self.tried[1], 2.0), (self.tried[0], 0.5)):
            if self.best_size != end:
                continue
            size = nearest_in_ratio(end * factor, self.info.batch_sizes or [round(end * factor)])
            plan = self.plan_or_none(size) if low <= size <= high and (size > end) == (factor > 1) else None
            lost = [r.batch_size for r in self.records if r.batch_size and not r.has_result]
            is_lost = any(other >= size if factor > 1 else other <= size for other in lost)
            if size != end and plan is not None and plan.global_batch_size == size and not is_lost:
                return size
        return None

    def finding(self, size: int) -> SizeFinding | None:
        """Return what is known of a size; None where it is none of `sizes`."""
        return next((found for found in self.findings if found.batch_size == size), None)

    def counts(self, size: int) -> bool:
        """Return whether a size's cost counts: any that reaches the target, over a budget only those that tie."""
        return self.target is not None or size in self.ties

    def plan(self, size: int, num_devices: int | None = None, num_nodes: int | None = None) -> Plan:
        """Return how a size is realised on the devices asked about or on others, or the nearest size that can be.

        Raises:
            PlanError: None can.
        """
        n, searched = self.info.num_train_samples, self.info.batch_size_range
        limits = Limits(
            num_devices=num_devices or self.num_devices,
            num_nodes=num_nodes or self.num_nodes,
            max_micro_batch_size=self.info.max_micro_batch_size,
            max_global_batch_size=max(n, searched[1]) if n and searched else n,  # above n in tokens, say
        )
        try:
            return realise(size, limits)
        except PlanError:
            return nearest_realisable(size, limits)

    def plan_or_none(self, size: int, num_devices: int | None = None, num_nodes: int | None = None) -> Plan | None:
        """Return `plan`, or None where no size can be realised."""
        try:
            return self.plan(size, num_devices, num_nodes)
        except PlanError:
            return None

    def _doubtful_value(self, size: int) -> float:
        """Return the predicted value, to be minimised, moved halfway to the worse end of its interval."""
        found = self.fits.ridge.predict(size)
        if found is None:
            return math.inf
        sign, value = self.info.objective.sign, found.value
        worse = value.high if sign > 0 else value.low
        return sign * (value.value + 0.5 * (worse - value.value))


def _front(study: optuna.Study, records: Sequence[TrialRecord]) -> tuple[FrontPoint, ...]:
    """Return the Pareto front of the trials with a batch size and a learning rate, by batch size and first value."""
    placed = {record.number: record for record in records if record.has_result}
    points = [
        FrontPoint(cast(int, record.batch_size), cast(float, record.lr), tuple(trial.values), trial.number)
        for trial in study.best_trials
        if (record := placed.get(trial.number)) is not None
    ]
    return tuple(sorted(points, key=lambda point: (point.batch_size, point.values)))


def _with_target(info: StudyInfo, target: float) -> StudyInfo:
    objective = info.objective
    if not math.isfinite(target):
        raise ConfigError(f"a target must be a finite value of {objective.monitor}, got {target}.")
    if objective.cost is not None and target != objective.target:
        raise ConfigError(
            f"the study's values are {objective.value_name}: trials ended there, so another target can't be told."
        )
    return replace(info, objective=replace(objective, target=target))


def _asked_samples(budget: float | str | None, info: StudyInfo) -> float | None:
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


def _given_link(info: StudyInfo, bandwidth: float, *, has_many_nodes: bool) -> CommunicationFit:
    """Return the all-reduce of this model's gradients, 4 bytes each, over a link of a given bandwidth."""
    parameters = info.environment.get("num_parameters")
    if not parameters:
        raise ConfigError("a bandwidth needs the model's number of parameters, which this study doesn't know.")
    if bandwidth <= 0:
        raise ConfigError(f"bandwidth must be positive, got {bandwidth:g} bytes per second.")
    return given_communication(4.0 * parameters, bandwidth_bytes_per_second=bandwidth, many_nodes=has_many_nodes)
