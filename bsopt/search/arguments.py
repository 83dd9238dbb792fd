"""What people give to the sampler and the pruner: checked once, and shown again by `repr`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from bsopt.errors import ConfigError
from bsopt.laws.scaling import Reference

__all__ = ["as_call", "check_names", "reference_of"]


def reference_of(given: object) -> Reference:
    """Return a reference from a pair.

    Raises:
        ConfigError: It is no batch size and learning rate, in this order.
    """
    if isinstance(given, Reference):
        return given
    if not (isinstance(given, (tuple, list)) and len(given) == 2 and all(_is_number(part) for part in given)):
        raise ConfigError(f"reference must be (batch size, learning rate), for example (32, 0.01), got {given!r}.")
    size, rate = given
    if 0 < size < 1 <= rate:
        raise ConfigError(f"reference must be (batch size, learning rate), got {given!r}. Did you mean {(rate, size)}?")
    return Reference(size, rate)


def check_names(*, batch_size: object, lr: object) -> None:
    """Refuse what can't be the names of two parameters.

    Raises:
        ConfigError: A name is no text, or both are the same.
    """
    for role, name in (("batch_size", batch_size), ("lr", lr)):
        if not isinstance(name, str) or not name:
            raise ConfigError(
                f"{role} must be the name of a parameter, as in trial.suggest_…({role!r}, …), got {name!r}."
            )
    if batch_size == lr:
        raise ConfigError(f"batch_size and lr must be two parameters, got {batch_size!r} for both.")


def as_call(owner: object, arguments: Mapping[str, Any]) -> str:
    """Return the call that makes an object like this one: its class with all arguments that aren't the default.

    Args:
        owner: The object.
        arguments: What it was made with, by the names of its class's arguments.
    """
    parameters = inspect.signature(type(owner)).parameters
    given = [f"{name}={value!r}" for name, value in arguments.items() if value != parameters[name].default]
    return f"{type(owner).__name__}({', '.join(given)})"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
