"""A few full steps of a trial's micro-batch, timed, with their peak memory: one measurement of the probe."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median_high
from typing import Any

from bsopt.callbacks._base import Callback
from bsopt.callbacks._device import peak_resident_bytes, reset_peak_memory, synchronize
from bsopt.callbacks._ranks import over_ranks
from bsopt.errors import TaskError
from bsopt.training.device import device_name, free_gpu_bytes, grown_bytes, is_out_of_memory
from bsopt.training.lightning_internals import validate_after_this_batch, validate_never
from bsopt.training.probe.probe import ProbeRow
from bsopt.training.task import injection
from bsopt.training.task.ready import use_task
from bsopt.trial.spec import Channel, TrialSpec
from bsopt.units import Amount

__all__ = ["measure"]

_WARM_UP_STEPS = 2  # the first allocates gradients and optimizer state
_LEAST_STEPS, _LEAST_SECONDS = 5, 0.3
_MOST_STEPS, _MOST_SECONDS = 50, 10.0
_ENDLESS = 1000


def measure(spec: TrialSpec, channel: Channel, *, clock: Callable[[], float] = time.monotonic) -> ProbeRow:
    """Run a few full steps of a trial's micro-batch in this process (one rank of it) and measure them.

    Args:
        spec: The trial; its plan's micro-batch is what is measured, its budget doesn't count.
        channel: Not used: nothing is told while it runs.
        clock: Monotonic seconds.

    Raises:
        TaskError: The training ended before a step could be timed.
        BsoptError: The user's code or settings are wrong.
    """
    stopwatch = _Stopwatch(spec, clock, resident_before=peak_resident_bytes())
    plan = spec.plan
    try:
        use_task(_endless(spec), lambda ready: ready.fit(), callbacks=[stopwatch])
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error) or plan.world_size > 1:
            raise  # a rank that goes quietly would leave the others waiting
        return ProbeRow(plan.micro_batch_size, "out_of_memory", num_devices=plan.world_size)
    if not stopwatch.seconds:
        raise TaskError("the probe's training ended by itself before there was anything to measure.")
    return ProbeRow(
        micro_batch_size=plan.micro_batch_size,
        status="ok",
        num_steps=len(stopwatch.seconds),
        seconds_per_step=median_high(stopwatch.seconds),
        peak_memory_bytes=stopwatch.peak_bytes,
        capacity_bytes=stopwatch.free_bytes,
        num_devices=plan.world_size,
        device=stopwatch.device,
    )


class _Stopwatch(Callback):
    """Times steps, ends training after enough of them, and looks at the GPU's free memory before there is a model.

    A step's time runs from the end of the step before, so that it has the loading of its batch. The first batch of
    an epoch also starts the loader's workers: its time is used only where there are no others.
    """

    def __init__(self, spec: TrialSpec, clock: Callable[[], float], *, resident_before: int) -> None:
        super().__init__()
        self._spec = spec
        self._clock = clock
        self._resident_before = resident_before
        self._steps = 0
        self._since = 0.0
        self._began = 0.0
        self._within: list[float] = []
        self._first: list[float] = []
        self.free_bytes: int | None = None
        self.peak_bytes: int | None = None
        self.device = "cpu"

    @property
    def seconds(self) -> list[float]:
        """Seconds of each timed step."""
        return self._within if len(self._within) >= 3 else self._first + self._within

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Note what is free on the GPU before the model moves there."""
        if self.free_bytes is None:
            self.free_bytes = free_gpu_bytes(trainer)
            reset_peak_memory(trainer)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Check that the micro-batch asked for is the one that runs."""
        injection.verify(trainer, self._spec)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock for the epoch's first batch."""
        self._since = self._now(trainer)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Time the step; rank 0 decides when there are enough. An epoch ends with a validation, as in a trial."""
        now = self._now(trainer)
        self._steps += 1
        if self._steps > _WARM_UP_STEPS:
            (self._first if batch_idx == 0 else self._within).append(now - self._since)
        else:
            self._began = now
        spent, timed = now - self._began, self._steps - _WARM_UP_STEPS
        least, seconds = (3, _MOST_SECONDS) if spent >= _MOST_SECONDS else (_LEAST_STEPS, _LEAST_SECONDS)
        is_enough = timed >= _MOST_STEPS or (timed >= least and spent >= seconds)
        if self._spec.plan.world_size > 1:
            is_enough = trainer.strategy.broadcast(is_enough)
        if is_enough:
            trainer.should_stop = True
        if is_enough or trainer.is_last_batch:
            validate_after_this_batch(trainer)
        else:
            validate_never(trainer)
        self._since = self._now(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Read the peak of every rank."""
        self.device = device_name(trainer)
        peak = grown_bytes(trainer, resident_before=self._resident_before)
        self.peak_bytes = int(over_ranks(trainer, [peak], "max")[0])

    def _now(self, trainer: Any) -> float:
        synchronize(trainer)
        return self._clock()


def _endless(spec: TrialSpec) -> TrialSpec:
    """Return the trial with a length that ends no probe, of a kind that schedules know how to plan with."""
    length = spec.budget.length
    trainer = {**spec.trainer, "limit_val_batches": min(1, spec.trainer.get("limit_val_batches", 1))}
    if length is not None and length.unit == "steps":
        return replace(spec, max_steps=max(_ENDLESS, spec.max_steps or 0), trainer=trainer, checkpoints=())
    epochs = max(_ENDLESS, length.value if length is not None and length.unit == "epochs" else 0)
    budget = replace(spec.budget, length=Amount(float(epochs), "epochs"))
    return replace(spec, budget=budget, max_steps=None, trainer=trainer, checkpoints=())
