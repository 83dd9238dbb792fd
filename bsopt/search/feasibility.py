"""Where trials can run at all: a boundary learned from out-of-memory and constrained trials.

Labels (+1 feasible, −1 not, 0 for a failure of unknown cause) are regressed with a Gaussian process whose length
scales are chosen by evidence among few: a boundary along the batch size alone (memory), along the learning rate
alone (divergence), or along everything. Feasible is what lies above a margin, because a search that aims at the
boundary itself lands beyond it every other time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import ndtr

__all__ = ["Feasibility"]

Array: TypeAlias = NDArray[np.float64]

MARGIN = 0.25
AMPLITUDE, PRIOR_MEAN, LABEL_NOISE, FAILURE_NOISE = 1.0, 0.7, 0.15, 0.7
LENGTHS = (0.15, 0.4)
"""Length scales along the dimensions that matter, in parts of the range."""


@dataclass(frozen=True, slots=True)
class Feasibility:
    """A fitted boundary. Points are rows scaled to [0, 1] over the ranges."""

    rows: Array
    scales: Array
    solved: Array
    factor: tuple[Array, bool]

    @classmethod
    def of(cls, rows: Array, labels: Array) -> Feasibility:
        """Return the boundary of labelled rows, shapes (n, d) and (n,)."""
        d = rows.shape[1]
        far = np.full(d, 1e3)
        options = []
        for length in LENGTHS:
            options.append(np.full(d, length))
            options += [np.where(np.arange(d) == j, length, far) for j in range(d) if d > 1]
        noise = np.where(labels == 0, FAILURE_NOISE, LABEL_NOISE) ** 2
        best, best_evidence = None, -np.inf
        for scales in options:
            factor = cho_factor(_kernel(rows, rows, scales) + np.diag(noise), lower=True)
            solved = cho_solve(factor, labels - PRIOR_MEAN)
            evidence = -0.5 * (labels - PRIOR_MEAN) @ solved - np.log(np.diag(factor[0])).sum()
            if evidence > best_evidence + 1e-9:
                best, best_evidence = cls(rows, scales, solved, factor), evidence
        assert best is not None
        return best

    def probability(self, rows: Array) -> Array:
        """Return the probability to lie beyond the margin on the feasible side, shape (m,)."""
        cross = _kernel(self.rows, rows, self.scales)
        mean = PRIOR_MEAN + cross.T @ self.solved
        variance = AMPLITUDE**2 - np.sum(cross * cho_solve(self.factor, cross), axis=0)
        return np.asarray(ndtr((mean - MARGIN) / np.sqrt(np.maximum(variance, 0.0) + LABEL_NOISE**2)))


def _kernel(rows: Array, others: Array, scales: Array) -> Array:
    distance = np.sqrt((((rows[:, None, :] - others[None, :, :]) / scales) ** 2).sum(axis=2))
    return np.asarray(AMPLITUDE**2 * (1 + np.sqrt(3) * distance) * np.exp(-np.sqrt(3) * distance))
