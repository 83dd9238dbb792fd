"""The tick clock: every trial of a study is validated at the same nominal samples seen.

Nominal samples = N × (finished epochs + batches done / batches per epoch); for data of unknown length,
batches × micro-batch × ranks. Tick i falls at the first optimizer-step boundary at or after i × every,
whatever the batch size, accumulation, ranks or ragged ends; the budget's end is the last tick.

Lightning validates natively: the Trainer runs with `check_val_every_n_epoch=None` and a huge
`val_check_interval`, and `TickClock` tells it after each batch whether to validate (`lightning_internals.py`).
A fixed interval drifts (an epoch is no whole number of batches) and falls inside accumulation windows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from bsopt.callbacks._base import Callback
from bsopt.callbacks._ranks import over_ranks
from bsopt.callbacks._schedules import is_decaying
from bsopt.errors import MetricError, nearest
from bsopt.training.lightning_internals import batches_done, validate_after_this_batch, validate_never
from bsopt.training.task import injection
from bsopt.training.task.sizes import num_batches_of, num_samples_of
from bsopt.training.tick_schedule import Schedule
from bsopt.trial.plan import Plan
from bsopt.trial.record import Tick

__all__ = ["TickClock", "missing_metric"]


class _Trainer(Protocol):
    """The part of a Lightning Trainer that the clock reads."""

    should_stop: bool
    global_step: int
    current_epoch: int
    num_training_batches: float
    sanity_checking: bool
    callback_metrics: dict[str, Any]
    strategy: Any
    train_dataloader: Any
    optimizers: list[Any]


class TickClock(Callback):
    """Has Lightning validate at the ticks of a schedule and tells each tick.

    `on_train_batch_end` decides whether a tick is due (arithmetic only, no communication for sized data);
    `on_validation_end` reads the metric, averages it over ranks (one all-reduce of a scalar; without
    `sync_dist` two ranks' values can differ) and calls `on_tick` on every rank.

    Args:
        make_schedule: Called at train start with N (None for data of unknown length).
        plan: How the batch size is realised.
        monitor: The metric's name.
        on_tick: Receives each tick; returns whether training should stop.
        on_epoch: Receives every metric at the end of an epoch that ended with a tick.
        is_over: Asked after every optimizer step, with nominal samples: whether to stop without a tick.
        lr: The learning rate searched: ticks tell that of the parameter group which began with it.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        make_schedule: Callable[[int | None], Schedule],
        *,
        plan: Plan,
        monitor: str,
        on_tick: Callable[[_Trainer, Tick], bool],
        on_epoch: Callable[[_Trainer, Mapping[str, float]], None],
        is_over: Callable[[_Trainer], bool],
        lr: float,
        clock: Callable[[], float],
    ) -> None:
        super().__init__()
        self._make_schedule = make_schedule
        self._plan = plan
        self._monitor = monitor
        self._on_tick = on_tick
        self._on_epoch = on_epoch
        self._is_over = is_over
        self._lr = lr
        self._group = (0, 0)
        self._steps_of: Counter[int] = Counter()
        self._clock = clock
        self._schedule: Schedule | None = None
        self._num_samples: int | None = None
        self._num_batches = 0
        self._last_step = 0
        self._told = 0
        self._due = 0
        self._ticked_at = -1
        self._loss: Any = None
        self._started = 0.0

    @property
    def schedule(self) -> Schedule:
        """When ticks fall; known from train start on."""
        assert self._schedule is not None, "the schedule is known from train start on"
        return self._schedule

    @property
    def num_samples(self) -> int | None:
        """N; None for data of unknown length."""
        return self._num_samples

    def add_seconds(self, seconds: float) -> None:
        """Count the time that an interrupted trial had trained before."""
        self._started -= seconds

    @property
    def has_started(self) -> bool:
        """Whether training began."""
        return self._schedule is not None

    def seconds_since_start(self) -> float:
        """Seconds since train start, validation included."""
        return self._clock() - self._started

    def samples_seen(self, trainer: _Trainer) -> float:
        """Return the nominal samples seen so far."""
        if self._num_samples is None:
            return float(self._num_batches * self._plan.micro_batch_size * self._plan.world_size)
        return self._num_samples * self.epochs_done(trainer)

    def epochs_done(self, trainer: _Trainer) -> float:
        """Return finished epochs with the fraction of the running one."""
        per_epoch = trainer.num_training_batches
        if not math.isfinite(per_epoch) or per_epoch <= 0:
            return float(trainer.current_epoch)
        return self._num_batches / per_epoch

    def updates_done(self, trainer: _Trainer) -> int:
        """Return the updates so far: optimizer steps, of several optimizers those of the one that steps most often."""
        steps, all_steps = trainer.global_step, sum(self._steps_of.values())
        return round(steps * max(self._steps_of.values()) / all_steps) if all_steps else int(steps)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Count each optimizer's steps; Lightning counts them together."""
        self._steps_of[id(optimizer)] += 1

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Find N and the schedule."""
        self._group = injection.group_with(trainer, self._lr) or (0, 0)
        self._num_samples = _training_samples(trainer, self._plan)
        self._schedule = self._make_schedule(self._num_samples)
        self._num_batches = batches_done(trainer)
        self._last_step = trainer.global_step
        self._told = self._schedule.due(self.samples_seen(trainer))
        self._started = self._clock()
        validate_never(trainer)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Forget Lightning's own interval, which it computes anew with each data loader."""
        validate_never(trainer)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Decide whether a tick is due at this optimizer-step boundary."""
        validate_never(trainer)
        self._num_batches += 1
        self._loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        stepped = trainer.global_step != self._last_step
        self._last_step = trainer.global_step
        if not stepped:
            return
        samples = self.samples_seen(trainer)
        due = self.schedule.due(samples)
        if self._num_samples is None and self._plan.world_size > 1:
            due = trainer.strategy.broadcast(due)  # ranks may see different batches: rank 0 decides
        if due > self._told:
            self._due = due
            validate_after_this_batch(trainer)
        if self.schedule.is_over(samples):
            trainer.should_stop = True
        if self._is_over(trainer):
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Tell what was logged for the epoch, where a tick fell at its end."""
        if self._ticked_at == self._num_batches:
            self._on_epoch(trainer, _scalars(trainer))

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Tell the tick, unless Lightning validated for a reason of its own."""
        if trainer.sanity_checking:
            return
        now = self._clock()
        if self._due <= self._told:
            return
        index, self._told = self._due, self._due
        validate_never(trainer)
        self._ticked_at = self._num_batches
        metrics = _scalars(trainer)
        value = self._value(trainer, metrics)
        tick = Tick(
            index=index,
            samples=self.schedule.samples_at(index),
            step=self.updates_done(trainer),
            epoch=self.epochs_done(trainer),
            seconds=now - self._started,
            value=value,
            lr=_current_lr(trainer, self._group),
            is_decaying=is_decaying(trainer),
            metrics=metrics,
            is_training_finite=None if math.isfinite(value) else _is_finite(self._loss, *pl_module.parameters()),
        )
        if self._on_tick(trainer, tick):
            trainer.should_stop = True

    def _value(self, trainer: Any, metrics: dict[str, float]) -> float:
        if self._monitor not in metrics:
            raise MetricError(missing_metric(self._monitor, metrics))
        return over_ranks(trainer, [metrics[self._monitor]], "mean")[0]


def missing_metric(monitor: str, logged: dict[str, float]) -> str:
    """Return the message for a metric that isn't there, which lists those that are."""
    names = sorted(logged)
    if not names:
        return (
            f"the metric {monitor!r} was never logged: validation logged nothing at all. Log it in validation_step: "
            f'self.log("{monitor}", value).'
        )
    return (
        f"the metric {monitor!r} was never logged; logged are: {', '.join(names)}. "
        f"Set objective.monitor to one of these.{nearest(monitor, names)}"
    )


