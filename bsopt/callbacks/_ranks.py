"""One number of each rank made one number that all ranks know, and the samples that they have seen together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

__all__ = ["SampleCount", "over_ranks"]


def over_ranks(trainer: Trainer, values: Sequence[float], how: Literal["mean", "sum", "max"]) -> list[float]:
    """Return the mean, sum or maximum over ranks of each value, the same on every rank.

    One all-reduce, which every rank has to take part in; none with a single rank. In double precision where the
    device has it.

    Args:
        trainer: The running Trainer.
        values: This rank's numbers, as many on each rank.
        how: What becomes of them.
    """
    if trainer.world_size == 1:
        return [float(value) for value in values]
    device = trainer.strategy.root_device
    dtype = torch.float32 if device.type == "mps" else torch.float64
    reduced = trainer.strategy.reduce(torch.tensor(list(values), dtype=dtype, device=device), reduce_op=how)
    return [float(value) for value in reduced]


class SampleCount:
    """Samples seen over all ranks, which each rank counts for itself until they settle."""

    def __init__(self) -> None:
        self._settled = 0
        self._own = 0  # of this rank since then
        self._num_ranks = 1

    @property
    def total(self) -> int:
        """The samples so far; since the ranks last settled, the others' count for as many as this one's."""
        return self._settled + self._own * self._num_ranks

    def add(self, trainer: Trainer, num_samples: int) -> None:
        """Count samples of this rank."""
        self._own += num_samples
        self._num_ranks = trainer.world_size

    def settle(self, trainer: Trainer) -> None:
        """Make the total exact and the same on every rank, with one all-reduce; every rank takes part."""
        self.load(self._settled + round(over_ranks(trainer, [self._own], "sum")[0]))

    def load(self, total: int) -> None:
        """Go on from a total, as a checkpoint brings it."""
        self._settled = total
        self._own = 0
