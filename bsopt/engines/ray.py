"""Workers on a Ray cluster: each is an actor with the cores and GPUs of one trial reserved."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import time
from pathlib import Path
from typing import Any

from bsopt.config import StudyConfig
from bsopt.engines.leader import Lost
from bsopt.engines.resources import resources_of
from bsopt.engines.worker import Job, Outcome, work
from bsopt.errors import BsoptError, MachineError, MissingExtraError, StudyError
from bsopt.training.processes.temporary import leave_temporary_folder
from bsopt.units import count_of

__all__ = ["RayEngine"]

_LOOK_SECONDS = 5.0
_PATIENCE_SECONDS = 20.0  # a head that is started again takes its cluster over
_LEFT_BEHIND = ["runs", ".git", ".venv", "__pycache__", "*.db", "*.log"]


class RayEngine:
    """A Ray cluster, joined or started here.

    Args:
        config: The study file.
        folder: Its folder.
        address: Of a running cluster (`auto`, `host:6379`); None starts one on this machine and ends it afterwards.
        cpus: Cores of each worker; by default one for each rank of a trial.
        gpus: GPUs of each worker; by default one for each rank, where the Trainer uses GPUs.
        upload_code: Whether the study's folder is sent to the workers, for clusters without a shared disk.

    Raises:
        MissingExtraError: Ray isn't installed.
        StudyError: The cluster can't be reached.
        MachineError: None can be started here.
    """

    def __init__(
        self,
        config: StudyConfig,
        folder: Path,
        *,
        address: str | None = None,
        cpus: int | None = None,
        gpus: int | None = None,
        upload_code: bool = False,
    ) -> None:
        self._ray = _import_ray()
        self._joined = address
        self.uploads_code = upload_code
        _keep_from_printing()
        environment = {name: os.environ[name] for name in _named_in(config.storage) if name in os.environ}
        runtime: dict[str, Any] = {"env_vars": environment} if environment else {}
        if upload_code:
            runtime |= {"working_dir": str(folder), "excludes": _LEFT_BEHIND}
        # A cluster of one's own needs neither dashboard nor Ray's lines in the terminal.
        own = {"include_dashboard": False} if address is None else {}
        try:
            self._ray.init(
                address=address or "local",
                runtime_env=runtime or None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **own,
            )
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            if address:
                raise StudyError(
                    f"can't join the Ray cluster at {address}: {first} Is it running (`ray status`)?"
                ) from error
            raise MachineError(f"can't start Ray on this machine: {first} Run the same command again.") from error
        self._head = self._address_of_head()
        self._looked_at = self._answered_at = time.monotonic()
        try:
            self._needs = resources_of(config, cpus=cpus, gpus=gpus, has_gpus=self._total("GPU") > 0)
        except BsoptError:
            self.close()
            raise

    outlives_leader = False
    """Actors end with the process that made them."""

    @property
    def spans_hosts(self) -> bool:
        """Whether the cluster has several nodes."""
        return sum(bool(node["Alive"]) for node in self._ray.nodes()) > 1

    def advice(self, workers: int) -> str:
        """Return where the workers start, which takes a while, and how many of them there is room for."""
        needs = self._needs
        fits = int(self._total("CPU") // needs.cpus)
        if needs.gpus:
            fits = min(fits, int(self._total("GPU") // needs.gpus))
        if fits >= workers:
            where = f"the Ray cluster at {self._joined}" if self._joined else "a Ray cluster on this machine"
            return f"{count_of(workers, 'worker')} start on {where}"
        each = f"{needs.cpus} CPU" + (f" and {needs.gpus} GPU" if needs.gpus else "")
        return f"the cluster has room for {fits} of {workers} workers ({each} each); the others wait until it grows"

    def place(self, job: Job) -> RayPlace:
        """Start an actor, as soon as the cluster has room for it."""
        actor = self._ray.remote(_Worker).options(
            num_cpus=self._needs.cpus, num_gpus=self._needs.gpus, max_restarts=0, max_task_retries=0
        )
        return RayPlace(self, self._ray, actor.remote(), job)

    def check_cluster(self) -> None:
        """Look from time to time whether the cluster's head and its node on this machine are there.

        Without the head Ray ends this process after a minute; without the node it waits for ever.

        Raises:
            MachineError: One of them has been gone for some seconds.
        """
        now = time.monotonic()
        if self._head is None or now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        gone = self._what_is_gone(self._head)
        if gone is None:
            self._answered_at = now
        elif now - self._answered_at > _PATIENCE_SECONDS:
            raise MachineError(f"{gone}; the same command goes on, and the trials that were running are run again.")

    def close(self) -> None:
        """Leave the cluster, or end the one that was started."""
        self._ray.shutdown()

    def _what_is_gone(self, head: tuple[str, int]) -> str | None:
        """Return which part of the cluster doesn't answer; None where all that this process needs is there."""
        try:
            socket.create_connection(head, timeout=_LOOK_SECONDS).close()
        except OSError as error:
            return f"the head of the Ray cluster, {head[0]}:{head[1]}, is gone ({error.strerror or error})"
        here = self._ray.get_runtime_context().get_node_id()
        if not any(node["Alive"] for node in self._ray.nodes() if node["NodeID"] == here):
            return "the Ray cluster's node on this machine is gone (its raylet or an agent of it died)"
        return None

    def _address_of_head(self) -> tuple[str, int] | None:
        """Return host and port; None where the cluster is reached through Ray Client, which watches it itself."""
        if (self._joined or "").startswith("ray://"):
            return None
        host, _, port = self._ray.get_runtime_context().gcs_address.rpartition(":")
        return host.strip("[]"), int(port)

    def _total(self, resource: str) -> float:
        return float(self._ray.cluster_resources().get(resource, 0.0))


