"""One trial, trained: plan + learning rate + budget -> TrialRecord."""

from __future__ import annotations

import importlib
import logging
import math
import os
import random
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

from bsopt.callbacks._base import Callback
from bsopt.callbacks.throughput_monitor import ThroughputMonitor
from bsopt.errors import TaskError
from bsopt.training.checkpoints import KeptWeights
from bsopt.training.safeguards import Safeguards
from bsopt.training.task.build import Task, build_task, instantiate, look_up_first
from bsopt.training.task.entry_point import TakenOver, is_entry, run_entry
from bsopt.training.tick_clock import NEVER, Schedule, TickClock, missing_metric
from bsopt.trial.record import StopReason, Tick, TrialRecord
from bsopt.trial.spec import Channel, StopDecision, TrialSpec

__all__ = [
    "device_name",
    "fit_task",
    "is_out_of_memory",
    "memory_bytes",
    "quiet_lightning",
    "run_trial",
    "trainer_arguments",
    "uses_cuda",
]

_UPDATES_BETWEEN_NORMS = 5


def run_trial(spec: TrialSpec, channel: Channel, *, clock: Callable[[], float] = time.monotonic) -> TrialRecord:
    """Train one trial in this process (one rank of it) and return what it measured.

    Out of memory, a timeout and what the study answers to a tick are stop reasons of the record. Whether a tick ends
    the trial, also as diverged or at its target, is the study's to say (`bsopt.study.stopping`).

    Args:
        spec: What to train.
        channel: Where ticks go; only rank 0's is used.
        clock: Monotonic seconds.

    Raises:
        BsoptError: The user's code or settings are wrong.
    """
    started = time.time()
    base_memory = memory_bytes(None)
    run: _Run | None = None
    trainer: Any = None

    def began(made: Any) -> None:
        nonlocal trainer
        trainer = made

    try:
        quiet_lightning()
        run = _Run(spec, channel, clock)
        fit_task(spec, run.callbacks(), on_trainer=began)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error) or spec.plan.world_size > 1:  # of several ranks, the parent hears the first
            raise
        run = run or _Run(spec, channel, clock)
        message = f"out of memory with {spec.plan.micro_batch_size} samples a pass: {_first_line(error)}"
        run.answer = StopDecision(StopReason.OUT_OF_MEMORY, message=message)
    return _record(spec, run, trainer, started=started, base_memory=base_memory)


def fit_task(spec: TrialSpec, callbacks: list[Any], *, on_trainer: Callable[[Any], None]) -> None:
    """Build a trial's task and Trainer, or run the project's own entry point up to its fit, and train.

    Args:
        spec: What to train.
        callbacks: Added to the user's.
        on_trainer: Receives the Trainer before it trains.

    Raises:
        BsoptError: The user's code or settings are wrong.
    """
    seed_everything(spec.seeds.weights, spec.num_threads)
    if is_entry(spec.task):

        def at_fit(taken: TakenOver) -> None:
            taken.trainer.callbacks.extend(callbacks)
            on_trainer(taken.trainer)
            taken.fit()

        run_entry(spec, built_arguments(spec), at_fit)
        return
    task = build_task(spec.task, lr=spec.lr, plan=spec.plan, init_args=spec.init_args)
    _refuse_accumulation_by_hand(task.module, spec)
    trainer = make_trainer(task, built_arguments(spec, callbacks))
    on_trainer(trainer)
    begun = spec.resume_file if spec.resume_file and Path(spec.resume_file).exists() else None
    if is_data_module(task.data):
        trainer.fit(task.module, datamodule=task.data, ckpt_path=begun)
    else:
        trainer.fit(task.module, task.data, ckpt_path=begun)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the host."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        phrase in text
        for phrase in (
            "out of memory",
            "can't allocate memory",
            "cublas_status_alloc_failed",
            "cudnn_status_alloc_failed",
        )
    )


def seed_everything(seed: int, num_threads: int | None = None) -> None:
    """Seed Python, numpy and torch; initial weights are drawn from here."""
    import numpy as np
    import torch

    if num_threads is not None:
        torch.set_num_threads(num_threads)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


