"""A trial's task as it would be trained, built to be looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from bsopt.training.run_trial import built_arguments, is_data_module, make_trainer, quiet_lightning, seed_everything
from bsopt.training.task.build import Task, build_task
from bsopt.training.task.entry_point import is_entry, run_entry
from bsopt.trial.spec import TrialSpec

__all__ = ["train_loader_of", "validation_loader_of", "with_built_task"]

T = TypeVar("T")


def with_built_task(spec: TrialSpec, look: Callable[[Task, Any], T]) -> T:
    """Build the task and the Trainer as a trial would, and return what `look(task, trainer)` says.

    Raises:
        BsoptError: They can't be built.
    """
    quiet_lightning()
    seed_everything(spec.seeds.weights, spec.num_threads)
    if not is_entry(spec.task):
        task = build_task(spec.task, lr=spec.lr, plan=spec.plan, init_args=spec.init_args)
        return look(task, make_trainer(task, built_arguments(spec, for_training=False)))
    found: list[T] = []
    arguments = built_arguments(spec, for_training=False)
    run_entry(spec, arguments, lambda t: found.append(look(t.task, t.trainer)), for_training=False)
    return found[0]


def train_loader_of(task: Task) -> Any:
    """Prepare a task's data and return its training loader."""
    source = _prepared(task)
    return source.train_dataloader() if hasattr(source, "train_dataloader") else source


def validation_loader_of(task: Task) -> Any:
    """Prepare a task's data and return its validation loader, the first of several; None where it has none."""
    source = _prepared(task)
    loader = source.val_dataloader() if hasattr(source, "val_dataloader") else None
    return loader[0] if isinstance(loader, (list, tuple)) and loader else loader


def _prepared(task: Task) -> Any:
    source = task.data if task.data is not None else task.module
    if is_data_module(source):
        source.prepare_data()
        source.setup("fit")
    return source
