"""Is another batch size as good as the one recommended? The law and a trial that ran to its end there say.

Notation:

    d(B)    the value at B's best learning rate less that of the recommended size, positive where B is worse
    m       margin: a size with d(B) ≤ m is as good
    P(B)    posterior probability of d(B) ≤ m, from joint draws of the values along the ridge

Values are at the best of the learning rates that were tried. Where a better one of a size may lie beyond them, among
those that were searched, and the size isn't as good without, its value there counts: a large batch that ran only at
rates which suit a small one isn't known to be worse.

"As good" is said where P(B) is at least `ENOUGH` and a trial ran to its end at B near its best learning rate: one far
from it says nothing of B. "Worse" is said where P(B) is at most `HARDLY`. `scripts/benchmark_answers` prints how often
what is called as good is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from bsopt.laws.estimate import Estimate, estimate_from_samples
from bsopt.laws.lr_ridge import LrRidgeFit
from bsopt.recommendation.result import SizeFinding, SizeState
from bsopt.trial.record import TrialRecord

__all__ = ["judge_sizes", "trials_by_size"]

Array = NDArray[np.float64]

ENOUGH, HARDLY = 0.75, 0.1
"""Probabilities from which a batch size is said to be as good as the best, and up to which to be worse."""
NEAR_OCTAVES = 0.5
"""A trial counts for a batch size up to this far from it, where trials ran at any size."""


def trials_by_size(records: Sequence[TrialRecord], sizes: Sequence[int]) -> dict[int, list[TrialRecord]]:
    """Return each batch size with the records of the trials with a result that ran at it, or nearest to it.

    Args:
        records: The trials.
        sizes: Global batch sizes in samples.
    """
    groups: dict[int, list[TrialRecord]] = {size: [] for size in sizes}
    for record in records:
        if not record.has_result or not record.batch_size or not sizes:
            continue
        log = math.log2(record.batch_size)
        size = min(sizes, key=lambda s: abs(math.log2(s) - log))
        if abs(math.log2(size) - log) <= NEAR_OCTAVES:
            groups[size].append(record)
    return groups


def judge_sizes(
    groups: Mapping[int, Sequence[TrialRecord]], ridge: LrRidgeFit | None, *, best: int, margin: float, sign: float
) -> tuple[SizeFinding, ...]:
    """Return what is known of each batch size, smallest first.

    Args:
        groups: The trials with a result at each batch size.
        ridge: The best learning rate of each batch size and the value there; None without a law.
        best: The batch size that is recommended.
        margin: In the objective's unit.
        sign: 1 where a smaller value is better, −1 where a larger one is.
    """
    sizes = sorted(groups)
    draws = ridge.sample_values(sizes) if ridge is not None else None
    anywhere = ridge.sample_values(sizes, anywhere=True) if ridge is not None else None
    complete = {size: [r for r in groups[size] if r.outcome == "complete"] for size in sizes}
    chances: dict[int, float] = {}
    gaps: dict[int, Estimate] = {}
    has_run = [bool(complete[size]) for size in sizes]
    is_beyond: dict[int, bool] = {}
    if ridge is not None and draws is not None and anywhere is not None and any(has_run):
        values, elsewhere = sign * draws, sign * anywhere
        reference = values[:, sizes.index(best)] if best in groups else values[:, has_run].min(axis=1)
        gap = values - reference[:, None]
        enough = (gap <= margin).mean(0) >= ENOUGH
        gap = np.where(enough, gap, elsewhere - reference[:, None])
        for i, size in enumerate(sizes):
            is_beyond[size] = not enough[i] and (told := ridge.predict(size)) is not None and told.beyond is not None
            chances[size] = float((gap[:, i] <= margin).mean())
            gaps[size] = estimate_from_samples(gap[:, i])
    is_tuned = {
        size: ridge is None
        or (not is_beyond.get(size, False) and any(ridge.is_tuned(size, cast(float, r.lr)) for r in complete[size]))
        for size in sizes
    }
    states = {
        size: _state(
            chances.get(size, math.nan),
            has_run=bool(complete[size]),
            is_tuned=is_tuned[size],
            is_best=size == best,
        )
        for size in sizes
    }
    for i, size in enumerate(sizes):
        if states[size] is SizeState.NOT_TESTED and chances.get(size, 0.0) >= ENOUGH and not is_beyond[size]:
            below = next((states[s] for s in reversed(sizes[:i]) if complete[s]), None)
            above = next((states[s] for s in sizes[i + 1 :] if complete[s]), None)
            if below is above is SizeState.TESTED:
                states[size] = SizeState.SUPPORTED
    return tuple(
        SizeFinding(
            batch_size=size,
            state=states[size],
            num_complete=len(complete[size]),
            chance=chances.get(size, math.nan),
            is_tuned=is_tuned[size],
            gap=gaps.get(size),
            trial=_best_number(complete[size], sign),
        )
        for size in sizes
    )


def _state(chance: float, *, has_run: bool, is_tuned: bool, is_best: bool) -> SizeState:
    if is_best and has_run:
        return SizeState.TESTED
    if chance <= HARDLY:
        return SizeState.WORSE
    if not has_run:
        return SizeState.NOT_TESTED
    return SizeState.TESTED if chance >= ENOUGH and is_tuned else SizeState.OPEN


def _best_number(records: Sequence[TrialRecord], sign: float) -> int | None:
    best = min(records, key=lambda record: sign * (record.value or 0.0), default=None)
    return best.number if best is not None else None