def _training_samples(trainer: _Trainer, plan: Plan) -> int | None:
    """N: the data set's length, cut by `limit_train_batches`; None where the data have no length."""
    if not math.isfinite(trainer.num_training_batches):
        return None
    at_most = int(trainer.num_training_batches) * plan.micro_batch_size * plan.world_size
    length = num_samples_of(trainer.train_dataloader)
    if length is None:
        return at_most
    whole = num_batches_of(trainer.train_dataloader)
    return length if whole is None or trainer.num_training_batches >= whole else min(length, at_most)


def _is_finite(*values: Any) -> bool:
    """Whether all numbers in those of the values that are tensors are finite."""
    return all(bool(value.isfinite().all()) for value in values if hasattr(value, "isfinite"))


def _scalars(trainer: _Trainer) -> dict[str, float]:
    """Return what the user's module logged so far."""
    logged = trainer.callback_metrics.items()
    return {k: float(v) for k, v in logged if _is_scalar(v) and not k.startswith("bsopt/")}


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (int, float)) or getattr(value, "numel", lambda: 0)() == 1


def _current_lr(trainer: _Trainer, group: tuple[int, int]) -> float | None:
    optimizer, number = group
    return float(trainer.optimizers[optimizer].param_groups[number]["lr"]) if trainer.optimizers else None
