"""Names that load their module on first use, so that `import bsopt` stays light."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

from bsopt.errors import MissingExtraError

_TRAINING = {"torch", "torchmetrics", "lightning", "lightning_fabric", "lightning_utilities", "pytorch_lightning"}
"""What a light installation lacks: sampler, pruner, answers and figures do without."""


def attach(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return a package's `__getattr__` and `__dir__` (PEP 562).

    Args:
        package: The package's `__name__`.
        homes: Public name -> module that defines it, relative to the package (`".search.sampler"`). A name
            whose home is itself (`"laws": ".laws"`) is the submodule.

    What is returned raises `MissingExtraError` for a name that needs PyTorch or Lightning where they aren't installed.
    """

    def load(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            module = importlib.import_module(homes[name], package)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _TRAINING:
                raise
            raise MissingExtraError.of_training(f"{package}.{name}", str(error.name)) from error
        return module if homes[name] == f".{name}" else getattr(module, name)

    def names() -> list[str]:
        return sorted(homes)

    return load, names
