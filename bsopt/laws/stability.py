"""Where trials end without a value: a limit on the learning rate, a limit on the batch size, and accidents.

A learning rate that is too high for its batch size diverges, a batch that is too large doesn't fit into memory, and
now and then a trial fails for neither reason. All three are known only by how trials ended, so each combination of
limits is weighed by how well it explains the endings.

Notation (n trials, m points, G combinations):

    b, x   (n,)  log2 batch size and log2 learning rate; x is NaN where a trial failed before it had one
    slope        of the largest stable learning rate, octaves per octave of batch size: 0, 0.5 or 1 (the stable rate
                 grows at most in proportion to the batch size; Masters & Luschi 2018, arXiv 1804.07612)
    limit        the largest stable x at the middle of the batch sizes, octaves; infinite where there is none
    largest      log2 of the largest batch size that fits; infinite where all do
    accidents    the share of trials that fail anywhere

    P(runs) = (1 − accidents) · σ((limit + slope·(b − middle) − x) / SOFTNESS) · [b ≤ largest]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["Ending", "Stability"]

Array: TypeAlias = NDArray[np.float64]

SLOPES = (0.0, 0.5, 1.0)
NUM_LIMITS = 60
SOFTNESS = 0.4
"""Octaves over which a learning rate turns from stable to diverging."""

NO_LIMIT, ALL_FIT = 0.3, 0.7
"""Prior probabilities that no searched learning rate diverges, and that every searched batch size fits."""

ACCIDENTS = {0.01: 0.6, 0.05: 0.3, 0.2: 0.1}
"""Shares of trials that fail anywhere -> prior probability."""


class Ending(Enum):
    """How a trial ended, as far as it says where trials can run."""

    RAN = "ran"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"  # for a reason that nobody told


@dataclass(frozen=True, slots=True)
class Stability:
    """Weighed combinations of limits.

    Attributes:
        slopes, limits: (R,) of the learning-rate limits.
        largest: (L,) of the batch-size limits.
        weights: (R, L) posterior probability of each pair; accidents are summed over.
        middle: log2 batch size at which `limits` hold.
    """

    slopes: Array
    limits: Array
    largest: Array
    weights: Array
    middle: float

    @classmethod
    def of(
        cls,
        b: Array,
        x: Array,
        endings: Sequence[Ending],
        *,
        b_range: tuple[float, float],
        x_range: tuple[float, float],
    ) -> Stability:
        """Return the limits that the endings of trials leave likely.

        Args:
            b: log2 batch sizes, (n,).
            x: log2 learning rates, (n,), NaN where unknown.
            endings: How each trial ended, n of them.
            b_range: Smallest and largest log2 batch size searched.
            x_range: Smallest and largest log2 learning rate searched.
        """
        middle = 0.5 * (b_range[0] + b_range[1])
        reach = max(b_range[1] - b_range[0], 0.0) / 2.0
        ends = np.linspace(x_range[0] - reach - 1.0, x_range[1] + reach, NUM_LIMITS)
        limits = np.concatenate([np.tile(ends, len(SLOPES)), [np.inf]])
        slopes = np.concatenate([np.repeat(SLOPES, NUM_LIMITS), [0.0]])
        between = np.arange(np.floor(b_range[0]), np.ceil(b_range[1])) + 0.5
        largest = np.concatenate([between[between < b_range[1]], [np.inf]])
        prior = np.log(_spike(len(limits), NO_LIMIT))[:, None] + np.log(_spike(len(largest), ALL_FIT))[None, :]
        stable = _stable(limits, slopes, middle, b, x)
        fits = b[None, :] <= largest[:, None]
        log_weights = np.full((len(ACCIDENTS), *prior.shape), -np.inf)
        for i, (share, chance) in enumerate(ACCIDENTS.items()):
            log_weights[i] = prior + np.log(chance)
            for j, ending in enumerate(endings):
                log_weights[i] += np.log(_likelihood(ending, share, stable[:, j, None], fits[None, :, j]))
        weights = np.exp(log_weights - log_weights.max()).sum(axis=0)
        return cls(slopes, limits, largest, weights / weights.sum(), middle)

    def probability(self, b: Array, x: Array) -> Array:
        """Return the probability that points lie within both limits, shape (m,).

        Args:
            b: log2 batch sizes, (m,).
            x: log2 learning rates, (m,); NaN where there is none yet.
        """
        stable = _stable(self.limits, self.slopes, self.middle, b, x)
        fits = b[:, None] <= self.largest[None, :]
        return np.asarray(np.sum((stable.T @ self.weights) * fits, axis=1))

    def instability(self, b: Array, x: Array) -> Array:
        """Return the probability that learning rates diverge, shape (m,), whether or not the batches fit.

        Args:
            b: log2 batch sizes, (m,).
            x: log2 learning rates, (m,); NaN counts as stable.
        """
        stable = _stable(self.limits, self.slopes, self.middle, b, x)
        return np.asarray(1.0 - stable.T @ self.weights.sum(axis=1))


def _stable(limits: Array, slopes: Array, middle: float, b: Array, x: Array) -> Array:
    """Return the probability that each limit leaves each point stable, shape (R, n)."""
    below = limits[:, None] + slopes[:, None] * (b[None, :] - middle) - x[None, :]
    return np.asarray(np.where(np.isnan(below), 1.0, expit(below / SOFTNESS)))


def _likelihood(ending: Ending, accidents: float, stable: Array, fits: NDArray[np.bool_]) -> Array:
    """Return the probability of an ending, shape (R, L), from P(stable) (R, 1) and whether the batch fits (1, L)."""
    runs = (1.0 - accidents) * stable * fits
    if ending is Ending.RAN:
        chance = runs
    elif ending is Ending.DIVERGED:
        chance = (1.0 - (1.0 - accidents) * stable) * fits
    elif ending is Ending.OUT_OF_MEMORY:
        chance = np.ones_like(stable) * (1.0 - (1.0 - accidents) * fits)
    else:
        chance = 1.0 - runs
    return np.asarray(np.maximum(chance, 1e-12))


def _spike(count: int, last: float) -> Array:
    """Return a prior that gives the last value a share of its own and the others the rest in equal parts."""
    return np.concatenate([np.full(count - 1, (1.0 - last) / max(count - 1, 1)), [last if count > 1 else 1.0]])
