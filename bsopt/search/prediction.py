"""What the sampler tells the pruner about one point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Prediction"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The final value to expect at a point, from finished trials alone.

    Attributes:
        mean, sd: In squashed, standardised units; smaller is better whatever the study's direction. The standard
            deviation is of the noiseless value.
        best: The best value told so far, in these units.
        transform: From the study's values to these units; monotone.
    """

    mean: float
    sd: float
    best: float
    transform: Callable[[ArrayLike], NDArray[np.float64]]
