"""What a study's values are, which way they get better, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bsopt.laws.direction import Direction, sign_of

__all__ = ["Cost", "Direction", "Objective", "sign_of"]

Cost = Literal["seconds", "samples", "steps", "energy"]


@dataclass(frozen=True, slots=True)
class Objective:
    """What counts in a study: a metric, or what it costs to bring the metric to a target.

    Attributes:
        monitor: Name of the metric.
        direction: Which way the metric gets better.
        target: Value of the metric at which a trial ends; None to train on.
        cost: What is minimised until the target; None where the metric itself is the value.
    """

    monitor: str = "value"
    direction: Direction = "minimize"
    target: float | None = None
    cost: Cost | None = None

    @property
    def metric_sign(self) -> float:
        """1 where a smaller metric is better, else −1."""
        return sign_of(self.direction)

    @property
    def value_direction(self) -> Direction:
        """Which way a trial's value gets better; a cost is always to be minimised."""
        return self.direction if self.cost is None else "minimize"

    @property
    def sign(self) -> float:
        """1 where a smaller value is better, else −1: sign · value is to be minimised."""
        return sign_of(self.value_direction)

    @property
    def value_name(self) -> str:
        """What a trial's value is called.

        >>> Objective("val_loss").value_name, Objective("val_acc", "maximize", 0.9, "seconds").value_name
        ('val_loss', 'seconds to val_acc 0.9')
        """
        if self.cost is None:
            return self.monitor
        return f"{self.cost} to {self.monitor}" + (f" {self.target:g}" if self.target is not None else "")

    @property
    def report_sign(self) -> float:
        """What a metric is multiplied with before Optuna hears it: with a cost to minimise, reports must fall, too."""
        return self.metric_sign if self.cost is not None else 1.0

    def is_better(self, value: float, than: float) -> bool:
        """Whether one value of a trial is better than another; never where one of them is NaN."""
        return self.sign * value < self.sign * than

    def reaches(self, metric: float) -> bool:
        """Whether a value of the metric is at the target or beyond; False without a target."""
        return self.target is not None and self.metric_sign * metric <= self.metric_sign * self.target
