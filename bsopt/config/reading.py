"""YAML that people wrote, read within bounds: whatever is in the file, one message and no more than a second."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from bsopt.errors import ConfigError

__all__ = ["read_text", "read_yaml"]

_MOST_BYTES = 64 << 10
"""A study file has a few thousand; PyYAML reads as many as these in about a second."""
_MOST_VALUES = 20_000
"""With every alias written out."""
_DEEPEST = 50
_TOO_DEEP = f"more than {_DEEPEST} levels, one in another"


def read_text(path: Path) -> str:
    """Return the text of a study file.

    Raises:
        ConfigError: It can't be read, is too large, or isn't text.
    """
    try:
        is_other = path.exists() and not path.is_file()
        with contextlib.nullcontext(io.BytesIO()) if is_other else path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"can't read the study file {path}: {error.strerror or error}. `bsopt init DIR` makes one to start from."
        ) from error
    except ValueError as error:  # a null character
        raise ConfigError(f"{str(path)!r} is no path of a file.") from error
    if is_other:  # a pipe may never end
        raise ConfigError(f"{path} is no file. `bsopt init DIR` makes a study to start from.")
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{path} has more than {_MOST_BYTES >> 10} kB, which no study file needs.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is no text in UTF-8: byte {error.start + 1} is {content[error.start]:#04x}."
        ) from error


def read_yaml(text: str, *, source: str) -> Any:
    """Return what YAML says, as plain data.

    Args:
        text: The YAML.
        source: Where it comes from, for messages.

    Raises:
        ConfigError: It isn't valid, or is too deep, too large with its aliases written out, or refers to itself.
    """
    try:
        data = yaml.load(text, Loader=_Loader)
        _count(data, {}, depth=0)
    except yaml.YAMLError as error:
        said = str(error) if len(str(error)) < 1000 else f"{str(error)[:1000]}…"
        raise ConfigError(f"{source} is no valid YAML: {said}") from error
    return data


class _Loader(yaml.SafeLoader):
    """YAML's safe loader that reads 1e-3 as a number (YAML 1.1 wants 1.0e-3) and refuses a key given twice."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth > _DEEPEST:
            raise ConstructorError(None, None, _TOO_DEEP, self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        self.depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:  # e.g. of 2001-99-99
            tag = node.tag.removeprefix("tag:yaml.org,2002:")
            raise ConstructorError(None, None, f"no valid value of the type {tag}", node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise ConstructorError(None, None, "<< isn't read here: write its keys out", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (list, dict, set)):
                raise ConstructorError(None, None, "a key is a word, no list or mapping", key_node.start_mark)
            if key in seen:
                raise ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _count(value: Any, known: dict[int, int | None], *, depth: int) -> int:
    """Return the number of values in a value, those behind aliases as often as they appear.

    Args:
        value: The value.
        known: Identity of a container -> its number, None while it is being counted.
        depth: How deep it is.
    """
    if isinstance(value, str):
        _check_characters(value)
    if not isinstance(value, (dict, list, tuple, set)):
        return 1
    if id(value) in known:
        count = known[id(value)]
        if count is None:
            raise ConstructorError(None, None, "an alias (*) refers to what it stands in", None)
        return count
    if depth > _DEEPEST:
        raise ConstructorError(None, None, _TOO_DEEP, None)
    known[id(value)] = None
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    total = 1 + sum(_count(part, known, depth=depth + 1) for part in parts)
    if total > _MOST_VALUES:
        raise ConstructorError(None, None, f"more than {_MOST_VALUES:,} values, aliases written out", None)
    known[id(value)] = total
    return total


def _check_characters(text: str) -> None:
    is_text = "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)
    if not is_text:
        raise ConstructorError(None, None, f"{text[:40]!r} holds a character that no name or path can have", None)
