"""A short form of `scripts/chaos`: a few kills, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("storage", "shape"),
    [("sqlite", "three workers"), ("postgresql", "two ranks"), ("journal", "resume")],
)
def test_a_few_kills_lose_nothing(storage: str, shape: str, tmp_path: Path) -> None:
    asked = ["--kills", "4", "--minutes", "5", "--seed", "1", "--storage", storage, "--shape", shape]
    command = [sys.executable, str(ROOT / "scripts/chaos"), *asked, "--keep", str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "0 of which lost something" in told.stdout
