"""A rank that ends with the process that started it, whatever it is doing: stuck in C code, or stopped (Linux).

The chain is: the study's process, the fork server, the rank, its DataLoader workers. The fork server ends when the
study's process is gone, since that closes its "alive" pipe; the kernel kills the rank when the fork server is gone,
and the rank's workers when the rank is. Elsewhere a rank's own thread does it, which waits for the interpreter.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import forkserver
from typing import Any

__all__ = ["die_with_parent", "ending_with_parent", "leave_fork_server"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LOOK_SECONDS = 0.5
_forking = threading.local()


def leave_fork_server() -> None:
    """Give up this process's share in the fork server that it came from.

    Every child holds the pipe that keeps the server alive, so that it could ask for children itself; a child that
    is stuck would keep the server, and so itself, after the study's process is gone. Children that this process may
    want come from a server of its own.
    """
    server: Any = forkserver._forkserver  # no public way
    alive = getattr(server, "_forkserver_alive_fd", None)
    if alive is None:
        return
    with contextlib.suppress(OSError):
        os.close(alive)
    server._forkserver_alive_fd = server._forkserver_address = server._forkserver_pid = None


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, and its forked children when it does."""
    if not sys.platform.startswith("linux"):
        return
    _ask_kernel()
    os.register_at_fork(before=_remember_thread, after_in_child=_die_if_from_main_thread)


@contextlib.contextmanager
def ending_with_parent() -> Iterator[None]:
    """End this process if its parent ends within; for what takes long and hears of nothing, as imports do."""
    parent, is_over = os.getppid(), threading.Event()

    def look() -> None:
        while not is_over.wait(_LOOK_SECONDS):
            if os.getppid() != parent:
                os._exit(0)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _ask_kernel() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _remember_thread() -> None:
    _forking.is_main = threading.current_thread() is threading.main_thread()
    _forking.parent = os.getpid()


def _die_if_from_main_thread() -> None:
    """Ask the same for a child, unless it would die with a mere thread: to the kernel that is its parent."""
    if getattr(_forking, "is_main", False):
        _ask_kernel()
        if os.getppid() != _forking.parent:  # it died before the kernel was asked
            os.kill(os.getpid(), signal.SIGKILL)
