"""One trial, trained: plan + learning rate + budget -> TrialRecord."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from bsopt.callbacks._device import peak_resident_bytes
from bsopt.callbacks.gradient_noise_scale import GradientNoiseScale
from bsopt.callbacks.throughput_monitor import ThroughputMonitor
from bsopt.callbacks.update_norms import UpdateNorms
from bsopt.callbacks.weight_distance import WeightDistance
from bsopt.errors import BsoptError, MachineError, TaskError
from bsopt.serialization import to_plain
from bsopt.training.checkpoints import KeptState, KeptTicks, KeptWeights, StaleStateError
from bsopt.training.device import device_name, grown_bytes, is_out_of_memory
from bsopt.training.error_text import describe_error, is_of_machine, machine_failed
from bsopt.training.safeguards import Safeguards
from bsopt.training.task.build import ReadyTask
from bsopt.training.task.ready import use_task
from bsopt.training.tick_clock import TickClock, missing_metric
from bsopt.training.tick_schedule import Schedule, exact_samples
from bsopt.trial.curve import train_loss
from bsopt.trial.record import StopReason, Tick, TrialRecord
from bsopt.trial.spec import Channel, StopDecision, TrialSpec, delete_state
from bsopt.units import Amount, count_of, format_number

__all__ = ["run_trial"]

_UPDATES_BETWEEN_NORMS = 5
_BY_THE_PROJECT = "ended by the project itself"


def run_trial(spec: TrialSpec, channel: Channel, *, clock: Callable[[], float] = time.monotonic) -> TrialRecord:
    """Train one trial in this process (one rank of it) and return what it measured.

    Out of memory, a timeout and what the study answers to a tick are stop reasons of the record. Whether a tick ends
    the trial, also as diverged or at its target, is the study's to say (`bsopt.study.stopping`). What the project
    raises once the last tick is told, as a logger whose server is gone, is a warning.

    Args:
        spec: What to train.
        channel: Where ticks go; only rank 0's is used.
        clock: Monotonic seconds.

    Raises:
        BsoptError: The user's code or settings are wrong.
        MachineError: A disk is full or failed.
        StaleStateError: What it was to go on from can't be loaded; it is deleted, so that the trial can begin anew.
    """
    started = time.time()
    resident_before = peak_resident_bytes()
    run = _Run(spec, channel, clock)
    trainer: Any = None

    def train(ready: ReadyTask) -> None:
        nonlocal trainer
        trainer = ready.trainer
        begun = Path(spec.resume_file) if spec.resume_file and Path(spec.resume_file).exists() else None
        try:
            ready.fit()
        except Exception as error:
            if begun is None or run.clock.has_started or isinstance(error, BsoptError) or is_out_of_memory(error):
                raise
            with contextlib.suppress(OSError):
                delete_state(begun)
            raise StaleStateError(f"what it was to go on from doesn't fit any more ({_first_line(error)})") from error

    try:
        use_task(spec, train, callbacks=run.callbacks())
    except Exception as error:
        if run.is_whole and not isinstance(error, BsoptError):
            run.late_error = describe_error(error)
        elif is_out_of_memory(error) and spec.plan.world_size == 1:  # of several ranks, the parent hears the first
            message = f"out of memory with {spec.plan.micro_batch_size} samples a pass: {_first_line(error)}"
            run.answer = StopDecision(StopReason.OUT_OF_MEMORY, message=message)
        elif is_of_machine(error):
            raise MachineError(machine_failed(error)) from error
        else:
            raise
    return _record(spec, run, trainer, started=started, resident_before=resident_before)


class _Run:
    """What happens during one trial: ticks, answers, the best value."""

    def __init__(self, spec: TrialSpec, channel: Channel, clock: Callable[[], float]) -> None:
        self.spec = spec
        self.answer = StopDecision()
        self.ticks: list[Tick] = []
        self.best: Tick | None = None
        self.safeguards = Safeguards(spec)
        self.throughput = ThroughputMonitor(micro_batch_size=spec.plan.micro_batch_size)
        self.measures = _measures(spec.measure)
        self.weights = KeptWeights(spec.checkpoints, spec.folder)
        self.state = KeptState(spec.resume_file, spec.resume_overhead, clock) if spec.resume_file else None
        self.late_error = ""
        self._channel = channel
        self.clock = TickClock(
            self._schedule,
            plan=spec.plan,
            monitor=spec.objective.monitor,
            on_tick=self._on_tick,
            on_epoch=self._on_epoch,
            is_over=self._is_over,
            lr=spec.lr,
            clock=clock,
        )

    def callbacks(self) -> list[Any]:
        ticks = [KeptTicks(self.ticks, self._resume)] if self.state is not None else []
        return [self.safeguards, self.throughput, *self.measures.values(), self.weights, self.clock, *ticks]

    @property
    def is_whole(self) -> bool:
        """Whether all that the trial was to measure is told: its last tick, or one at which the study has ended it."""
        if not self.ticks or self._is_left_off(self.answer):
            return False
        last, length = self.ticks[-1], self.spec.budget.length
        if length is not None and length.unit == "steps":
            return self.answer.is_stop or last.step >= length.value
        return self.answer.is_stop or self.clock.schedule.is_over(last.samples)

    @property
    def late_warnings(self) -> list[str]:
        """What the user should know of what came after the last tick."""
        error = self.late_error
        return [f"it failed once its training was over, and counts all the same: {error}"] if error else []

    @property
    def state_warnings(self) -> list[str]:
        """What the user should know about the state to go on from."""
        error = self.state.error if self.state is not None else ""
        return [f"it can't be gone on with, since its state can't be saved ({error}); resume: false"] if error else []

    def _resume(self, trainer: Any, earlier: Sequence[Tick]) -> None:
        """Take over the ticks of the interrupted trial that this one goes on from; rank 0 tells them again."""
        for tick in earlier:
            self._keep(tick)
        self.clock.add_seconds(earlier[-1].seconds)
        if trainer.is_global_zero:
            for tick in earlier:
                self._channel.tick(tick)

    def _schedule(self, num_train_samples: int | None) -> Schedule:
        budget = self.spec.budget
        return Schedule.of(
            budget.tick_every,
            budget.length,
            num_train_samples=num_train_samples,
            is_geometric=budget.is_geometric,
        )

    def _keep(self, tick: Tick) -> bool:
        """Add a tick to the curve and return whether it is the best so far."""
        self.ticks.append(tick)
        sign = self.spec.objective.metric_sign
        is_better = math.isfinite(tick.value) and (self.best is None or sign * tick.value < sign * self.best.value)
        if is_better:
            self.best = tick
        return is_better

    def _on_tick(self, trainer: Any, tick: Tick) -> bool:
        is_better = self._keep(tick)
        if is_better:
            self.weights.found_best(trainer)
        # Rank 0 asks the study; every rank does what it was told.
        answer = self._channel.tick(tick) if trainer.is_global_zero else StopDecision()
        keeps = self.state is not None and (self.state.is_due or self._is_left_off(answer))
        if self.spec.plan.world_size > 1:
            answer, keeps = trainer.strategy.broadcast((answer, keeps))
        # A time limit may have run out at the step before this validation: going on doesn't undo that.
        if answer.is_stop or not self.answer.is_stop:
            self.answer = answer
        if self.state is not None and keeps and (not self.answer.is_stop or self._is_left_off(self.answer)):
            self.throughput.update(trainer)  # what the epoch so far has taken is kept, too
            self.state.keep(trainer)
        return self.answer.is_stop

    def _is_left_off(self, answer: StopDecision) -> bool:
        """Whether a trial that ends with an answer may be gone on with, so that its state is kept whatever it takes."""
        is_interrupted = (
            answer.stop_reason is StopReason.INTERRUPTED and self.state is not None and not self.state.error
        )
        return is_interrupted or answer.stop_reason is StopReason.PAUSED

    def _on_epoch(self, trainer: Any, metrics: Mapping[str, float]) -> None:
        """Give the tick at an epoch's end what the module logs for that epoch, which comes after its validation."""
        tick = replace(self.ticks[-1], metrics=dict(metrics))
        if self.best is self.ticks[-1]:
            self.best = tick
        self.ticks[-1] = tick
        if self._is_first_matched(trainer):
            self.weights.found_matched(trainer)

    def _is_first_matched(self, trainer: Any) -> bool:
        """Whether the epoch that just ended is the first whose training loss is as low as `matched_loss`."""
        limit = self.spec.matched_loss
        if limit is None:
            return False
        losses = [train_loss(tick, self.spec.objective.monitor) for tick in self.ticks]
        is_low = [loss is not None and loss <= limit for loss in losses]
        found = is_low[-1] and not any(is_low[:-1])
        # each rank may have logged the loss of its own share: rank 0 decides
        return bool(trainer.strategy.broadcast(found)) if self.spec.plan.world_size > 1 else found

    def _is_over(self, trainer: Any) -> bool:
        answer, length = self.answer, self.spec.budget.length
        limit = self.spec.budget.seconds
        if length is not None and length.unit == "steps" and self.clock.updates_done(trainer) >= length.value:
            return True
        if not answer.is_stop and trainer.is_global_zero:
            if self._channel.is_cancelled():
                answer = StopDecision(StopReason.INTERRUPTED, message="interrupted")
            elif limit is not None and self.clock.seconds_since_start() >= limit:
                answer = StopDecision(StopReason.TIMEOUT, message=f"its {limit:g} s were over")
        if self.spec.plan.world_size > 1 and (limit is not None):
            answer = trainer.strategy.broadcast(answer)
        self.answer = answer
        return answer.is_stop


