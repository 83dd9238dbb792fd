"""What a user's task is, told by building it once and not training it."""

from __future__ import annotations

import importlib
from typing import Any

from bsopt.callbacks._device import uses_cuda
from bsopt.training.device import device_name
from bsopt.training.task.build import Task
from bsopt.training.task.loaders import num_batches_of, num_samples_of, train_loader_of
from bsopt.training.task.ready import use_task
from bsopt.trial.spec import Channel, TaskDescription, TrialSpec

__all__ = ["describe_task"]


def describe_task(spec: TrialSpec, channel: Channel) -> TaskDescription:
    """Build the task as a trial would and tell what it is, without training.

    Raises:
        BsoptError: It can't be built.
    """
    return use_task(spec, lambda ready: _description(ready.task, ready.trainer), for_training=False)


def _description(task: Task, trainer: Any) -> TaskDescription:
    import torch

    loader = train_loader_of(task)
    optimizer, has_plateau = _optimizers(task.module, trainer)
    is_cuda = uses_cuda(trainer)
    properties = torch.cuda.get_device_properties(trainer.strategy.root_device) if is_cuda else None
    versions = {name: importlib.import_module(name).__version__ for name in ("torch", task.package)}
    return TaskDescription(
        num_train_samples=num_samples_of(loader),
        num_train_batches=num_batches_of(loader),
        drop_last=bool(getattr(loader, "drop_last", False)),
        package=task.package,
        module=type(task.module).__qualname__,
        data=type(task.data).__qualname__,
        num_parameters=sum(p.numel() for p in task.module.parameters() if p.requires_grad),
        has_batch_norm=any("BatchNorm" in type(m).__name__ for m in task.module.modules()),
        is_automatic=bool(task.module.automatic_optimization),
        has_epoch_plateau_scheduler=has_plateau,
        optimizer=optimizer,
        num_devices=trainer.num_devices,
        num_available_devices=torch.cuda.device_count() if is_cuda else None,
        device=properties.name if properties is not None else device_name(trainer),
        device_memory_bytes=properties.total_memory if properties is not None else None,
        versions=versions,
    )


def _optimizers(module: Any, trainer: Any) -> tuple[str | None, bool]:
    """Return the optimizer's name and whether it has an epoch-interval ReduceLROnPlateau; (None, False) if unknown."""
    module.trainer = trainer
    try:
        configured = module.configure_optimizers()
    except Exception:  # noqa: BLE001  (it may need a running fit; training itself will tell what is wrong)
        return None, False
    finally:
        module.trainer = None
    text = repr(type(configured))
    optimizer: Any = configured
    schedulers: Any = []
    if isinstance(configured, dict):
        optimizer, schedulers = configured.get("optimizer"), [configured.get("lr_scheduler")]
    elif isinstance(configured, (tuple, list)) and configured:
        first = configured[0]
        optimizer = first[0] if isinstance(first, (tuple, list)) and first else first
        schedulers = configured[1] if len(configured) > 1 and isinstance(configured[1], (tuple, list)) else []
    plateau = any(_is_epoch_plateau(s) for s in schedulers)
    return (type(optimizer).__name__ if optimizer is not None else text), plateau


def _is_epoch_plateau(scheduler: Any) -> bool:
    options = scheduler if isinstance(scheduler, dict) else {"scheduler": scheduler}
    name = type(options.get("scheduler")).__name__
    return name == "ReduceLROnPlateau" and options.get("interval", "epoch") == "epoch"
