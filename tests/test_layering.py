"""Imports only go downward, and `search` and `training` never meet (DESIGN: the house)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "bsopt"

FLOORS = [
    {"errors", "_lazy", "units", "serialization"},
    {"laws"},
    {"trial", "config"},
    {"storage"},
    {"callbacks", "search", "analysis"},
    {"training"},
    {"study", "experiment"},
    {"engines", "recommendation"},
    {"visualization"},
    {"report"},
    {"cli", "testing", "__init__", "__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
STRANGERS = {("search", "training"), ("training", "search")}
FORBIDDEN = {  # room -> packages it never imports, not even inside a function
    "laws": {"torch", "lightning", "pytorch_lightning", "optuna", "plotly", "click"},
    "trial": {"torch", "optuna"},
    "config": {"torch", "optuna"},
    "storage": {"torch", "lightning", "pytorch_lightning", "plotly"},
    "search": {"torch", "lightning", "pytorch_lightning", "plotly"},
    "training": {"optuna", "plotly"},
    "analysis": {"optuna", "plotly"},
}
LAZY_ONLY = {"torch", "lightning", "pytorch_lightning", "plotly"}  # never at module level on a light path
LIGHT = {
    "__init__",
    "errors",
    "_lazy",
    "units",
    "serialization",
    "laws",
    "trial",
    "config",
    "storage",
    "cli",
    "search",
    "study",
    "experiment",
}


def _files() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        yield (relative.parts[0] if len(relative.parts) > 1 else relative.stem), path


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "bsopt":
                yield from (f"bsopt.{alias.name}" for alias in node.names)
            else:
                yield node.module


def _type_checking_removed(tree: ast.Module) -> ast.Module:
    class Remover(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if "TYPE_CHECKING" in ast.dump(node.test) else self.generic_visit(node)

    return Remover().visit(tree)


@pytest.mark.parametrize(("room", "path"), [pytest.param(r, p, id=str(p.relative_to(ROOT))) for r, p in _files()])
def test_imports_only_go_downward(room: str, path: Path) -> None:
    tree = _type_checking_removed(ast.parse(path.read_text()))
    assert room in FLOOR, f"{room} has no floor: add it to FLOORS or move the file"
    for name in _imports(tree):
        head, _, rest = name.partition(".")
        if head == "bsopt" and rest and rest.split(".")[0] in FLOOR:
            other = rest.split(".")[0]
            assert FLOOR[other] <= FLOOR[room], f"{path.name} imports {name}, which lies above it"
            assert (room, other) not in STRANGERS, f"{path.name} imports {name}"
        assert head not in FORBIDDEN.get(room, set()), f"{room} must not import {head}"
        if head == "optuna" and room == "callbacks":
            assert path.name == "optuna_pruning.py", "only callbacks/optuna_pruning.py imports optuna"


@pytest.mark.parametrize("path", [pytest.param(p, id=str(p.relative_to(ROOT))) for r, p in _files() if r in LIGHT])
def test_heavy_imports_stay_inside_functions_on_light_paths(path: Path) -> None:
    tree = _type_checking_removed(ast.parse(path.read_text()))
    top = ast.Module([n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom, ast.Try))], [])
    heavy = {name.split(".")[0] for name in _imports(top)} & LAZY_ONLY
    assert not heavy, f"{path} imports {heavy} at module level"
