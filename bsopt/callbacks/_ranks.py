"""One number of each rank made one number that all ranks know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

__all__ = ["over_ranks"]


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
