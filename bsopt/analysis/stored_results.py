"""The result of an analysis as plain data for JSON, and back: with its kind, so that no two are mixed up."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from bsopt.errors import ConfigError
from bsopt.serialization import from_plain, to_plain

__all__ = ["from_stored", "to_stored"]

FORMAT = 1
"""The version written into every stored result."""

_ABOUT = {"kind", "format"}

_ResultT = TypeVar("_ResultT")


def to_stored(result: object) -> dict[str, Any]:
    """Return the fields of a result (a `Sharpness`, say), with `kind` and `format` beside them, ready for JSON."""
    return {"kind": type(result).__name__, "format": FORMAT, **to_plain(result)}


def from_stored(kind: type[_ResultT], stored: Mapping[str, Any]) -> _ResultT:
    """Return the result that `to_stored` wrote, also after a trip through JSON.

    Args:
        kind: The result's class, `Sharpness` say.
        stored: What was written.

    Raises:
        ConfigError: It is another kind of result, another format, or fields are missing or unknown.
    """
    found, version = stored.get("kind"), stored.get("format")
    if found != kind.__name__ or version != FORMAT:
        raise ConfigError(
            f"expected a stored {kind.__name__} of format {FORMAT}, got {found!r} of format {version!r}; "
            "compute it again with this version."
        )
    names, given = {field.name for field in dataclasses.fields(kind)}, stored.keys() - _ABOUT  # type: ignore[arg-type]
    if given != names:
        raise ConfigError(f"a stored {kind.__name__} has the fields {sorted(names)}, got {sorted(given)}.")
    return from_plain(kind, stored)
