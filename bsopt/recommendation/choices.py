"""The batch size and learning rate for each goal."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import median
from typing import cast

from scipy.stats import norm

from bsopt.laws.direction import possible_range
from bsopt.laws.estimate import INTERVAL_MASS, Estimate
from bsopt.laws.lr_ridge import places
from bsopt.laws.scaling import Reference, default_rule, scaled_adam, scaled_learning_rate, scaled_momentum
from bsopt.recommendation.costs import costs_at, costs_that_count
from bsopt.recommendation.equivalence import trials_by_size
from bsopt.recommendation.evidence import Evidence
from bsopt.recommendation.result import Choice, Cost, Goal, SizeFinding, SizeState
from bsopt.recommendation.sentences import counted, duration, energy, known_from, to_what, where
from bsopt.trial.plan import Plan
from bsopt.trial.record import StudyInfo, TrialRecord
from bsopt.units import format_chance, format_duration

__all__ = ["choice_at", "choose", "expectations"]

WARMUP_EPOCHS, WARMUP_SHARE, WARMUP_FROM = 5.0, 0.1, 1.5
"""Goyal et al. 2017: 5 epochs; at most a tenth of the budget, where the rate is 1.5 times the smallest size's."""
MOST_MOVED = 4.0
"""Change in batch size or learning rate up to which momentum, betas and weight decay are moved with it."""

_NO_OTHER = "and no other size is known to be as good"


def choose(evidence: Evidence, goal: Goal) -> Choice | None:
    """Return the choice for a goal, or None where the data can't tell it; for quality there always is one.

    The evidence must hold a trial with a result.
    """
    if goal == "quality":
        return _best(evidence)
    if goal == "largest":
        return _largest(evidence)
    return _least(evidence, goal)


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
        doubts=tuple(
            doubt for doubt in (expected.doubt, _not_as_good(evidence, size), _two_valleys(evidence, size)) if doubt
        ),
    )


def expectations(evidence: Evidence) -> tuple[SizeFinding, ...]:
    """Return what is known of each batch size, with the rate, value and costs that a choice of it would tell."""
    return tuple(
        replace(
            found,
            lr=expected.lr if expected is not None else None,
            value=expected.value if expected is not None else None,
            costs=tuple(costs_at(evidence, found.batch_size)),
        )
        for found in evidence.findings
        for expected in (_fitted(evidence, found.batch_size),)
    )


def _best(evidence: Evidence) -> Choice:
    if evidence.is_fitted and evidence.best_size == evidence.best_predicted_size:
        doubt = "" if evidence.is_predicted_best(evidence.best_size) else ", doubt counted against it,"
        reason = f"Its predicted value{doubt} is the best of all batch sizes at which a trial ran to its end."
    elif evidence.is_fitted:
        reason = (
            f"The best trial ran there, and no batch size is predicted to be better by more than {evidence.margin:.2g}."
        )
    elif evidence.all_alike:
        reason = f"It is the first of {counted(evidence)} that all ended at the same value."
    else:
        ended = counted(evidence) if evidence.fits.num_complete else "the trials that were stopped early"
        reason = f"It is the best of {ended} so far."
    return choice_at(evidence, evidence.best_size, "quality", reason)


def _largest(evidence: Evidence) -> Choice | None:
    """Return the largest size that was tested to be as good as the best; None where no law is fitted."""
    tested = [size for size in evidence.ties if size in evidence.realisable]
    if not evidence.is_fitted or not tested:
        return None
    size = max(tested)
    found = evidence.finding(size)
    if size == evidence.best_size or found is None:
        reason = "No larger batch size was tested and found to be as good."
    else:
        chance = format_chance(found.chance)
        reason = f"The chance that it is no more than {evidence.margin:.2g} worse than the best is {chance}."
    return choice_at(evidence, size, "largest", reason)


def _least(evidence: Evidence, goal: Goal) -> Choice | None:
    """Return the choice of least time, device time or energy on the devices asked about; None where it isn't known."""
    costs = _amounts(evidence, costs_that_count(evidence), goal)
    if not costs:
        return None if goal == "frugal" else _least_of_trials(evidence, goal)
    amount, cost = min(costs, key=lambda pair: pair[0].value)
    spent = _spent(amount, goal)
    what = "uses" if goal == "frugal" else "takes"
    among = "the least of all" if evidence.target is not None else "the least of those known to be as good as the best"
    if evidence.target is None and len(costs) == 1:
        among = _NO_OTHER
    reason = f"It {what} {spent} {to_what(evidence)} on {where(cost.plan)}, {among}."
    return choice_at(evidence, cost.batch_size, goal, reason, *_cheaper(evidence, amount, goal), cost=cost)


