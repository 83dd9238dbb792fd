"""A task's data loaders, prepared."""

from __future__ import annotations

from typing import Any

from bsopt.training.task.build import Task, is_data_module

__all__ = ["train_loader_of", "validation_loader_of"]


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
