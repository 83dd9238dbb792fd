"""What one designed run measured, as numbers that runs of other batch sizes can be held against."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, TypeAlias

from bsopt.trial.curve import train_loss
from bsopt.trial.record import StopReason, Tick, TrialRecord

__all__ = ["CONTOUR_REACH", "Analysis", "Common", "common_of", "contour_rise", "line_rises", "measured", "sharpness_of"]

Analysis: TypeAlias = Mapping[str, Any]
"""A result of `bsopt.analysis` as plain data (`bsopt.analysis.to_stored`)."""

LINE_REACH = 0.3
"""Of the way between two minimizers: so far around each of them its loss is looked at."""
CONTOUR_REACH = 0.5
"""In units of each filter's norm: so far around a minimizer its loss is looked at."""
SMOOTHED = 5
"""Ticks, at most, over which a loss is averaged that jumps from one validation to the next."""


@dataclass(frozen=True, slots=True)
class Common:
    """What runs have in common, so that they can be compared there.

    Attributes:
        num_epochs: That all of them trained.
        train_loss: On the way of nearly all of them: halfway, in its logarithm, from the first epoch's to the lowest
            that the slowest batch size reaches. None where no training loss was logged.
    """

    num_epochs: int
    train_loss: float | None


def common_of(records: Iterable[TrialRecord], monitor: str) -> Common:
    """Return what runs have in common; those that diverged don't count.

    Args:
        records: With ticks, of the arms that are compared at equal epochs and equal training loss.
        monitor: The metric that is minimised.
    """
    sound = [r for r in records if r.ticks and r.stop_reason is not StopReason.DIVERGED]
    lowest: dict[int | None, list[float]] = {}
    first = []
    for record in sound:
        losses = [loss for _, loss in _train_losses(record, monitor)]
        if losses:
            first.append(losses[0])
            lowest.setdefault(record.batch_size, []).append(min(losses))
    worst = max((median(values) for values in lowest.values()), default=math.nan)
    shared = math.sqrt(median(first) * worst) if first and worst < median(first) else None
    return Common(min((int(r.ticks[-1].epoch) for r in sound), default=0), shared)


def measured(record: TrialRecord, monitor: str, common: Common) -> dict[str, float]:
    """Return what a run's training measured: names of `findings.table.MEASUREMENTS` and a few more -> finite number.

    Args:
        record: The run's.
        monitor: The metric that is minimised.
        common: Where runs are compared.
    """
    best, train = record.best, _train_losses(record, monitor)
    found: dict[str, float | None] = {
        "best_val_loss": best.value if best else None,
        "best_train_loss": min((loss for _, loss in train), default=None),
    }
    if record.stop_reason is not StopReason.DIVERGED:  # else it reached a loss, and nothing that others can match
        found |= {
            "seconds_per_epoch": record.seconds_per_epoch,
            "epochs_to_best": best.epoch if best else None,
            "seconds_to_best": best.seconds if best else None,
            "samples_per_second": record.samples_per_second,
            "peak_memory": record.peak_memory_bytes / 1e6 if record.peak_memory_bytes else None,
            **_at_train_loss(train, common.train_loss),
            "overfitting": _overfitting(train, common.num_epochs),
            **_distances(record, common.num_epochs),
        }
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def sharpness_of(stored: Mapping[str, Analysis], lr: float) -> dict[str, float]:
    """Return the sharpness that was found where a run's weights were examined, by every measure.

    Args:
        stored: Name of the measure -> its result.
        lr: The run's learning rate: times the largest curvature it says how close to the edge of stability, 2, it is.
    """
    names = {
        "sharpness": "full",
        "sharpness_subspace": "subspace",
        "adaptive_sharpness": "adaptive",
        "top_curvature": "curvature",
    }
    found = {name: _number(stored.get(key), "value") for name, key in names.items()}
    curvature = found["top_curvature"]
    found["curvature_times_lr"] = curvature * lr if curvature is not None else None
    found["examined_loss"] = _number(stored.get("full"), "loss")
    return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}


