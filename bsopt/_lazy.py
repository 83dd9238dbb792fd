"""Names that load their module on first use, so that `import bsopt` stays light."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping


def attach(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return a package's `__getattr__` and `__dir__` (PEP 562).

    Args:
        package: The package's `__name__`.
        homes: Public name -> module that defines it, relative to the package (`".search.sampler"`). A name
            whose home is itself (`"laws": ".laws"`) is the submodule.
    """

    def load(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(homes[name], package)
        return module if homes[name] == f".{name}" else getattr(module, name)

    def names() -> list[str]:
        return sorted(homes)

    return load, names
