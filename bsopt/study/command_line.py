"""From a study that was run back to what is typed for it: its file, and what was said in place of the file."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bsopt.config.loading import load_config, validate_config
from bsopt.config.reading import read_yaml
from bsopt.errors import BsoptError, ConfigError
from bsopt.storage.addresses import redacted
from bsopt.trial.record import StudyInfo

__all__ = ["typed_study"]

_OPTIONS = {"name": "--study-name", "storage": "--storage"}
_NOT_TYPED = {"workers", "search.optimizer"}
"""What may differ from the file with nobody having said so: how it was placed, and what building the task told."""


def typed_study(info: StudyInfo, *, changes: Mapping[str, Any] | None = None) -> str:
    """Return the study file with the options that make it this study again, as they are typed in a shell.

    Where the file isn't there any more, it is named alone. Without a study file it is called study.yaml.

    Args:
        info: The study.
        changes: What to set beside that, value by dotted path.
    """
    said = {**_differences(info), **(changes or {})}
    parts = [_seen(info.file)]
    for path, value in said.items():
        option, words = ("--set", f"{path}={_text(value)}") if path not in _OPTIONS else (_OPTIONS[path], str(value))
        parts += [option, shlex.quote(words)]
    return " ".join(parts)


def _seen(file: str | None) -> str:
    """Return a path as seen from the working folder, if it lies there."""
    if file is None:
        return "study.yaml"
    seen = os.path.relpath(file)
    return shlex.quote(file if seen.startswith("..") else seen)


def _differences(info: StudyInfo) -> dict[str, Any]:
    """Return what the study was run with in place of what its file says, by dotted path."""
    if info.file is None or not info.config or not Path(info.file).is_file():
        return {}
    try:
        said = load_config(info.file).config
        run = validate_config(info.config)  # stored by an earlier version, it may lack what has a default now
    except BsoptError:
        return {}
    found = dict(_differing({**said.as_dict(), "storage": redacted(said.storage)}, run.as_dict()))
    return {path: value for path, value in found.items() if path not in _NOT_TYPED}


def _differing(said: Mapping[str, Any], run: Mapping[str, Any], *above: str) -> Iterator[tuple[str, Any]]:
    for key, value in run.items():
        other = said.get(key)
        path = (*above, key)
        if isinstance(value, Mapping) and isinstance(other, Mapping) and _can_be_set(other, value):
            yield from _differing(other, value, *path)
        elif value != other:
            yield ".".join(path), value


def _can_be_set(said: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    """Whether one mapping becomes the other by setting keys: none has to go, and none has a dot in it."""
    return said.keys() <= run.keys() and not any("." in key for key in run)


def _text(value: Any) -> str:
    """Return a value in YAML, a string without quotation marks where it is read as the same."""
    with contextlib.suppress(ConfigError):
        if isinstance(value, str) and read_yaml(value, source="the value") == value:
            return value
    return json.dumps(value)
