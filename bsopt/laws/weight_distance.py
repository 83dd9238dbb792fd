"""Distances in weight space, of the layers of a network and of all of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["WeightDistances", "total_distance"]


@dataclass(frozen=True, slots=True)
class WeightDistances:
    """Euclidean distances in weight space.

    Attributes:
        total: ‖θ − θ_0‖, all parameters together, at the end.
        per_layer: ‖θ − θ_0‖ of each module that owns parameters, by its name and in the network's order.
        steps: Optimizer steps at the end of each epoch.
        from_start: ‖θ − θ_0‖ at the end of each epoch.
        epochs: ‖θ_end − θ_start‖ of each epoch.
    """

    total: float
    per_layer: Mapping[str, float]
    steps: tuple[int, ...]
    from_start: tuple[float, ...]
    epochs: tuple[float, ...]


def total_distance(layers: Mapping[str, float]) -> float:
    """Return the Euclidean distance of all layers together, from that of each.

    >>> total_distance({"a": 3.0, "b": 4.0})
    5.0
    """
    return math.sqrt(sum(distance**2 for distance in layers.values()))
