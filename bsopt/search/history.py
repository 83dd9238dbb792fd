"""A study's trials as the surrogate sees them: points, values with their errors, what is pending, what can run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from bsopt.laws.direction import sign_of
from bsopt.laws.response_surface import thinned_rows
from bsopt.laws.surface_prior import NEAR_BEST
from bsopt.laws.value_transform import ValueTransform, rarity
from bsopt.search.space import Space

__all__ = ["History", "finished_key", "finite_reports", "history_of", "joint_space", "study_sign"]

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class History:
    """The finished trials of a study over one space (n of them, at most `MOST_POINTS`).

    Attributes:
        rows: (n, columns) in the space's coordinates.
        y, sd: (n,) squashed, standardised value, smaller is better, and its own error.
        gap: (n,) how far each value is above the best, in units of median − best.
        is_feasible: (n,) whether the trial may count as the best.
        numbers: Trial numbers, for telling what is what.
        num_finished: Before thinning.
        transform: From values to y; for several objectives the first one's.
        labelled, labels: Rows and labels for the feasibility model; empty where nothing was ever infeasible.
    """

    rows: Array
    y: Array
    sd: Array
    gap: Array
    is_feasible: NDArray[np.bool_]
    numbers: tuple[int, ...]
    num_finished: int
    transform: ValueTransform
    labelled: Array
    labels: Array

    @property
    def best(self) -> float:
        """The lowest y of a feasible trial, or the lowest of all."""
        return float(self.y[self.is_feasible].min() if self.is_feasible.any() else self.y.min())


def study_sign(study: Study) -> float:
    """Return 1 where smaller values of the study's first objective are better, else −1."""
    return sign_of("maximize" if study.directions[0] == StudyDirection.MAXIMIZE else "minimize")


def finite_reports(trial: FrozenTrial) -> tuple[Array, Array]:
    """Return steps done and values at a trial's finite reports by increasing step, each of shape (r,).

    Where reports count from 0, as epochs do, one step more is done than the report's number.
    """
    first = 1.0 if min(trial.intermediate_values, default=1) <= 0 else 0.0
    items = sorted((step, value) for step, value in trial.intermediate_values.items() if math.isfinite(value))
    pairs = np.array(items, dtype=float).reshape(-1, 2)
    return pairs[:, 0] + first, pairs[:, 1]


def joint_space(trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
    """Return the parameters that every finished trial has, each with the range it was last searched in.

    Unlike Optuna's intersection, a range that was widened or narrowed on the way stays in: the coordinates are in
    natural units, so that trials from the earlier range are as good. Where no trial has finished yet, the running
    ones speak.
    """
    with_params = [t for t in trials if t.distributions]
    chosen = [t for t in with_params if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    chosen = chosen or [t for t in with_params if t.state in (TrialState.RUNNING, TrialState.FAIL)]
    if not chosen:
        return {}
    latest = max(chosen, key=lambda t: t.number)
    return {
        name: distribution
        for name, distribution in latest.distributions.items()
        if not distribution.single()
        and all(name in t.distributions and _compatible(t.distributions[name], distribution) for t in chosen)
    }


def finished_key(study: Study, trials: Sequence[FrozenTrial]) -> tuple[object, ...]:
    """Return what a fit may be cached under: it changes whenever a trial finishes."""
    done = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)]
    values = tuple(v for t in done if t.values is not None for v in t.values)
    return (study.study_name, tuple(t.number for t in done), hash(values))


