"""The house keeps its order: imports only go downward, `search` and `training` never meet, no two files import each
other, no floor is a drawer, nothing stands outside a room, and only `storage` knows attribute keys."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
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
ROOMS_PER_FLOOR = 6
ROOT_FILES = {
    "__init__.py",
    "__main__.py",
    "_lazy.py",
    "errors.py",
    "py.typed",
    "README.md",
    "serialization.py",
    "units.py",
}
ATTRIBUTE_KEY = re.compile(r"bsopt:\w")
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
            assert not node.level, f"line {node.lineno}: write `from bsopt...`, relative imports can't be checked"
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


def test_no_two_files_import_each_other() -> None:
    imports = {path: _imported_files(path) for _, path in _files()}
    pairs = {
        " and ".join(sorted(str(file.relative_to(ROOT)) for file in (path, other)))
        for path, others in imports.items()
        for other in others
        if path in imports[other]
    }
    assert not pairs, f"they import each other (imports for typing count): {sorted(pairs)}"


def _imported_files(path: Path) -> set[Path]:
    """Return the files of bsopt that a file imports anywhere: in functions and for typing, too."""
    files = set()
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Import):
            files |= {_file_of(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            files |= {_defining_file(node.module, alias.name) for alias in node.names}
    return {file for file in files if file is not None and file != path}


def _defining_file(module: str, name: str) -> Path | None:
    """Return where `from module import name` ends: behind a package's table of lazy names or its own imports."""
    file = _file_of(module)
    if file is None or file.name != "__init__.py":
        return file
    if submodule := _file_of(f"{module}.{name}"):
        return submodule
    for node in ast.walk(_parsed(file)):
        if isinstance(node, ast.Dict):  # `_HOMES`
            homes = {key.value: value.value for key, value in _constants(node)}
            if name in homes:
                return _defining_file(module + homes[name], name)
        elif isinstance(node, ast.ImportFrom) and node.module and name in {alias.name for alias in node.names}:
            return _defining_file(node.module, name)
    return file


def _constants(node: ast.Dict) -> Iterator[tuple[ast.Constant, ast.Constant]]:
    for key, value in zip(node.keys, node.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(value, ast.Constant):
            yield key, value


def _file_of(module: str) -> Path | None:
    """Return the file of a module of bsopt, or None for what isn't one."""
    path = ROOT.parent.joinpath(*module.split("."))
    for file in (path / "__init__.py", path.with_suffix(".py")):
        if file.is_relative_to(ROOT) and file.is_file():
            return file
    return None


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@pytest.mark.parametrize("floor", FLOORS, ids=lambda rooms: "-".join(sorted(rooms)))
def test_no_floor_is_a_drawer(floor: set[str]) -> None:
    assert len(floor) <= ROOMS_PER_FLOOR


def test_nothing_at_the_root_is_without_a_room() -> None:
    files = {path.name for path in ROOT.iterdir() if path.is_file()}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert files <= ROOT_FILES, "a module at the root: find its room"
    assert packages == set(FLOOR) - {name.removesuffix(".py") for name in ROOT_FILES}


@pytest.mark.parametrize("path", [pytest.param(p, id=str(p.relative_to(ROOT))) for r, p in _files() if r != "storage"])
def test_attribute_keys_are_known_in_storage_alone(path: Path) -> None:
    keys = [
        f"line {node.lineno}: {node.value}"
        for node in ast.walk(_parsed(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ATTRIBUTE_KEY.match(node.value)
    ]
    assert not keys, "move the key to bsopt/storage/attributes.py"


def test_tests_are_in_the_room_that_they_test() -> None:
    tests = Path(__file__).parent
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    outside = sorted(str(folder) for folder in folders if not (ROOT / folder).is_dir())
    assert outside == ["gpu", "projects", "scripts", "studies"]
