"""What every result of an analysis can do: become a plain dict, and come back from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, TypeVar, cast

from bsopt.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["FORMAT", "AnalysisResult"]

FORMAT = 1
"""The version written into every stored result."""

ResultT = TypeVar("ResultT", bound="AnalysisResult")


class AnalysisResult:
    """The base of the results: frozen dataclasses of numbers, strings, dicts of them, and tuples."""

    __slots__ = ()

    def as_dict(self) -> dict[str, object]:
        """Return the fields, with `kind` and `format` beside them, ready for JSON."""
        return {"kind": type(self).__name__, "format": FORMAT, **asdict(cast("DataclassInstance", self))}

    @classmethod
    def from_dict(cls: type[ResultT], stored: Mapping[str, object]) -> ResultT:
        """Return the value that `as_dict` wrote, also after a trip through JSON.

        Raises:
            ConfigError: It is another kind of result, another format, or fields are missing or unknown.
        """
        kind, version = stored.get("kind"), stored.get("format")
        if kind != cls.__name__ or version != FORMAT:
            raise ConfigError(
                f"expected a stored {cls.__name__} of format {FORMAT}, got {kind!r} of format {version!r}; "
                "compute it again with this version."
            )
        values = {name: _tuples(value) for name, value in stored.items() if name not in ("kind", "format")}
        names = {field.name for field in fields(cast("type[DataclassInstance]", cls))}
        if set(values) != names:
            raise ConfigError(f"a stored {cls.__name__} has the fields {sorted(names)}, got {sorted(values)}.")
        return cls(**values)


def _tuples(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return tuple(_tuples(item) for item in value)
    return value