def history_of(
    study: Study,
    trials: Sequence[FrozenTrial],
    space: Space,
    *,
    predicted: Mapping[int, tuple[float, float]],
    weights: Array | None = None,
) -> History:
    """Return the history over a space.

    Args:
        study: Gives the directions.
        trials: All of its trials; those without one of the space's parameters are left out.
        space: What is searched.
        predicted: Trial number -> (mean, sd) of the final value of pruned trials; other pruned trials say nothing.
        weights: One per objective, for a random scalarisation (augmented Chebyshev) of several.
    """
    names = set(space.names)
    usable = [t for t in trials if names <= t.params.keys()]
    told = [t for t in usable if t.state == TrialState.COMPLETE or t.number in predicted]
    rows = space.encode([t.params for t in told])
    y, sd, gap, transform = _scaled(told, study.directions, predicted, _rarity(rows, space), weights)
    is_feasible = np.array([_is_feasible(t) and t.number not in predicted for t in told], dtype=bool)
    labelled, labels = _labelled(usable, space)
    spans = np.array([max(c.high - c.low, 1e-12) for c in space.columns])
    kept = thinned_rows(rows, np.where(is_feasible, y, y + 0.5), spans=spans)
    return History(
        rows[kept], y[kept], sd[kept], gap[kept], is_feasible[kept], tuple(told[i].number for i in kept), len(told),
        transform, labelled, labels,
    )  # fmt: skip


def _scaled(
    told: Sequence[FrozenTrial],
    directions: Sequence[StudyDirection],
    predicted: Mapping[int, tuple[float, float]],
    rarity: Array,
    weights: Array | None,
) -> tuple[Array, Array, Array, ValueTransform]:
    """Return y, its error, the gap to the best, and the first objective's transform."""
    if not told:
        return np.zeros(0), np.zeros(0), np.zeros(0), ValueTransform.of([])
    if len(directions) == 1:
        values = np.array([predicted[t.number][0] if t.number in predicted else _value(t) for t in told])
        errors = np.array([predicted[t.number][1] if t.number in predicted else 0.0 for t in told])
        is_final = np.array([t.number not in predicted for t in told])
        transform = ValueTransform.of(
            values, weights=rarity, finals=is_final, maximize=directions[0] == StudyDirection.MAXIMIZE
        )
        error = errors * np.minimum(transform.slope(values), 10.0 / np.maximum(errors, 1e-300))
        return transform(values), error, transform.gap(values), transform
    table = np.array([t.values for t in told], dtype=float)
    transforms = [
        ValueTransform.of(table[:, j], weights=rarity, maximize=d == StudyDirection.MAXIMIZE)
        for j, d in enumerate(directions)
    ]
    each = np.stack([transform(table[:, j]) for j, transform in enumerate(transforms)], axis=1)
    each -= each.min(axis=0)
    weights = np.full(len(directions), 1.0 / len(directions)) if weights is None else weights
    total = (weights * each).max(axis=1) + 0.05 * (weights * each).sum(axis=1)
    spread = float(total.std())
    y = (total - total.mean()) / (spread if spread > 1e-12 else 1.0)
    return y, np.zeros(len(told)), np.full(len(told), NEAR_BEST), transforms[0]


def _rarity(rows: Array, space: Space) -> Array:
    sizes = [1.0 if c.role in ("batch_size", "lr", "choice") else (c.high - c.low) / 4 for c in space.columns]
    return rarity(rows, np.array(sizes))


def _value(trial: FrozenTrial) -> float:
    assert trial.values is not None
    return float(trial.values[0])


def _is_feasible(trial: FrozenTrial) -> bool:
    return all(value <= 0.0 for value in trial.constraints.values())


def _labelled(trials: Sequence[FrozenTrial], space: Space) -> tuple[Array, Array]:
    """Return what the feasibility model learns from: the latest 200 trials, and only where one couldn't run."""
    done = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    labels = np.array([1.0 if _is_feasible(t) else -1.0 for t in done])
    if not len(done) or labels.min() > 0:
        return np.zeros((0, len(space.columns))), np.zeros(0)
    bad = np.flatnonzero(labels <= 0)[-100:]
    good = np.flatnonzero(labels > 0)[-100:]
    kept = np.sort(np.concatenate([bad, good]))
    return space.encode([done[i].params for i in kept]), labels[kept]


def _compatible(one: BaseDistribution, other: BaseDistribution) -> bool:
    """Whether values of one range can be read in the other: the same kind, scale and choices."""
    same_kind = type(one) is type(other) and getattr(one, "log", None) == getattr(other, "log", None)
    return same_kind and getattr(one, "choices", None) == getattr(other, "choices", None)
