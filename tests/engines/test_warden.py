"""The warden kills a worker whose leader is gone, also one that is stopped, and ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from process_tree import family, identity

WORKER = """
import os, signal, sys
from bsopt.engines.warden import ending_with

with ending_with(int(sys.argv[1])):
    print("begun", flush=True)
    sys.stdin.readline()
print("ended", flush=True)
"""


@pytest.fixture
def leader() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.fixture
def worker(leader: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WORKER, str(leader.pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process
        process.kill()


def test_a_stopped_worker_ends_with_its_leader(leader: subprocess.Popen[str], worker: subprocess.Popen[str]) -> None:
    (warden,) = family(worker.pid)
    who = identity(warden)
    os.kill(worker.pid, signal.SIGSTOP)
    leader.kill()  # and is a zombie from then on
    assert worker.wait(20) == -signal.SIGKILL
    _wait_until_gone(who)


def test_a_worker_that_is_done_leaves_no_warden(worker: subprocess.Popen[str]) -> None:
    (warden,) = family(worker.pid)
    who = identity(warden)
    told, _ = worker.communicate("\n", timeout=20)
    assert (told, worker.returncode) == ("ended\n", 0)
    _wait_until_gone(who)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's parent-death signal is Linux's")
def test_a_stopped_warden_ends_with_its_worker(worker: subprocess.Popen[str]) -> None:
    (warden,) = family(worker.pid)
    who = identity(warden)
    os.kill(warden, signal.SIGSTOP)
    worker.kill()
    _wait_until_gone(who)


def _wait_until_gone(who: tuple[int, str] | None) -> None:
    assert who is not None
    until = time.monotonic() + 20
    while identity(who[0]) == who:
        assert time.monotonic() < until
        time.sleep(0.05)