def line_rises(line: Analysis) -> tuple[float | None, float | None]:
    """Return the range of the training loss around the first and the second minimizer, on the line between them."""
    rises = []
    for end in (0.0, 1.0):
        near = [
            loss
            for alpha, loss in zip(line["alphas"], line["train_losses"], strict=True)
            if abs(alpha - end) <= LINE_REACH + 1e-9
        ]
        rise = max(near) - min(near) if near else math.nan
        rises.append(rise if math.isfinite(rise) else None)
    return rises[0], rises[1]


def contour_rise(landscape: Analysis) -> float | None:
    """Return how far the loss lies above the minimizer's, the mean over a disc around it; None where it overflows."""
    rises = [
        loss - landscape["center_loss"]
        for beta, row in zip(landscape["betas"], landscape["losses"], strict=True)
        for alpha, loss in zip(landscape["alphas"], row, strict=True)
        if 0.0 < math.hypot(alpha, beta) <= CONTOUR_REACH + 1e-9 and loss is not None
    ]
    rise = fmean(rises) if rises else math.nan
    return rise if math.isfinite(rise) else None


def _train_losses(record: TrialRecord, monitor: str) -> list[tuple[Tick, float]]:
    losses = ((tick, train_loss(tick, monitor)) for tick in record.ticks)
    return [(tick, loss) for tick, loss in losses if loss is not None and math.isfinite(loss)]


def _at_train_loss(train: Sequence[tuple[Tick, float]], target: float | None) -> dict[str, float | None]:
    """Return when the training loss first is as low as a target, and the validation loss then; nothing where never."""
    place = next((i for i, (_, loss) in enumerate(train) if target is not None and loss <= target), None)
    if place is None or target is None:
        return {}
    tick, loss = train[place]
    epoch = tick.epoch
    if place > 0 and loss > 0:
        before, higher = train[place - 1]
        share = math.log(higher / target) / math.log(higher / loss)
        epoch = before.epoch + share * (tick.epoch - before.epoch)
    around = [near for near, _ in train[max(0, place - SMOOTHED // 2) : place + SMOOTHED // 2 + 1]]
    return {"epochs_to_train_loss": epoch, "val_loss_at_train_loss": _geometric_mean([t.value for t in around])}


def _overfitting(train: Sequence[tuple[Tick, float]], num_epochs: int) -> float | None:
    """Return the validation loss over the training loss after so many epochs, over the last ticks until then."""
    until = [(tick.value, loss) for tick, loss in train if tick.epoch <= num_epochs + 1e-6][-SMOOTHED:]
    value, loss = _geometric_mean([v for v, _ in until]), _geometric_mean([loss for _, loss in until])
    return value / loss if value is not None and loss is not None else None


def _distances(record: TrialRecord, num_epochs: int) -> dict[str, float | None]:
    distance = record.measurements.get("WeightDistance") or {}
    updates = record.measurements.get("UpdateNorms") or {}
    from_start, best = distance.get("from_start") or [], record.best
    at_best = max(1, round(best.epoch)) if best is not None else 0
    epochs = (distance.get("epochs") or [])[:num_epochs]
    third = max(1, len(epochs) // 3)
    early, late = _geometric_mean(epochs[:third]), _geometric_mean(epochs[-third:])
    has_time = len(epochs) >= 3 and early is not None and late is not None
    return {
        "distance_from_init": from_start[at_best - 1] if 0 < at_best <= len(from_start) else None,
        "epoch_distance": _geometric_mean(epochs),
        "epoch_distance_growth": late / early if has_time and early and late else None,
        "update_norm": (updates.get("quantiles") or {}).get("0.5"),
    }


def _geometric_mean(values: Sequence[float]) -> float | None:
    sound = [value for value in values if math.isfinite(value) and value > 0]
    return math.exp(fmean(map(math.log, sound))) if sound and len(sound) == len(values) else None


def _number(result: Analysis | None, key: str) -> float | None:
    value = (result or {}).get(key)
    return float(value) if isinstance(value, (int, float)) else None
