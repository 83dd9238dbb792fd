"""The batch size and learning rate for each goal."""

from __future__ import annotations

import math
from typing import cast

from bsopt.laws.estimate import Estimate
from bsopt.laws.scaling import default_rule, scaled_adam, scaled_momentum
from bsopt.recommendation.costs import costs_of
from bsopt.recommendation.evidence import Evidence, best_size, counts
from bsopt.recommendation.result import WARMUP_EPOCHS, WARMUP_FROM, WARMUP_SHARE, Choice, Cost, Goal
from bsopt.recommendation.sentences import counted, duration, to_what, where
from bsopt.trial.record import StudyInfo, TrialRecord

__all__ = ["choice_at", "choose"]


def choose(evidence: Evidence, goal: Goal) -> Choice | None:
    best = cast(TrialRecord, evidence.best)
    if goal == "quality":
        if not evidence.is_fitted:
            return choice_at(
                evidence, cast(int, best.batch_size), goal, (f"It is the best of {counted(evidence)} so far.",)
            )
        return choice_at(
            evidence, best_size(evidence), goal, ("Its predicted value is the best of all batch sizes tried.",)
        )
    if goal == "largest":
        if not evidence.is_fitted:
            return None
        size = max(evidence.ties)
        reason = f"The chance that its value is within noise of the best is {evidence.chance(size):.0%}."
        return choice_at(evidence, size, goal, (reason,))
    costs = [cost for size in evidence.sizes for cost in costs_of(evidence, size) if counts(evidence, size)]
    if goal == "fastest":
        own = [c for c in costs if (c.plan.num_devices, c.plan.num_nodes) == (evidence.num_devices, evidence.num_nodes)]
        quickest = min(own, key=lambda c: c.seconds.value, default=None)
        if quickest is None:
            return None
        reason = (
            f"It takes {duration(quickest.seconds)} {to_what(evidence)} on {where(quickest.plan)}, the least of all."
        )
        return choice_at(evidence, quickest.batch_size, goal, (reason,), cost=quickest)
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
    return choice_at(
        evidence,
        cheapest.batch_size,
        goal,
        (f"It costs {what} {to_what(evidence)} on {where(cheapest.plan)}.",),
        cost=cheapest,
    )


def choice_at(
    evidence: Evidence, size: int, goal: Goal, reasons: tuple[str, ...], *, cost: Cost | None = None
) -> Choice:
    plan = cost.plan if cost else evidence.plan(size)
    if plan.global_batch_size != size:
        reasons = (
            *reasons,
            f"{size} can't be realised on {where(plan)}; the nearest that can is {plan.global_batch_size}.",
        )
        size = plan.global_batch_size
    found = evidence.fits.ridge.predict(size) if evidence.is_fitted else None
    best = cast(TrialRecord, evidence.best)
    value: Estimate | None
    if found is not None:
        lr, value = found.lr, found.value
        if found.is_extrapolated:
            reasons = (*reasons, "No trial ran near this batch size: its learning rate and value are extrapolated.")
    else:
        at_size = [r for r in evidence.records if r.batch_size == size and r.lr and r.value is not None]
        own = min(at_size, key=lambda r: evidence.sign * cast(float, r.value), default=best)
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
        cost = next((c for c in costs_of(evidence, size) if c.plan == plan), None)
    warmup, start = _warmup(evidence, lr.value)
    companions = _companions(evidence, size, lr.value)
    return Choice(goal, size, lr, plan, value, warmup, start, companions, cost, reasons)


def _warmup(evidence: Evidence, lr: float) -> tuple[float | None, float]:
    low = evidence.fits.ridge.predict(evidence.tried[0]) if evidence.is_fitted else None
    reference = evidence.info.reference.lr if evidence.info.reference else low.lr.value if low else None
    if reference is None or lr < WARMUP_FROM * reference:
        return 0.0, 1.0
    epochs = WARMUP_EPOCHS * evidence.info.num_train_samples if evidence.info.num_train_samples else math.inf
    samples = min(epochs, WARMUP_SHARE * (evidence.budget or math.inf))
    return (samples if math.isfinite(samples) else None), reference / lr


def _companions(evidence: Evidence, size: int, lr: float) -> dict[str, float] | None:
    best = cast(TrialRecord, evidence.best)
    old_size, old_lr = cast(int, best.batch_size), cast(float, best.lr)
    if size == old_size:
        return None
    found = {"weight_decay_factor": (size / old_size) / (lr / old_lr)}
    if evidence.info.optimizer and default_rule(evidence.info.optimizer) == "sqrt":
        scaled = scaled_adam(size, reference_batch_size=old_size)
        found |= {"beta1": scaled.beta1, "beta2": scaled.beta2, "eps": scaled.eps}
    momentum = _momentum(evidence.info, best)
    if momentum is not None:
        found["momentum"] = scaled_momentum(momentum, batch_size_ratio=size / old_size)
    return found


def _momentum(info: StudyInfo, best: TrialRecord) -> float | None:
    """The momentum that the best trial trained with, searched or set in the study file."""
    searched = [value for name, value in best.params.items() if name.split(".")[-1] == "momentum"]
    value = (searched or [info.momentum])[0]
    return float(value) if isinstance(value, (int, float)) and 0 < value < 1 else None
