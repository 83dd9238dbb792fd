"""The packages for OptunaHub's registry are complete, and load and run from a local one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGES = {"samplers/scaling": "sampler", "pruners/plateau": "pruner", "visualization/batch_size_lr": "visualization"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    subprocess.run([sys.executable, ROOT / "scripts/optunahub", folder], check=True, capture_output=True)
    return folder / "package"


def run(registry: Path, folder: Path, *arguments: str) -> str:
    path = os.pathsep.join([str(ROOT), *sys.path])  # the packages need an installed bsopt
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    told = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=250
    )
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


def test_registry_has_the_three_packages_and_nothing_else(registry: Path) -> None:
    assert {path.parent.relative_to(registry).as_posix() for path in registry.glob("*/*/README.md")} == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_package_has_what_the_registry_asks_for(registry: Path, package: str) -> None:
    _, front, text = (registry / package / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter.keys() == {"author", "title", "description", "tags", "optuna_versions", "license"}
    assert matter["license"] == "MIT License"
    assert PACKAGES[package] in matter["tags"]
    assert all(isinstance(tag, str) for tag in matter["tags"])
    assert "@" not in front
    for heading in ("Abstract", "Class or Function Names", "Installation", "Example"):
        assert f"\n## {heading}\n" in text
    assert (registry / package / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    assert (registry / package / "requirements.txt").read_text(encoding="utf-8") == "bsopt\n"


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_example_runs_from_a_local_registry(registry: Path, package: str, tmp_path: Path) -> None:
    pytest.importorskip("optunahub", exc_type=ImportError)
    code = (
        "import functools, optunahub, runpy, sys; "
        "optunahub.load_module = functools.partial(optunahub.load_local_module, registry_root=sys.argv[1]); "
        "runpy.run_path(sys.argv[2], run_name='__main__')"
    )
    assert run(registry, tmp_path, "-c", code, str(registry), str(registry / package / "example.py"))


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_its_tests_pass_in_a_local_registry(registry: Path, package: str) -> None:
    pytest.importorskip("optunahub", exc_type=ImportError)
    told = run(registry, registry, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{package}/tests")
    assert "passed" in told
