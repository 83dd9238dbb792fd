"""A task's data loaders: the loaders themselves, and their lengths."""

from __future__ import annotations

from typing import Any

from bsopt.training.task.build import Task, is_data_module

__all__ = ["num_batches_of", "num_samples_of", "train_loader_of", "validation_loader_of"]


def train_loader_of(task: Task) -> Any:
    """Prepare a task's data and return its training loader."""
    source = _prepared(task)
    return source.train_dataloader() if hasattr(source, "train_dataloader") else source


def validation_loader_of(task: Task) -> Any:
    """Prepare a task's data and return its validation loader, the first of several; None where it has none."""
    source = _prepared(task)
    loader = source.val_dataloader() if hasattr(source, "val_dataloader") else None
    return loader[0] if isinstance(loader, (list, tuple)) and loader else loader


def num_samples_of(loader: Any) -> int | None:
    """Return the length of a loader's data set; None where it has none or there are several loaders."""
    return _length(getattr(loader, "dataset", None))


def num_batches_of(loader: Any) -> int | None:
    """Return the batches that a loader gives on this rank; None where it has no length."""
    return _length(loader)


def _length(value: Any) -> int | None:
    try:
        return len(value)
    except (AttributeError, TypeError, NotImplementedError):
        return None


def _prepared(task: Task) -> Any:
    source = task.data if task.data is not None else task.module
    if is_data_module(source):
        source.prepare_data()
        source.setup("fit")
    return source