def quiet_lightning() -> None:
    """Keep Lightning's banners and hints out of the trial's log; errors and warnings of user code stay."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for pattern in (
        r".*does not have many workers.*",
        r".*[Tt]he number of training batches.*is smaller than the logging interval.*",
        r".*Starting from v1\.9.*tensorboardX.*",
        r".*Checkpoint directory .* exists and is not empty.*",
        r".*You defined a `validation_step` but have no `val_dataloader`.*",
        r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message=pattern)


class _Run:
    """What happens during one trial: ticks, answers, the best value."""

    def __init__(self, spec: TrialSpec, channel: Channel, clock: Callable[[], float]) -> None:
        self.spec = spec
        self.answer = StopDecision()
        self.ticks: list[Tick] = []
        self.best: Tick | None = None
        self.safeguards = Safeguards(spec)
        self.throughput = ThroughputMonitor()
        self.measures = _measures(spec.measure)
        self.memory = _Memory(self) if spec.resume_file else None
        self.weights = KeptWeights(spec.checkpoints, spec.folder)
        self._channel = channel
        self._sign = spec.objective.metric_sign
        self.clock = TickClock(
            self._schedule,
            plan=spec.plan,
            monitor=spec.objective.monitor,
            on_tick=self._on_tick,
            on_epoch=self._on_epoch,
            is_over=self._is_over,
            clock=clock,
        )

    def callbacks(self) -> list[Any]:
        memory = [self.memory] if self.memory is not None else []
        return [self.safeguards, self.throughput, *self.measures.values(), self.weights, self.clock, *memory]

    def recall(self, ticks: list[Tick]) -> None:
        """Take over the ticks of the interrupted trial that this one goes on from, and tell them again."""
        for tick in ticks:
            self._keep(tick)
        if ticks:
            self.clock.add_seconds(ticks[-1].seconds)

    def retell(self) -> None:
        """Tell the study the ticks that were taken over."""
        for tick in self.ticks:
            self._channel.tick(tick)

    def _schedule(self, num_train_samples: int | None) -> Schedule:
        budget = self.spec.budget
        return Schedule.of(budget.tick_every, budget.length, num_train_samples=num_train_samples)

    def _keep(self, tick: Tick) -> bool:
        """Add a tick to the curve and return whether it is the best so far."""
        self.ticks.append(tick)
        is_better = math.isfinite(tick.value) and (
            self.best is None or self._sign * tick.value < self._sign * self.best.value
        )
        if is_better:
            self.best = tick
        return is_better

    def _on_tick(self, trainer: Any, tick: Tick) -> bool:
        is_better = self._keep(tick)
        if is_better:
            self.weights.found_best(trainer)
        # Rank 0 asks the study; every rank does what it was told.
        answer = self._channel.tick(tick) if trainer.is_global_zero else StopDecision()
        answer = trainer.strategy.broadcast(answer) if self.spec.plan.world_size > 1 else answer
        if (
            answer.is_stop or not self.answer.is_stop
        ):  # a time limit may have run out at the step before this validation
            self.answer = answer
        if self.spec.resume_file and not self.answer.is_stop:
            _save_whole(trainer, self.spec.resume_file)
        return self.answer.is_stop

    def _on_epoch(self, metrics: Mapping[str, float]) -> None:
        """Give the tick at an epoch's end what the module logs for that epoch, which comes after its validation."""
        tick = replace(self.ticks[-1], metrics=dict(metrics))
        if self.best is self.ticks[-1]:
            self.best = tick
        self.ticks[-1] = tick

    def _is_over(self, trainer: Any) -> bool:
        answer = self.answer
        limit = self.spec.budget.seconds
        if not answer.is_stop and trainer.is_global_zero:
            if self._channel.is_cancelled():
                answer = StopDecision(StopReason.INTERRUPTED, message="interrupted")
            elif limit is not None and self.clock.seconds_since_start() >= limit:
                answer = StopDecision(StopReason.TIMEOUT, message=f"its {limit:g} s were over")
        if self.spec.plan.world_size > 1 and (limit is not None):
            answer = trainer.strategy.broadcast(answer)
        self.answer = answer
        return answer.is_stop


