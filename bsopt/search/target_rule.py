"""When a trial that goes for a target ends: at the target, or once it can't be there before the best so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from optuna.trial import FrozenTrial

from bsopt.laws.extrapolation import extrapolate
from bsopt.search.history import finite_reports
from bsopt.search.stopping_rules import Reports
from bsopt.trial.record import StopReason
from bsopt.trial.spec import StopDecision
from bsopt.units import format_chance, format_number

__all__ = ["towards_target"]


def towards_target(
    reports: Reports,
    complete: Sequence[FrozenTrial],
    spent: float | None,
    *,
    target: float,
    threshold: float,
    min_finished: int,
    distance: Callable[[float], str],
) -> StopDecision:
    """Return whether a trial goes on or how it ends, and why.

    Args:
        reports: Of the trial, at least one of them finite.
        complete: The finished trials.
        spent: What the trial has cost so far, in the unit of the study's values; None to compare steps instead.
        target: The value to reach, in the study's own direction.
        threshold: Chance of reaching it in time below which a trial ends.
        min_finished: How many trials must have finished before one ends for its chance.
        distance: Says a number of steps in words.
    """
    goal, step = reports.sign * target, float(reports.steps[-1])
    words = f"the target {format_number(target)}"
    if reports.sign * reports.best <= goal:
        first = float(reports.steps[np.argmax(reports.values <= goal)])
        return StopDecision(StopReason.TARGET_REACHED, f"reached {words} at {distance(first)}", 1.0, reports.best)
    cost, best = (step, _best_step(complete, reports.sign, goal)) if spent is None else (spent, _best_cost(complete))
    on_the_way = StopDecision(None, f"at {format_number(reports.best)} on the way to {words}", best=reports.best)
    if best is None or len(complete) < min_finished:
        return on_the_way
    what = distance(best) if spent is None else format_number(best)
    if cost >= best:
        reason = f"{words} was missed: {format_number(reports.best)} after the {what} of the best trial"
        return StopDecision(StopReason.PRUNED_HOPELESS, reason, 0.0, reports.best)
    end = step * best / cost if cost > 0 else math.inf
    found = extrapolate(reports.steps, reports.values, end=end) if math.isfinite(end) else None
    if found is None or found.status != "ok":
        return on_the_way
    chance = found.chance_below(goal)
    verdict = f"chance of {words} within the {what} of the best trial {format_chance(chance)}"
    if chance < threshold:
        reason = f"hopeless at {format_number(reports.best)}; {verdict}"
        return StopDecision(StopReason.PRUNED_HOPELESS, reason, chance, reports.best)
    return StopDecision(None, f"at {format_number(reports.best)}; {verdict}", chance, reports.best)


def _best_step(complete: Sequence[FrozenTrial], sign: float, goal: float) -> float | None:
    """The earliest step at which a finished trial had reached the goal."""
    curves = (finite_reports(trial) for trial in complete)
    reached = [float(steps[sign * values <= goal].min(initial=math.inf)) for steps, values in curves]
    best = min(reached, default=math.inf)
    return best if math.isfinite(best) else None


def _best_cost(complete: Sequence[FrozenTrial]) -> float | None:
    costs = [t.values[0] for t in complete if t.values and math.isfinite(t.values[0])]
    return min(costs, default=None)
