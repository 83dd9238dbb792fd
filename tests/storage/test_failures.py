"""Storages and disks that fail while a study runs: waited out, or told in one message; nothing measured is lost."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import Database, database, grpc_proxy

from bsopt.config import load_config
from bsopt.errors import BsoptError, StorageFailedError
from bsopt.study.study import Study, load_study
from bsopt.trial.events import Listener
from bsopt.trial.record import StopReason, Tick

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1000),  # a busy machine is no failure
    pytest.mark.distributed,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class At(Listener):
    """Does something at a trial's tick."""

    def __init__(self, number: int, act: Callable[[], object]) -> None:
        self._number, self._act = number, act

    def ticked(self, number: int, tick: Tick) -> None:
        if (number, tick.index) == (self._number, 1):
            self._act()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database that can be stopped."""
    with database(tmp_path_factory.mktemp("postgresql"), is_durable=True) as found:
        yield found


def _study(project: Path, storage: str) -> Study:
    return Study.create(load_config(project / "study.yaml", ["isolation=none", f"storage={storage}"]))


def _later(seconds: float, act: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, act)
    timer.start()
    return timer


def test_a_database_that_restarts_is_waited_for(project: Path, server: Database) -> None:
    timers: list[threading.Timer] = []

    def restart() -> None:
        server.stop()
        timers.append(_later(4, server.start))

    study = _study(project, server.url)
    summary = study.run(At(1, restart))
    timers[0].join()
    assert summary.num_complete == 4
    assert [r.stop_reason for r in study.records] == [StopReason.COMPLETED] * 4
    assert all(
        len(r.ticks) == len(t.intermediate_values) for r, t in zip(study.records, study.optuna.trials, strict=True)
    )


def test_a_database_that_stays_away_is_told_and_the_next_run_continues(
    project: Path, server: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BSOPT_STORAGE_WAIT", "1")
    study = _study(project, server.url)
    with pytest.raises(StorageFailedError, match="What was measured is kept"):
        study.run(At(1, server.stop))
    with pytest.raises(StorageFailedError, match="refused"):
        _study(project, server.url)
    server.start()
    again = _study(project, server.url)
    assert again.run().num_complete == 4
    reasons = [r.stop_reason for r in again.records]
    assert reasons.count(StopReason.COMPLETED) == 4
    assert set(reasons) <= {StopReason.COMPLETED, StopReason.LOST}


def test_a_proxy_that_is_gone_is_told_and_the_next_run_continues(
    project: Path, server: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BSOPT_STORAGE_WAIT", "1")
    with contextlib.ExitStack() as proxy:
        study = _study(project, proxy.enter_context(grpc_proxy(server.url)))
        with pytest.raises(StorageFailedError, match="gRPC UNAVAILABLE"):
            study.run(At(1, proxy.close))
    with grpc_proxy(server.url) as address:
        assert _study(project, address).run().num_complete == 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_full_disk_is_told_and_the_next_run_continues(
    project: Path, small_disk: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BSOPT_STORAGE_WAIT", "1")
    storage = f"{kind}://{'/' if kind == 'sqlite' else ''}{small_disk}/study"
    filler = small_disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass

    with pytest.raises(BsoptError, match=r"(?i)full|no space left") as caught:
        _study(project, storage).run(At(1, fill))
    assert caught.value.exit_code == 3
    filler.unlink()
    again = _study(project, storage)
    assert again.run().num_complete == 4
    assert {r.stop_reason for r in again.records} <= {StopReason.COMPLETED, StopReason.LOST}


def test_a_terminal_that_is_closed_ends_a_run_in_order(project: Path) -> None:
    command = [sys.executable, "-m", "bsopt", "study", "run", "study.yaml", "--set", "budget.epochs=200"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, command)
    shown, until = b"", time.monotonic() + 800
    while b"epoch" not in shown and time.monotonic() < until:
        shown += os.read(terminal, 4096)
    assert b"epoch" in shown
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    records = load_study("toy", f"sqlite:///{project}/bsopt.db").records
    assert records[-1].stop_reason is StopReason.INTERRUPTED


def test_every_command_tells_a_broken_storage_in_one_message(project: Path) -> None:
    (project / "broken.db").write_bytes(b"SQLite format 3\0" + os.urandom(5000))
    (project / "broken.log").write_bytes(os.urandom(5000))
    for storage in ("sqlite:///broken.db", "journal://broken.log"):
        for command in (
            ["list"],
            ["show", "toy"],
            ["report", "toy"],
            ["run", "study.yaml"],
            ["delete", "toy", "--yes"],
        ):
            told = subprocess.run(
                [sys.executable, "-m", "bsopt", "study", *command, "--storage", storage],
                capture_output=True,
                text=True,
                cwd=project,
            )
            assert told.returncode == 3, (command, storage, told.stderr)
            assert "Traceback" not in told.stderr
            assert len(told.stderr.strip().splitlines()) <= 2