class _Memory(Callback):
    """Keeps a trial's ticks in its checkpoint, so that an interrupted trial goes on with its whole curve."""

    def __init__(self, run: _Run) -> None:
        super().__init__()
        self._run = run
        self._recalled: list[Tick] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the ticks so far as plain data."""
        return {"ticks": [asdict(tick) for tick in self._run.ticks]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Read the ticks of the interrupted trial."""
        self._recalled = [Tick(**tick) for tick in state_dict["ticks"]]

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Take them over, and have rank 0 tell them to the study again."""
        self._run.recall(self._recalled)
        if self._recalled and trainer.is_global_zero:
            self._run.retell()


def _save_whole(trainer: Any, path: str) -> None:
    """Save the training's state so that the file is whole at any moment."""
    trainer.save_checkpoint(path + ".part")
    if trainer.is_global_zero:
        os.replace(path + ".part", path)


def _refuse_accumulation_by_hand(module: Any, spec: TrialSpec) -> None:
    if spec.plan.accumulate_grad_batches > 1 and not module.automatic_optimization:
        raise TaskError(
            f"batch size {spec.batch_size} needs gradient accumulation ({spec.plan}), but the module optimizes by "
            "hand (automatic_optimization = False), where Lightning can't accumulate. Lower "
            "search.batch_size.high or raise limits.max_micro_batch_size."
        )


def built_arguments(spec: TrialSpec, callbacks: Sequence[Any] = (), *, for_training: bool = True) -> dict[str, Any]:
    """Return the Trainer's arguments with the study file's callbacks and logger built, and further callbacks."""
    look_up_first(spec.task.folders)
    arguments = trainer_arguments(spec, for_training=for_training)
    user = instantiate({key: arguments.pop(key) for key in ("callbacks", "logger") if key in arguments})
    given = user.get("callbacks") or []
    given = list(given) if isinstance(given, list) else [given]
    return {**arguments, "logger": user.get("logger", False), "callbacks": [*given, *callbacks]}


def make_trainer(task: Task, arguments: Mapping[str, Any]) -> Any:
    trainer_class = importlib.import_module(task.package).Trainer
    try:
        return trainer_class(**arguments)
    except TypeError as error:
        raise TaskError(f"the Trainer refuses its arguments (trainer: in the study file): {error}") from error


def trainer_arguments(spec: TrialSpec, *, for_training: bool = True) -> dict[str, Any]:
    """Return the Trainer's arguments: the user's, and those that are bsopt's to set."""
    length = spec.budget.length
    max_epochs, max_steps = -1, -1
    if length is not None and length.unit == "epochs":
        max_epochs = math.ceil(length.value - 1e-9)
    if spec.max_steps is not None:
        max_steps = spec.max_steps
    defaults: dict[str, Any] = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 50,
    }
    world = spec.plan.world_size
    fixed: dict[str, Any] = {
        "max_epochs": max_epochs,
        "max_steps": max_steps,
        "accumulate_grad_batches": spec.plan.accumulate_grad_batches,
        "check_val_every_n_epoch": None,
        "val_check_interval": NEVER,
        "num_nodes": spec.plan.num_nodes,
        "default_root_dir": spec.folder,
    }
    if world > 1:
        defaults["strategy"] = "ddp"
    devices = {"devices": spec.plan.num_devices} if for_training else {"devices": spec.trainer.get("devices", 1)}
    return {**defaults, **spec.trainer, **fixed, **devices}


