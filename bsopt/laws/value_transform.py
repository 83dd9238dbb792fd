"""Values on a scale where a diverged run informs without stretching it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ValueTransform", "rarity"]

STEEPNESS, CAP = 3.0, 50.0
"""How steep the map is at the best value, and the distance above it beyond which all values count the same."""


@dataclass(frozen=True, slots=True)
class ValueTransform:
    """A monotone map from a study's values to standardised units, smaller is better.

    d = (v − best)/(median − best) over the finished trials, capped at 50 above, and log1p(3d), standardised;
    values better than the best continue with the slope at the best. It depends on the values only through
    their ratios, so it is the same for any unit. Median, mean and standard deviation are weighted, so that many
    trials at one place, where a search ends up, don't make small differences look large.
    """

    sign: float
    best: float
    scale: float
    mean: float
    sd: float

    @classmethod
    def of(
        cls,
        values: ArrayLike,
        *,
        weights: ArrayLike | None = None,
        finals: ArrayLike | None = None,
        maximize: bool = False,
    ) -> ValueTransform:
        """Return the map that the values of finished trials define; non-finite ones have no say.

        Args:
            values: One per trial.
            weights: How much each counts in the median, the mean and the standard deviation; equal where None.
            finals: Which values were told and not predicted; only those may be the best. All where None.
            maximize: Whether larger values are better.
        """
        sign = -1.0 if maximize else 1.0
        v = sign * np.asarray(values, dtype=float)
        finite = np.isfinite(v)
        told = finite if finals is None else finite & np.asarray(finals, dtype=bool)
        if not finite.any():
            return cls(sign, 0.0, 1.0, 0.0, 1.0)
        best = float(v[told].min() if told.any() else v[finite].min())
        w = np.ones(len(v)) if weights is None else np.asarray(weights, dtype=float)
        above = finite & (v > best)
        scale = _median(v[finite], w[finite]) - best
        if scale <= 0.0:  # half of the trials share the best value
            scale = _median(v[above], w[above]) - best if above.any() else 1.0
        unit = cls(sign, best, max(scale, 1e-300), 0.0, 1.0)
        raw = unit(sign * v)
        mean = float(np.average(raw, weights=w))
        sd = float(np.sqrt(np.average((raw - mean) ** 2, weights=w)))
        return cls(sign, best, unit.scale, mean, sd if sd > 1e-12 else 1.0)

    def __call__(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return the values in these units; NaN and the worse infinity count as the cap, the better as the best."""
        v = self.sign * np.asarray(values, dtype=float)
        v = np.where(np.isnan(v), np.inf, v)
        with np.errstate(over="ignore"):
            d = np.clip((v - self.best) / self.scale, None, CAP)
        d = np.where(v == -np.inf, 0.0, d)
        raw = np.where(d >= 0, np.log1p(STEEPNESS * np.maximum(d, 0.0)), STEEPNESS * np.minimum(d, 0.0))
        return np.asarray((raw - self.mean) / self.sd)

    def gap(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return how far above the best the values are, in units of median − best: 0 to the cap, of any shape."""
        v = self.sign * np.asarray(values, dtype=float)
        with np.errstate(over="ignore"):
            return np.clip(np.where(np.isnan(v), np.inf, (v - self.best) / self.scale), 0.0, CAP)

    def inverse(self, squashed: ArrayLike) -> NDArray[np.float64]:
        """Return the values that map to `squashed`, of any shape and in these units; above the cap, the cap's value."""
        raw = np.asarray(squashed, dtype=float) * self.sd + self.mean
        raw = np.minimum(raw, np.log1p(STEEPNESS * CAP))
        d = np.where(raw >= 0, np.expm1(np.maximum(raw, 0.0)) / STEEPNESS, raw / STEEPNESS)
        return np.asarray(self.sign * (self.best + self.scale * d))

    def slope(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return how many of these units one unit of value is, at the values; never negative."""
        v = self.sign * np.asarray(values, dtype=float)
        d = np.clip((v - self.best) / self.scale, 0.0, CAP)
        return np.asarray(STEEPNESS / (1.0 + STEEPNESS * d) / self.scale / self.sd)


def rarity(rows: NDArray[np.float64], cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 over the number of points in the same cell of a lattice, (n,): weights for `ValueTransform.of`.

    Args:
        rows: Points, (n, d).
        cell: The cells' widths, (d,).
    """
    if not len(rows):
        return np.zeros(0)
    cells = np.floor(rows / np.maximum(cell, 1e-12) + 0.5)
    _, index, count = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / count[index.ravel()])


def _median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Return the weighted median; between two values that share the middle, their mean."""
    order = np.argsort(values, kind="stable")
    v, upto = values[order], np.cumsum(weights[order])
    half = upto[-1] / 2
    at = int(np.searchsorted(upto, half * (1 - 1e-12)))
    tied = abs(upto[at] - half) <= 1e-9 * half and at + 1 < len(v)
    return float((v[at] + v[at + 1]) / 2 if tied else v[at])
