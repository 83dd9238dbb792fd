"""Typed values as the plain data that JSON, YAML and storages know, and back."""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["from_plain", "to_json", "to_plain"]

_T = TypeVar("_T")


def to_plain(value: object) -> Any:
    """Return dataclasses, mappings, enums, paths, tuples and arrays as dicts, strings, numbers and lists.

    >>> to_plain({"size": (8, 16)})
    {'size': [8, 16]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy's scalars and arrays, torch's tensors
        return value.tolist()
    return value


def to_json(value: object) -> Any:
    """Return plain data that strict JSON can hold: like `to_plain`, with numbers that aren't finite as None.

    What plain data has no form for becomes its text.
    """
    plain = to_plain(value)
    if isinstance(plain, dict):
        return {key: to_json(item) for key, item in plain.items()}
    if isinstance(plain, list):
        return [to_json(item) for item in plain]
    if isinstance(plain, float):
        return plain if math.isfinite(plain) else None
    return plain if plain is None or isinstance(plain, (str, int, bool)) else str(plain)


def from_plain(kind: type[_T], plain: Mapping[str, Any]) -> _T:
    """Build a dataclass from what `to_plain` made of it, also after a trip through JSON.

    Fields of dataclasses, enums, tuples, mappings of these, and unions with None are built in turn; keys that the
    dataclass doesn't have, as a newer version writes them, are ignored.

    Raises:
        TypeError: A field without a default is missing.
    """
    hints = _hints(kind)  # type: ignore[arg-type]
    return kind(**{name: _built(hints[name], item) for name, item in plain.items() if name in hints})


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    """Return the types of a dataclass's fields."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _built(hint: Any, plain: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if plain is None:
        return None
    if origin in (typing.Union, types.UnionType):
        return _built(next(a for a in arguments if a is not type(None)), plain)
    if origin is tuple:
        inner = arguments if arguments[-1] is not Ellipsis else (arguments[0],) * len(plain)
        return tuple(_built(a, item) for a, item in zip(inner, plain, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        key, item_kind = arguments
        return {key(name) if key in (int, float) else name: _built(item_kind, item) for name, item in plain.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_plain(hint, plain)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(plain)
    if hint is float and isinstance(plain, (int, str)):
        return float(plain)
    return plain