def _record(spec: TrialSpec, run: _Run, trainer: Any, *, started: float, base_memory: int) -> TrialRecord:
    clock, safeguards, best = run.clock, run.safeguards, run.best
    answer = run.answer
    if not answer.is_stop and not run.ticks:
        logged = dict.fromkeys(getattr(trainer, "callback_metrics", {}), 0.0)
        raise TaskError(
            f"the trial ended without a single validation, so {spec.objective.monitor!r} was never measured. "
            + (missing_metric(spec.objective.monitor, logged) if not logged else "Is there a val_dataloader?")
        )
    if not answer.is_stop:
        epochs = run.ticks[-1].epoch
        answer = StopDecision(StopReason.COMPLETED, message=f"trained for all of its {epochs:g} epochs")
    speed = run.throughput.summary
    exact = _exact_samples(spec, clock, trainer, safeguards.num_batches)
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
        num_steps=int(trainer.global_step) if trainer is not None else None,
        samples_exact=exact,
        seconds=clock.seconds_since_start() if clock.has_started else None,
        seconds_per_epoch=median(speed.seconds_per_epoch) if speed and speed.seconds_per_epoch else None,
        seconds_per_step=speed.seconds_per_step if speed else None,
        samples_per_second=speed.samples_per_second if speed else None,
        energy_joules=speed.energy_joules if speed else None,
        peak_memory_bytes=max(0, memory_bytes(trainer) - (base_memory if not uses_cuda(trainer) else 0)),
        device=device_name(trainer) if trainer is not None else None,
        precision=str(trainer.precision) if trainer is not None else None,
        started=started,
        warnings=tuple(_warnings(spec, exact, clock, trainer)),
        measurements={name: _measured(callback) for name, callback in run.measures.items()},
    )


def _measures(names: tuple[str, ...]) -> dict[str, Any]:
    import bsopt.callbacks as callbacks

    makers: dict[str, tuple[str, dict[str, Any]]] = {
        "noise_scale": ("GradientNoiseScale", {}),
        "weight_distance": ("WeightDistance", {}),
        # A fixed share of all updates: one chosen by the clock would give other quantiles on another machine.
        "update_norms": ("UpdateNorms", {"every": _UPDATES_BETWEEN_NORMS}),
    }
    chosen = (makers[name] for name in names)
    return {name: getattr(callbacks, name)(**arguments) for name, arguments in chosen}


def _measured(callback: Any) -> Mapping[str, Any] | None:
    value = callback.estimate if hasattr(callback, "estimate") else callback.summary
    return value.as_dict() if value is not None else None


def _exact_samples(spec: TrialSpec, clock: TickClock, trainer: Any, num_batches: int) -> int | None:
    """Samples that really went through the model; ragged ends and `drop_last` counted."""
    if trainer is None or not clock.has_started:
        return None
    per_batch = spec.plan.micro_batch_size * spec.plan.world_size
    per_epoch = trainer.num_training_batches
    if not math.isfinite(per_epoch) or clock.num_samples is None or per_epoch < 1:
        return num_batches * per_batch
    whole = min(clock.num_samples, int(per_epoch) * per_batch)
    epochs, rest = divmod(num_batches, int(per_epoch))
    return epochs * whole + min(rest * per_batch, whole)


def _warnings(spec: TrialSpec, exact: int | None, clock: TickClock, trainer: Any) -> list[str]:
    found = []
    per_epoch = getattr(trainer, "num_training_batches", math.inf) if trainer is not None else math.inf
    if clock.has_started and clock.num_samples and math.isfinite(per_epoch):
        used = int(per_epoch) * spec.plan.micro_batch_size * spec.plan.world_size
        lost = 1 - used / clock.num_samples
        if lost > 0.05:
            found.append(f"drop_last leaves out {lost:.0%} of the training set at batch size {spec.batch_size}")
    return found


def is_data_module(data: Any) -> bool:
    return hasattr(data, "prepare_data_per_node") and hasattr(data, "setup")


def uses_cuda(trainer: Any) -> bool:
    """Whether a Trainer runs on an NVIDIA or AMD GPU."""
    return trainer is not None and trainer.strategy.root_device.type == "cuda"


def memory_bytes(trainer: Any) -> int:
    """Return this process's peak memory so far: of the GPU where the Trainer runs on one, else its resident set."""
    if uses_cuda(trainer):
        import torch

        return int(torch.cuda.max_memory_allocated(trainer.strategy.root_device))
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if os.uname().sysname == "Darwin" else peak * 1024)


def device_name(trainer: Any) -> str:
    """Return the name of the device that a Trainer runs on ("cpu", "NVIDIA H200")."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        import torch

        return str(torch.cuda.get_device_name(device))
    return str(device.type)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