def _record(spec: TrialSpec, run: _Run, trainer: Any, *, started: float, resident_before: int) -> TrialRecord:
    clock, best, answer = run.clock, run.best, run.answer
    if not answer.is_stop and not run.ticks:
        logged = dict.fromkeys(getattr(trainer, "callback_metrics", {}), 0.0)
        raise TaskError(
            f"the trial ended without a single validation, so {spec.objective.monitor!r} was never measured. "
            + (missing_metric(spec.objective.monitor, logged) if not logged else "Is there a val_dataloader?")
        )
    if not answer.is_stop and best is None:
        answer = StopDecision(StopReason.DIVERGED, f"{spec.objective.monitor} was finite at none of its validations")
    is_own_end = not answer.is_stop
    if is_own_end:
        answer = _own_end(spec, clock, trainer)
    speed = run.throughput.summary
    return TrialRecord(
        number=spec.number,
        outcome=(answer.stop_reason or StopReason.COMPLETED).outcome,
        batch_size=spec.batch_size,
        lr=spec.lr,
        params=dict(spec.params),
        stop_reason=answer.stop_reason,
        message=answer.message,
        value=best.value if best is not None else None,
        best_tick=best.index if best is not None else None,
        ticks=tuple(run.ticks),
        plan=spec.plan,
        seed=spec.seeds.data,
        num_train_samples=clock.num_samples,
        num_steps=clock.updates_done(trainer) if trainer is not None else None,
        samples_exact=_samples_exact(spec, clock, trainer, run.safeguards.num_batches),
        seconds=clock.seconds_since_start() if clock.has_started else None,
        seconds_per_epoch=median(speed.seconds_per_epoch) if speed and speed.seconds_per_epoch else None,
        seconds_per_step=speed.seconds_per_step if speed else None,
        samples_per_second=speed.samples_per_second if speed else None,
        energy_joules=speed.energy_joules if speed else None,
        peak_memory_bytes=grown_bytes(trainer, resident_before=resident_before),
        device=device_name(trainer) if trainer is not None else None,
        precision=str(trainer.precision) if trainer is not None else None,
        started=started,
        warnings=(
            *_warnings(spec, clock, trainer),
            *(_warned(answer) if is_own_end else ()),
            *_left_out(run, spec),
            *_unmatched(run, spec),
            *_accumulated_by_hand(run, trainer),
            *run.safeguards.warnings,
            *run.state_warnings,
            *run.late_warnings,
        ),
        measurements={name: _measured(callback) for name, callback in run.measures.items()},
    )


