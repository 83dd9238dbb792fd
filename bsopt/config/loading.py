"""Reading a study file, and clear words when it is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from bsopt.config.reading import read_text, read_yaml
from bsopt.config.schema import StudyConfig
from bsopt.errors import ConfigError, nearest

__all__ = ["LoadedConfig", "json_schema", "load_config", "validate_config"]


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A study file that was read: what it says and where it stands."""

    config: StudyConfig
    path: Path

    @property
    def folder(self) -> Path:
        """The study file's folder, where imports are looked up first."""
        return self.path.parent


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> LoadedConfig:
    """Read a study file.

    Args:
        path: The YAML file.
        overrides: `key.path=value` each, the value in YAML ("budget.trials=10").

    Raises:
        ConfigError: The file can't be read or says something wrong; every mistake is listed with its place.
    """
    file = Path(path)
    data = read_yaml(read_text(file), source=str(file))
    if not isinstance(data, dict):
        raise ConfigError(f"{file} must hold a mapping with the keys {', '.join(StudyConfig.model_fields)}.")
    for override in overrides:
        _set(data, override)
    return LoadedConfig(validate_config(data, source=str(file)), file.resolve())


def validate_config(data: Mapping[str, Any], *, source: str = "the study") -> StudyConfig:
    """Return the study that plain data describes.

    Raises:
        ConfigError: Something is wrong; every mistake is listed with its place.
    """
    try:
        return StudyConfig.model_validate(dict(data))
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_context=True)
        lines = [_explain(item) for item in mistakes[:_MOST_TOLD]]
        lines += [f"and {len(mistakes) - _MOST_TOLD} more."] if len(mistakes) > _MOST_TOLD else []
        raise ConfigError(f"{source}: " + ("\n  ".join(["", *lines]) if len(lines) > 1 else lines[0])) from error


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a study file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **StudyConfig.model_json_schema()}


_RENAMED = {"also": "params", "minimize": "cost", "of": "trials", "confirm": "confirm_seeds"}
"""Keys that people may remember -> their names now, in the same block."""
_MOST_TOLD = 20
"""Mistakes that are listed; a file with more has another problem."""
_MOST_SHOWN = 200
"""Characters of a value that are shown."""


def _set(data: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set takes key.path=value, got {override!r}.")
    *parents, last = path.strip().split(".")
    place: Any = data
    for key in parents:
        if isinstance(place, dict) and isinstance(place.get(key), str) and key in ("model", "data"):
            place[key] = {"class_path": place[key]}  # the short form of a class
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {path.strip()}: {key} is no mapping.")
    try:
        place[last] = read_yaml(text, source="the value")
    except ConfigError as error:
        raise ConfigError(f"--set {path.strip()}: {error}") from error


def _explain(error: Any) -> str:
    """Return one of pydantic's errors as a sentence that begins with its place."""
    location = tuple(str(part) for part in error["loc"] if not str(part).startswith(("function-", "is-instance")))
    place = ".".join(location) or "study"
    if error["type"] == "extra_forbidden":
        return f"unknown key {_shortened(place)}.{_right_key(location)}"
    if error["type"] == "missing":
        return f"{place} is missing."
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] in ("value_error", "assertion_error"):
        return f"{place}: {_shortened(message).removesuffix('.')}."
    got, expected = error.get("input"), str(error.get("ctx", {}).get("expected", ""))
    shown = "a mapping" if isinstance(got, dict) else _shortened(repr(got))
    is_short = isinstance(got, str) and len(got) <= _MOST_SHOWN
    hint = nearest(got, re.findall(r"'([^']+)'", expected)) if is_short else ""
    return f"{place}: {message[0].lower() + message[1:]}, got {shown}.{hint}"


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _right_key(location: tuple[str, ...]) -> str:
    """Return what an unknown key should have been: its name now, the nearest, or all that are allowed."""
    *block, key = location
    allowed = _keys_of(block)
    if len(key) > _MOST_SHOWN:
        return f" Allowed: {', '.join(allowed)}."
    renamed = _RENAMED.get(key)
    return nearest(renamed if renamed in allowed else key, allowed) or f" Allowed: {', '.join(allowed)}."


def _keys_of(block: Sequence[str]) -> list[str]:
    """Return the keys that a block of the study file may have."""
    model: type[BaseModel] = StudyConfig
    is_users = False  # whether the next part is a name that the user chose, as in search.params
    for part in block:
        hint = None if is_users or part not in model.model_fields else model.model_fields[part].annotation
        is_users = get_origin(hint) is dict
        model = next(iter(_models_in(hint)), model)
    return list(model.model_fields)


def _models_in(hint: Any) -> list[type[BaseModel]]:
    if get_origin(hint) is None and isinstance(hint, type) and issubclass(hint, BaseModel):  # list[int] is a type, too
        return [hint]
    return [model for argument in get_args(hint) for model in _models_in(argument)]
