"""A made-up experiment whose truth is known, as the table that findings are judged by: nothing is even simulated.

In each world a run's measurements depend on how far its learning rate lies below or above the reference's, per sample:

    lag      log2(B/B_0) − log2(η/η_0) where it is positive: too low a rate for the batch size
    excess   the same below zero: too high a rate
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bsopt.experiment.findings.table import Run, arms_of
from bsopt.experiment.findings.variants import arm_of_variant

__all__ = ["PLANTED_LR", "PLANTED_SIZES", "Scatter", "World", "planted_experiment", "planted_variant"]

PLANTED_SIZES = (32, 64, 128, 256)
PLANTED_LR = (0.01, 0.02, 0.04, 0.08, 0.16)
World: TypeAlias = Literal["present", "absent", "reversed", "little", "overshoot"]
"""The article's findings hold; nothing matters; the opposite of each holds; scaling closes a tenth of the gaps; it goes
past them."""
_Effects: TypeAlias = Mapping[str, tuple[float, float, float]]

Scatter: TypeAlias = Callable[[np.random.Generator, int, int], NDArray[np.float64]]
"""From a batch size and a number of runs' measurements to that many numbers about zero, of deviation 1 or so."""

_SHARED_NOISE = 0.1
"""Deviation, in natural logarithms, that all runs of a seed share."""

# measurement -> its value at the reference, and by how much one octave of lag and one of batch size multiply it
_EFFECTS: _Effects = {
    "best_val_loss": (0.345, 1.05, 1.0),
    "epochs_to_train_loss": (20.0, 1.6, 1.0),
    "seconds_per_epoch": (12.4, 1.0, 0.85),
    "epochs_to_best": (158.0, 1.8, 1.0),
    "seconds_to_best": (1915.0, 1.8, 0.85),
    "distance_from_init": (10.0, 0.8, 1.0),
    "epoch_distance": (0.3, 0.5, 1.0),
    "epoch_distance_growth": (0.6, 0.8, 1.0),
    "update_norm": (3.3e-3, 0.77, 1.0),
    "sharpness": (1.14, 2.0, 1.7),
    "sharpness_subspace": (0.4, 2.0, 1.7),
    "adaptive_sharpness": (0.01, 1.8, 1.6),
    "top_curvature": (12.0, 1.9, 1.7),
    "line_rise": (0.1, 1.7, 1.0),
    "contour_rise": (0.2, 1.6, 1.0),
    "overfitting": (2.0, 1.0, 1.1),
    "val_loss_at_train_loss": (0.4, 1.0, 1.04),
    "samples_per_second": (4000.0, 1.0, 1.15),
    "peak_memory": (2e8, 1.0, 1.3),
}
_GAPS = ("best_val_loss", "distance_from_init")


def planted_experiment(
    world: World,
    *,
    seeds: int = 5,
    noise: float | Mapping[str, float] = 0.02,
    rng_seed: int = 0,
    first_seed: int = 0,
    look: int = 0,
    scatter: Scatter = lambda rng, size, num: rng.normal(size=num),
) -> list[Run]:
    """Return the runs of a whole design, each listed in all of its arms.

    Args:
        world: What is true.
        seeds: Of each configuration.
        noise: Deviation of a run from its seed's, in natural logarithms; one, or one for each measurement.
        rng_seed: Of the noise.
        first_seed: The first seed's number.
        look: Of every run.
        scatter: The shape of the noise, whose mean is to be zero at every batch size.
    """
    rng = np.random.default_rng(rng_seed)
    widths = dict.fromkeys(_EFFECTS, noise) if isinstance(noise, (int, float)) else noise
    value_of = _VALUES[world]
    runs = []
    for seed in range(first_seed, first_seed + seeds):
        shared = rng.normal(0.0, _SHARED_NOISE, len(_EFFECTS))
        for size, lr in itertools.product(PLANTED_SIZES, PLANTED_LR):
            alone = scatter(rng, size, len(_EFFECTS)) * [widths[name] for name in _EFFECTS]
            own = dict(zip(_EFFECTS, shared + alone, strict=True))
            for arm in arms_of(size, lr, smallest_batch_size=PLANTED_SIZES[0], reference_lr=PLANTED_LR[0]):
                values = {name: value_of(name, size, lr) * math.exp(own[name]) for name in _EFFECTS}
                runs.append(Run(size, lr, arm, seed, values, look))
    return runs


def planted_variant(
    variant: str, *, largest: float, cost: float, seeds: int = 5, noise: float = 0.01, rng_seed: int = 0
) -> list[Run]:
    """Return the runs of two batch sizes in two arms, with the study's own settings and with a variant's.

    Without it the largest batch's loss is 1.2 times the smallest's, at either rate.

    Args:
        variant: Its name.
        largest: Times which the largest batch's loss is with the variant.
        cost: Times which it takes as long and as much memory.
        seeds: Of each configuration.
        noise: Deviation of a run from its seed's, in natural logarithms.
        rng_seed: Of the noise.
    """
    rng, runs = np.random.default_rng(rng_seed), []
    names = ("best_val_loss", "seconds_per_epoch", "peak_memory")
    for seed in range(seeds):
        shared = rng.normal(0.0, _SHARED_NOISE, len(names))
        for arm, is_largest, name in itertools.product(("fixed_lr", "scaled_lr"), (False, True), (None, variant)):
            loss = (1.2 if is_largest else 1.0) * (largest if is_largest and name else 1.0)
            true = (loss, cost if name else 1.0, cost if name else 1.0)
            own = np.exp(shared + rng.normal(0.0, noise, len(names)))
            values = {what: float(value * factor) for what, value, factor in zip(names, true, own, strict=True)}
            size = PLANTED_SIZES[-1 if is_largest else 0]
            runs.append(Run(size, PLANTED_LR[0], arm_of_variant(arm, name), seed, values))
    return runs


def _octaves(size: int, lr: float) -> tuple[float, float]:
    bigger = math.log2(size / PLANTED_SIZES[0])
    return bigger - math.log2(lr / PLANTED_LR[0]), bigger


def _present(name: str, size: int, lr: float) -> float:
    base, per_lag, per_size = _EFFECTS[name]
    lag, bigger = _octaves(size, lr)
    excess = 1.04 ** max(0.0, -lag) if name == "best_val_loss" else 1.0
    return float(base * per_lag ** max(0.0, lag) * per_size**bigger * excess)


def _absent(name: str, size: int, lr: float) -> float:
    return _EFFECTS[name][0]


def _reversed(name: str, size: int, lr: float) -> float:
    return 1.0 / _present(name, size, lr)


def _closing(share: float) -> Callable[[str, int, float], float]:
    """Return a world where the rate that is scaled with the batch size closes so much of the gaps."""

    def value(name: str, size: int, lr: float) -> float:
        base, bigger = _EFFECTS[name][0], _octaves(size, lr)[1]
        gap = (0.8 if name == "distance_from_init" else 1.05) ** bigger - 1.0
        is_scaled = math.isclose(lr, PLANTED_LR[0] * size / PLANTED_SIZES[0])
        return base * (1.0 + gap * (1.0 - share if is_scaled else 1.0)) if name in _GAPS else base

    return value


_VALUES: Mapping[World, Callable[[str, int, float], float]] = {
    "present": _present,
    "absent": _absent,
    "reversed": _reversed,
    "little": _closing(0.1),
    "overshoot": _closing(2.5),
}
