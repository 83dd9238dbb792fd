"""The batch size and learning rate for each goal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

from bsopt.laws.estimate import Estimate
from bsopt.laws.scaling import default_rule, scaled_adam, scaled_momentum
from bsopt.recommendation.costs import costs_at, costs_that_count
from bsopt.recommendation.evidence import Evidence
from bsopt.recommendation.result import Choice, Cost, Goal
from bsopt.recommendation.sentences import counted, duration, known_from, to_what, where
from bsopt.trial.plan import Plan
from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.units import format_chance

__all__ = ["choice_at", "choose"]

WARMUP_EPOCHS, WARMUP_SHARE, WARMUP_FROM = 5.0, 0.1, 1.5
"""Goyal et al. 2017: 5 epochs; at most a tenth of the budget, where the rate is 1.5 times the smallest size's."""


def choose(evidence: Evidence, goal: Goal) -> Choice | None:
    """Return the choice for a goal, or None where the data can't tell it; for quality there always is one.

    The evidence must hold a trial with a result.
    """
    if goal == "quality":
        return _best(evidence)
    if goal == "largest":
        return _largest(evidence)
    return _fastest(evidence) if goal == "fastest" else _cheapest(evidence)


def choice_at(evidence: Evidence, size: int, goal: Goal, *reasons: str, cost: Cost | None = None) -> Choice:
    """Return all that training at a batch size takes.

    Args:
        evidence: With a trial that has a result.
        size: Global batch size in samples; the nearest that can be realised takes its place.
        goal: What the choice is for.
        reasons: Why it was chosen; what had to be guessed or changed is added.
        cost: What was chosen by, with its placement; else the evidence's devices are planned for.
    """
    plan = cost.plan if cost else evidence.plan(size)
    said = list(reasons)
    if plan.global_batch_size != size:
        said.append(f"{size} can't be realised on {where(plan)}; the nearest that can is {plan.global_batch_size}.")
        size = plan.global_batch_size
    expected = _fitted(evidence, size) or _tried(evidence, size)
    if expected.doubt:
        said.append(expected.doubt)
    if plan.reason:
        said.append(f"Gradients are accumulated: {plan.reason}.")
    if plan.world_size > 1:
        said.append(known_from(evidence, plan))
    warmup, start = _warmup(evidence, expected.lr.value)
    return Choice(
        goal,
        size,
        expected.lr,
        plan,
        expected.value,
        warmup_samples=warmup,
        warmup_start=start,
        companions=_companions(evidence, size, expected.lr.value),
        cost=cost or _cost_of(evidence, plan),
        reasons=tuple(said),
    )


def _best(evidence: Evidence) -> Choice:
    if evidence.is_fitted:
        size, reason = evidence.best_size, "Its predicted value is the best of all batch sizes tried."
    else:
        size = cast(int, cast(TrialRecord, evidence.best).batch_size)
        reason = f"It is the best of {counted(evidence)} so far."
    return choice_at(evidence, size, "quality", reason)


def _largest(evidence: Evidence) -> Choice | None:
    if not evidence.is_fitted:
        return None
    size = max(evidence.ties)
    reason = f"The chance that its value is within noise of the best is {format_chance(evidence.chance(size))}."
    return choice_at(evidence, size, "largest", reason)


def _fastest(evidence: Evidence) -> Choice | None:
    asked = (evidence.num_devices, evidence.num_nodes)
    there = [c for c in costs_that_count(evidence) if (c.plan.num_devices, c.plan.num_nodes) == asked]
    if not there:
        return None
    cost = min(there, key=lambda cost: cost.seconds.value)
    reason = f"It takes {duration(cost.seconds)} {to_what(evidence)} on {where(cost.plan)}, the least of all."
    return choice_at(evidence, cost.batch_size, "fastest", reason, cost=cost)