def _own_end(spec: TrialSpec, clock: TickClock, trainer: Any) -> StopDecision:
    """Return how a trial ended that nothing of bsopt's stopped: with its budget, or before it as the project wanted."""
    length = spec.budget.length
    if length is None:
        return StopDecision(StopReason.CONVERGED, f"{_BY_THE_PROJECT} before its time was over")
    done, is_over = _done(clock, trainer, length)
    if is_over:
        whole = format_number(length.value, thousands=True)
        return StopDecision(StopReason.COMPLETED, f"trained for all of its {whole} {length.unit}")
    told = format_number(done, thousands=True), format_number(length.value, thousands=True)
    return StopDecision(StopReason.CONVERGED, f"{_BY_THE_PROJECT} at {told[0]} of {told[1]} {length.unit}")


def _done(clock: TickClock, trainer: Any, length: Amount) -> tuple[float, bool]:
    """Return how much of its length a trial has trained, in the length's unit, and whether that is all of it."""
    if length.unit == "steps":
        updates = clock.updates_done(trainer)
        return float(updates), updates >= length.value
    samples = clock.samples_seen(trainer)
    if length.unit == "samples":
        return samples, clock.schedule.is_over(samples)
    # A sampler may give fewer batches than its length says: the epoch is over all the same.
    is_over = clock.schedule.is_over(samples) or trainer.current_epoch >= length.value
    return clock.epochs_done(trainer), is_over


