"""How fast a run trains, what it waits for, and what memory and energy it takes."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import torch

from bsopt.callbacks._base import Callback
from bsopt.callbacks._batches import ends_update, num_samples
from bsopt.callbacks._energy import EnergyMeter

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

__all__ = ["Throughput", "ThroughputMonitor"]

_WARMUP_STEPS = 5  # lazy initialisation, cuDNN's choice of algorithms, worker start-up
_WINDOW = 1000  # steps the median looks back on


@dataclass(frozen=True, slots=True)
class Throughput:
    """Speed and cost of a run; training only, validation left out.

    Attributes:
        seconds_per_step: Median of the last 1,000 optimizer steps, data loading included; the first five are left out.
        seconds_per_epoch: Of each whole epoch.
        samples_per_second: Over all ranks, from the mean step after the first five.
        data_share: Share of the training time between batches: loading, transfer to the device, and what Lightning,
            loggers and checkpoints do there.
        peak_memory_bytes: Highest of all ranks.
        memory_kind: "device": allocated by PyTorch on the device during the fit; "process": resident memory of the
            process since its start, on devices without a counter; "none": unknown.
        energy_joules: Of all ranks; None without a counter.
        energy_source: "nvml": the GPUs alone; "rapl": the processors with all that runs on them; None.
        num_steps: Optimizer steps measured, the first five included.
        num_samples: Over all ranks.
        train_seconds: Time spent training.
    """

    seconds_per_step: float | None
    seconds_per_epoch: tuple[float, ...]
    samples_per_second: float | None
    data_share: float
    peak_memory_bytes: int | None
    memory_kind: Literal["device", "process", "none"]
    energy_joules: float | None
    energy_source: str | None
    num_steps: int
    num_samples: int
    train_seconds: float


class ThroughputMonitor(Callback):
    """Measures seconds per step and epoch, samples per second, waiting for data, peak memory and energy.

    Reads a clock in `on_train_batch_start` and `on_train_batch_end` (microseconds) and nothing else per step; the GPU
    is waited for at the end of an epoch only, so single steps may be attributed to their neighbours and the median is
    the number to trust. Ranks keep their own time and exchange peak memory and energy at the end of each epoch and of
    the fit. Logs `bsopt/seconds_per_step`, `bsopt/samples_per_second` and `bsopt/data_share` per epoch. It works with
    manual optimization, where every batch counts as a step.

    Args:
        clock: Seconds; a monotonic clock.
    """

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._steps: deque[float] = deque(maxlen=_WINDOW)
        self._epochs: list[float] = []
        self._num_steps = 0
        self._num_samples = 0
        self._steady_seconds = 0.0
        self._steady_samples = 0
        self._train_seconds = 0.0
        self._data_seconds = 0.0
        self._peak_memory: int | None = None
        self._memory_kind: Literal["device", "process", "none"] = "none"
        self._energy_before = 0.0  # of earlier fits of this run
        self._energy: float | None = None
        self._energy_source: str | None = None
        self._meter: EnergyMeter | None = None
        self._fit_steps = 0
        self._mark = 0.0  # end of the last thing that was accounted for
        self._step_seconds = 0.0
        self._step_samples = 0
        self._epoch_seconds = 0.0
        self._is_whole_epoch = False

    @property
    def summary(self) -> Throughput | None:
        """The measurements so far, or None before the first step."""
        if self._num_steps == 0:
            return None
        return Throughput(
            seconds_per_step=median(self._steps) if self._steps else None,
            seconds_per_epoch=tuple(self._epochs),
            samples_per_second=self._steady_samples / self._steady_seconds if self._steady_seconds > 0 else None,
            data_share=self._data_seconds / self._train_seconds if self._train_seconds > 0 else 0.0,
            peak_memory_bytes=self._peak_memory,
            memory_kind=self._memory_kind,
            energy_joules=self._energy,
            energy_source=self._energy_source,
            num_steps=self._num_steps,
            num_samples=self._num_samples,
            train_seconds=self._train_seconds,
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        device = trainer.strategy.root_device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self._energy_before = self._energy or 0.0
        self._meter = EnergyMeter(device)
        self._fit_steps = 0
        self._is_whole_epoch = False
        self._start_window()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_whole_epoch = False  # until its first batch comes: a run may resume inside an epoch
        self._epoch_seconds = 0.0
        self._start_window()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._is_whole_epoch = self._is_whole_epoch or batch_idx == 0
        self._data_seconds += self._account()
        self._step_samples += num_samples(batch) * trainer.world_size

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._account()
        if not pl_module.automatic_optimization or ends_update(trainer, batch_idx):
            self._end_step()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._data_seconds += self._account()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._mark = self._clock()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize(trainer.strategy.root_device)
        self._account()
        if self._is_whole_epoch:
            self._epochs.append(self._epoch_seconds)
        self._read_counters(trainer)
        summary = self.summary
        if summary is not None:
            for name in ("seconds_per_step", "samples_per_second", "data_share"):
                if (value := getattr(summary, name)) is not None:
                    pl_module.log(f"bsopt/{name}", value, on_step=False, on_epoch=True, rank_zero_only=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._read_counters(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps": list(self._steps),
            "epochs": list(self._epochs),
            "num_steps": self._num_steps,
            "num_samples": self._num_samples,
            "steady_seconds": self._steady_seconds,
            "steady_samples": self._steady_samples,
            "train_seconds": self._train_seconds,
            "data_seconds": self._data_seconds,
            "peak_memory": self._peak_memory,
            "memory_kind": self._memory_kind,
            "energy": self._energy,
            "energy_source": self._energy_source,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._steps = deque(state_dict["steps"], maxlen=_WINDOW)
        self._epochs = list(state_dict["epochs"])
        self._num_steps = state_dict["num_steps"]
        self._num_samples = state_dict["num_samples"]
        self._steady_seconds = state_dict["steady_seconds"]
        self._steady_samples = state_dict["steady_samples"]
        self._train_seconds = state_dict["train_seconds"]
        self._data_seconds = state_dict["data_seconds"]
        self._peak_memory = state_dict["peak_memory"]
        self._memory_kind = state_dict["memory_kind"]
        self._energy = state_dict["energy"]
        self._energy_source = state_dict["energy_source"]

    def _start_window(self) -> None:
        self._mark = self._clock()
        self._step_seconds = 0.0
        self._step_samples = 0

    def _account(self) -> float:
        """Count the time since the last mark as training time, and return it."""
        now = self._clock()
        seconds, self._mark = now - self._mark, now
        self._step_seconds += seconds
        self._epoch_seconds += seconds
        self._train_seconds += seconds
        return seconds

    def _end_step(self) -> None:
        self._num_steps += 1
        self._fit_steps += 1
        self._num_samples += self._step_samples
        if self._fit_steps > _WARMUP_STEPS:
            self._steps.append(self._step_seconds)
            self._steady_seconds += self._step_seconds
            self._steady_samples += self._step_samples
        self._step_seconds = 0.0
        self._step_samples = 0

    def _read_counters(self, trainer: Trainer) -> None:
        device = trainer.strategy.root_device
        if device.type == "cuda":
            peak, self._memory_kind = torch.cuda.max_memory_allocated(device), "device"
        else:
            peak, self._memory_kind = _peak_resident_bytes(), "process" if sys.platform != "win32" else "none"
        joules = self._meter.joules() if self._meter is not None else None
        self._energy_source = self._meter.source if self._meter is not None else None
        if self._energy_source == "rapl" and trainer.local_rank != 0:
            joules = 0.0  # the ranks of a node share its processors
        highest = max(_gather(trainer, float(peak)))
        self._peak_memory = max(self._peak_memory or 0, int(highest)) or None
        shares = _gather(trainer, joules if joules is not None else float("nan"))
        self._energy = self._energy_before + sum(shares) if all(share == share for share in shares) else None


def _gather(trainer: Trainer, value: float) -> list[float]:
    if trainer.world_size == 1:
        return [value]
    values: list[float | None] = [None] * trainer.world_size
    torch.distributed.all_gather_object(values, value)
    return [share for share in values if share is not None]


def _peak_resident_bytes() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts in bytes, Linux in KiB
