"""What only a GPU shows, in small: the rows of `scripts/check_gpu`, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gpu_checks.driver import ROOT, Row
from gpu_checks.rows import ROWS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
IN_SMALL = [row for row in ROWS if "compiled" not in row.name and row.name not in ("whole", "largest-whole")]


@pytest.mark.parametrize("row", IN_SMALL, ids=lambda row: row.name)
def test_row_holds(row: Row, tmp_path: Path) -> None:
    if row.num_devices > torch.cuda.device_count():
        pytest.skip(f"needs {row.num_devices} GPUs")
    path = tmp_path / "found.json"
    command = [sys.executable, "scripts/check_gpu", "--small", "--only", row.name, "--json", str(path)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    (found,) = json.loads(path.read_text())["rows"]
    assert found["status"] == "ok", f"{found['text']}\n{told.stdout}{told.stderr}"
