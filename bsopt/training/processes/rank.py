"""What runs in a trial's process: a rank that leaves the parent's session and never outlives the parent."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from bsopt.errors import BsoptError
from bsopt.training.error_text import describe_error
from bsopt.training.processes.parentage import die_with_parent, leave_fork_server
from bsopt.trial.record import Tick
from bsopt.trial.spec import Channel, StopDecision
from bsopt.units import printable

__all__ = ["Message", "rank_main"]


@dataclass(frozen=True, slots=True)
class Message:
    """What a rank tells the parent.

    Attributes:
        kind: "tick", "progress", "done" or "error".
        value: The tick, (done, total), or the result.
        error: Name of the error's class.
        text: What it says.
    """

    kind: str
    value: Any = None
    error: str = ""
    text: str = ""


def rank_main(
    job: tuple[Any, ...],
    rank: int,
    environment: Mapping[str, str],
    path: list[str],
    line: Connection,
    lifeline: Connection,
    log: str,
) -> None:
    """Call a function in this process, a rank of a trial, and tell the parent what came of it.

    Args:
        job: `module:function`, the trial's spec, and further arguments.
        rank: This rank's number.
        environment: All of it.
        path: Where imports are looked up.
        line: To the parent.
        lifeline: Ends with the parent.
        log: File that takes what is printed.
    """
    with contextlib.suppress(PermissionError):
        os.setsid()
    leave_fork_server()
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = path
    multiprocessing.set_start_method(None, force=True)  # else DataLoader workers would each start a server of their own
    try:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:  # a full disk: without a log the trial still counts
        target = os.open(os.devnull, os.O_WRONLY)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    channel: Channel = _RankChannel(line)
    try:
        function, spec, *arguments = job
        module, _, name = function.partition(":")
        result = getattr(importlib.import_module(module), name)(spec, channel, *arguments)
        message = Message("done", result) if rank == 0 else None
    except BaseException as error:  # noqa: BLE001  (whatever it is, the parent must know before this process ends)
        text = printable(str(error)) if isinstance(error, BsoptError) else describe_error(error)
        message = Message("error", error=type(error).__name__, text=text)
        with contextlib.suppress(Exception):
            traceback.print_exc()
    with contextlib.suppress(Exception):  # the project may have closed them
        sys.stdout.flush()
        sys.stderr.flush()
    if message is not None:
        with contextlib.suppress(OSError):
            line.send(message)
    if message is not None and message.kind == "error":
        os._exit(1)  # peers may wait in a collective: no clean-up that could wait for them


class _RankChannel:
    """Rank 0's side of the channel."""

    def __init__(self, line: Connection) -> None:
        self._line = line

    def tick(self, tick: Tick) -> StopDecision:
        self._line.send(Message("tick", tick))
        answer: StopDecision = self._line.recv()
        return answer

    def is_cancelled(self) -> bool:
        return False  # the parent ends the process group instead

    def progress(self, done: int, total: int) -> None:
        self._line.send(Message("progress", (done, total)))


def _end_with_parent(lifeline: Connection) -> None:
    """End this rank and its workers when the parent is gone, however it went."""
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(os.getpgid(0), signal.SIGKILL)
    os._exit(1)
