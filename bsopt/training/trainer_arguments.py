"""What a trial's Trainer is given: the user's arguments, and those that are bsopt's to set."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from bsopt.errors import TaskError, nearest
from bsopt.training.lightning_internals import NEVER, base_names
from bsopt.training.task.build import Task, instantiate, look_up_first
from bsopt.training.task.loggers import trial_loggers
from bsopt.trial.spec import TrialSpec

__all__ = ["built_arguments", "made_up_steps", "make_trainer", "trainer_arguments"]

_MADE_UP_STEPS = 1000
_DEFAULTS: Mapping[str, Any] = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 50,
}


def trainer_arguments(spec: TrialSpec, *, for_training: bool = True) -> dict[str, Any]:
    """Return a Trainer's arguments by name, as plain data: bsopt's defaults, the study file's, and the plan's.

    Args:
        spec: The trial.
        for_training: Whether it trains, on the plan's devices; else it only looks, on one.
    """
    length = spec.budget.length
    num_epochs = length.value if length is not None and length.unit == "epochs" else None
    max_steps = spec.max_steps
    if not for_training and max_steps is None and num_epochs is None and length is not None:
        max_steps = made_up_steps(spec)  # a schedule is planned with a number, also where the data's isn't known yet
    where: dict[str, Any] = {"devices": spec.plan.num_devices, "num_nodes": spec.plan.num_nodes}
    if not for_training:
        chosen = spec.trainer.get("devices")
        where = {
            "devices": chosen[:1] if isinstance(chosen, list) else 1,
            "num_nodes": 1,
            "strategy": "auto",
            "sync_batchnorm": False,
        }
    return {
        **_DEFAULTS,
        **({"strategy": "ddp"} if spec.plan.world_size > 1 else {}),
        **spec.trainer,
        "max_epochs": math.ceil(num_epochs - 1e-9) if num_epochs is not None else -1,
        "max_steps": max_steps if max_steps is not None else -1,
        "accumulate_grad_batches": spec.plan.accumulate_grad_batches,
        "check_val_every_n_epoch": None,
        "val_check_interval": NEVER,
        "default_root_dir": spec.folder,
        **where,
    }


def made_up_steps(spec: TrialSpec) -> int:
    """Return optimizer updates to plan a trial with that is only looked at; of data without a length the true ones."""
    length = spec.budget.length
    if length is None or length.unit == "epochs":
        return _MADE_UP_STEPS
    if length.unit == "steps":
        return int(length.value)
    return max(1, math.ceil(length.value / spec.plan.global_batch_size - 1e-9))


def built_arguments(spec: TrialSpec, callbacks: Sequence[Any] = (), *, for_training: bool = True) -> dict[str, Any]:
    """Return a Trainer's arguments by name, with the study file's callbacks and logger built.

    Args:
        spec: The trial.
        callbacks: Further ones, after the study file's.
        for_training: As in `trainer_arguments`.

    Raises:
        TaskError: A callback or logger can't be imported or built.
    """
    look_up_first(spec.task.folders)
    arguments = trainer_arguments(spec, for_training=for_training)
    with trial_loggers(spec):
        user = instantiate({key: arguments.pop(key) for key in ("callbacks", "logger") if key in arguments})
    given = user.get("callbacks") or []
    given = list(given) if isinstance(given, list) else [given]
    if any("Checkpoint" in base_names(callback) for callback in given) and "enable_checkpointing" not in spec.trainer:
        arguments["enable_checkpointing"] = True
    return {**arguments, "logger": user.get("logger", False), "callbacks": [*given, *callbacks]}


def make_trainer(task: Task, arguments: Mapping[str, Any]) -> Any:
    """Return a Trainer of the Lightning package that the task comes from.

    Args:
        task: What will be trained.
        arguments: The Trainer's arguments by name, built.

    Raises:
        TaskError: The Trainer has no such argument, or can't do what it is asked.
    """
    trainer_class = importlib.import_module(task.package).Trainer
    known = inspect.signature(trainer_class).parameters
    for name in arguments:
        if name not in known:
            raise TaskError(f"trainer.{name}: Lightning's Trainer has no such argument.{nearest(name, known)}")
    try:
        return trainer_class(**arguments)
    except Exception as error:  # Lightning's own words: a strategy that the accelerator can't run
        raise TaskError(f"the Trainer refuses its arguments (trainer: in the study file): {error}") from error
