"""Whether a learning-rate schedule still has to decay: until it has, a plateau says nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["is_decaying"]


def is_decaying(trainer: Any) -> bool:
    """Return whether any of a Trainer's schedulers will still lower the learning rate by its schedule.

    `MultiStepLR` until its last milestone, `ConstantLR` and `LinearLR` until their `total_iters`, schedulers
    made of others while any of them will; every other schedule until the trial's end. `ReduceLROnPlateau`
    acts on plateaus and is no schedule.
    """
    return any(_decays(config.scheduler) for config in trainer.lr_scheduler_configs)


def _decays(scheduler: Any) -> bool:
    name = type(scheduler).__name__
    if name == "ReduceLROnPlateau":
        return False
    inner: Iterable[Any] = getattr(scheduler, "_schedulers", ())
    if inner:
        return any(_decays(part) for part in inner)
    done = getattr(scheduler, "last_epoch", 0)
    if name == "MultiStepLR":
        return bool(done < max(scheduler.milestones, default=0))
    if name in ("ConstantLR", "LinearLR"):
        return bool(done < scheduler.total_iters)
    return True
