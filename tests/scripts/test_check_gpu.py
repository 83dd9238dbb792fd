"""The driver of `scripts/check_gpu`: one row that goes wrong costs one row, and everything found is kept."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu_checks import driver
from gpu_checks.driver import NO_DEVICE, ROOT, Place, Result, Row, run_rows
from gpu_checks.rows import ROWS

SCRIPT = Path(__file__).parent / "made_script.py"


def row(function: str, *, arguments: dict[str, Any] | None = None, **changes: Any) -> Row:
    name = f"{function}?{json.dumps(arguments)}" if arguments else function
    return Row(name, f"row {function}", "", **{"seconds": 1.0, "on_fake": True, **changes})


def run(
    rows: list[Row], tmp_path: Path, *, minutes: float = 5.0, **place: Any
) -> tuple[list[Result], list[str], dict[str, Any]]:
    lines: list[str] = []
    path = tmp_path / "found.json"
    where = Place(**{"device": "cpu", "folder": str(tmp_path), "small": True, **place})
    results = run_rows(rows, where, minutes=minutes, path=path, tell=lines.append, script=SCRIPT)
    return results, lines, json.loads(path.read_text())


def test_rows_are_told_and_kept_in_their_order(tmp_path: Path) -> None:
    rows = [row("tells"), row("raises"), row("dies"), row("tells", arguments={"text": "off", "holds": False})]
    results, lines, kept = run(rows, tmp_path)
    assert [result.status for result in results] == ["ok", "failed", "failed", "missed"]
    assert results[0].numbers == {"device": "cpu"}
    assert results[1].text == "ended with code 1: ValueError: the row is broken"
    assert results[2].text == "ended with code 7: it said nothing"
    assert [line.split()[0] for line in lines[1:]] == ["ok", "FAILED", "FAILED", "MISSED"]
    assert [one["status"] for one in kept["rows"]] == [result.status for result in results]
    assert "Traceback" in kept["rows"][1]["numbers"]["log"]


def test_a_row_that_hangs_is_given_up_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = driver._RowProcess.result

    def hurried(self: Any, timeout: float) -> Result:
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()
        while not child.exists() and "hangs" in self._row.name:
            time.sleep(0.1)
        return result(self, 1.0 if child.exists() and "hangs" in self._row.name else timeout)

    monkeypatch.setattr(driver._RowProcess, "result", hurried)
    child = tmp_path / "child"
    results, _, _ = run([row("hangs", arguments={"child": str(child)}), row("tells")], tmp_path)
    assert [one.status for one in results] == ["failed", "ok"]
    assert results[0].text.startswith("given up after 1 s")
    pid = int(child.read_text())
    deadline = time.monotonic() + 10
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _is_alive(pid)


def test_rows_for_which_something_is_missing_say_what(tmp_path: Path) -> None:
    rows = [row("tells", seconds=1000.0), row("tells", needs=("no_such_package",))]
    results, _, _ = run(rows, tmp_path, minutes=1.0)
    assert [(one.status, one.text) for one in results] == [
        ("skipped", "time was up"),
        ("skipped", "needs no_such_package"),
    ]
    (result,), _, _ = run([row("tells", num_devices=2)], tmp_path, device="cuda")
    assert result.text == "needs 2 GPUs, 1 here"
    (result,), _, _ = run([row("tells", on_fake=False)], tmp_path, device="fake")
    assert (result.status, result.text) == ("skipped", NO_DEVICE)


def test_rows_have_names_of_their_own_and_fit_the_default_time() -> None:
    names = [one.name for one in ROWS]
    assert len(set(names)) == len(names)
    first = sum(one.seconds for one in ROWS[: names.index("halving")] if one.num_devices == 1)
    assert first < 7.5 * 60


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_every_row_is_proven_on_the_fake_one_or_says_so(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    command = [sys.executable, "scripts/check_gpu", "--json", str(path)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=590)
    rows = json.loads(path.read_text())["rows"]
    assert [found["name"] for found in rows] == [one.name for one in ROWS]
    for one, found in zip(ROWS, rows, strict=True):
        expected = ("ok",) if one.on_fake else ("skipped",)
        assert found["status"] in expected, f"{found}\n{told.stdout}{told.stderr}"
        assert one.on_fake or found["text"] == NO_DEVICE
    assert told.returncode == 0


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] not in "ZX"
    except OSError:
        return False
