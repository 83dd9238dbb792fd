"""What the sampler's model believes about the value at every batch size and learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from bsopt.search.value_transform import ValueTransform
from bsopt.study.samplers import sampler_of
from bsopt.visualization.study_data import Status, StudyData, spread_evenly, status_of

__all__ = ["Surface", "believed_surface"]

MAX_TRIALS = 120
MIN_TRIALS = 5
NUM_SIZES, NUM_RATES = 12, 21


@dataclass(frozen=True, slots=True)
class Surface:
    """The expected value on a grid: `values[i][j]` is at learning rate i and batch size j, in the study's unit."""

    batch_sizes: tuple[float, ...]
    lrs: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]


def believed_surface(data: StudyData) -> Surface | None:
    """Return the belief of bsopt's own sampler, whoever sampled the study, over batch size and learning rate alone.

    None below five trials that ended, or without a range in both. Of very many trials, 120 are used: the better
    half of them the best.
    """
    trials = _trials(data)
    ranges = _ranges(data)
    if ranges is None or sum(math.isfinite(cast(float, trial.value)) for trial in trials) < MIN_TRIALS:
        return None
    sizes, rates = (np.geomspace(*span, num).tolist() for span, num in zip(ranges, (NUM_SIZES, NUM_RATES), strict=True))
    study = _scratch_study(data, trials)
    sampler = sampler_of(data.info)
    found = sampler.predict_all(study, [{"batch_size": size, "lr": rate} for rate in rates for size in sizes])
    if not found:
        return None
    transform = found[0].transform
    assert isinstance(transform, ValueTransform)
    values = transform.inverse(np.array([belief.mean for belief in found])).reshape(len(rates), len(sizes))
    return Surface(tuple(sizes), tuple(rates), tuple(tuple(row) for row in values.tolist()))


def _scratch_study(data: StudyData, trials: Sequence[FrozenTrial]) -> optuna.Study:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            direction=data.info.objective.value_direction, sampler=optuna.samplers.RandomSampler(0)
        )
    finally:
        optuna.logging.set_verbosity(verbosity)
    study.add_trials(trials)
    return study


def _trials(data: StudyData) -> list[FrozenTrial]:
    ranges = _ranges(data)
    if ranges is None:
        return []
    (low, high), (slow, fast) = ranges
    distributions = {
        "batch_size": IntDistribution(int(low), math.ceil(high), log=True),
        "lr": FloatDistribution(slow, fast, log=True),
    }
    diverged = [r for r in data.records if r.is_placed and status_of(r) is Status.DIVERGED]
    good = sorted(data.completed, key=data.rank)
    kept = good[: MAX_TRIALS // 2] + spread_evenly(good[MAX_TRIALS // 2 :] + diverged, MAX_TRIALS // 2)
    lost = -math.inf if data.info.objective.value_direction == "maximize" else math.inf
    return [
        create_trial(
            params={"batch_size": int(cast(int, record.batch_size)), "lr": float(cast(float, record.lr))},
            distributions=dict(distributions),
            value=lost if status_of(record) is Status.DIVERGED else record.value,
            state=TrialState.COMPLETE,
        )
        for record in kept
    ]


def _ranges(data: StudyData) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Return the ranges that hold the searched space and every trial."""
    placed = [record for record in data.records if record.is_placed]
    sizes = [float(cast(int, r.batch_size)) for r in placed] + [float(b) for b in data.info.batch_size_range or ()]
    rates = [cast(float, r.lr) for r in placed] + list(data.info.lr_range or ())
    if not placed or min(sizes) == max(sizes) or min(rates) == max(rates):
        return None
    return (min(sizes), max(sizes)), (min(rates), max(rates))
