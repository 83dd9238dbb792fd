"""Reading the metric that a callback monitors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bsopt.errors import MetricError, nearest

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

__all__ = ["monitored_value"]


def monitored_value(trainer: Trainer, monitor: str) -> float:
    """Return the current value of a logged metric, averaged over ranks so that all of them see the same.

    Raises:
        MetricError: The metric was never logged.
    """
    logged = trainer.callback_metrics
    if monitor not in logged:
        names = ", ".join(sorted(logged)) or "nothing"
        raise MetricError(
            f"the monitored metric {monitor!r} was not logged; logged are {names}.{nearest(monitor, logged)} Log it "
            f"with self.log({monitor!r}, value) in validation_step, or in training_step where nothing is validated."
        )
    value = torch.as_tensor(logged[monitor], dtype=torch.float32, device=trainer.strategy.root_device)
    return float(trainer.strategy.reduce(value, reduce_op="mean"))
