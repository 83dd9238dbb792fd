"""What the callbacks that follow a metric share: when it has a new value, the value, and the samples seen so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bsopt.callbacks._base import Callback
from bsopt.callbacks._batches import num_samples
from bsopt.callbacks._ranks import SampleCount, over_ranks
from bsopt.errors import MetricError, nearest

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

__all__ = ["MetricCallback"]


class MetricCallback(Callback):
    """Counts samples and reads a metric whenever it has a new value.

    That is after each validation of a fit except the sanity check, or at the end of each epoch if the fit has no
    validation. Ranks add up their samples just before, so that a reading's step is exact and the same on all of them.

    Args:
        monitor: A logged metric.
    """

    def __init__(self, monitor: str) -> None:
        self._monitor = monitor
        self._samples = SampleCount()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count the batch's samples."""
        self._samples.add(trainer, num_samples(batch))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the metric after a validation of the fit."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._samples.settle(trainer)
            self._read_metric(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the metric where nothing is validated."""
        # an empty loader counts as enabled; before the first validation nothing is known of the loaders
        is_empty = trainer.val_dataloaders is not None and sum(trainer.num_val_batches) == 0
        if not trainer.enable_validation or is_empty:
            self._samples.settle(trainer)
            self._read_metric(trainer)

    @property
    def _samples_seen(self) -> int:
        """Samples over all ranks."""
        return self._samples.total

    def _read_metric(self, trainer: Trainer) -> None:
        """Do what the callback does with a fresh metric."""
        raise NotImplementedError

    def _value(self, trainer: Trainer) -> float:
        """Return the metric's current value, averaged over ranks so that all of them see the same.

        Raises:
            MetricError: The metric was never logged.
        """
        logged = trainer.callback_metrics
        if self._monitor not in logged:
            names = ", ".join(sorted(logged)) or "nothing"
            raise MetricError(
                f"the monitored metric {self._monitor!r} was not logged; logged are {names}."
                f"{nearest(self._monitor, logged)} Log it with self.log({self._monitor!r}, value) in validation_step, "
                "or in training_step where nothing is validated."
            )
        return over_ranks(trainer, [float(logged[self._monitor])], "mean")[0]
