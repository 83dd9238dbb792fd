"""Fits and a goal in, an answer out: which batch size and learning rate, how to run it, and how sure that is.

`bsopt.recommend` is this module, and calling it calls `recommend`.
"""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import optuna

from bsopt.amounts import parse_amount
from bsopt.errors import ConfigError, PlanError, nearest
from bsopt.fits import Fits, fit_laws, value_direction
from bsopt.laws.communication import predict_update_seconds
from bsopt.laws.fitting import Estimate, FitStatus, to_plain
from bsopt.laws.scaling import default_rule, scaled_adam
from bsopt.plan import Limits, Plan, nearest_realisable, realise
from bsopt.records import StudyInfo, TrialRecord
from bsopt.search.curves import predicted_finals
from bsopt.search.storage import read_info, read_records

__all__ = ["GOALS", "Answer", "Choice", "Cost", "Goal", "Recommendation", "answers", "recommend"]

Goal = Literal["quality", "largest", "fastest", "cheapest"]
GOALS: tuple[Goal, ...] = ("quality", "largest", "fastest", "cheapest")

TIE_CHANCE = 0.5
"""Chance of being within two noise deviations of the best from which a batch size ties with it."""
WARMUP_EPOCHS, WARMUP_SHARE, WARMUP_FROM = 5.0, 0.1, 1.5
"""Goyal et al. 2017: 5 epochs; at most a tenth of the budget, where the rate is 1.5 times the smallest size's."""
SMALL_BATCH_NORM = 16
BUDGET_EXPONENT = 0.65
"""B_best ∝ budget^0.65: 128 to 1,024 sequences from 4 to 100 B tokens (a 215 M language model; FACTS of step laws)."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one batch size costs on one placement, to the target or, without one, over the budget."""

    batch_size: int
    plan: Plan
    samples: Estimate
    seconds: Estimate
    device_hours: Estimate
    energy_joules: Estimate | None


