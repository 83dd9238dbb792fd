"""A process that the fork server started ends with the study's process, whatever it is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's help is Linux's")

CODE = """
import ctypes, multiprocessing, os, sys, time
from bsopt.training.processes.parentage import die_with_parent, leave_fork_server

def rank(line, is_stuck):
    leave_fork_server()
    die_with_parent()
    worker = os.fork()
    if worker == 0:
        time.sleep(1000)
    line.send((os.getpid(), worker))
    if is_stuck:
        ctypes.PyDLL(None).sleep(1000)  # in C, and no other thread of the interpreter runs
    time.sleep(1000)

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    context.Process(target=rank, args=(theirs, sys.argv[1] == "stuck")).start()
    print(multiprocessing.forkserver._forkserver._forkserver_pid, *ours.recv(), flush=True)
    time.sleep(1000)
"""


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def _wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 250
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)


@pytest.mark.parametrize("state", ["busy", "stuck", "stopped"])
@pytest.mark.parametrize("killed", ["the study", "the fork server"])
def test_a_rank_and_its_workers_end_with_who_started_them(tmp_path: Path, state: str, killed: str) -> None:
    (tmp_path / "study.py").write_text(CODE)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "study.py", state]
    study = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
    try:
        assert study.stdout is not None
        server, rank, worker = map(int, study.stdout.readline().split())
        if state == "stopped":
            os.kill(rank, signal.SIGSTOP)
        if killed == "the study":
            study.kill()
        else:
            os.kill(server, signal.SIGKILL)
        _wait_for(lambda: not any(map(_lives, (server, rank, worker))))
    finally:
        study.kill()
        study.communicate()


IMPORTS = """
import time
from bsopt.training.processes.parentage import ending_with_parent

with ending_with_parent():
    open("began", "w").close()
    time.sleep(1000)  # as if much were to be imported
"""
STARTS = """
import multiprocessing, os, time
multiprocessing.set_forkserver_preload(["imports"])
multiprocessing.forkserver.ensure_running()
with open("server", "w") as file:
    file.write(str(multiprocessing.forkserver._forkserver._forkserver_pid))
while not os.path.exists("began"):
    time.sleep(0.02)
os._exit(0)
"""


def test_a_fork_server_that_still_imports_ends_with_the_study(tmp_path: Path) -> None:
    (tmp_path / "imports.py").write_text(IMPORTS)
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[3]}{os.pathsep}{tmp_path}"}
    subprocess.run([sys.executable, "-c", STARTS], cwd=tmp_path, env=environment, check=True)
    _wait_for(lambda: not _lives(int((tmp_path / "server").read_text())))
