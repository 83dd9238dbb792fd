"""The base class of bsopt's callbacks: a Callback of every Lightning package that is installed.

`pytorch_lightning` and `lightning.pytorch` are copies of each other whose classes don't know each other: each
Trainer and each LightningCLI accepts only its own `Callback`. One class with both as bases passes both. The
bases are chosen once, at import, by what is installed and not by what happens to be loaded: import sorting puts
bsopt before the user's Lightning.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING

from lightning_utilities.core.rank_zero import rank_zero_info

__all__ = ["Callback", "announce", "is_sharded"]


def _bases() -> tuple[type, ...]:
    packages = ["pytorch_lightning"]
    if find_spec("lightning") is not None:
        packages.append("lightning.pytorch")
    return tuple(importlib.import_module(package).Callback for package in packages)


if TYPE_CHECKING:
    from pytorch_lightning import Callback, Trainer
else:

    class Callback(*_bases()):
        """Base of bsopt's callbacks; an instance of each installed Lightning package's `Callback`."""


def is_sharded(trainer: Trainer) -> bool:
    """Return whether a rank holds only a part of the weights and gradients (FSDP, DeepSpeed, tensor parallel)."""
    name = type(trainer.strategy).__name__.lower()
    return any(part in name for part in ("fsdp", "deepspeed", "modelparallel"))


def announce(message: str) -> None:
    """Say something to the user once, on rank zero, through the logger that Lightning's own messages go through."""
    rank_zero_info(message)