def _measures(names: tuple[str, ...]) -> dict[str, Any]:
    makers: dict[str, Callable[[], Any]] = {
        "noise_scale": GradientNoiseScale,
        "weight_distance": WeightDistance,
        # A fixed share of all updates: one chosen by the clock would give other quantiles on another machine.
        "update_norms": lambda: UpdateNorms(every=_UPDATES_BETWEEN_NORMS),
    }
    made = [makers[name]() for name in names]
    return {type(callback).__name__: callback for callback in made}


def _measured(callback: Any) -> Mapping[str, Any] | None:
    value = callback.estimate if hasattr(callback, "estimate") else callback.summary
    plain: Mapping[str, Any] | None = to_plain(value)
    return plain


def _samples_exact(spec: TrialSpec, clock: TickClock, trainer: Any, num_batches: int) -> int | None:
    if trainer is None or not clock.has_started:
        return None
    return exact_samples(
        num_batches,
        samples_per_batch=spec.plan.micro_batch_size * spec.plan.world_size,
        batches_per_epoch=trainer.num_training_batches,
        num_train_samples=clock.num_samples,
    )


def _warnings(spec: TrialSpec, clock: TickClock, trainer: Any) -> list[str]:
    found = []
    per_epoch = getattr(trainer, "num_training_batches", math.inf) if trainer is not None else math.inf
    if clock.has_started and clock.num_samples and math.isfinite(per_epoch):
        used = int(per_epoch) * spec.plan.micro_batch_size * spec.plan.world_size
        lost = 1 - used / clock.num_samples
        if lost > 0.05:
            found.append(f"drop_last leaves out {lost:.0%} of the training set at batch size {spec.batch_size}")
    return found


def _unmatched(run: _Run, spec: TrialSpec) -> list[str]:
    """Return that no weights are kept at `matched_loss`, where the module logs no training loss."""
    monitor = spec.objective.monitor
    is_logged = any(train_loss(tick, monitor) is not None for tick in run.ticks)
    if spec.matched_loss is None or is_logged or not run.ticks or run.ticks[-1].epoch < 1:
        return []
    return [
        "no training loss is logged, so that no weights are kept at experiment.matched_loss and nothing is compared at "
        'equal training loss: log one in training_step, self.log("train_loss", loss, on_step=False, on_epoch=True)'
    ]


def _accumulated_by_hand(run: _Run, trainer: Any) -> list[str]:
    """Return that a module which optimizes by hand accumulates batches itself, so that an update has more samples."""
    updates = run.clock.updates_done(trainer) if trainer is not None else 0
    times = round(run.safeguards.num_batches / updates) if updates else 1
    if times < 2 or trainer.lightning_module.automatic_optimization:
        return []
    return [
        f"the module optimizes by hand and steps every {times} batches, so that an update has {times} times the batch "
        "size told: let it step at every batch"
    ]


def _warned(answer: StopDecision) -> list[str]:
    """Return what the user can do where a trial that nothing of bsopt's stopped ended before its budget was over."""
    if answer.stop_reason is StopReason.COMPLETED:
        return []
    return [f"{answer.message}, by an EarlyStopping or should_stop of its own: without it, the study decides"]


def _left_out(run: _Run, spec: TrialSpec) -> list[str]:
    """Return at how many validations the metric wasn't finite although training was."""
    missing = [tick.index for tick in run.ticks if tick.is_training_finite]
    if not missing:
        return []
    share = f"{len(missing)} of {count_of(len(run.ticks), 'validation')}"
    return [
        f"{spec.objective.monitor} wasn't finite at {share}, while the training loss stayed finite: these don't count, "
        "and the metric is worth a look"
    ]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
