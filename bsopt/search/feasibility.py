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
from scipy.special import ndtr

from bsopt.laws.gaussian_process import Conditioned, condition, log_evidence, matern_three_halves, squared_distances

__all__ = ["Feasibility"]

Array: TypeAlias = NDArray[np.float64]

MARGIN = 0.25
AMPLITUDE, PRIOR_MEAN, LABEL_NOISE, FAILURE_NOISE = 1.0, 0.7, 0.15, 0.7
LENGTHS, FAR = (0.15, 0.4), 1e3
"""Length scales along the dimensions that matter, and along the others, in parts of the range."""


@dataclass(frozen=True, slots=True)
class Feasibility:
    """A fitted boundary; points are rows scaled to [0, 1] over the ranges.

    Attributes:
        rows: (n, d) where trials ran or couldn't.
        scales: (d,) length scales.
        process: One process, given the labels less `PRIOR_MEAN`.
    """

    rows: Array
    scales: Array
    process: Conditioned

    @classmethod
    def of(cls, rows: Array, labels: Array) -> Feasibility:
        """Return the boundary of `rows`, (n, d), with `labels`, (n,), of −1, 0 and +1 as above."""
        d = rows.shape[1]
        matters = [np.ones(d, dtype=bool), *(np.arange(d) == j for j in range(d) if d > 1)]
        scales = np.array([np.where(dimensions, length, FAR) for length in LENGTHS for dimensions in matters])
        noise = np.where(labels == 0, FAILURE_NOISE, LABEL_NOISE) ** 2
        residual = labels - PRIOR_MEAN
        covariance = np.stack([_covariance(rows, rows, each) for each in scales])
        evidence = log_evidence(covariance, residual, noise_variance=noise)
        best = np.flatnonzero(evidence > evidence.max() - 1e-9)[:1]  # of equals the first, whatever the rounding
        return cls(rows, scales[best[0]], condition(covariance[best], residual, noise_variance=noise))

    def probability(self, rows: Array) -> Array:
        """Return the probability to lie beyond the margin on the feasible side, shape (m,), of rows (m, d)."""
        cross = self.process.project(_covariance(self.rows, rows, self.scales)[None])
        shift, variance = self.process.predict(cross, np.array([[AMPLITUDE**2]]))
        return np.asarray(ndtr((PRIOR_MEAN + shift[0] - MARGIN) / np.sqrt(variance[0] + LABEL_NOISE**2)))


def _covariance(rows: Array, others: Array, scales: Array) -> Array:
    return AMPLITUDE**2 * matern_three_halves(squared_distances(rows, others, scales))
