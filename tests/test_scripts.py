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


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["untold", "told"])
def test_the_pruners_verdicts_are_right_on_every_schedule(schedule: str) -> None:
    """With an unknown schedule, 45 to 53 % of the trials called converged on annealed curves were wrong once."""
    command = ["scripts/benchmark_verdicts", "--studies", "4", "--schedule", schedule]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=True)
    rows = [line.split() for line in told.stdout.splitlines()[1:]]
    assert [row[1] for row in rows] == ["constant", "annealed"]
    for row in rows:
        wrong, close, mean, worst, cost = (float(cell.removesuffix("%")) for cell in row[-5:])
        assert wrong <= 2.0
        assert close <= 10.0
        assert mean <= 0.003
        assert worst <= 0.03
        assert cost <= 0.75


@pytest.mark.slow
def test_verdicts_on_planted_findings_are_right_at_the_stated_power() -> None:
    command = ["scripts/benchmark_findings", "--draws", "20", "--power", "0.97"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=True)
    rows = {line.split()[0]: line for line in told.stdout.splitlines() if "%" in line}
    for world in ("present", "reversed", "little", "overshoot"):
        _, _, least, mean, missed, wrong, *below = rows[world].split()
        assert float(least.rstrip("%")) >= 85.0  # one finding of 24 with 3 of 20 draws missed
        assert float(mean.rstrip("%")) >= 95.0
        assert float(missed.rstrip("%")) <= 15.0
        assert wrong == "0"
        assert below == ["none"]
    assert float(rows["settled:"].split("%")[1].split()[-1]) >= 95.0
