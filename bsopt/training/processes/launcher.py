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
import sys
import threading
import time
import types
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from bsopt.errors import BsoptError, MachineError
from bsopt.training.device import give_back_memory
from bsopt.training.error_text import describe_error
from bsopt.training.processes.crash import Crash
from bsopt.training.processes.environments import RankInfo, rank_environments
from bsopt.training.processes.rank import rank_main
from bsopt.training.processes.supervision import DirectChannel, Supervision
from bsopt.training.processes.temporary import use_temporary_folder
from bsopt.training.processes.watch import RankProcess, Watch
from bsopt.trial.record import StopReason, TrialRecord
from bsopt.trial.spec import TrialSpec

__all__ = ["Launcher", "has_processes", "run_here"]

_PRELOAD = ["bsopt.training.processes.preload"]
_START_LOCK = threading.Lock()
_STARTS = 3
_SECONDS_BETWEEN_STARTS = 0.5


def has_processes() -> bool:
    """Whether this platform runs trials in processes of their own."""
    return hasattr(os, "fork") and sys.platform != "win32"


def run_here(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
    """Run a one-rank trial in this process, for tiny models and debugging.

    Raises:
        Crash: The trial failed.
        BsoptError: The user's code or settings are wrong.
    """
    from bsopt.training.checkpoints import StaleStateError
    from bsopt.training.run_trial import run_trial

    try:
        return run_trial(spec, DirectChannel(supervision))
    except BsoptError:
        raise
    except SystemExit as error:
        raise Crash(StopReason.INTERRUPTED, "the training was interrupted") from error
    except StaleStateError as error:
        raise Crash(StopReason.LOST, str(error)) from error
    except Exception as error:
        raise Crash(StopReason.FAILED, describe_error(error)) from error
    finally:
        give_back_memory()


class Launcher:
    """Starts trials in processes of their own; safe to use from several threads.

    Args:
        keep_main: Whether children may see this process's `__main__` (the task lives there).
        preload: Modules that the fork server imports, beside torch and Lightning, when the first one starts it.
    """

    def __init__(self, *, keep_main: bool = False, preload: Sequence[str] = ()) -> None:
        method = "forkserver" if sys.platform.startswith("linux") else "spawn"
        self._context: Any = multiprocessing.get_context(method)
        self._keep_main = keep_main
        use_temporary_folder()
        if method == "forkserver":
            self._context.set_forkserver_preload(_PRELOAD)
            os.environ["BSOPT_PRELOAD"] = " ".join(preload)

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
        environments = rank_environments(spec, devices=devices, rank_info=rank_info)
        job = (function, spec, *arguments)
        ranks: list[RankProcess] = []
        try:
            for number, env in enumerate(environments):
                ranks.append(self._start(job, number, env, str(log)))
            return Watch(ranks, supervision, log).result()
        finally:
            for rank in ranks:
                rank.end()

    def _start(self, job: tuple[Any, ...], rank: int, env: dict[str, str], log: str) -> RankProcess:
        """Start a rank; once more where the fork server was killed in the meantime, which a new start makes anew."""
        for _ in range(_STARTS - 1):
            with contextlib.suppress(OSError, EOFError):
                return self._start_once(job, rank, env, log)
            time.sleep(_SECONDS_BETWEEN_STARTS)
        try:
            return self._start_once(job, rank, env, log)
        except (OSError, EOFError) as error:
            raise MachineError(
                f"no process could be started for the training ({error}): are there too "
                "many processes or open files? What was measured is kept; run the same command again."
            ) from error

    def _start_once(self, job: tuple[Any, ...], rank: int, env: dict[str, str], log: str) -> RankProcess:
        ours, theirs = self._context.Pipe()
        lifeline, anchor = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=rank_main,
            args=(job, rank, env, list(sys.path), theirs, lifeline, log),
            name=f"trial-{job[1].number}-rank-{rank}",
            daemon=False,
        )
        try:
            with _START_LOCK, contextlib.nullcontext() if self._keep_main else _hidden_main():
                process.start()
        except BaseException:
            ours.close()
            anchor.close()
            raise
        finally:
            theirs.close()
            lifeline.close()
        return RankProcess(rank, process, ours, anchor)


@contextlib.contextmanager
def _hidden_main() -> Iterator[None]:
    """Keep a child from importing the parent's `__main__` again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
