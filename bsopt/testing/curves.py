"""Made-up learning curves with a constant or an annealed learning rate, from the noisy quadratic model.

Notation as in `bsopt.testing.surfaces`: h_i curvatures, E_i expected squared distances, η the learning rate, B the
batch size. Over k updates at one learning rate

    E_i ← c^k·E_i + (1 − c^k)/(1 − c)·η²·noise·h_i/B,   c = (1 − ηh_i)²

A constant rate ends at a plateau of noise; an annealed one (cosine to 0) leaves it late, and curves cross.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["quadratic_curve"]

_Floats: TypeAlias = NDArray[np.float64]

_PIECES = 8  # of constant learning rate between two reports
_IRREDUCIBLE = 0.05  # share of the loss at the start that no training removes
_HIGHEST = 1e3  # a diverged loss, in units of the first


def quadratic_curve(
    batch_size: float,
    lr: float,
    *,
    num_samples: float,
    num_reports: int,
    is_annealed: bool,
    noise: float = 1.0,
    num_dimensions: int = 100,
) -> _Floats:
    """Return the expected loss of SGD after each of `num_reports` equal parts of a budget, shape (num_reports,).

    Args:
        batch_size: Samples per update.
        lr: Peak learning rate without momentum.
        num_samples: Budget.
        num_reports: How often the loss is looked at.
        is_annealed: Whether the learning rate falls to 0 by a half cosine.
        noise: Scale of the gradient noise.
        num_dimensions: Of the quadratic; the start is at distance 1 in each.

    >>> quadratic_curve(8, 0.0, num_samples=800, num_reports=2, is_annealed=False).round(3).tolist()
    [2.723, 2.723]
    """
    h = 1.0 / np.arange(1, num_dimensions + 1)
    start = 0.5 * float(np.sum(h))
    updates = num_samples / batch_size / (num_reports * _PIECES)
    middles = (np.arange(num_reports * _PIECES) + 0.5) / (num_reports * _PIECES)
    rates = lr * (0.5 * (1.0 + np.cos(np.pi * middles)) if is_annealed else np.ones_like(middles))
    distance, losses = np.ones(num_dimensions), []
    with np.errstate(over="ignore", invalid="ignore"):
        for rate in rates:
            c = (1.0 - rate * h) ** 2
            left = np.exp(np.minimum(updates * np.log(np.maximum(c, 1e-300)), 60.0))
            gained = np.where(np.abs(1.0 - c) < 1e-12, updates, (1.0 - left) / (1.0 - c))
            distance = np.minimum(left * distance + gained * rate**2 * noise * h / batch_size, 1e6)
            losses.append(0.5 * float(np.sum(h * distance)))
    told = np.minimum(np.array(losses[_PIECES - 1 :: _PIECES]), _HIGHEST * start)
    return np.asarray(told + _IRREDUCIBLE * start)