def _least_of_trials(evidence: Evidence, goal: Goal) -> Choice | None:
    """Return the size as good as the best whose own trials took the least time, where updates can't be timed.

    None to a target, and for other devices than the trials ran on.
    """
    asked, own = ((i.num_devices, i.num_nodes) for i in (evidence, evidence.info))
    if evidence.target is not None or asked != own or not evidence.is_fitted:
        return None
    devices, unit = (asked[0] * asked[1], " of device time") if goal == "cheapest" else (1, "")
    times = {size: _trial_seconds(evidence, size) for size in evidence.realisable}
    took = {size: devices * median(seconds) for size, seconds in times.items() if seconds}
    known = [size for size in took if size in evidence.ties]
    if not known:
        return None
    size = min(known, key=lambda size: (took[size], size != evidence.best_size))
    least, most = (format_duration(devices * end(times[size])) for end in (min, max))
    span = f" ({least} to {most})" if least != most else ""
    among = "the least of those known to be as good as the best" if known[1:] else _NO_OTHER
    reasons = [f"A trial took {format_duration(took[size])}{unit} there{span}, {among}."]
    is_open = [found.batch_size for found in evidence.findings if found.state is SizeState.OPEN]
    other = min((size for size in is_open if size in took), key=lambda size: took[size], default=size)
    if took[other] < took[size]:
        spent = f"{format_duration(took[other])}{unit}"
        reasons.append(f"At {other} one took {spent}, but whether it is as good can't be told yet.")
    return choice_at(evidence, size, goal, *reasons)


def _trial_seconds(evidence: Evidence, size: int) -> list[float]:
    """Return how long the trials that ran to their end at a size took, in seconds."""
    return [record.seconds for record in evidence.by_size[size] if record.outcome == "complete" and record.seconds]


def _cheaper(evidence: Evidence, amount: Estimate, goal: Goal) -> list[str]:
    """Return what the size of least cost among those that may be as good, too, would take, in a sentence."""
    open_sizes = [
        found.batch_size
        for found in evidence.findings
        if found.state is SizeState.OPEN and not evidence.counts(found.batch_size)
    ]
    costs = _amounts(evidence, [cost for size in open_sizes for cost in costs_at(evidence, size)], goal)
    other, cost = min(costs, key=lambda pair: pair[0].value, default=(amount, None))
    if cost is None or other.value >= amount.value:
        return []
    what = "use" if goal == "frugal" else "take"
    return [f"{cost.batch_size} would {what} {_spent(other, goal)}, but whether it is as good can't be told yet."]


def _amounts(evidence: Evidence, costs: list[Cost], goal: Goal) -> list[tuple[Estimate, Cost]]:
    """Return what a goal counts of the costs on the devices asked about, where it is known."""
    asked = (evidence.num_devices, evidence.num_nodes)
    there = [cost for cost in costs if (cost.plan.num_devices, cost.plan.num_nodes) == asked]
    return [(amount, cost) for cost in there if (amount := _amount(cost, goal)) is not None]


def _spent(amount: Estimate, goal: Goal) -> str:
    spent = energy(amount) if goal == "frugal" else duration(amount)
    return f"{spent} of device time" if goal == "cheapest" else spent


def _amount(cost: Cost, goal: Goal) -> Estimate | None:
    """Return what a goal counts: seconds, seconds of all devices, or joules."""
    if goal == "fastest":
        return cost.seconds
    return cost.device_hours.scaled(3600.0) if goal == "cheapest" else cost.energy_joules


def _not_as_good(evidence: Evidence, size: int) -> str:
    """Return what speaks against a size that isn't tested to be as good as the best; empty where nothing does."""
    found = evidence.finding(size)
    if not evidence.is_fitted or found is None or found.gap is None or found.state is not SizeState.WORSE:
        return ""
    return (
        f"It is worse than {evidence.best_size}: by {found.gap.value:.2g} (90 %: {found.gap.low:.2g} to "
        f"{found.gap.high:.2g})."
    )


def _two_valleys(evidence: Evidence, size: int) -> str:
    """Return where the best learning rate may be, where that is in one of two valleys; else nothing."""
    found = evidence.fits.ridge.predict(size) if evidence.is_fitted else None
    if found is None or not found.valleys:
        return ""
    return f"The best learning rate at {size} is {places(found.valleys)}; a trial at each would tell."


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
    lr = _feasible(evidence, size, found.lr)
    if found.is_extrapolated:
        return _Expected(lr, None, f"No trial ran near {size}: its learning rate is extrapolated, its value unknown.")
    there = trials_by_size(evidence.records, (size,))[size]
    sign = evidence.info.objective.sign
    value = _of_one_run(found.value, evidence.fits.run_sd, perfect=evidence.perfect_value, sign=sign)
    if any(record.outcome == "complete" for record in there):
        return _Expected(lr, value)
    return _Expected(lr, value, f"No trial ran to its end at {size}: what is said of it rests on other sizes.")


