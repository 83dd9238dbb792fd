"""Runs rows one after another, each in a process of its own, so that one that fails or hangs costs one row.

While a row runs, the process of the next one imports what it needs and waits for the word to begin.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["NO_DEVICE", "Found", "Place", "Result", "Row", "run_rows", "serve_row"]

ROOT = Path(__file__).resolve().parents[2]
NO_DEVICE = "no CUDA device"
_ENDS = {"ok": "ok", "missed": "MISSED", "failed": "FAILED", "skipped": "–"}


@dataclass(frozen=True)
class Row:
    """One thing to find out.

    Attributes:
        name: Short, for `--only`.
        title: What is found out, in a few words.
        function: `module:function` of a Place, which returns a Found.
        arguments: Further ones, by name.
        seconds: What it takes on a GPU of 2024, about; twice that and a minute more, it is given up.
        num_devices: GPUs that it needs.
        needs: Packages that it needs beyond torch, Lightning, NumPy, SciPy and Optuna.
        on_fake: Whether it can be proven on the fake GPU of the tests.
    """

    name: str
    title: str
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    seconds: float = 30.0
    num_devices: int = 1
    needs: tuple[str, ...] = ()
    on_fake: bool = False


@dataclass(frozen=True)
class Place:
    """Where and on what rows run.

    Attributes:
        device: "cuda", or "cpu" for a rehearsal, or "fake" for the fake GPU of the tests.
        folder: For what is written.
        num_devices: GPUs.
        small: Whether sizes are those of a test.
        data: MNIST as an .npz file; None for made images.
    """

    device: Literal["cuda", "cpu", "fake"]
    folder: str
    num_devices: int = 1
    small: bool = False
    data: str | None = None


@dataclass(frozen=True)
class Found:
    """What a row found.

    Attributes:
        text: In a line.
        holds: Whether it is as it should be; None where there is nothing to hold.
        numbers: For programs.
    """

    text: str
    holds: bool | None = None
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """How a row ended."""

    name: str
    title: str
    status: Literal["ok", "missed", "failed", "skipped"]
    text: str
    seconds: float = 0.0
    numbers: dict[str, Any] = field(default_factory=dict)


def run_rows(
    rows: Sequence[Row],
    place: Place,
    *,
    minutes: float,
    path: Path,
    tell: Callable[[str], None],
    script: Path = ROOT / "scripts" / "check_gpu",
) -> list[Result]:
    """Run rows in their order for so many minutes, tell each as it ends, and keep all of them in a file.

    Args:
        rows: What to find out.
        place: Where.
        minutes: When it is over; a row that would take longer than is left isn't begun.
        path: The file, written anew after every row.
        tell: Receives each line of the table.
        script: What a row's process runs.
    """
    until = time.monotonic() + 60.0 * minutes
    results: list[Result] = []
    tell(f"{'':>7} {'s':>5}  {'row':<46} found")
    ready: dict[str, _RowProcess] = {}
    try:
        for number, row in enumerate(rows):
            left = until - time.monotonic()
            reason = _reason_against(row, place, left)
            if reason is None:
                process = ready.pop(row.name, None) or _RowProcess(row, place, script)
                following = rows[number + 1 : number + 2]
                for other in following:
                    if _reason_against(other, place, left - row.seconds) is None:
                        ready[other.name] = _RowProcess(other, place, script)
                patience = 1.0 if place.device == "cuda" else 4.0  # a CPU takes as long as it takes
                results.append(process.result(min(patience * (2.0 * row.seconds + 60.0), left + 30.0)))
            else:
                results.append(Result(row.name, row.title, "skipped", reason))
            tell(_line(results[-1]))
            document = {"place": asdict(place), "rows": [asdict(result) for result in results]}
            path.write_text(json.dumps(document, indent=1, default=str), encoding="utf-8")
    finally:
        for process in ready.values():
            process.end()
    return results


def serve_row(name: str, rows: Sequence[Row], place: Place, out: Path) -> None:
    """Run one row in this process: import all it needs, wait for a line on standard input, and write what it found."""
    import importlib

    row = next(row for row in rows if row.name == name)
    module, _, function = row.function.partition(":")
    run = getattr(importlib.import_module(module), function)
    if module.startswith("gpu_checks."):
        from gpu_checks.trials import launcher

        launcher().warm_up()  # the fork server imports torch and Lightning, too
    if not sys.stdin.readline():
        return  # whoever started it is gone or needs it no more
    threading.Thread(target=_end_with_parent, daemon=True).start()
    found = run(place, **row.arguments)
    out.write_text(json.dumps(asdict(found), default=str), encoding="utf-8")


def _end_with_parent() -> None:
    while os.read(0, 1024):  # not sys.stdin, which is locked while it waits and can't be closed at the end
        pass
    os.killpg(0, signal.SIGKILL)


class _RowProcess:
    """The process of one row."""

    def __init__(self, row: Row, place: Place, script: Path) -> None:
        self._row = row
        self._folder = tempfile.TemporaryDirectory(prefix="check-gpu-")
        folder = Path(self._folder.name)
        self._out, self._log = folder / "found.json", folder / "log.txt"
        place_text = json.dumps({**asdict(place), "folder": str(folder)})
        paths = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(script), "--row", row.name, "--place", place_text, "--out", str(self._out)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    def result(self, timeout: float) -> Result:
        """Let it begin, and return what it found within so many seconds."""
        began = time.monotonic()
        assert self._process.stdin is not None
        is_late = False
        with contextlib.suppress(OSError):
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()  # open until it has ended: it ends when whoever started it is gone
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            is_late = True
        row, seconds = self._row, time.monotonic() - began
        self._kill()
        try:
            if self._out.is_file():
                found = Found(**json.loads(self._out.read_text(encoding="utf-8")))
                status: Any = "missed" if found.holds is False else "ok"
                return Result(row.name, row.title, status, found.text, seconds, found.numbers)
            words = f"given up after {timeout:.0f} s" if is_late else f"ended with code {self._process.returncode}"
            log = self._log.read_text(encoding="utf-8", errors="replace").strip()
            last = log.splitlines()[-1] if log else "it said nothing"
            return Result(row.name, row.title, "failed", f"{words}: {last}", seconds, {"log": log[-4000:]})
        finally:
            self._folder.cleanup()

    def end(self) -> None:
        """Give it up before it began."""
        self._kill()
        self._folder.cleanup()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]


def _reason_against(row: Row, place: Place, left: float) -> str | None:
    if place.device == "fake" and not row.on_fake:
        return NO_DEVICE
    if place.device == "cuda" and row.num_devices > place.num_devices:
        return f"needs {row.num_devices} GPUs, {place.num_devices} here"
    missing = [name for name in row.needs if not _has(name)]
    if missing:
        return f"needs {', '.join(missing)}"
    return "time was up" if row.seconds > max(left, 0.0) else None


def _has(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def _line(result: Result) -> str:
    return f"{_ENDS[result.status]:>7} {result.seconds:5.0f}  {result.title:<46} {result.text}"
