"""Workers as SLURM jobs, submitted through submitit; or, to try it out, as processes that submitit starts here."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bsopt.config import StudyConfig
from bsopt.engines.leader import Lost
from bsopt.engines.resources import Resources, resources_of
from bsopt.engines.warden import ending_with
from bsopt.engines.worker import Job, Outcome, work
from bsopt.errors import ConfigError, MissingExtraError

__all__ = ["SlurmEngine", "SlurmOptions", "sbatch_script"]

_MANY_TIMEOUTS = 1000
"""How often submitit may queue a worker again at its time limit; the study's end is the worker's end."""


@dataclass(frozen=True, slots=True)
class SlurmOptions:
    """What is asked of SLURM for each worker.

    Attributes:
        partition: The partition; None for the cluster's default.
        minutes: Time limit of a job; a worker that reaches it is queued again.
        memory: Memory of a job as sbatch takes it ("32G"); None for the cluster's default.
        further: Further options of sbatch, by name ("account", "qos", "constraint").
    """

    partition: str | None = None
    minutes: int = 60
    memory: str | None = None
    further: Mapping[str, str] = field(default_factory=dict)


class SlurmEngine:
    """Submits each worker as a SLURM job.

    Args:
        config: The study file.
        options: What is asked of SLURM.
        cpus: Cores of each worker; by default one for each rank of a trial.
        gpus: GPUs of each worker; by default one for each rank where `trainer.accelerator` is gpu or cuda.
        is_local: Whether submitit starts the workers on this machine, without SLURM.

    Raises:
        MissingExtraError: submitit isn't installed.
        ConfigError: There is no SLURM here.
    """

    uploads_code = False

    def __init__(
        self,
        config: StudyConfig,
        options: SlurmOptions,
        *,
        cpus: int | None = None,
        gpus: int | None = None,
        is_local: bool = False,
    ) -> None:
        submitit = _import_submitit()
        if not is_local and shutil.which("sbatch") is None:
            raise ConfigError(
                "there is no sbatch here: give the command on a host that submits to SLURM, look at what would be "
                "submitted with --dry-run, or try it on this machine with --local."
            )
        self._is_local = is_local
        needs = resources_of(config, cpus=cpus, gpus=gpus)
        folder = _folder(config)
        if is_local:
            self._executor = submitit.LocalExecutor(folder)
            gpus_here = {"gpus_per_node": needs.gpus} if needs.gpus else {}
            self._executor.update_parameters(timeout_min=options.minutes, **gpus_here)
        else:
            self._executor = submitit.SlurmExecutor(folder, max_num_timeout=_MANY_TIMEOUTS)
            self._executor.update_parameters(**_parameters(config, needs, options))
        self._executor.max_num_timeout = _MANY_TIMEOUTS

    @property
    def spans_hosts(self) -> bool:
        """Whether jobs run on other hosts."""
        return not self._is_local

    @property
    def outlives_leader(self) -> bool:
        """Whether the jobs are SLURM's and not this process's."""
        return not self._is_local

    def advice(self, workers: int) -> str:
        """Return where the workers' logs are."""
        return f"the workers' logs are in {self._executor.folder}"

    def place(self, job: Job) -> SlurmPlace:
        """Submit a job."""
        worker = _Worker(job, leader=os.getpid() if self._is_local else None)
        with _without_slurm_of_this_job():
            return SlurmPlace(self._executor.submit(worker), is_local=self._is_local)

    def close(self) -> None:
        """Nothing is held."""


class SlurmPlace:
    """A worker's job."""

    def __init__(self, job: Any, *, is_local: bool) -> None:
        self._job = job
        self._is_local = is_local

    def outcome(self) -> Outcome | None:
        """Return how it ended; None while it waits or runs.

        Raises:
            Lost: The job ended without an outcome: killed, cancelled, its node failed.
        """
        if not self._job.done():
            return None
        try:
            if self._is_local and not self._job.paths.result_pickle.exists():
                raise FileNotFoundError  # on a shared disk it may be late, and submitit waits for it
            outcome: Outcome = self._job.result()
        except Exception as error:
            state = "" if self._is_local else f" ({self._job.state})"
            raise Lost(f"job {self._job.job_id}{state} left no result; its log: {self._job.paths.stderr}") from error
        return outcome

    def has_begun(self) -> bool:
        """Whether it has left the queue."""
        return self._is_local or self._job.state not in ("PENDING", "REQUEUED", "UNKNOWN")

    def end(self) -> None:
        """Cancel the job."""
        self._job.cancel(check=False)


class _Worker:
    """What submitit pickles for a job, and again when the job is queued again.

    SLURM's SIGTERM (scancel, preemption) interrupts the trial, and the leader places another worker. The signal
    that submitit asks for ahead of the time limit (USR2, which clusters can send for preemption too) interrupts the
    trial as well; then submitit queues the job again, also when the leader is gone. On the leader's own machine a
    worker ends with it, as all its others do.
    """

    def __init__(self, job: Job, *, leader: int | None) -> None:
        self.job = job
        self.leader = leader

    def __call__(self) -> Outcome:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        is_ending = threading.Event()
        requeue = signal.getsignal(signal.SIGUSR2)

        def interrupt(number: int, frame: object) -> None:
            is_ending.set()
            os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(signal.SIGUSR2, interrupt)
        try:
            with contextlib.nullcontext() if self.leader is None else ending_with(self.leader):
                outcome = work(self.job, is_stopped=is_ending.is_set)
        finally:
            signal.signal(signal.SIGUSR2, requeue)
        if is_ending.is_set() and outcome.ended == "interrupted" and callable(requeue):
            requeue(signal.SIGUSR2, None)  # submitit's: saves this worker, queues the job again and exits
        return outcome

    def checkpoint(self) -> Any:
        """Return what the job does when it starts again: the same, since everything else is in the storage."""
        return _import_submitit().helpers.DelayedSubmission(self)


def sbatch_script(
    config: StudyConfig, options: SlurmOptions, *, cpus: int | None = None, gpus: int | None = None
) -> str:
    """Return the script of a worker's job as it would be submitted.

    Raises:
        MissingExtraError: submitit isn't installed.
    """
    _import_submitit()
    # The one place where submitit makes the text; its executor would want srun to be there. A test pins it.
    from submitit.slurm.slurm import _make_sbatch_string

    folder = _folder(config)
    command = f"{sys.executable} -u -m submitit.core._submit {folder}"
    parameters = _parameters(config, resources_of(config, cpus=cpus, gpus=gpus), options)
    return str(_make_sbatch_string(command=command, folder=folder, **parameters))


def _parameters(config: StudyConfig, needs: Resources, options: SlurmOptions) -> dict[str, Any]:
    """Return what submitit makes the `#SBATCH` lines from."""
    given = {
        "partition": options.partition,
        "mem": options.memory,
        "gpus_per_node": needs.gpus or None,
        "additional_parameters": dict(options.further) or None,
    }
    return {
        "job_name": f"bsopt-{config.name}",
        "time": options.minutes,
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": needs.cpus,
        **{key: value for key, value in given.items() if value is not None},
    }


def _folder(config: StudyConfig) -> Path:
    """Return where submitit keeps scripts, logs and what it hands over; every host must see it."""
    return (config.folder / "slurm").absolute()


@contextlib.contextmanager
def _without_slurm_of_this_job() -> Any:
    """Hide the job that this command itself runs in, whose settings sbatch would pass on to the worker's."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(("SLURM_", "SBATCH_"))}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _import_submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise MissingExtraError("--engine slurm needs submitit: pip install 'bsopt[slurm]'") from error
    return submitit
