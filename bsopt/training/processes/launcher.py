"""A trial is a process group of its own: ranks from a fork server, one tick channel, nothing left behind.

The parent owns the study and never touches a GPU. Ranks are forked from a server that has imported torch and
Lightning, so a start costs a fraction of a second; each leaves the parent's session (a Ctrl-C must not reach
it), writes its output to the trial's log, and ends when the parent is gone (the lifeline).

    Linux: fork server.   macOS: spawn.   Windows, and `isolation: none`: in this process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from bsopt import errors
from bsopt.errors import BsoptError
from bsopt.training.processes.rank import Message, describe_error, rank_main
from bsopt.trial.record import StopReason, Tick, TrialRecord
from bsopt.trial.spec import StopDecision, TrialSpec

__all__ = ["Crash", "Launcher", "RankInfo", "Supervision", "free_port", "has_processes", "is_echo", "run_here"]

_PRELOAD = ["bsopt.training.processes.preload"]
_POLL_SECONDS = 0.5
_LAST_WORDS_SECONDS = 2.0
_LOG_LINES = 15
_OF_LAUNCHERS = {
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE"),
    *("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"),
}


class Crash(Exception):  # noqa: N818  (an event of the trial, not a mistake of the caller)
    """A trial ended without a record.

    Attributes:
        reason: failed, out_of_memory or interrupted.
        message: Why, in a sentence.
        log_tail: The last lines of the trial's log.
        ends_study: Whether no further trial can be run, since ranks on other nodes are gone.
    """

    def __init__(self, reason: StopReason, message: str, *, log_tail: str = "", ends_study: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.log_tail = log_tail
        self.ends_study = ends_study

    @property
    def full_message(self) -> str:
        """The message with the last lines of the log."""
        return self.message + (f"\nthe last lines of its log:\n{self.log_tail}" if self.log_tail else "")


@dataclass(frozen=True, slots=True)
class Supervision:
    """How a trial is watched.

    Attributes:
        on_tick: Receives each tick, returns whether to go on.
        is_cancelled: Whether the trial should be ended now.
        on_idle: Called about twice a second while the trial runs.
        on_progress: Receives how far a call is that reports progress: done, total.
        stall_seconds: Longest time without a sign of life from rank 0.
    """

    on_tick: Callable[[Tick], StopDecision]
    is_cancelled: Callable[[], bool]
    on_idle: Callable[[], None] = lambda: None
    on_progress: Callable[[int, int], None] = lambda done, total: None
    stall_seconds: float = 1800.0


@dataclass(frozen=True, slots=True)
class RankInfo:
    """Where a rank stands among those of a trial.

    Attributes:
        rank: Among all, from 0.
        world_size: All ranks.
        local_rank: Among those of its node.
        local_world_size: Ranks of its node.
        node: Which node.
        address: Host of rank 0.
        port: Where rank 0 waits for the others.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    node: int = 0
    address: str = "127.0.0.1"
    port: int = 0

    def variables(self, run: str) -> dict[str, str]:
        """Return the environment that torchrun would give the rank, from which Lightning learns all of this."""
        return {
            "RANK": str(self.rank),
            "LOCAL_RANK": str(self.local_rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_WORLD_SIZE": str(self.local_world_size),
            "GROUP_RANK": str(self.node),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
            "TORCHELASTIC_RUN_ID": run,
        }


def has_processes() -> bool:
    """Whether this platform runs trials in processes of their own."""
    return hasattr(os, "fork") and sys.platform != "win32"


def run_here(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
    """Run a one-rank trial in this process, for tiny models and debugging.

    Raises:
        Crash: The trial failed.
        BsoptError: The user's code or settings are wrong.
    """
    from bsopt.training.run_trial import run_trial

    class _Direct:
        def tick(self, tick: Tick) -> StopDecision:
            return supervision.on_tick(tick)

        def is_cancelled(self) -> bool:
            supervision.on_idle()
            return supervision.is_cancelled()

    try:
        return run_trial(spec, _Direct())
    except BsoptError:
        raise
    except SystemExit as error:
        raise Crash(StopReason.INTERRUPTED, "the training was interrupted") from error
    except Exception as error:
        raise Crash(StopReason.FAILED, describe_error(error)) from error


class Launcher:
    """Starts trials in processes of their own; safe to use from several threads.

    Args:
        keep_main: Whether children may see this process's `__main__` (the task lives there).
    """

    def __init__(self, *, keep_main: bool = False) -> None:
        method = "forkserver" if sys.platform.startswith("linux") else "spawn"
        self._context: Any = multiprocessing.get_context(method)
        self._keep_main = keep_main
        if method == "forkserver":
            self._context.set_forkserver_preload(_PRELOAD)

    def warm_up(self) -> None:
        """Have the fork server import torch and Lightning now, while this process does something else."""
        if isinstance(self._context, ForkServerContext):
            forkserver.ensure_running()

    def run(self, spec: TrialSpec, supervision: Supervision, *, devices: Sequence[int] | None = None) -> TrialRecord:
        """Train a trial on `spec.plan.num_devices` ranks of this host and return its record.

        Args:
            spec: What to train.
            supervision: How it is watched.
            devices: Indices of the GPUs it may use; None for all.

        Raises:
            Crash: It failed, died or was cancelled.
            BsoptError: The user's code or settings are wrong.
        """
        result = self.call("bsopt.training.run_trial:run_trial", spec, supervision, devices=devices)
        assert isinstance(result, TrialRecord)
        return result

    def call(
        self,
        function: str,
        spec: TrialSpec,
        supervision: Supervision,
        *arguments: Any,
        devices: Sequence[int] | None = None,
        rank_info: RankInfo | None = None,
    ) -> Any:
        """Call `module:function(spec, channel, *arguments)` on every rank of this host and return the first's result.

        Args:
            function: What to call.
            spec: What to train.
            supervision: How it is watched.
            arguments: Of the function.
            devices: Indices of the GPUs it may use; None for all.
            rank_info: Start only this rank; others start the rest. None starts all of the plan's devices here.

        Raises:
            Crash: A rank failed, died or was cancelled.
            BsoptError: The user's code or settings are wrong.
        """
        Path(spec.folder).mkdir(parents=True, exist_ok=True)
        log = Path(spec.folder) / "log.txt"
        environments = _environments(spec, devices, rank_info)
        job = (function, spec, *arguments)
        ranks = [self._start(job, rank, env, str(log)) for rank, env in enumerate(environments)]
        try:
            return _Watch(ranks, supervision, log).result()
        finally:
            for rank in ranks:
                rank.end()

    def _start(self, job: tuple[Any, ...], rank: int, env: dict[str, str], log: str) -> _Rank:
        ours, theirs = self._context.Pipe()
        lifeline, anchor = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=rank_main,
            args=(job, rank, env, list(sys.path), theirs, lifeline, log),
            name=f"trial-{job[1].number}-rank-{rank}",
            daemon=False,
        )
        with _START_LOCK, contextlib.nullcontext() if self._keep_main else _hidden_main():
            process.start()
        theirs.close()
        lifeline.close()
        return _Rank(rank, process, ours, anchor)


class _Rank:
    """A rank's process as the parent sees it."""

    def __init__(self, number: int, process: Any, line: Connection, anchor: Connection) -> None:
        self.number = number
        self.process = process
        self.line = line
        self._anchor = anchor

    def end(self) -> None:
        """Make sure that nothing of the rank is left."""
        pid = self.process.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # its DataLoader workers too
            if self.process.is_alive():
                self.process.kill()
        self.process.join(10)
        self.line.close()
        self._anchor.close()
        with contextlib.suppress(ValueError):
            self.process.close()


class _Watch:
    """Listens to a trial's ranks until rank 0 has a result or one of them fails."""

    def __init__(self, ranks: list[_Rank], supervision: Supervision, log: Path) -> None:
        self._ranks = ranks
        self._supervision = supervision
        self._log = log
        self._failures: dict[int, Message] = {}

    def result(self) -> Any:
        alive_at = time.monotonic()
        lines = {rank.line: rank for rank in self._ranks}
        sentinels = {rank.process.sentinel: rank for rank in self._ranks}
        while True:
            ready = wait([*lines, *sentinels], timeout=_POLL_SECONDS)
            if self._supervision.is_cancelled():
                raise Crash(StopReason.INTERRUPTED, "interrupted")
            self._supervision.on_idle()
            for line in [item for item in ready if item in lines]:
                rank = lines[line]
                message = _receive(rank.line)
                if message is None:
                    lines.pop(line)
                    continue
                alive_at = time.monotonic()
                if message.kind == "tick":
                    rank.line.send(self._supervision.on_tick(message.value))
                    alive_at = time.monotonic()
                elif message.kind == "progress":
                    self._supervision.on_progress(*message.value)
                elif message.kind == "done" and rank.number == 0:
                    rank.process.join(10)  # let it close its loaders and loggers
                    return message.value
                elif message.kind == "error":
                    self._failures[rank.number] = message
            for sentinel in [item for item in ready if item in sentinels]:
                rank = sentinels[sentinel]
                if rank.line in lines and rank.line.poll():
                    continue  # its last words come first
                if rank.process.exitcode == 0 and rank.number != 0:
                    sentinels.pop(sentinel)
                    continue
                self._fail()
            if self._failures:
                self._fail()
            if time.monotonic() - alive_at > self._supervision.stall_seconds:
                raise self._crash(
                    StopReason.FAILED,
                    f"no tick for {self._supervision.stall_seconds:g} s (limits.stall_timeout): "
                    "it hangs, or validate_every is too long",
                )

    def _fail(self) -> None:
        """Collect every rank's last words and exit code, and raise the failure that came first in cause."""
        until = time.monotonic() + _LAST_WORDS_SECONDS
        for rank in self._ranks:
            rank.process.join(max(0.0, until - time.monotonic()))
            while rank.line.poll() and (message := _receive(rank.line)) is not None:
                if message.kind == "error":
                    self._failures.setdefault(rank.number, message)
        for rank in self._ranks:
            code = rank.process.exitcode
            if code is not None and code < 0 and rank.number not in self._failures:
                raise self._killed(rank, -code)
        silent = [r for r in self._ranks if r.number not in self._failures and r.process.exitcode]
        causes = [m for m in self._failures.values() if not is_echo(m.text)]
        if not causes and silent:
            rank = silent[0]
            raise self._crash(
                StopReason.FAILED,
                f"{self._name(rank)} exited with code {rank.process.exitcode} before the trial was over",
            )
        if not self._failures:
            raise self._crash(StopReason.FAILED, "the training process ended before the trial was over")
        message = (causes or list(self._failures.values()))[0]
        kind = getattr(errors, message.error, None)
        if isinstance(kind, type) and issubclass(kind, BsoptError):
            raise kind(message.text)
        lacks_memory = message.error in ("MemoryError", "OutOfMemoryError") or "out of memory" in message.text.lower()
        raise self._crash(StopReason.OUT_OF_MEMORY if lacks_memory else StopReason.FAILED, message.text)

    def _killed(self, rank: _Rank, number: int) -> Crash:
        if number == signal.SIGKILL:
            return self._crash(
                StopReason.OUT_OF_MEMORY, f"{self._name(rank)} was killed, as the system does when memory runs out"
            )
        name = signal.Signals(number).name
        what = {"SIGSEGV": "a segmentation fault", "SIGABRT": "an abort", "SIGBUS": "a bus error"}.get(name, name)
        return self._crash(StopReason.FAILED, f"{self._name(rank)} died of {what}")

    def _name(self, rank: _Rank) -> str:
        return "the training process" if len(self._ranks) == 1 else f"rank {rank.number}"

    def _crash(self, reason: StopReason, message: str) -> Crash:
        return Crash(reason, message, log_tail=log_tail(self._log))


def log_tail(path: Path, lines: int = _LOG_LINES) -> str:
    """Return the last lines of a log; empty where there is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


_START_LOCK = threading.Lock()


@contextlib.contextmanager
def _hidden_main() -> Iterator[None]:
    """Keep a child from importing the parent's `__main__` again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _environments(
    spec: TrialSpec, devices: Sequence[int] | None, rank_info: RankInfo | None = None
) -> list[dict[str, str]]:
    """One whole environment for each rank that is started here."""
    # Of torchrun or srun this process may be a rank; the trial's processes are none of theirs.
    base = {name: value for name, value in os.environ.items() if name not in _OF_LAUNCHERS}
    base["PL_GLOBAL_SEED"] = str(spec.seeds.data)  # the seed of the DistributedSampler that Lightning injects
    if devices is not None:
        base["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, devices))
    run = f"bsopt-{os.getpid()}-{spec.number}"
    if rank_info is not None:
        return [{**base, **rank_info.variables(run)}]
    world = spec.plan.num_devices
    if world == 1:
        return [base]
    port = free_port()
    return [{**base, **RankInfo(rank, world, rank, world, port=port).variables(run)} for rank in range(world)]


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port of this host that is free now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _receive(line: Connection) -> Message | None:
    try:
        message: Message = line.recv()
    except (EOFError, OSError):
        return None
    return message


def is_echo(text: str) -> bool:
    """Whether an error only says that another rank is gone."""
    signs = ("Connection closed by peer", "Connection reset by peer", "gloo", "NCCL", "ProcessGroup", "Broken pipe")
    return any(sign in text for sign in signs)