class RayPlace:
    """A worker on Ray."""

    def __init__(self, engine: RayEngine, ray: Any, actor: Any, job: Job) -> None:
        self._engine = engine
        self._ray = ray
        self._actor = actor
        self._here = actor.host.remote()
        self._outcome = actor.work.remote(job)

    def outcome(self) -> Outcome | None:
        """Return how it ended; None while it waits or runs.

        Raises:
            Lost: Its process or its node is gone, or couldn't be set up.
            MachineError: The cluster is gone.
        """
        done, _ = self._ray.wait([self._outcome], timeout=0)
        if not done:
            self._engine.check_cluster()
            return None
        try:
            outcome: Outcome = self._ray.get(self._outcome)
        except self._ray.exceptions.RayError as error:
            raise Lost(_why(error)) from error
        self._ray.kill(self._actor)  # gives its cores and GPUs back
        return outcome

    def has_begun(self) -> bool:
        """Whether the cluster had room for it."""
        return bool(self._ray.wait([self._here], timeout=0)[0])

    def end(self) -> None:
        """Kill the actor; its trial's processes end with it."""
        self._ray.kill(self._actor)


class _Worker:
    """The actor: its methods run in the main thread of a process of its own, so that signals work."""

    def host(self) -> str:
        return socket.gethostname()

    def work(self, job: Job) -> Outcome:
        try:
            return work(job)
        finally:
            leave_temporary_folder()  # Ray ends processes without their own last steps


def _why(error: Exception) -> str:
    """Say in a line what happened to an actor."""
    text = str(error)
    if "node has died" in text or "node was terminated" in text:
        return "its node died"
    if type(error).__name__ in ("ActorDiedError", "ActorUnavailableError"):
        return "its process died"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _named_in(storage: str) -> list[str]:
    """Return the environment variables that a storage's address names; workers need them too."""
    return re.findall(r"\$\{(\w+)\}", storage)


def _keep_from_printing() -> None:
    """Keep Ray's remarks on dead processes, which `log_to_driver` doesn't cover, out of our standard output."""
    with contextlib.suppress(ImportError):
        from ray._private import worker

        worker._worker_logs_enabled = False


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("--engine ray needs Ray: pip install 'bsopt[ray]'") from error
    return ray
