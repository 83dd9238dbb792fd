"""Typed values as the plain data that JSON, YAML and storages know, and back."""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping
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

    >>> Span = dataclasses.make_dataclass("Span", [("ends", tuple[float, ...])])
    >>> from_plain(Span, {"ends": [1, 2]})
    Span(ends=(1.0, 2.0))
    """
    builders = _builders(kind)  # type: ignore[arg-type]
    values = {name: item if item is None else builders[name](item) for name, item in plain.items() if name in builders}
    return kind(**values)


@functools.cache
def _builders(kind: type[Any]) -> dict[str, Callable[[Any], Any]]:
    """Return what builds each field of a dataclass from a value that isn't None."""
    hints = typing.get_type_hints(kind)
    return {field.name: _builder(hints[field.name]) for field in dataclasses.fields(kind)}


def _builder(hint: Any) -> Callable[[Any], Any]:
    """Return what builds a value of the type from plain data; types that plain data hold stay as they are."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _builder(next(argument for argument in arguments if argument is not type(None)))
    if origin is tuple:
        return _tuple_builder(arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping_builder(*arguments)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return functools.partial(from_plain, hint)
    if origin is None and isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint
    return _number if hint is float else _same


def _tuple_builder(arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    if arguments[-1] is Ellipsis:
        every = _optional(arguments[0])
        return lambda plain: tuple(every(item) for item in plain)
    each = [_optional(argument) for argument in arguments]
    return lambda plain: tuple(build(item) for build, item in zip(each, plain, strict=True))


def _mapping_builder(key: Any, value: Any) -> Callable[[Any], Any]:
    build_key, build = key if key in (int, float) else _same, _optional(value)
    return lambda plain: {build_key(name): build(item) for name, item in plain.items()}


def _optional(hint: Any) -> Callable[[Any], Any]:
    build = _builder(hint)
    return lambda plain: None if plain is None else build(plain)


def _number(plain: Any) -> Any:
    """Return the float that JSON wrote without its fraction or, where it isn't finite, as text."""
    return float(plain) if isinstance(plain, (int, str)) else plain


def _same(plain: Any) -> Any:
    return plain
