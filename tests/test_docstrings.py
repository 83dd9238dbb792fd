"""Whatever is public says what it gives, what arrays it takes and which of bsopt's errors it raises.

Public is what a module lists in `__all__`, and without that list what has no underscore.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bsopt import errors

ROOT = Path(__file__).parents[1] / "bsopt"
FILES = [path for path in sorted(ROOT.rglob("*.py")) if path.name == "__init__.py" or not path.stem.startswith("_")]
ERRORS = {name for name in errors.__all__ if inspect.isclass(getattr(errors, name))}
ARRAYS = {"Array", "ArrayLike", "Floats", "NDArray", "Tensor", "ndarray"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Definition:
    """A public class, function or method.

    Attributes:
        name: As people write it: `Space.snap`.
        node: Where it is defined.
        doc: Its docstring, which a method may inherit.
        context: The docstrings of its class and module, which may explain what all their functions take or raise.
    """

    name: str
    node: ast.ClassDef | Function
    doc: str
    context: str


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_whatever_is_public_has_a_docstring(path: Path) -> None:
    missing = [found.name for found in _public(path) if not found.doc]
    assert not missing


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_raised_errors_are_in_the_docstring(path: Path) -> None:
    missing = {
        f"{found.name}: {error}"
        for found in _public(path)
        for error in _raised(found.node)
        if error not in found.doc + found.context
    }
    assert not missing, "name them under `Raises:`"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_array_arguments_are_in_the_docstring(path: Path) -> None:
    missing = [
        f"{found.name}({name})"
        for found in _public(path)
        for name in _array_arguments(found.node)
        if not re.search(rf"^\s*{name}\b|`{name}\b", f"{found.doc}\n{found.context}", re.MULTILINE)
    ]
    assert not missing, "say their shapes and units under `Args:`, or once for all in the class's or module's docstring"


def _public(path: Path) -> Iterator[Definition]:
    name = ".".join(("bsopt", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", None)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef | Function) or _is_elsewhere_described(node):
            continue
        if node.name in listed if listed is not None else not node.name.startswith("_"):
            definition = Definition(node.name, node, ast.get_docstring(node) or "", module.__doc__ or "")
            yield definition
            if isinstance(node, ast.ClassDef):
                yield from _methods(definition, getattr(module, node.name))


def _methods(owner: Definition, class_: type) -> Iterator[Definition]:
    for node in owner.node.body:
        if isinstance(node, Function) and (not node.name.startswith("_") or node.name == "__init__"):
            doc = inspect.getdoc(getattr(class_, node.name)) or ""
            yield Definition(f"{owner.name}.{node.name}", node, doc, f"{owner.doc}\n{owner.context}")


def _is_elsewhere_described(node: ast.ClassDef | Function) -> bool:
    """Tell an overload, whose function has the docstring, and a command, whose docstring is its help."""
    return any(re.search(r"\boverload\b|\bcommand\(|\bgroup\(", ast.unparse(each)) for each in node.decorator_list)


def _raised(node: ast.AST) -> Iterator[str]:
    """Yield the names of bsopt's errors that a function raises itself, not in functions that it defines."""
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
        yield from {node.exc.func.id} & ERRORS
    if not isinstance(node, ast.ClassDef):
        for inner in ast.iter_child_nodes(node):
            if not isinstance(inner, Function):
                yield from _raised(inner)


def _array_arguments(node: ast.ClassDef | Function) -> Iterator[str]:
    if isinstance(node, Function):
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            names = set(re.findall(r"\w+", ast.unparse(argument.annotation))) if argument.annotation else set()
            if {name.lstrip("_") for name in names} & ARRAYS:
                yield argument.arg
