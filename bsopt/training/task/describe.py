"""What a user's task is, told by setting it up once, as a fit does, and not training it."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Any

from bsopt.callbacks._base import Callback
from bsopt.callbacks._device import uses_cuda
from bsopt.errors import BsoptError, TaskError
from bsopt.training.device import device_name
from bsopt.training.error_text import describe_error
from bsopt.training.task.build import ReadyTask
from bsopt.training.task.ready import use_task
from bsopt.training.task.sizes import leaves_of, num_batches_of, num_samples_of
from bsopt.trial.spec import Channel, TaskDescription, TrialSpec

__all__ = ["describe_task"]


def describe_task(spec: TrialSpec, channel: Channel) -> TaskDescription:
    """Set the task up as a trial would, on one device, up to where training begins, and tell what it is.

    Raises:
        BsoptError: It can't be built or set up.
    """
    look = _Look()

    def told(ready: ReadyTask) -> TaskDescription:
        try:
            ready.fit()
        except (BsoptError, MemoryError):
            raise
        except Exception as error:
            if not look.has_seen:
                raise TaskError(
                    f"the task fails before its first step: {describe_error(error, whole_text=True)}"
                ) from error
        if not look.has_seen:
            raise TaskError(
                "Trainer.fit trains nothing. Is there a train_dataloader, and is limit_train_batches above 0?"
            )
        return _description(ready, look)

    return use_task(spec, told, callbacks=[look], for_training=False)


class _Look(Callback):
    """Sees a fit when everything is set up, and ends it before its first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.has_seen = False
        self.loader: Any = None
        self.optimizers: list[Any] = []
        self.has_epoch_plateau = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """See loaders, optimizers and schedulers."""
        self.has_seen = True
        self.loader = trainer.train_dataloader
        self.optimizers = list(trainer.optimizers)
        self.has_epoch_plateau = any(
            type(config.scheduler).__name__ == "ReduceLROnPlateau" and config.interval == "epoch"
            for config in trainer.lr_scheduler_configs
        )
        trainer.should_stop = True


def _description(ready: ReadyTask, look: _Look) -> TaskDescription:
    import torch

    task, trainer = ready.task, ready.trainer
    accelerator = trainer.accelerator
    is_cuda = uses_cuda(trainer)
    properties = torch.cuda.get_device_properties(trainer.strategy.root_device) if is_cuda else None
    versions = {name: str(importlib.import_module(name).__version__) for name in ("torch", task.package)}
    return TaskDescription(
        num_train_samples=num_samples_of(look.loader),
        num_train_batches=num_batches_of(look.loader),
        drop_last=any(bool(getattr(loader, "drop_last", False)) for loader in leaves_of(look.loader)),
        package=task.package,
        module=type(task.module).__qualname__,
        data=type(task.data).__qualname__ if task.data is not None else "loaders of its own",
        num_parameters=sum(p.numel() for p in _shaped(task.module.parameters()) if p.requires_grad),
        has_batch_norm=any("BatchNorm" in type(m).__name__ for m in task.module.modules()),
        is_automatic=bool(task.module.automatic_optimization),
        has_epoch_plateau_scheduler=look.has_epoch_plateau,
        optimizer=type(look.optimizers[0]).__name__ if look.optimizers else None,
        num_devices=_count(ready.devices, accelerator),
        num_available_devices=torch.cuda.device_count() if is_cuda else None,
        device=properties.name if properties is not None else device_name(trainer),
        device_memory_bytes=properties.total_memory if properties is not None else None,
        versions=versions,
        state_bytes=_state_bytes(task.module),
        places=task.places,
    )


def _state_bytes(module: Any) -> int:
    """Return how large a checkpoint is at most, with two numbers of an optimizer for each parameter."""
    tensors = [value for value in module.state_dict().values() if hasattr(value, "element_size")]
    optimized = [parameter for parameter in module.parameters() if parameter.requires_grad]
    weights, moved = (sum(t.numel() * t.element_size() for t in _shaped(each)) for each in (tensors, optimized))
    return int(weights + 2 * moved)


def _shaped(tensors: Iterable[Any]) -> Iterator[Any]:
    """Leave out a lazy layer's tensors, which have no shape before its first batch."""
    from torch.nn.parameter import is_lazy

    return (tensor for tensor in tensors if not is_lazy(tensor))


def _count(devices: Any, accelerator: Any) -> int:
    """Return how many devices the Trainer's argument of that name means: a number, a list, "0,1", or all."""
    if devices in ("auto", -1, "-1"):
        return max(1, int(accelerator.auto_device_count()))
    if isinstance(devices, str):
        return len(devices.split(",")) if "," in devices else int(devices)
    return len(devices) if isinstance(devices, (list, tuple)) else int(devices)
