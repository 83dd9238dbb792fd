"""How a study's trials ended, as far as it says where trials can run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from bsopt.laws.stability import Ending, Stability
from bsopt.search.space import Space
from bsopt.storage.attributes import read_stop_reason
from bsopt.storage.parameter_names import natural_log2
from bsopt.trial.record import StopReason

__all__ = ["Endings", "ending_of", "endings_of"]

Array: TypeAlias = NDArray[np.float64]

MOST_ENDINGS = 200
"""The latest endings of either kind that are learned from."""

SAME_OCTAVES = 0.1
"""Learning rates closer than this at one batch size are one point."""


@dataclass(frozen=True, slots=True)
class Endings:
    """What the endings of trials say of a space.

    Attributes:
        stability: Where trials can run; None where all of them ran.
        barred: Batch size and learning rate, (k, 2) log2, of points that ended without a value.
        streak: How many of the latest trials in a row ended without a value.
        diverged: Number of each trial that ended without a value -> probability that its learning rate was too high.
    """

    stability: Stability | None
    barred: Array
    streak: int
    diverged: Mapping[int, float]

    def log_chance(self, b: Array, x: Array) -> Array:
        """Return log P(a trial runs), shape (m,).

        The more trials in a row have failed, the more it counts; a point that failed isn't taken again.

        Args:
            b: log2 batch sizes, (m,).
            x: log2 learning rates, (m,).
        """
        total = np.zeros(len(b))
        if self.stability is not None:
            total += (1.0 + self.streak) * np.log(np.maximum(self.stability.probability(b, x), 1e-12))
        if len(self.barred):
            near = np.abs(b[:, None] - self.barred[None, :, 0]) < SAME_OCTAVES
            near &= np.abs(x[:, None] - self.barred[None, :, 1]) < SAME_OCTAVES
            total[near.any(axis=1)] -= 1e3
        return total


def ending_of(trial: FrozenTrial) -> Ending | None:
    """Return how a trial ended; None where it says nothing: it still runs, was interrupted or lost."""
    if trial.state == TrialState.COMPLETE:
        return Ending.RAN
    if trial.state not in (TrialState.PRUNED, TrialState.FAIL):
        return None
    reason = read_stop_reason(trial)
    if reason is not None and reason.is_retried:
        return None
    if reason is StopReason.OUT_OF_MEMORY:
        return Ending.OUT_OF_MEMORY
    reports = [value for _, value in sorted(trial.intermediate_values.items())]
    if reason is StopReason.DIVERGED or (reports and not math.isfinite(reports[-1])):
        return Ending.DIVERGED
    return Ending.RAN if trial.state == TrialState.PRUNED and reports else Ending.FAILED


def endings_of(trials: Sequence[FrozenTrial], space: Space, *, names: tuple[str, str]) -> Endings:
    """Return what the endings of trials say of a space.

    Args:
        trials: Those to learn from.
        space: What is searched.
        names: Of the batch size and the learning rate parameter; a trial may lack the second.
    """
    found = [(trial, ending) for trial in trials if (ending := ending_of(trial)) is not None]
    streak = next((i for i, (_, ending) in enumerate(reversed(found)) if ending is Ending.RAN), len(found))
    lost = [pair for pair in found if pair[1] is not Ending.RAN][-MOST_ENDINGS // 2 :]
    if not lost:
        return Endings(None, np.zeros((0, 2)), 0, {})
    ran = [pair for pair in found if pair[1] is Ending.RAN][-MOST_ENDINGS // 2 :]
    pairs = sorted([*lost, *ran], key=lambda pair: pair[0].number)
    at = np.array([_place(trial, space, names) for trial, _ in pairs])
    again = {_cell(row) for row, (_, ending) in zip(at, pairs, strict=True) if ending is Ending.RAN}
    barred = [
        row
        for row, (_, ending) in zip(at, pairs, strict=True)
        if ending is not Ending.RAN and np.isfinite(row).all() and _cell(row) not in again
    ]
    domain = space.domain
    stability = Stability.of(
        at[:, 0],
        at[:, 1],
        [ending for _, ending in pairs],
        b_range=domain.b or _range(at[:, 0]),
        x_range=domain.x or _range(at[:, 1]),
    )
    unstable = stability.instability(at[:, 0], at[:, 1])
    diverged = {
        trial.number: float(share)
        for (trial, ending), share in zip(pairs, unstable, strict=True)
        if ending in (Ending.DIVERGED, Ending.FAILED)
    }
    return Endings(stability, np.array(barred).reshape(-1, 2), streak, diverged)


def _place(trial: FrozenTrial, space: Space, names: tuple[str, str]) -> tuple[float, float]:
    """Return a trial's log2 batch size (0 where it has none) and log2 learning rate (NaN where it has none)."""
    size = space.column("batch_size")
    if set(space.names) <= trial.params.keys() and space.column("lr") is not None:
        at = space.coordinates(space.encode([trial.params]))
        b, x = float(at.b[0]), float(at.x[0])
        if size is not None:
            return b, x
    else:
        x = natural_log2(trial, names[1])
    told = trial.params.get(names[0])
    b = size.encode(told) if size is not None and told is not None else natural_log2(trial, names[0])
    return (0.0 if math.isnan(b) else b), x


def _cell(row: Array) -> tuple[float, float]:
    return round(float(row[0]), 1), round(float(row[1]), 1)


def _range(values: Array) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
