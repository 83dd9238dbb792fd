"""Values on a scale where a diverged run informs without stretching it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Squash"]

STEEPNESS, CAP = 3.0, 50.0


@dataclass(frozen=True, slots=True)
class Squash:
    """A monotone map from a study's values to standardised units, smaller is better.

    d = (v − best)/(median − best) over the finished trials, capped at 50 above, and log1p(3d), standardised;
    values better than the best continue with the slope at the best. It depends on the values only through
    their ratios, so it is the same for any unit.
    """

    sign: float
    best: float
    scale: float
    mean: float
    sd: float

    @classmethod
    def of(cls, values: ArrayLike, *, finals: ArrayLike | None = None, maximize: bool = False) -> Squash:
        """Return the map that the values of finished trials define; non-finite ones have no say.

        Args:
            values: One per trial.
            finals: Which values were told and not predicted; only those may be the best. All where None.
            maximize: Whether larger values are better.
        """
        sign = -1.0 if maximize else 1.0
        v = sign * np.asarray(values, dtype=float)
        told = np.ones(len(v), dtype=bool) if finals is None else np.asarray(finals, dtype=bool)
        told, v = told[np.isfinite(v)], v[np.isfinite(v)]
        if not len(v):
            return cls(sign, 0.0, 1.0, 0.0, 1.0)
        best = float(v[told].min() if told.any() else v.min())
        above = v[v > best]
        scale = float(np.median(v)) - best
        if scale <= 0.0:  # half of the trials share the best value
            scale = float(np.median(above)) - best if len(above) else 1.0
        raw = cls(sign, best, max(scale, 1e-300), 0.0, 1.0)(sign * v)
        sd = float(raw.std())
        return cls(sign, best, max(scale, 1e-300), float(raw.mean()), sd if sd > 1e-12 else 1.0)

    def __call__(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return the values in these units; NaN and the worse infinity count as the cap, the better as the best."""
        v = self.sign * np.asarray(values, dtype=float)
        v = np.where(np.isnan(v), np.inf, v)
        with np.errstate(over="ignore"):
            d = np.clip((v - self.best) / self.scale, None, CAP)
        d = np.where(v == -np.inf, 0.0, d)
        raw = np.where(d >= 0, np.log1p(STEEPNESS * np.maximum(d, 0.0)), STEEPNESS * np.minimum(d, 0.0))
        return np.asarray((raw - self.mean) / self.sd)

    def slope(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return how many of these units one unit of value is, at the values; never negative."""
        v = self.sign * np.asarray(values, dtype=float)
        d = np.clip((v - self.best) / self.scale, 0.0, CAP)
        return np.asarray(STEEPNESS / (1.0 + STEEPNESS * d) / self.scale / self.sd)
