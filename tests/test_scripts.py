"""The scripts explain themselves and leave alone what they didn't make."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("script", ["test", "quickstart"])
def test_help_is_told_and_nothing_is_run(script: str) -> None:
    told = subprocess.run([f"scripts/{script}", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert told.returncode == 0
    assert told.stdout.startswith("From a bare machine")


def test_a_folder_that_the_scripts_did_not_make_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    command = ["bash", "-c", 'source scripts/environment; make_environment test "$0"', str(tmp_path)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert told.returncode == 2
    assert "wasn't made by these scripts" in told.stderr
    assert (tmp_path / "thesis.txt").read_text() == "mine"
