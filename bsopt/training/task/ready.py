"""A trial's task and Trainer made ready, whether they are built here or by the project's own entry point."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from bsopt.errors import TaskError
from bsopt.training.checkpoints import going_on_from
from bsopt.training.lightning_internals import base_names, quiet_lightning
from bsopt.training.seeding import seed_everything
from bsopt.training.task.build import ReadyTask, build_task, is_data_module, lightning_package
from bsopt.training.task.entry_point import is_entry, run_entry
from bsopt.training.trainer_arguments import built_arguments, make_trainer
from bsopt.trial.spec import TrialSpec

__all__ = ["keep_nothing", "use_task"]

T = TypeVar("T")


def use_task(
    spec: TrialSpec, use: Callable[[ReadyTask], T], *, callbacks: Sequence[Any] = (), for_training: bool = True
) -> T:
    """Make a trial's task and Trainer ready, and return what `use` makes of them.

    They are built from the study file, or the project's own entry point is run up to its `Trainer.fit` and `use` is
    called in its place. The initial weights are drawn from the study's seed.

    Args:
        spec: The trial.
        use: Trains, by calling `fit` of what it gets, or only looks.
        callbacks: Added to the user's.
        for_training: Whether it trains, on the plan's devices; else it only looks, on one, without loggers and
            checkpoints of the user's.

    Raises:
        BsoptError: The user's code or settings are wrong.
    """
    quiet_lightning()
    if spec.num_threads is not None:
        import torch

        torch.set_num_threads(spec.num_threads)
    seed_everything(spec.seeds.weights)
    if not is_entry(spec.task):
        ready = _built(spec, callbacks, for_training=for_training)
        if spec.is_rehearsal or not for_training:
            keep_nothing(ready.trainer)
        return use(ready)
    used: list[T] = []

    def at_fit(ready: ReadyTask) -> None:
        _change_batch_norm(ready.task.module, spec)
        if for_training:
            _refuse_accumulation_by_hand(ready.task.module, spec)
        if spec.is_rehearsal or not for_training:
            keep_nothing(ready.trainer)
        ready.trainer.callbacks.extend(callbacks)
        used.append(use(ready))

    run_entry(spec, built_arguments(spec, for_training=for_training), at_fit, for_training=for_training)
    return used[0]


def _built(spec: TrialSpec, callbacks: Sequence[Any], *, for_training: bool) -> ReadyTask:
    task = build_task(spec.task, lr=spec.lr, plan=spec.plan, init_args=spec.init_args)
    _change_batch_norm(task.module, spec)
    if for_training:
        _refuse_accumulation_by_hand(task.module, spec)
    trainer = make_trainer(task, built_arguments(spec, callbacks, for_training=for_training))
    data = {"datamodule" if is_data_module(task.data) else "train_dataloaders": task.data}

    def fit() -> None:
        trainer.fit(task.module, **data, **going_on_from(spec.resume_file, trainer.fit))

    return ReadyTask(task, trainer, fit, spec.trainer.get("devices", 1))


def keep_nothing(trainer: Any) -> None:
    """Take away what would write a run or a checkpoint of a task that is only looked at."""
    logger = importlib.import_module(f"{lightning_package(trainer)}.loggers.logger").DummyLogger
    # For code that logs to `self.logger.experiment`, or asks the logger for its folder as `LightningCLI` does.
    folder = dict.fromkeys(("save_dir", "log_dir"), str(trainer.default_root_dir))
    trainer.loggers = [type("NoLogger", (logger,), folder)()]
    trainer.callbacks = [c for c in trainer.callbacks if "Checkpoint" not in base_names(c)]


def _change_batch_norm(module: Any, spec: TrialSpec) -> None:
    if spec.ghost_batch_norm is not None:
        from bsopt.training.task.ghost_batch_norm import use_ghost_batch_norm

        use_ghost_batch_norm(module, spec.ghost_batch_norm)


def _refuse_accumulation_by_hand(module: Any, spec: TrialSpec) -> None:
    if spec.plan.accumulate_grad_batches > 1 and not module.automatic_optimization:
        raise TaskError(
            f"batch size {spec.batch_size} needs gradient accumulation ({spec.plan}), but the module optimizes by "
            "hand (automatic_optimization = False), where Lightning can't accumulate. Lower "
            "search.batch_size.high, raise limits.max_micro_batch_size, or train on more devices."
        )
