"""What a trial's validations say so far: the best of them, what they cost, and whether they end the trial."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bsopt.trial.objective import Cost, Objective
from bsopt.trial.record import StopReason, Tick
from bsopt.trial.spec import StopDecision

__all__ = ["best_tick", "cost_at", "end_by_patience", "end_by_value", "train_loss"]


def best_tick(ticks: Sequence[Tick], objective: Objective) -> Tick | None:
    """Return the first tick with the best finite metric; None where no metric is finite."""
    finite = [tick for tick in ticks if math.isfinite(tick.value)]
    return min(finite, key=lambda tick: objective.metric_sign * tick.value, default=None)


def cost_at(tick: Tick, cost: Cost | None) -> float | None:
    """Return what a trial has cost up to a tick, in seconds, samples or steps; None for energy, which no tick knows."""
    costs = {"seconds": tick.seconds, "samples": tick.samples, "steps": float(tick.step)}
    return costs.get(cost or "")


def end_by_value(ticks: Sequence[Tick], objective: Objective) -> StopDecision:
    """Return whether the last tick's metric ends its trial: as diverged, or at the target.

    It has diverged where the metric isn't finite twice in a row, or once with a training loss or weights that aren't.
    A metric alone may be undefined once, as an AUC is where a class is missing.

    >>> tick = Tick(index=1, samples=96.0, step=12, epoch=1.0, seconds=0.5, value=0.25)
    >>> end_by_value([tick], Objective("val_loss", target=0.3)).message
    'val_loss reached 0.25 (target 0.3) after 1 epochs'
    """
    tick = ticks[-1]
    if not math.isfinite(tick.value):
        loss = train_loss(tick, objective.monitor)
        is_sound = tick.is_training_finite is not False and (loss is None or math.isfinite(loss))
        is_again = len(ticks) > 1 and not math.isfinite(ticks[-2].value)
        if is_sound and not is_again:
            return StopDecision()
        message = f"{objective.monitor} became {tick.value} after {tick.epoch:.3g} epochs"
        if is_sound and tick.is_training_finite:
            message += "; the training loss stayed finite: look at the metric"
        return StopDecision(StopReason.DIVERGED, message)
    if objective.reaches(tick.value):
        reached = f"{objective.monitor} reached {tick.value:.5g} (target {objective.target:g})"
        return StopDecision(StopReason.TARGET_REACHED, f"{reached} after {tick.epoch:.3g} epochs")
    return StopDecision()


def end_by_patience(ticks: Sequence[Tick], objective: Objective, patience: float) -> StopDecision:
    """Return whether a trial has converged: its metric is no better than it was `patience` nominal samples ago."""
    best = best_tick(ticks, objective)
    if best is None or ticks[-1].samples - best.samples < patience:
        return StopDecision()
    message = f"no better {objective.monitor} than {best.value:.5g} since epoch {best.epoch:.3g}"
    return StopDecision(StopReason.CONVERGED, message)


def train_loss(tick: Tick, monitor: str) -> float | None:
    """Return the training loss that the module logged for a tick's epoch; None where it logged none.

    It is the metric named like the monitored one with "train" for "val" or "valid", else `train_loss`, else the
    only one with "train" and "loss" in its name.
    """
    names = [monitor.replace("valid", "train"), monitor.replace("val", "train"), "train_loss"]
    for name in names:
        if name != monitor and name in tick.metrics:
            return tick.metrics[name]
    alike = [name for name in tick.metrics if "train" in name and "loss" in name]
    return tick.metrics[alike[0]] if len(alike) == 1 else None
