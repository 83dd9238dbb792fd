"""Synthetic studies from known laws; the benchmark's contender."""

from __future__ import annotations

from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from bsopt.search.sampler import ScalingSampler

__all__ = ["contender"]


def contender(optimizer: str, seed: int, horizon: int | None = None) -> tuple[BaseSampler, BasePruner | None]:
    """Return bsopt's sampler and pruner as a user gets them who knows the optimizer's name only."""
    return ScalingSampler(optimizer=optimizer, seed=seed), None
