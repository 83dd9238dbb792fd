"""A process beside a worker that kills it when its leader is gone, also where the worker can't act: `warden.py LEADER`.

Run by its path, so that it needs nothing but Python. Its parent is the worker, and it ends with that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

__all__ = ["ending_with"]

_LOOK_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@contextlib.contextmanager
def ending_with(leader: int) -> Iterator[None]:
    """Have this process killed if another one on this machine, known by its number, ends meanwhile."""
    with subprocess.Popen([sys.executable, "-I", "-S", __file__, str(leader)], stdout=subprocess.PIPE) as warden:
        try:
            assert warden.stdout is not None
            warden.stdout.readline()  # until it watches
            yield
        finally:
            warden.kill()


def _watch(leader: int, worker: int) -> None:
    while os.getppid() == worker:
        if _is_gone(leader):
            os.kill(worker, signal.SIGKILL)
            return
        time.sleep(_LOOK_SECONDS)


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:  # one that nobody has waited for is still there, as a zombie
            return stat.read().rpartition(")")[2].split()[0] in "ZX"
    except ProcessLookupError:
        return True
    except FileNotFoundError:  # no Linux
        return False


def _end_with_parent() -> None:
    """Have the kernel end this process with its parent, also where somebody has stopped it."""
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):  # a terminal sends them to everybody
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()
    _end_with_parent()
    os.write(sys.stdout.fileno(), b"watching\n")
    _watch(int(sys.argv[1]), parent)
