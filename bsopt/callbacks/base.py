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

__all__ = ["Callback"]


def _bases() -> tuple[type, ...]:
    packages = ["pytorch_lightning"]
    if find_spec("lightning") is not None:
        packages.append("lightning.pytorch")
    return tuple(importlib.import_module(package).Callback for package in packages)


if TYPE_CHECKING:
    from pytorch_lightning import Callback
else:

    class Callback(*_bases()):
        """Base of bsopt's callbacks; an instance of each installed Lightning package's `Callback`."""
