"""Numbers with units, as people write them: "3 epochs", "20000 samples", "30 min", "2 GiB"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bsopt.errors import ConfigError, nearest

__all__ = ["Amount", "Unit", "in_samples", "parse_amount", "parse_bytes"]

Unit = Literal["epochs", "samples", "steps", "seconds"]

_UNITS: dict[str, tuple[Unit, float]] = {
    **dict.fromkeys(("epoch", "epochs"), ("epochs", 1.0)),
    **dict.fromkeys(("sample", "samples"), ("samples", 1.0)),
    **dict.fromkeys(("step", "steps", "update", "updates"), ("steps", 1.0)),
    **dict.fromkeys(("s", "sec", "second", "seconds"), ("seconds", 1.0)),
    **dict.fromkeys(("min", "minute", "minutes"), ("seconds", 60.0)),
    **dict.fromkeys(("h", "hour", "hours"), ("seconds", 3600.0)),
}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True, slots=True)
class Amount:
    """A number with its unit: epochs, samples, steps (optimizer updates) or seconds."""

    value: float
    unit: Unit

    def __str__(self) -> str:
        if self.unit == "seconds":
            for size, name in ((3600.0, "h"), (60.0, "min")):
                if self.value >= size and self.value % size == 0:
                    return f"{self.value / size:g} {name}"
            return f"{self.value:g} s"
        return f"{self.value:g} {self.unit if self.value != 1 else self.unit[:-1]}"


def parse_amount(text: object, *, default: Unit | None = None, allowed: Iterable[Unit] = ()) -> Amount:
    """Read "1 epoch", "20000 samples", "200 steps" or "30 min".

    Args:
        text: The text; a bare number where `default` names its unit.
        default: Unit of a bare number.
        allowed: Units that make sense here; all where empty.

    Raises:
        ConfigError: It can't be read, isn't positive, or has a unit that makes no sense here.

    >>> parse_amount("30 min")
    Amount(value=1800.0, unit='seconds')
    """
    if isinstance(text, Amount):
        amount = text
    elif isinstance(text, (int, float)) and not isinstance(text, bool):
        if default is None:
            raise ConfigError(
                f"{text} needs a unit, e.g. '{text} epochs', '{text} samples', '{text} steps' or '{text} min'."
            )
        amount = Amount(float(text), default)
    else:
        match = re.fullmatch(r"\s*([\d_]*\.?\d+(?:[eE][+-]?\d+)?)\s*([a-zA-Z]*)\s*", str(text))
        if match is None:
            raise ConfigError(f"{text!r} is no amount; write e.g. '1 epoch', '20000 samples' or '30 min'.")
        number, unit = float(match.group(1).replace("_", "")), match.group(2).lower()
        if not unit:
            return parse_amount(number, default=default, allowed=allowed)
        if unit not in _UNITS:
            raise ConfigError(
                f"unknown unit {unit!r} in {text!r}; use epochs, samples, steps, s, min or h." + nearest(unit, _UNITS)
            )
        name, size = _UNITS[unit]
        amount = Amount(number * size, name)
    if amount.value <= 0:
        raise ConfigError(f"{text!r} must be positive.")
    units = tuple(allowed)
    if units and amount.unit not in units:
        raise ConfigError(f"{text!r} is in {amount.unit}; here it must be in {' or '.join(units)}.")
    return amount


def parse_bytes(value: object) -> int:
    """Read an amount of memory in bytes: "2 GiB", "500 MB" or a whole number.

    Raises:
        ConfigError: It can't be read.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgG]i?[bB]|[bB])\s*", str(value))
    if match is None:
        raise ConfigError(f"{value!r} is no amount of memory; write e.g. '2 GiB' or '500 MB'.")
    return int(float(match.group(1)) * _BYTES[match.group(2).lower()])


def in_samples(amount: Amount, num_train_samples: int | None, what: str) -> float:
    """Return an amount in nominal samples.

    Raises:
        ConfigError: It is in epochs and the data's length isn't known.
    """
    if amount.unit == "samples":
        return amount.value
    if num_train_samples is None:
        raise ConfigError(f"{what} is in epochs but the training data have no known length: give it in samples.")
    return amount.value * num_train_samples