def _of_one_run(value: Estimate, run_sd: float | None, *, perfect: float | None, sign: float) -> Estimate:
    """Return what one more training shows: the law's value with the noise of a seed; no further than a perfect value.

    Where the noise isn't known its bounds are infinite.

    The noise also makes up for the law's optimism, which takes each draw at its own best learning rate: on replayed
    tables the law's own interval held the truth at the rate told half of the time, and this one does nearly always.
    """
    least, most = possible_range(perfect, value.high, sign=sign)
    value = value.within(least, most)
    if run_sd is None:
        return Estimate(value.value, -math.inf, math.inf)
    noise = float(norm.ppf(0.5 + INTERVAL_MASS / 2.0)) * run_sd
    low = value.value - math.hypot(value.value - value.low, noise)
    high = value.value + math.hypot(value.high - value.value, noise)
    return Estimate(value.value, low, high).within(least, most)


def _feasible(evidence: Evidence, size: int, lr: Estimate) -> Estimate:
    """Return a learning rate inside those that kept the constraints at a size, where some trials broke them."""
    if all(record.is_feasible for record in evidence.records):
        return lr
    kept = [cast(float, r.lr) for r in trials_by_size(evidence.records, (size,))[size]]
    low, high = (min(kept), max(kept)) if kept else (lr.value, lr.value)
    value, ends = min(max(lr.value, low), high), (lr.low, lr.high)
    return Estimate(value, min(value, *ends), max(value, *ends))


def _tried(evidence: Evidence, size: int) -> _Expected:
    """Return what the best trial at a size had; where none ran there, its rate moved by a published rule.

    The rule is the square root for adaptive optimizers and where the optimizer isn't known, and else the linear one.
    """
    best = cast(TrialRecord, evidence.best)
    there = [r for r in evidence.records if r.batch_size == size and r.has_result]
    complete = [r for r in there if r.outcome == "complete"]
    own = min(complete or there, key=lambda r: evidence.info.objective.sign * cast(float, r.value), default=None)
    if own is not None:
        doubt = "" if complete else f"The only trials at {size} were stopped early."
        value = Estimate(cast(float, own.value), -math.inf, math.inf)
        return _Expected(Estimate(cast(float, own.lr), 0.0, math.inf), value, doubt)
    at, lr = cast(int, best.batch_size), cast(float, best.lr)
    rule = default_rule(evidence.info.optimizer) if evidence.info.optimizer else "sqrt"
    moved = scaled_learning_rate(float(size), reference=Reference(at, lr), rule=rule)
    name = "linear" if rule == "linear" else "square-root"
    doubt = f"No trial ran at {size}: its learning rate is the {name} rule's from the best trial ({at}, {lr:.2g})."
    return _Expected(Estimate(moved, 0.0, math.inf), None, doubt)


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
    """Return what published rules would move with the batch size; None at the best trial's own, and far from it.

    Malladi et al. 2022 derive theirs for κ(1 − β) well below 1, and nobody has shown any of them beyond a few
    doublings.
    """
    best, info = cast(TrialRecord, evidence.best), evidence.info
    old_size, old_lr = cast(int, best.batch_size), cast(float, best.lr)
    ratio, lr_ratio = size / old_size, lr / old_lr
    if size == old_size or not all(1 / MOST_MOVED <= r <= MOST_MOVED for r in (ratio, lr_ratio, ratio / lr_ratio)):
        return None
    found = {"weight_decay_factor": ratio / lr_ratio}
    if info.optimizer and default_rule(info.optimizer) == "sqrt":
        scaled = scaled_adam(size, reference_batch_size=old_size)
        found |= {"beta1": scaled.beta1, "beta2": scaled.beta2, "eps": scaled.eps}
    momentum = _momentum(info, best)
    if momentum is not None:
        found["momentum"] = scaled_momentum(momentum, batch_size_ratio=ratio)
    return found


def _momentum(info: StudyInfo, best: TrialRecord) -> float | None:
    """Return the momentum that the best trial trained with, searched or set in the study file."""
    searched = [value for name, value in best.params.items() if name.split(".")[-1] == "momentum"]
    value = (searched or [info.momentum])[0]
    return float(value) if isinstance(value, (int, float)) and 0 < value < 1 else None
