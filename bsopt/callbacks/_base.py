"""The base class of bsopt's callbacks: a Callback of every Lightning package that is installed.

`pytorch_lightning` and `lightning.pytorch` are copies of each other whose classes don't know each other: each
Trainer and each LightningCLI accepts only its own `Callback`. One class with both as bases passes both. The
bases are chosen once, at import, among the packages that are installed. Which ones are loaded by then says nothing:
a script may import bsopt before its Lightning.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

from lightning_utilities.core.rank_zero import rank_zero_info

from bsopt.errors import ConfigError

__all__ = ["Callback", "announce", "installed_packages", "is_sharded", "refuse_sharded"]


def installed_packages() -> list[ModuleType]:
    """Return the Lightning packages that are installed: `pytorch_lightning`, and `lightning.pytorch` where it is."""
    names = ["pytorch_lightning"] + ["lightning.pytorch"] * (find_spec("lightning") is not None)
    return [importlib.import_module(name) for name in names]


if TYPE_CHECKING:
    from pytorch_lightning import Callback, Trainer
else:

    class Callback(*(package.Callback for package in installed_packages())):
        """Base of bsopt's callbacks; an instance of each installed Lightning package's `Callback`."""


def is_sharded(trainer: Trainer) -> bool:
    """Return whether a rank holds only a part of the weights and gradients (FSDP, DeepSpeed, tensor parallel)."""
    name = type(trainer.strategy).__name__.lower()
    return any(part in name for part in ("fsdp", "deepspeed", "modelparallel"))


def refuse_sharded(trainer: Trainer, callback: str) -> None:
    """Refuse a strategy that shards the weights, for a callback that needs them whole.

    Raises:
        ConfigError: The strategy shards the weights.
    """
    if is_sharded(trainer):
        raise ConfigError(
            f"{callback} needs whole weights on every rank, and {type(trainer.strategy).__name__} shards them. "
            "Use strategy='ddp' or one device, or leave the callback out."
        )


def announce(message: str) -> None:
    """Say something to the user once, on rank zero, through the logger that Lightning's own messages go through."""
    rank_zero_info(message)
