"""One training run of a designed experiment."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DesignedRun"]


@dataclass(frozen=True, slots=True)
class DesignedRun:
    """One training run of a batch-size experiment.

    Attributes:
        batch_size: Global batch size, samples.
        lr: Learning rate.
        seed: Which of the design's seeds; runs of one seed start from the same weights.
        variant: Name of the variant whose settings it has; None for the study's own.
    """

    batch_size: int
    lr: float
    seed: int
    variant: str | None = None

    @property
    def key(self) -> str:
        """What only one run of an experiment has; learning rates are the same to six digits."""
        own = f"{self.batch_size}:{self.lr:.6g}:{self.seed}"
        return f"{own}:{self.variant}" if self.variant else own
