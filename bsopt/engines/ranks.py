"""Trials of several nodes, whose ranks torchrun or srun has started: rank 0 owns the study, the others train with it.

Every rank starts one process for each trial, so that a trial that fails, hangs or runs out of memory costs a trial
and no rank. A line from each rank to rank 0 carries what is to be trained and how it went; it breaks when a rank
dies, and then the whole ends with a message, the trial to be run again.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from typing import Any

from bsopt.config import StudyConfig
from bsopt.engines.lines import accept, join, receive, send
from bsopt.errors import BsoptError, ConfigError, StudyError
from bsopt.study.signals import first_signal_calls
from bsopt.training.processes.crash import Crash, is_echo, named_error
from bsopt.training.processes.environments import RankInfo, free_port
from bsopt.training.processes.launcher import Launcher
from bsopt.training.processes.supervision import Supervision
from bsopt.trial.record import StopReason, TrialRecord
from bsopt.trial.spec import TrialSpec

__all__ = ["Ranks", "standing_of"]

_JOIN_SECONDS = 600.0
_POLL_SECONDS = 0.5
_LAST_SECONDS = 60.0  # for the other ranks to end a trial that has ended on rank 0
_TRIAL = "bsopt.training.run_trial:run_trial"


def standing_of(environment: Mapping[str, str]) -> RankInfo | None:
    """Return where torchrun or srun says that this process stands; None where it is no rank of several.

    >>> standing_of({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": "1",
    ...              "MASTER_ADDR": "node0", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "x"}).node
    1
    """
    if "TORCHELASTIC_RUN_ID" in environment and int(environment.get("WORLD_SIZE", "1")) > 1:
        return RankInfo(
            rank=int(environment["RANK"]),
            world_size=int(environment["WORLD_SIZE"]),
            local_rank=int(environment["LOCAL_RANK"]),
            local_world_size=int(environment["LOCAL_WORLD_SIZE"]),
            node=int(environment["GROUP_RANK"]),
            address=environment["MASTER_ADDR"],
            port=int(environment["MASTER_PORT"]),
        )
    is_step = "SLURM_PROCID" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive")
    if is_step and int(environment.get("SLURM_NTASKS", "1")) > 1:
        world, nodes = int(environment["SLURM_NTASKS"]), int(environment.get("SLURM_NNODES", "1"))
        return RankInfo(
            rank=int(environment["SLURM_PROCID"]),
            world_size=world,
            local_rank=int(environment["SLURM_LOCALID"]),
            local_world_size=world // nodes,
            node=int(environment["SLURM_NODEID"]),
            address=environment.get("MASTER_ADDR") or _first_host(environment["SLURM_NODELIST"]),
            port=int(environment.get("MASTER_PORT") or 15000 + int(environment["SLURM_JOB_ID"]) % 10000),
        )
    return None


class Ranks:
    """The ranks of every trial of a study, as one of them sees it.

    Args:
        rank_info: Where this process stands.
        config: The study file, whose trials must take all of the ranks.

    Raises:
        ConfigError: They don't.
        StudyError: The other ranks didn't come.
    """

    def __init__(self, rank_info: RankInfo, config: StudyConfig) -> None:
        _check(rank_info, config)
        self._rank_info = rank_info
        self._launcher = Launcher()
        self._launcher.warm_up()
        self._lines: dict[int, Connection] = {}
        store, address = _store(rank_info), rank_info.address
        if rank_info.rank == 0:
            world = rank_info.world_size
            self._lines = accept(store, address, world_size=world, folder=config.folder, seconds=_JOIN_SECONDS)
        else:
            self._lines = {0: join(store, address, rank=rank_info.rank, folder=config.folder)}

    @property
    def rank(self) -> int:
        """This process's rank; 0 owns the study."""
        return self._rank_info.rank

    def launch(self, spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        """Train a trial on all ranks; called on rank 0.

        Raises:
            Crash: It failed on a rank, or was cancelled; with `ends_study` when a rank is gone.
            BsoptError: The user's code or settings are wrong.
        """
        rank_info = replace(self._rank_info, port=free_port(""))
        trial = _Trial(self._lines)
        trial.tell(_Order("train", spec, rank_info.port))
        failure: BsoptError | Crash | None = None
        record: TrialRecord | None = None

        def is_cancelled() -> bool:
            trial.listen()
            return supervision.is_cancelled() or trial.has_failed

        try:
            watched = replace(supervision, is_cancelled=is_cancelled)
            record = self._launcher.call(_TRIAL, spec, watched, rank_info=rank_info)
        except (BsoptError, Crash) as error:
            failure = error
        finally:
            trial.tell(_Order("leave" if record is None else "finish"))
        trial.wait()
        if trial.gone:
            numbers = ", ".join(map(str, sorted(trial.gone)))
            raise Crash(
                StopReason.INTERRUPTED,
                f"rank {numbers} is gone, and no trial can be trained without it. Start all ranks again: the same "
                "command continues the study.",
                ends_study=True,
            )
        if failure is None:
            assert record is not None
            return record
        raise failure if supervision.is_cancelled() else trial.cause(failure)

    def serve(self) -> int:
        """Take part in every trial until rank 0 says that the study has ended; return its exit code.

        Raises:
            StudyError: Rank 0 is gone.
        """
        line = self._lines[0]
        with first_signal_calls(lambda number: send(line, _Report("stop"))):
            while True:
                order = receive(line, _Order)
                if order is None:
                    raise StudyError(
                        "rank 0, which runs the study, is gone. Start all ranks again: the same command continues it."
                    )
                if order.kind == "end":
                    return int(order.code)
                if order.kind == "train":
                    self._take_part(order, line)

    def dismiss(self, code: int) -> None:
        """Send the other ranks home; called on rank 0."""
        for line in self._lines.values():
            send(line, _Order("end", code=code))
            line.close()

    def _take_part(self, order: _Order, line: Connection) -> None:
        assert order.spec is not None
        left_at: list[float] = []
        is_left = False

        def is_cancelled() -> bool:
            nonlocal is_left
            while not is_left and line.poll():
                said = receive(line, _Order)
                if said is None or said.kind == "leave":
                    is_left = True
                elif said.kind == "finish":
                    left_at.append(time.monotonic())
            return is_left or (bool(left_at) and time.monotonic() - left_at[0] > _LAST_SECONDS / 2)

        supervision = Supervision(is_cancelled=is_cancelled, stall_seconds=float("inf"))
        rank_info = replace(self._rank_info, port=order.port)
        try:
            self._launcher.call(_TRIAL, order.spec, supervision, rank_info=rank_info)
            report = _Report("done")
        except Crash as crash:
            was_left = is_left or bool(left_at)
            report = _Report("done" if was_left else "crash", crash.reason, crash.message, log_tail=crash.log_tail)
        except BsoptError as error:
            report = _Report("error", text=str(error), error=type(error).__name__)
        send(line, replace(report, host=socket.gethostname()))
        while not is_left and not left_at:  # rank 0 ends each trial with a word
            said = receive(line, _Order)
            is_left = said is None or said.kind in ("leave", "finish")


@dataclass(frozen=True, slots=True)
class _Order:
    kind: str  # "train", "finish" (the trial has its record), "leave" (it has none), "end" (of the study)
    spec: TrialSpec | None = None
    port: int = 0
    code: int = 0


@dataclass(frozen=True, slots=True)
class _Report:
    kind: str  # "done", "crash", "error", or "stop" for a signal
    reason: StopReason = StopReason.FAILED
    text: str = ""
    log_tail: str = ""
    error: str = ""
    host: str = ""


class _Trial:
    """Rank 0's side of one trial: what the other ranks have said."""

    def __init__(self, lines: dict[int, Connection]) -> None:
        self._lines = lines
        self._reports: dict[int, _Report] = {}
        self.gone: set[int] = set()

    @property
    def has_failed(self) -> bool:
        """Whether a rank failed or is gone."""
        return bool(self.gone) or any(report.kind != "done" for report in self._reports.values())

    def tell(self, order: _Order) -> None:
        self.gone |= {rank for rank, line in self._lines.items() if not send(line, order)}

    def listen(self) -> None:
        """Hear what was said, without waiting."""
        self._hear(0.0)

    def wait(self) -> None:
        """Wait until every rank has ended the trial or is gone."""
        until = time.monotonic() + _LAST_SECONDS
        while len(self._reports.keys() | self.gone) < len(self._lines):
            if time.monotonic() > until:
                self.gone |= self._lines.keys() - self._reports.keys()
                return
            self._hear(_POLL_SECONDS)

    def cause(self, own: BsoptError | Crash) -> BsoptError | Crash:
        """Return what ended the trial: rank 0's own failure, unless that only followed another rank's."""
        is_own = isinstance(own, BsoptError) or not (own.reason is StopReason.INTERRUPTED or is_echo(own.message))
        failed = [(rank, report) for rank, report in sorted(self._reports.items()) if report.kind != "done"]
        first = next((pair for pair in failed if not is_echo(pair[1].text)), None)
        if is_own or first is None:
            return own
        rank, report = first
        message = f"rank {rank} on {report.host}: {report.text}"
        return named_error(report.error, report.text) or Crash(report.reason, message, log_tail=report.log_tail)

    def _hear(self, seconds: float) -> None:
        open_lines = {line: rank for rank, line in self._lines.items() if rank not in self.gone}
        for item in wait(list(open_lines), timeout=seconds):
            assert isinstance(item, Connection)
            said = receive(item, _Report)
            if said is None:
                self.gone.add(open_lines[item])
            elif said.kind == "stop":
                os.kill(os.getpid(), signal.SIGTERM)  # a signal that another rank was sent is meant for the study
            else:
                self._reports[open_lines[item]] = said


def _check(rank_info: RankInfo, config: StudyConfig) -> None:
    trainer = config.trainer
    nodes, devices = int(trainer.get("num_nodes", 1)), trainer.get("devices", 1)
    per_node = len(devices) if isinstance(devices, list) else devices
    if (nodes, per_node) != (rank_info.world_size // rank_info.local_world_size, rank_info.local_world_size):
        raise ConfigError(
            f"{rank_info.world_size} ranks were started, {rank_info.local_world_size} on each node, but the study's "
            f"trials take {per_node} device(s) on each of {nodes} node(s): make trainer.devices and trainer.num_nodes "
            "say what was started."
        )
    if config.workers > 1 or config.isolation == "none":
        raise ConfigError("with ranks on several nodes trials run one at a time (workers: 1, isolation: process).")


def _store(rank_info: RankInfo) -> Any:
    """Return torch's key-value store, in which rank 0 says where it listens."""
    dist: Any = importlib.import_module("torch.distributed")
    is_agents = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = dist.TCPStore(
        rank_info.address,
        rank_info.port,
        is_master=rank_info.rank == 0 and not is_agents,
        timeout=timedelta(seconds=_JOIN_SECONDS),
        wait_for_workers=False,
    )
    return dist.PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _first_host(nodes: str) -> str:
    """Return the first host of SLURM's list.

    >>> _first_host("gpu[07-09,12],login1"), _first_host("a,b")
    ('gpu07', 'a')
    """
    first = re.sub(r"\[(\w+)[^\]]*\]", r"\1", nodes)
    return first.split(",")[0]
