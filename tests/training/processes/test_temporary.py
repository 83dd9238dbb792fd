"""Sockets find room under any TMPDIR, and folders of killed processes are removed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

CODE = """
import os, signal, sys
from multiprocessing.connection import Listener
from bsopt.training.processes.temporary import leave_temporary_folder, use_temporary_folder

folder = use_temporary_folder()
assert use_temporary_folder() == folder
with Listener(family="AF_UNIX") as listener:
    print(folder, listener.address, flush=True)
    if sys.argv[1] == "leave":
        leave_temporary_folder()
    if sys.argv[1] != "end":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def _run(ending: str, tmp: Path) -> tuple[int, Path, str]:
    environment = {**os.environ, "TMPDIR": str(tmp)}
    told = subprocess.run([sys.executable, "-c", CODE, ending], env=environment, capture_output=True, text=True)
    assert told.stdout, told.stderr
    folder, address = told.stdout.split()
    return told.returncode, Path(folder), address


def test_a_folder_is_removed_at_the_end_and_after_a_kill_by_the_next() -> None:
    tmp = Path("/tmp") / f"bsopt-test-{os.getpid()}"
    tmp.mkdir()
    try:
        code, folder, address = _run("end", tmp)
        assert (code, folder.parent, folder.exists()) == (0, tmp, False)
        assert address.startswith(str(folder))
        code, killed, _ = _run("kill", tmp)
        assert (code, killed.exists()) == (-signal.SIGKILL, True)
        _, left, _ = _run("leave", tmp)
        assert not left.exists()
        os.utime(killed, (0, 0))
        _run("end", tmp)
        assert not any(tmp.iterdir())
    finally:
        shutil.rmtree(tmp)


def test_a_long_temporary_folder_does_not_break_sockets(tmp_path: Path) -> None:
    deep = tmp_path / ("long" * 20) / ("er" * 50)
    deep.mkdir(parents=True)
    code, _, address = _run("end", deep)
    assert code == 0
    assert len(address) < 108
