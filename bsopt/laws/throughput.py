"""How fast a run trains and what it waits for, from the times at which its batches begin and end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal, TypeAlias

from bsopt.serialization import from_plain, to_plain

__all__ = ["NOTHING_USED", "MemoryKind", "ResourceUse", "Throughput", "ThroughputMeter"]

MemoryKind: TypeAlias = Literal["device", "process", "none"]
"""What a peak of memory is of: the device's memory, the process's, or unknown."""

_WARMUP_STEPS = 5  # lazy initialisation, cuDNN's choice of algorithms, worker start-up
_WINDOW = 1000  # steps the median looks back on


@dataclass(frozen=True, slots=True)
class ResourceUse:
    """What a run has taken so far, of all ranks.

    Attributes:
        peak_memory_bytes: Highest of all ranks; None where it isn't known.
        memory_kind: "device", "process" or "none", as in Throughput.
        energy_joules: Of all ranks; None without a counter.
        energy_source: "nvml", "rapl" or None, as in Throughput.
    """

    peak_memory_bytes: int | None = None
    memory_kind: MemoryKind = "none"
    energy_joules: float | None = None
    energy_source: str | None = None


NOTHING_USED = ResourceUse()


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
    memory_kind: MemoryKind
    energy_joules: float | None
    energy_source: str | None
    num_steps: int
    num_samples: int
    train_seconds: float


@dataclass(slots=True)
class _Totals:
    """Sums over a run; steady ones leave out the first steps of each fit. Samples are those of all processes."""

    num_steps: int = 0
    num_samples: int = 0
    train_seconds: float = 0.0
    gap_seconds: float = 0.0
    steady_seconds: float = 0.0
    steady_samples: int = 0


class ThroughputMeter:
    """Counts where a run's time goes; needs no Trainer, only to be told what begins and ends.

    All time between the start of a fit and its last batch is training time, but for what lies between `pause` and
    `resume`. What lies between batches is a gap: loading, transfer, and what loggers and checkpoints do there.

    Each of several processes has a meter, which counts its own samples: the others' count for as many until `settle`
    is told the sums of what `unsettled` returns in each.

    Args:
        clock: Seconds; a monotonic clock.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._totals = _Totals()
        self._steps: deque[float] = deque(maxlen=_WINDOW)
        self._epochs: list[float] = []
        self._fit_steps = 0
        self._num_processes = 1
        self._own_samples = 0  # of this process, since the processes last settled
        self._own_steady_samples = 0
        self._mark = 0.0  # end of the last thing that was accounted for
        self._step_seconds = 0.0
        self._step_samples = 0
        self._epoch_seconds = 0.0
        self._is_whole_epoch = False

    def start_fit(self, num_processes: int = 1) -> None:
        """Begin a fit in so many processes: its first steps warm up."""
        self._fit_steps = 0
        self._num_processes = num_processes
        self.start_epoch()

    def start_epoch(self) -> None:
        """Begin an epoch, or the rest of one where a run resumes inside it."""
        self._is_whole_epoch = False  # until its first batch comes
        self._epoch_seconds = 0.0
        self._mark = self._clock()
        self._step_seconds = 0.0
        self._step_samples = 0

    def start_batch(self, num_samples: int, *, is_first: bool) -> None:
        """Begin a batch of so many samples in this process, the first of its epoch or not."""
        self._is_whole_epoch = self._is_whole_epoch or is_first
        self.pause()
        self._step_samples += num_samples

    def end_batch(self, *, ends_step: bool) -> None:
        """End a batch, and with it an optimizer step or not."""
        self._account()
        if ends_step:
            self._end_step()

    def pause(self) -> None:
        """End a gap: what follows is a batch, or isn't training."""
        self._totals.gap_seconds += self._account()

    def resume(self) -> None:
        """Go on after what wasn't training."""
        self._mark = self._clock()

    def end_epoch(self) -> None:
        """End an epoch; it counts where it was a whole one."""
        self._account()
        if self._is_whole_epoch:
            self._epochs.append(self._epoch_seconds)

    def summary(self, used: ResourceUse = NOTHING_USED) -> Throughput | None:
        """Return the measurements so far with what the run has taken, or None before the first step."""
        totals = self._all_processes()
        if totals.num_steps == 0:
            return None
        return Throughput(
            seconds_per_step=median(self._steps) if self._steps else None,
            seconds_per_epoch=tuple(self._epochs),
            samples_per_second=totals.steady_samples / totals.steady_seconds if totals.steady_seconds > 0 else None,
            data_share=totals.gap_seconds / totals.train_seconds if totals.train_seconds > 0 else 0.0,
            peak_memory_bytes=used.peak_memory_bytes,
            memory_kind=used.memory_kind,
            energy_joules=used.energy_joules,
            energy_source=used.energy_source,
            num_steps=totals.num_steps,
            num_samples=totals.num_samples,
            train_seconds=totals.train_seconds,
        )

    def unsettled(self) -> tuple[int, int]:
        """Return the samples of this process since the last `settle`: all, and those after the first five steps."""
        return self._own_samples, self._own_steady_samples

    def settle(self, num_samples: int, steady_samples: int) -> None:
        """Put the sums over processes of what `unsettled` returns in place of this process's estimate of them."""
        self._totals.num_samples += num_samples
        self._totals.steady_samples += steady_samples
        self._own_samples = self._own_steady_samples = 0

    def state(self) -> dict[str, Any]:
        """Return what was counted as plain data."""
        return {"totals": to_plain(self._all_processes()), "steps": list(self._steps), "epochs": list(self._epochs)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        self._totals = from_plain(_Totals, state["totals"])
        self._steps = deque(state["steps"], maxlen=_WINDOW)
        self._epochs = list(state["epochs"])
        self._own_samples = self._own_steady_samples = 0

    def _all_processes(self) -> _Totals:
        return replace(
            self._totals,
            num_samples=self._totals.num_samples + self._own_samples * self._num_processes,
            steady_samples=self._totals.steady_samples + self._own_steady_samples * self._num_processes,
        )

    def _account(self) -> float:
        """Count the time since the last mark as training time, and return it."""
        now = self._clock()
        seconds, self._mark = now - self._mark, now
        self._step_seconds += seconds
        self._epoch_seconds += seconds
        self._totals.train_seconds += seconds
        return seconds

    def _end_step(self) -> None:
        self._fit_steps += 1
        self._totals.num_steps += 1
        self._own_samples += self._step_samples
        if self._fit_steps > _WARMUP_STEPS:
            self._steps.append(self._step_seconds)
            self._totals.steady_seconds += self._step_seconds
            self._own_steady_samples += self._step_samples
        self._step_seconds = 0.0
        self._step_samples = 0
