"""How fast a run trains, what it waits for, and what memory and energy it takes."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bsopt.callbacks._base import Callback
from bsopt.callbacks._batches import ends_update, num_samples
from bsopt.callbacks._device import peak_memory_bytes, reset_peak_memory, synchronize, uses_cuda
from bsopt.callbacks._energy import EnergyMeter
from bsopt.callbacks._ranks import over_ranks
from bsopt.laws.throughput import NOTHING_USED, MemoryKind, ResourceUse, Throughput, ThroughputMeter
from bsopt.serialization import from_plain, to_plain

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

__all__ = ["ThroughputMonitor"]


class ThroughputMonitor(Callback):
    """Measures seconds per step and epoch, samples per second, waiting for data, peak memory and energy.

    Reads a clock in `on_train_batch_start` and `on_train_batch_end` (microseconds) and nothing else per step; the GPU
    is waited for at the end of an epoch only, so the time of one step may count as another's and the median is the
    number to trust. Ranks keep their own time and exchange samples, peak memory and energy at the end of each epoch
    and of the fit. Logs `bsopt/seconds_per_step`, `bsopt/samples_per_second` and `bsopt/data_share` per epoch. It works
    with manual optimization, where every batch counts as a step.

    Args:
        clock: Seconds; a monotonic clock.
        micro_batch_size: Samples that a batch is taken to hold where it doesn't show, as an object of the user's own.
    """

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter, micro_batch_size: int | None = None) -> None:
        self._micro_batch_size = micro_batch_size
        self._meter = ThroughputMeter(clock)
        self._used = NOTHING_USED
        self._energy: EnergyMeter | None = None
        self._joules_before = 0.0  # of earlier fits of this run

    @property
    def summary(self) -> Throughput | None:
        """The measurements so far, or None before the first step."""
        return self._meter.summary(self._used)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, the energy counter and the GPU's count of peak memory."""
        reset_peak_memory(trainer)
        self._joules_before = self._used.energy_joules or 0.0
        self._energy = EnergyMeter(trainer.strategy.root_device)
        self._meter.start_fit(trainer.world_size)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin an epoch."""
        self._meter.start_epoch()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """End the wait for this batch."""
        size = num_samples(batch, otherwise=self._micro_batch_size)
        self._meter.start_batch(size, is_first=batch_idx == 0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End the batch, and with it an optimizer step or not."""
        is_automatic = pl_module.automatic_optimization
        self._meter.end_batch(ends_step=ends_update(trainer, batch, batch_idx) if is_automatic else batch is not None)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop counting time as training."""
        if _interrupts_training(trainer):
            self._meter.pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count time as training again."""
        if _interrupts_training(trainer):
            self._meter.resume()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait for the GPU, close the epoch's time, exchange samples, memory and energy, and log."""
        synchronize(trainer)
        self._meter.end_epoch()
        self.update(trainer)
        summary = self.summary
        if summary is not None:
            for name in ("seconds_per_step", "samples_per_second", "data_share"):
                if (value := getattr(summary, name)) is not None:
                    pl_module.log(f"bsopt/{name}", value, on_step=False, on_epoch=True, rank_zero_only=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read samples, memory and energy of all ranks once more."""
        self.update(trainer)

    def update(self, trainer: Trainer) -> None:
        """Read samples, memory and energy of all ranks now, as before a checkpoint within an epoch; all take part."""
        self._used = self._read_counters(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured as plain data, for a checkpoint."""
        return {"times": self._meter.state(), "used": to_plain(self._used)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the measurements of a checkpoint."""
        self._meter.load(state_dict["times"])
        self._used = from_plain(ResourceUse, state_dict["used"])

    def _read_counters(self, trainer: Trainer) -> ResourceUse:
        joules = self._energy.joules() if self._energy is not None else None
        source = self._energy.source if self._energy is not None else None
        if source == "rapl" and trainer.local_rank != 0:
            joules = 0.0  # the ranks of a node share its processors
        peak = int(over_ranks(trainer, [peak_memory_bytes(trainer)], "max")[0])
        own = [*self._meter.unsettled(), joules if joules is not None else math.nan]
        num_samples, steady_samples, energy = over_ranks(trainer, own, "sum")
        self._meter.settle(round(num_samples), round(steady_samples))
        kind: MemoryKind = "none" if sys.platform == "win32" else "process"
        return ResourceUse(
            peak_memory_bytes=max(self._used.peak_memory_bytes or 0, peak) or None,
            memory_kind="device" if uses_cuda(trainer) else kind,
            energy_joules=None if math.isnan(energy) else self._joules_before + energy,
            energy_source=source,
        )


def _interrupts_training(trainer: Trainer) -> bool:
    """Return whether a validation is one of a running fit: neither its sanity check nor a `Trainer.validate`."""
    return trainer.state.fn == "fit" and not trainer.sanity_checking
