"""The wheel holds what the package needs, and runs a study from where it was installed."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _run(*command: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    told = subprocess.run([str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True)
    if "hatchling" in told.stderr and told.returncode:
        pytest.skip("hatchling can't be fetched")
    assert told.returncode == 0, told.stderr
    return told.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as an index would serve it."""
    folder = tmp_path_factory.mktemp("wheel")
    quiet = ("--no-deps", "--disable-pip-version-check")
    _run(sys.executable, "-m", "pip", "wheel", *quiet, "-w", folder, ROOT)
    (found,) = folder.glob("*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_its_studies_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        names = {name for name in content.namelist() if ".dist-info/" not in name}
        (entry,) = [name for name in content.namelist() if name.endswith("entry_points.txt")]
        assert "bsopt = bsopt.cli.main:main" in content.read(entry).decode()
    tracked = _run("git", "ls-files", cwd=ROOT).splitlines()
    package = {name for name in tracked if name.startswith("bsopt/")}
    studies = {f"bsopt/_studies/{name.removeprefix('studies/')}" for name in tracked if name.startswith("studies/")}
    assert names == package | studies


@pytest.mark.slow
def test_an_installed_wheel_runs_a_study_and_reports_it(wheel: Path, tmp_path: Path) -> None:
    _run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    site = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    with zipfile.ZipFile(wheel) as content:
        content.extractall(site)
    # What it depends on is that of the environment that runs the tests; the package is the wheel's, which comes first.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    short = ("--set", "budget.trials=1", "--set", "budget.epochs=1", "--set", "search.batch_size.low=32")
    for command in (
        ("init", "d", "--study", "diabetes"),
        ("study", "run", "d/study.yaml", *short),
        ("study", "report", "diabetes", "-o", "report.html"),
    ):
        _run(python, "-m", "bsopt", *command, cwd=tmp_path, env=environment)
    assert "</html>" in (tmp_path / "report.html").read_text()
    where = _run(python, "-c", "import bsopt; print(bsopt.__file__)", cwd=tmp_path, env=environment)
    assert where.startswith(str(site))