def _cheapest(evidence: Evidence) -> Choice | None:
    """Return the choice of least energy, where power was measured, else of the fewest device-hours."""
    costs = costs_that_count(evidence)
    measured = [(cost.energy_joules.value, cost) for cost in costs if cost.energy_joules]
    if measured:
        joules, cost = min(measured, key=lambda pair: pair[0])
        spent = f"{joules / 3.6e6:.3g} kWh"
    elif costs:
        cost = min(costs, key=lambda cost: cost.device_hours.value)
        spent = f"{cost.device_hours.value:.3g} device-hours"
    else:
        return None
    reason = f"It costs {spent} {to_what(evidence)} on {where(cost.plan)}."
    return choice_at(evidence, cost.batch_size, "cheapest", reason, cost=cost)


@dataclass(frozen=True, slots=True)
class _Expected:
    """What training at a batch size should use and reach, and what makes that doubtful, in words."""

    lr: Estimate
    value: Estimate | None
    doubt: str = ""


def _fitted(evidence: Evidence, size: int) -> _Expected | None:
    """Return what the laws say of a size; None where they don't."""
    found = evidence.fits.ridge.predict(size) if evidence.is_fitted else None
    if found is None:
        return None
    doubt = "No trial ran near this batch size: its learning rate and value are extrapolated."
    return _Expected(found.lr, found.value, doubt if found.is_extrapolated else "")


def _tried(evidence: Evidence, size: int) -> _Expected:
    """Return what the best trial at a size had, or the best of all where none ran there; without intervals."""
    best = cast(TrialRecord, evidence.best)
    there = [r for r in evidence.records if r.batch_size == size and r.lr and r.value is not None]
    own = min(there, key=lambda r: evidence.info.objective.sign * cast(float, r.value), default=best)
    lr = Estimate(cast(float, own.lr), 0.0, math.inf)
    if own.batch_size == size:
        return _Expected(lr, Estimate(cast(float, own.value), -math.inf, math.inf))
    doubt = f"No trial ran at {size}; the learning rate is that of the best trial, at {own.batch_size}."
    return _Expected(lr, None, doubt)


def _cost_of(evidence: Evidence, plan: Plan) -> Cost | None:
    return next((cost for cost in costs_at(evidence, plan.global_batch_size) if cost.plan == plan), None)


def _warmup(evidence: Evidence, lr: float) -> tuple[float | None, float]:
    """Return the samples of a warm-up and the factor on the learning rate that it starts from."""
    info = evidence.info
    smallest = evidence.fits.ridge.predict(evidence.tried[0]) if evidence.is_fitted else None
    reference = info.reference.lr if info.reference else smallest.lr.value if smallest else None
    if reference is None or lr < WARMUP_FROM * reference:
        return 0.0, 1.0
    epochs = WARMUP_EPOCHS * info.num_train_samples if info.num_train_samples else math.inf
    samples = min(epochs, WARMUP_SHARE * (evidence.budget_samples or math.inf))
    return (samples if math.isfinite(samples) else None), reference / lr


def _companions(evidence: Evidence, size: int, lr: float) -> dict[str, float] | None:
    """Return what published rules would move with the batch size; None at the best trial's own."""
    best, info = cast(TrialRecord, evidence.best), evidence.info
    old_size, old_lr = cast(int, best.batch_size), cast(float, best.lr)
    if size == old_size:
        return None
    found = {"weight_decay_factor": (size / old_size) / (lr / old_lr)}
    if info.optimizer and default_rule(info.optimizer) == "sqrt":
        scaled = scaled_adam(size, reference_batch_size=old_size)
        found |= {"beta1": scaled.beta1, "beta2": scaled.beta2, "eps": scaled.eps}
    momentum = _momentum(info, best)
    if momentum is not None:
        found["momentum"] = scaled_momentum(momentum, batch_size_ratio=size / old_size)
    return found


def _momentum(info: StudyInfo, best: TrialRecord) -> float | None:
    """Return the momentum that the best trial trained with, searched or set in the study file."""
    searched = [value for name, value in best.params.items() if name.split(".")[-1] == "momentum"]
    value = (searched or [info.momentum])[0]
    return float(value) if isinstance(value, (int, float)) and 0 < value < 1 else None