@dataclass(frozen=True, slots=True)
class Choice:
    """One batch size with all that running it takes.

    Attributes:
        goal: What it is best for.
        lr: Learning rate; the bounds are infinite where no law is fitted.
        value: Expected value of the metric after the study's budget.
        warmup_samples: Samples over which to raise the learning rate from `lr` × `warmup_start`; 0 for none, None where
            the training set's size and the budget are unknown.
        companions: What else should move with the batch size, relative to the best trial's: Adam's betas and eps, and
            the factor on a decoupled weight decay that keeps its timescale.
        cost: To the target or over the budget; None where times were not measured.
        reasons: Why, a sentence each.
    """

    goal: Goal
    batch_size: int
    lr: Estimate
    plan: Plan
    value: Estimate | None = None
    warmup_samples: float | None = None
    warmup_start: float = 1.0
    companions: Mapping[str, float] | None = None
    cost: Cost | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The answer to a goal, the answers to the other goals, and what to know before trusting them.

    Attributes:
        status: `ok`, or why there is no answer yet or only the best trial so far.
        sentence: The answer with its uncertainty, in one sentence.
        choice: None where no trial succeeded.
        alternatives: The choices for the other goals, where the data tell them.
        ties: Batch sizes as good as the best within noise.
        caveats: Edges, other budgets, unidentified laws.
        pareto: Costs that no other placement or batch size beats in both time and device-hours.
    """

    status: FitStatus
    sentence: str
    study: str
    monitor: str
    choice: Choice | None = None
    alternatives: tuple[Choice, ...] = ()
    ties: tuple[int, ...] = ()
    caveats: tuple[str, ...] = ()
    pareto: tuple[Cost, ...] = ()
    critical_batch_size: Estimate | None = None

    @property
    def finalists(self) -> tuple[tuple[int, float], ...]:
        """Batch sizes and learning rates worth repeating over fresh seeds: the choice's and the alternatives'."""
        choices = [c for c in (self.choice, *self.alternatives) if c is not None]
        return tuple({c.batch_size: (c.batch_size, c.lr.value) for c in reversed(choices)}.values())[::-1]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON; infinite bounds become None."""
        plain: dict[str, Any] = _finite(to_plain(self))
        return plain

    def to_yaml(self) -> str:
        """Return the choice as a LightningCLI configuration; empty without a choice."""
        if self.choice is None:
            return ""
        plan = self.choice.plan
        lines = [
            f"# {self.sentence}",
            "model:",
            f"  lr: {self.choice.lr.value:.4g}",
            "data:",
            f"  batch_size: {plan.micro_batch_size}",
            "trainer:",
            f"  accumulate_grad_batches: {plan.accumulate_grad_batches}",
            f"  devices: {plan.num_devices}",
            f"  num_nodes: {plan.num_nodes}",
        ]
        return "\n".join(lines) + "\n"

    def to_lightning(self) -> str:
        """Return the choice as Python to paste; empty without a choice."""
        if self.choice is None:
            return ""
        plan = self.choice.plan
        placement = f"devices={plan.num_devices}, num_nodes={plan.num_nodes}"
        return (
            f"model = YourModule(lr={self.choice.lr.value:.4g})\n"
            f"data = YourDataModule(batch_size={plan.micro_batch_size})  # {plan} samples per optimizer update\n"
            f"trainer = Trainer(accumulate_grad_batches={plan.accumulate_grad_batches}, {placement})\n"
            "trainer.fit(model, datamodule=data)\n"
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """A question people ask about batch sizes, answered from one study.

    Attributes:
        basis: What the answer rests on; "not measured" where nothing does.
    """

    question: str
    answer: str
    basis: str


def recommend(
    study: optuna.Study,
    *,
    goal: str = "quality",
    num_devices: int | None = None,
    num_nodes: int | None = None,
    batch_size: int | None = None,
    budget: float | str | None = None,
) -> Recommendation:
    """Return which batch size and learning rate to train with.

    Args:
        study: Any single-objective study with parameters `batch_size` and `lr`, ours or anyone's.
        goal: `quality` (best value at the budget), `largest` (largest batch size that costs nothing in quality beyond
            noise), `fastest` (least time to the target, or over the budget) or `cheapest` (least energy, or
            device-hours).
        num_devices: Devices per node to plan for; the study's by default.
        num_nodes: Nodes; the study's by default.
        batch_size: Answer for this global batch size instead.
        budget: Another training budget than the study's: samples, or text such as "40 epochs".

    Raises:
        ConfigError: An unknown goal, or a budget that can't be read.
    """
    if goal not in GOALS:
        raise ConfigError(f"unknown goal {goal!r}; allowed are {', '.join(GOALS)}." + nearest(goal, GOALS))
    desk = _Desk.of(study, num_devices, num_nodes, budget)
    best = desk.best
    if best is None:
        count = len(desk.records)
        return Recommendation(
            FitStatus.TOO_FEW,
            f"None of {count} trials ended with a finite value, so there is no answer yet."
            if count
            else "No trial has run yet, so there is no answer.",
            desk.info.name,
            desk.info.monitor,
        )
    choices = {name: _choose(desk, name) for name in GOALS}
    asked = next(name for name in GOALS if name == goal)
    choice = choices[asked] if batch_size is None else _at(desk, batch_size, asked, ("You asked for this batch size.",))
    missing: tuple[str, ...] = ()
    if choice is None:
        choice, missing = choices["quality"], (_why_missing(desk, asked),)
    assert choice is not None  # quality always has one where a trial succeeded
    status = FitStatus.OK if desk.is_fitted else desk.fits.ridge.status
    return Recommendation(
        status,
        _sentence(desk, choice),
        desk.info.name,
        desk.info.monitor,
        choice=choice,
        alternatives=tuple(c for name, c in choices.items() if c is not None and name != choice.goal),
        ties=desk.ties,
        caveats=(*missing, *_caveats(desk, choice)),
        pareto=_pareto(desk),
        critical_batch_size=desk.fits.steps.critical_batch_size,
    )


# --- the desk: all that a choice is made from --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Desk:
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
    def of(cls, study: optuna.Study, devices: int | None, nodes: int | None, budget: float | str | None) -> _Desk:
        info, records = read_info(study), tuple(read_records(study))
        samples = _budget_samples(budget, info)
        shorter = samples is not None and info.budget_samples is not None and samples < 0.99 * info.budget_samples
        predicted = {} if shorter else predicted_finals(study, study.get_trials(deepcopy=False))
        fits = fit_laws(records, info, predictions=predicted, budget_samples=samples if shorter else None)
        desk = cls(
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
        desk = replace(desk, sizes=desk._candidates())
        own = {_best_size(desk)} if desk.is_fitted else set()
        return replace(desk, ties=tuple(b for b in desk.sizes if b in own or desk.chance(b) >= desk.tie_chance))

    @property
    def sign(self) -> float:
        return -1.0 if value_direction(self.info) == "maximize" else 1.0

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
            sizes = {2**k for k in range(31) if low <= 2**k <= high}
        if self.best is not None and self.best.batch_size:
            sizes.add(self.best.batch_size)
        plans = (_plan_or_none(self, size) for size in sizes)
        return tuple(sorted({plan.global_batch_size for plan in plans if plan is not None}))


def _plan_or_none(desk: _Desk, size: int, devices: int | None = None, nodes: int | None = None) -> Plan | None:
    try:
        return desk.plan(size, devices, nodes)
    except PlanError:
        return None


def _best(records: Sequence[TrialRecord], info: StudyInfo) -> TrialRecord | None:
    sign = -1.0 if value_direction(info) == "maximize" else 1.0
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


# --- choices -------------------------------------------------------------------------------------------------


def _choose(desk: _Desk, goal: Goal) -> Choice | None:
    best = cast(TrialRecord, desk.best)
    if goal == "quality":
        if not desk.is_fitted:
            return _at(desk, cast(int, best.batch_size), goal, (f"It is the best of {_counted(desk)} so far.",))
        return _at(desk, _best_size(desk), goal, ("Its predicted value is the best of all batch sizes tried.",))
    if goal == "largest":
        if not desk.is_fitted:
            return None
        size = max(desk.ties)
        reason = f"The chance that its value is within noise of the best is {desk.chance(size):.0%}."
        return _at(desk, size, goal, (reason,))
    costs = [cost for size in desk.sizes for cost in _costs(desk, size) if _counts(desk, size)]
    if goal == "fastest":
        own = [c for c in costs if (c.plan.num_devices, c.plan.num_nodes) == (desk.num_devices, desk.num_nodes)]
        quickest = min(own, key=lambda c: c.seconds.value, default=None)
        if quickest is None:
            return None
        reason = (
            f"It takes {_duration(quickest.seconds)} {_to_what(desk)} on {_where(quickest.plan)}, the least of all."
        )
        return _at(desk, quickest.batch_size, goal, (reason,), cost=quickest)
    cheapest = min(
        costs, key=lambda c: c.energy_joules.value if c.energy_joules else c.device_hours.value * 1e12, default=None
    )
    if cheapest is None:
        return None
    what = (
        f"{cheapest.energy_joules.value / 3.6e6:.3g} kWh"
        if cheapest.energy_joules
        else f"{cheapest.device_hours.value:.3g} device-hours"
    )
    return _at(
        desk,
        cheapest.batch_size,
        goal,
        (f"It costs {what} {_to_what(desk)} on {_where(cheapest.plan)}.",),
        cost=cheapest,
    )


def _counts(desk: _Desk, size: int) -> bool:
    """To a target every size that reaches it counts; over a budget only those that tie with the best."""
    return _has_target(desk) or size in desk.ties


def _best_size(desk: _Desk) -> int:
    """The size with the best predicted value, doubt counted against it; a tie goes to the best trial's."""
    best_trial = cast(int, cast(TrialRecord, desk.best).batch_size)

    def score(size: int) -> float:
        found = desk.fits.ridge.predict(size)
        if found is None:
            return math.inf
        worse = found.value.high if desk.sign > 0 else found.value.low
        return desk.sign * (found.value.value + 0.5 * (worse - found.value.value))

    size = min(desk.sizes, key=score)
    if best_trial in desk.sizes and score(best_trial) - score(size) <= (desk.fits.noise_sd or 0.0):
        return best_trial
    return size


def _at(desk: _Desk, size: int, goal: Goal, reasons: tuple[str, ...], *, cost: Cost | None = None) -> Choice:
    plan = cost.plan if cost else desk.plan(size)
    if plan.global_batch_size != size:
        reasons = (
            *reasons,
            f"{size} can't be realised on {_where(plan)}; the nearest that can is {plan.global_batch_size}.",
        )
        size = plan.global_batch_size
    found = desk.fits.ridge.predict(size) if desk.is_fitted else None
    best = cast(TrialRecord, desk.best)
    value: Estimate | None
    if found is not None:
        lr, value = found.lr, found.value
        if found.is_extrapolated:
            reasons = (*reasons, "No trial ran near this batch size: its learning rate and value are extrapolated.")
    else:
        at_size = [r for r in desk.records if r.batch_size == size and r.lr and r.value is not None]
        own = min(at_size, key=lambda r: desk.sign * cast(float, r.value), default=best)
        lr = Estimate(cast(float, own.lr), 0.0, math.inf)
        value = Estimate(cast(float, own.value), -math.inf, math.inf) if own.batch_size == size else None
        if own.batch_size != size:
            reasons = (
                *reasons,
                f"No trial ran at {size}; the learning rate is that of the best trial, at {own.batch_size}.",
            )
    if plan.reason:
        reasons = (*reasons, f"Gradients are accumulated: {plan.reason}.")
    if cost is None:
        cost = next((c for c in _costs(desk, size) if c.plan == plan), None)
    warmup, start = _warmup(desk, lr.value)
    companions = _companions(desk, size, lr.value)
    return Choice(goal, size, lr, plan, value, warmup, start, companions, cost, reasons)


def _warmup(desk: _Desk, lr: float) -> tuple[float | None, float]:
    low = desk.fits.ridge.predict(desk.tried[0]) if desk.is_fitted else None
    reference = desk.info.reference.lr if desk.info.reference else low.lr.value if low else None
    if reference is None or lr < WARMUP_FROM * reference:
        return 0.0, 1.0
    epochs = WARMUP_EPOCHS * desk.info.num_train_samples if desk.info.num_train_samples else math.inf
    samples = min(epochs, WARMUP_SHARE * (desk.budget or math.inf))
    return (samples if math.isfinite(samples) else None), reference / lr


def _companions(desk: _Desk, size: int, lr: float) -> dict[str, float] | None:
    best = cast(TrialRecord, desk.best)
    old_size, old_lr = cast(int, best.batch_size), cast(float, best.lr)
    if size == old_size:
        return None
    found = {"weight_decay_factor": (size / old_size) / (lr / old_lr)}
    if desk.info.optimizer and default_rule(desk.info.optimizer) == "sqrt":
        scaled = scaled_adam(size, reference_batch_size=old_size)
        found |= {"beta1": scaled.beta1, "beta2": scaled.beta2, "eps": scaled.eps}
    return found


# --- costs ---------------------------------------------------------------------------------------------------


def _has_target(desk: _Desk) -> bool:
    return desk.fits.steps.status in (FitStatus.OK, FitStatus.NOT_IDENTIFIED)


def _costs(desk: _Desk, size: int) -> list[Cost]:
    """Costs of a size on every placement up to the asked one whose time can be predicted."""
    if _has_target(desk):
        predicted = desk.fits.steps.predict(size)
        if predicted is None:
            return []
        samples = predicted.samples
    elif desk.budget:
        samples = Estimate(desk.budget, desk.budget, desk.budget)
    else:
        return []
    placements = {(k, 1) for k in (1, 2, 4, 8, 16, 32, 64) if k <= desk.num_devices}
    placements.add((desk.num_devices, desk.num_nodes))
    found = []
    for devices, nodes in sorted(placements):
        plan = _plan_or_none(desk, size, devices, nodes)
        update = _update_seconds(desk.fits, plan) if plan is not None else None
        if plan is None or update is None or plan.global_batch_size != size:
            continue
        seconds = _product(samples.scaled(1.0 / size), update)
        watts = desk.fits.power.predict(plan.micro_batch_size, step_time=desk.fits.step_time)
        energy = _product(seconds, watts).scaled(plan.world_size) if watts else None
        found.append(Cost(size, plan, samples, seconds, seconds.scaled(plan.world_size / 3600.0), energy))
    return found


def _update_seconds(fits: Fits, plan: Plan) -> Estimate | None:
    if fits.step_time_world > 1:  # only this placement was ever measured
        step = fits.step_time.predict(plan.micro_batch_size)
        return step.scaled(plan.accumulate_grad_batches) if step and plan.world_size == fits.step_time_world else None
    return predict_update_seconds(
        fits.step_time,
        fits.communication,
        micro_batch_size=plan.micro_batch_size,
        accumulate_grad_batches=plan.accumulate_grad_batches,
        num_devices=plan.num_devices,
        num_nodes=plan.num_nodes,
    )


def _product(a: Estimate, b: Estimate) -> Estimate:
    """The product of two independent positive estimates; their log intervals add in quadrature."""
    up = math.hypot(math.log(a.high / a.value), math.log(b.high / b.value))
    down = math.hypot(math.log(a.value / a.low), math.log(b.value / b.low))
    value = a.value * b.value
    return Estimate(value, value * math.exp(-down), value * math.exp(up))


def _pareto(desk: _Desk) -> tuple[Cost, ...]:
    costs = [cost for size in desk.sizes for cost in _costs(desk, size) if _counts(desk, size)]
    costs.sort(key=lambda c: (c.seconds.value, c.device_hours.value))
    kept: list[Cost] = []
    for cost in costs:
        if not kept or cost.device_hours.value < kept[-1].device_hours.value:
            kept.append(cost)
    return tuple(kept)


# --- words ---------------------------------------------------------------------------------------------------


def _sentence(desk: _Desk, choice: Choice) -> str:
    monitor = desk.info.monitor if desk.info.objective == "quality" else f"{desk.info.objective} to the target"
    head = f"Batch size {choice.batch_size} with learning rate {choice.lr.value:.2g}"
    if not desk.is_fitted:
        best = cast(TrialRecord, desk.best)
        return (
            f"{head} is the best of {_counted(desk)} ({monitor} {cast(float, best.value):.4g}), which are too few or "
            "too contradictory to say how sure that is."
        )
    where = {
        "quality": "",
        "largest": " costs nothing in quality beyond noise",
        "fastest": " is fastest",
        "cheapest": " is cheapest",
    }
    value = choice.value
    expected = f"{monitor} {value.value:.4g} (90 %: {value.low:.4g} to {value.high:.4g})" if value else ""
    ties = [b for b in desk.ties if b != choice.batch_size]
    tie = (
        f"; {_listed(ties)} {'is' if len(ties) == 1 else 'are'} as good within noise"
        if ties and choice.goal == "quality"
        else ""
    )
    rate = f" (90 %: {choice.lr.low:.2g} to {choice.lr.high:.2g})"
    return f"{head}{rate}{where[choice.goal]}: expect {expected}, from {_counted(desk)}{tie}."


def _caveats(desk: _Desk, choice: Choice) -> tuple[str, ...]:
    found = []
    if desk.fits.ridge.status is not FitStatus.OK:
        found.append(desk.fits.ridge.message)
    if desk.info.lr_range and not 1.3 * desk.info.lr_range[0] < choice.lr.value < desk.info.lr_range[1] / 1.3:
        low, high = desk.info.lr_range
        found.append(f"The learning rate lies at the edge of the searched range ({low:.3g} to {high:.3g}): widen it.")
    sizes = desk.info.batch_size_range
    if sizes and choice.goal == "quality" and choice.batch_size in sizes and sizes[0] < sizes[1]:
        found.append(f"The batch size lies at the edge of the searched range ({sizes[0]} to {sizes[1]}): look beyond.")
    if desk.info.has_batch_norm and choice.plan.micro_batch_size < SMALL_BATCH_NORM:
        found.append(_batch_norm_warning(choice.plan.micro_batch_size))
    if not desk.fits.noise_is_repeated:
        found.append("No setting was repeated often enough to know the noise between seeds: confirm the finalists.")
    own = desk.info.budget_samples
    if desk.budget and own and abs(desk.budget / own - 1.0) > 0.01:
        ratio = desk.budget / own
        if ratio < 1.0:
            found.append(
                f"Judged by values within {ratio:.2g} of the study's budget; a schedule that ends there may do better."
            )
        else:
            found.append(
                f"This is the answer at the study's own budget; for {ratio:.3g} times the samples larger batch sizes "
                f"gain: on published language models the best one grew about {ratio**BUDGET_EXPONENT:.2g} times, with "
                "the learning rate along its law."
            )
    return tuple(found)


def _why_missing(desk: _Desk, goal: Goal) -> str:
    if goal == "largest":
        return f"The largest batch size without loss can't be told: {desk.fits.ridge.message}"
    if desk.fits.step_time.status in (FitStatus.TOO_FEW, FitStatus.CONTRADICTORY):
        return f"Times can't be predicted, so this is the choice for quality: {desk.fits.step_time.message}"
    if desk.num_devices * desk.num_nodes > 1 and not desk.fits.communication.covers(desk.num_devices, desk.num_nodes):
        why = desk.fits.communication.message
        return f"Time on this placement can't be predicted, so this is the choice for quality: {why}"
    return f"The cost to a target can't be told, so this is the choice for quality: {desk.fits.steps.message}"


def _batch_norm_warning(micro: int) -> str:
    return (
        f"BatchNorm over a micro-batch of {micro} is noisy (under {SMALL_BATCH_NORM}): accumulate less, use "
        "SyncBatchNorm across devices, or GroupNorm instead."
    )


def _counted(desk: _Desk) -> str:
    count = desk.fits.num_complete
    return f"{count} complete trial{'' if count == 1 else 's'}"


def _listed(sizes: Sequence[int]) -> str:
    words = [str(size) for size in sizes]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + f" and {words[-1]}"


def _where(plan: Plan) -> str:
    devices = f"{plan.num_devices} device{'' if plan.num_devices == 1 else 's'}"
    return devices if plan.num_nodes == 1 else f"{plan.num_nodes} nodes of {devices}"


def _to_what(desk: _Desk) -> str:
    target = desk.fits.steps.target
    return f"to {desk.info.monitor} {target:.4g}" if _has_target(desk) and target is not None else "over the budget"


def _duration(seconds: Estimate) -> str:
    size, unit = (3600.0, "h") if seconds.value >= 5400 else (60.0, "min") if seconds.value >= 90 else (1.0, "s")
    return f"{seconds.value / size:.3g} {unit} (90 %: {seconds.low / size:.3g} to {seconds.high / size:.3g})"


def _finite(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {key: _finite(item) for key, item in plain.items()}
    if isinstance(plain, list):
        return [_finite(item) for item in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


# --- the articles' questions ---------------------------------------------------------------------------------


def answers(study: optuna.Study) -> list[Answer]:
    """Return the questions that people ask about batch sizes, answered from the study's own data."""
    desk = _Desk.of(study, None, None, None)
    return [
        _is_size_right(desk),
        _what_of_quality(desk),
        _what_of_time(desk),
        _what_of_memory(desk),
        _does_scaling_help(desk),
        _what_of_devices(desk),
        _what_of_batch_norm(desk),
        _what_of_precision(desk),
    ]


def _is_size_right(desk: _Desk) -> Answer:
    question = "Is my batch size too large or too small?"
    if desk.best is None or not desk.is_fitted:
        return Answer(question, f"It can't be told yet: {desk.fits.ridge.message}", "not measured")
    low, high = min(desk.ties), max(desk.ties)
    words = f"From {low} to {high} the value is the best within noise; below or above it gets worse."
    if low == high:
        words = f"Of the sizes tried, {low} is best beyond noise."
    if low <= 1.01 * desk.tried[0] and high >= 0.99 * desk.tried[1]:
        words = "Every batch size tried reaches the same value within noise, given its own learning rate."
    if desk.fits.steps.status in (FitStatus.OK, FitStatus.NOT_IDENTIFIED):
        words += " " + desk.fits.steps.message
    if desk.fits.noise_scale is not None:
        words += f" The gradient noise scale, good to a factor of ten, was {desk.fits.noise_scale.value:.3g} samples."
    return Answer(question, words, f"the fitted best value at each batch size, from {_counted(desk)}")


def _what_of_quality(desk: _Desk) -> Answer:
    question = "What does the batch size do to accuracy?"
    low, high = (desk.fits.ridge.predict(b) if desk.is_fitted else None for b in desk.tried)
    if low is None or high is None:
        return Answer(question, f"It can't be told yet: {desk.fits.ridge.message}", "not measured")
    words = (
        f"At the best learning rate of each, {desk.info.monitor} is {low.value.value:.4g} ({low.value.low:.4g} to "
        f"{low.value.high:.4g}) at batch size {low.batch_size:.0f} and {high.value.value:.4g} ({high.value.low:.4g} to "
        f"{high.value.high:.4g}) at {high.batch_size:.0f}."
    )
    return Answer(question, words, f"the fitted ridge, from {_counted(desk)}")


def _what_of_time(desk: _Desk) -> Answer:
    question = "What does it do to time?"
    times = desk.fits.step_time
    if times.tried_low is None or times.tried_high is None:
        return Answer(question, times.message, "not measured")
    low, high = (times.samples_per_second(b) for b in (times.tried_low, times.tried_high))
    if low is None or high is None:
        return Answer(question, times.message, "not measured")
    words = (
        f"A device trains {low.value:,.4g} samples per second at a micro-batch of {times.tried_low:.0f} and "
        f"{high.value:,.4g} at {times.tried_high:.0f}, {high.value / low.value:.2g} times as many."
    )
    return Answer(question, words, f"measured step times at {times.num_points} micro-batch sizes")


def _what_of_memory(desk: _Desk) -> Answer:
    memory = desk.fits.memory
    basis = f"peak memory at {memory.num_points} micro-batch sizes" if memory.line else "not measured"
    return Answer("What does it do to memory?", memory.message, basis)


def _does_scaling_help(desk: _Desk) -> Answer:
    question = "Does scaling the learning rate close the gap, and by how much?"
    low, high = (desk.fits.ridge.predict(b) if desk.is_fitted else None for b in desk.tried)
    if low is None or high is None or desk.tried[0] == desk.tried[1]:
        return Answer(question, f"It can't be told yet: {desk.fits.ridge.message}", "not measured")
    kept = [
        r.value
        for r in desk.records
        if r.batch_size and r.lr and r.value is not None and r.outcome == "complete" and math.isfinite(r.value)
        and abs(math.log2(r.batch_size / desk.tried[1])) <= 0.5 and abs(math.log2(r.lr / low.lr.value)) <= 1.0
    ]  # fmt: skip
    exponent = desk.fits.ridge.exponent
    law = (
        f" The best learning rate grows as B^{exponent.value:.2g} ({exponent.low:.2g} to {exponent.high:.2g})."
        if exponent
        else ""
    )
    if not kept:
        words = (
            f"No trial ran the largest batch size at the smallest one's learning rate, so the gap wasn't measured.{law}"
        )
        return Answer(question, words, "not measured")
    fixed = desk.sign * (min(kept, key=lambda v: desk.sign * v) - low.value.value)
    tuned = desk.sign * (high.value.value - low.value.value)
    if fixed <= 2.0 * (desk.fits.noise_sd or 0.0):
        words = f"There is no gap beyond noise: {desk.tried[1]:.0f} does as well at the smallest size's learning rate."
    else:
        closed = min(1.0, 1.0 - max(tuned, 0.0) / fixed)
        words = (
            f"At learning rate {low.lr.value:.2g} batch size {desk.tried[1]:.0f} is {fixed:.3g} worse than "
            f"{desk.tried[0]:.0f}; at its own best, {high.lr.value:.2g}, {max(tuned, 0.0):.3g} worse: "
            f"{closed:.0%} of the gap closes."
        )
    return Answer(question, words + law, f"{len(kept)} trials at the unscaled learning rate and the fitted ridge")


def _what_of_devices(desk: _Desk) -> Answer:
    question = "What would more GPUs change?"
    size = desk.best.batch_size if desk.best else None
    if size is None or desk.fits.communication.status is FitStatus.TOO_FEW:
        return Answer(question, desk.fits.communication.message, "not measured")
    parts = []
    for devices in (1, 2, 4, 8):
        plan = _plan_or_none(desk, size, devices, 1)
        seconds = _update_seconds(desk.fits, plan) if plan is not None else None
        if plan is not None and seconds is not None and plan.global_batch_size == size:
            parts.append(f"{devices}: {_duration(seconds)}")
    words = (
        f"An update of batch size {size} takes, by devices, {'; '.join(parts)}."
        if parts
        else desk.fits.communication.message
    )
    return Answer(question, words, desk.fits.communication.message if parts else "not measured")


def _what_of_batch_norm(desk: _Desk) -> Answer:
    question = "Does BatchNorm mind?"
    micros = [r.plan.micro_batch_size if r.plan else r.batch_size for r in desk.records]
    small = min((m for m in micros if m), default=None)
    if desk.info.has_batch_norm is None:
        return Answer(question, "It isn't known whether the model has BatchNorm layers.", "not measured")
    if not desk.info.has_batch_norm:
        return Answer(question, "No: the model has no BatchNorm layers.", "the model's layers")
    if small is not None and small < SMALL_BATCH_NORM:
        return Answer(question, _batch_norm_warning(small), "the model's layers and the smallest micro-batch run")
    return Answer(question, f"No: no micro-batch was under {SMALL_BATCH_NORM}.", "the model's layers and the plans run")


def _what_of_precision(desk: _Desk) -> Answer:
    question = "What would mixed precision free?"
    used = {r.precision for r in desk.records if r.precision}
    per_sample = desk.fits.memory.bytes_per_sample
    if used and not any(p.startswith("32") for p in used):
        return Answer(question, f"The trials already ran in {', '.join(sorted(used))}.", "the trials' precision")
    if per_sample is None:
        return Answer(question, "Memory per sample wasn't measured, so it can't be told.", "not measured")
    words = (
        f"About half of the activations' {per_sample.value / 2**20:.3g} MiB per sample, so a micro-batch up to twice "
        "as large; weights and optimizer state stay in 32 bits."
    )
    return Answer(question, words, "the fitted memory per sample and the width of 16-bit numbers; not run")


class _CallableModule(types.ModuleType):
    """Lets `bsopt.recommend` be both the public function and, as imports have it, this module."""

    def __call__(self, study: optuna.Study, **options: Any) -> Recommendation:
        return recommend(study, **options)


sys.modules[__name__].__class__ = _CallableModule
