"""What the fits of `laws/` share: a status, a number with its interval, and storage as plain dictionaries."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["INTERVAL_MASS", "Estimate", "FitStatus", "estimate_from_samples", "from_plain", "to_plain"]

INTERVAL_MASS = 0.9
"""Posterior mass of every interval that a fit reports."""

_T = TypeVar("_T")


class FitStatus(str, enum.Enum):
    """Whether a fit may be believed; the fit's `message` says it to a person."""

    OK = "ok"
    TOO_FEW = "too_few"
    NOT_IDENTIFIED = "not_identified"
    CONTRADICTORY = "contradictory"


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 90 % interval, in the same unit; a bound is infinite where the data give none."""

    value: float
    low: float
    high: float

    def __contains__(self, number: object) -> bool:
        return isinstance(number, (int, float)) and self.low <= number <= self.high

    def scaled(self, factor: float) -> Estimate:
        """Return the estimate in another unit: all three numbers times a positive factor."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)


def estimate_from_samples(samples: ArrayLike, weights: ArrayLike | None = None) -> Estimate:
    """Return the median and the central 90 % of (weighted) posterior samples, both of shape [n].

    >>> estimate_from_samples([1.0, 2.0, 3.0]).value
    2.0
    """
    x = np.asarray(samples, dtype=float)
    tail = (1.0 - INTERVAL_MASS) / 2.0
    if weights is None:
        low, middle, high = np.quantile(x, [tail, 0.5, 1.0 - tail])
    else:
        low, middle, high = weighted_quantiles(x, np.asarray(weights, dtype=float), (tail, 0.5, 1.0 - tail))
    return Estimate(float(middle), float(low), float(high))


def weighted_quantiles(
    samples: NDArray[np.float64], weights: NDArray[np.float64], levels: Sequence[float]
) -> NDArray[np.float64]:
    """Return quantiles of samples [n] with non-negative weights [n], interpolated between the samples' mid-ranks."""
    order = np.argsort(samples, kind="stable")
    mass = weights[order]
    ranks = np.cumsum(mass) - 0.5 * mass
    return np.asarray(np.interp(np.asarray(levels) * mass.sum(), ranks, samples[order]), dtype=float)


def to_plain(value: object) -> Any:
    """Return dataclasses, enums and tuples as what JSON and YAML know: dicts, strings and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    return value


def from_plain(kind: type[_T], plain: Mapping[str, Any]) -> _T:
    """Build a dataclass from what `to_plain` made of it; keys that it doesn't have are ignored.

    Raises:
        TypeError: A field without a default is missing.
    """
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: _revive(hints[name], item) for name, item in plain.items() if name in known})


def _revive(hint: Any, plain: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if plain is None:
            return None
        return _revive(next(a for a in arguments if a is not type(None)), plain)
    if origin is tuple:
        inner = arguments if arguments[-1] is not Ellipsis else (arguments[0],) * len(plain)
        return tuple(_revive(a, item) for a, item in zip(inner, plain, strict=True))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_plain(hint, plain)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(plain)
    if hint is float and isinstance(plain, (int, str)):
        return float(plain)
    return plain
