"""A study's task, built, probed and trained where the study's `isolation` says; there is no Optuna here."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from bsopt.config import StudyConfig
from bsopt.errors import BsoptError, ConfigError, MissingExtraError, TaskError
from bsopt.laws.lr_ladder import MeasuredStart
from bsopt.storage.attributes import BATCH_SIZE, LR
from bsopt.study.make_spec import largest_batch_of, some_params, trial_spec
from bsopt.training.error_text import describe_error
from bsopt.training.ladder.request import LadderRequest
from bsopt.training.probe.probe import ProbeResult, ProbeRow, probe
from bsopt.training.processes.crash import Crash
from bsopt.training.processes.imports import installed_imports
from bsopt.training.processes.launcher import Launcher, has_processes, run_here
from bsopt.training.processes.supervision import DirectChannel, Supervision
from bsopt.trial.plan import Limits, Plan
from bsopt.trial.record import StopReason, TrialRecord
from bsopt.trial.spec import StopDecision, TaskDescription, TrialSpec
from bsopt.units import Amount

__all__ = ["RanksLaunch", "TaskRunner"]

RanksLaunch: TypeAlias = Callable[[TrialSpec, Supervision], TrialRecord]
"""Trains a trial on ranks that were started elsewhere (`bsopt.engines.ranks.Ranks.launch`)."""

_UNWATCHED = Supervision()
_GRACE_SECONDS = 3.0
"""Longest time from an interrupt to a trial's next validation, where its state is kept once more."""
_log = logging.getLogger(__name__)


class TaskRunner:
    """A study's task: what it is, what fits, and how its trials are trained.

    Every process that it starts is given up after `limits.stall_timeout` without a sign of life.

    Args:
        config: The study file.
        folder: Its folder, where imports are looked up first.
        memory_limit: Largest micro-batch that memory is known to allow; None where it isn't known or nothing limits.
        ranks: Trains trials on ranks that were started elsewhere; None trains them here.

    Attributes:
        config: The study file.
        folder: Its folder.
    """

    def __init__(
        self, config: StudyConfig, folder: Path, *, memory_limit: int | None = None, ranks: RanksLaunch | None = None
    ) -> None:
        self.config = config
        self.folder = folder
        self._memory_limit = memory_limit
        self._ranks = ranks
        self._launcher: Launcher | None = None
        self._description: TaskDescription | None = None

    @property
    def description(self) -> TaskDescription:
        """What building the task told; built once.

        Raises:
            MissingExtraError: PyTorch or Lightning isn't installed.
            TaskError: It can't be built.
        """
        if self._description is None:
            _needs_training()
            spec = self._any_spec(Plan(self.config.search.batch_size.sizes()[0]), "task")
            try:
                built = self._call("bsopt.training.task.describe:describe_task", spec, _UNWATCHED)
            except Crash as crash:
                raise TaskError(f"the task can't be built: {crash.full_message}") from crash
            assert isinstance(built, TaskDescription)
            self._description = built
        return self._description

    def limits(self) -> Limits:
        """Return what the devices and the user allow."""
        config, description = self.config, self.description
        users = config.limits.max_micro_batch_size
        return Limits(
            num_devices=description.num_devices,
            num_nodes=int(config.trainer.get("num_nodes", 1)),
            max_micro_batch_size=users if users is not None else self._memory_limit,
            max_global_batch_size=largest_batch_of(config, description),
            allow_accumulation=config.limits.accumulation,
            why="limits.max_micro_batch_size" if users is not None else "memory",
        )

    def find_memory_limit(self, known: int | None = None) -> None:
        """Find the largest micro-batch that memory allows, which `limits` tells from then on.

        Nothing is probed where the user says it, where nothing limits memory, or where it is known.

        Args:
            known: What an earlier probe found for the same task and devices.

        Raises:
            TaskError: The task can't be run, or not even one sample fits.
        """
        config, description = self.config, self.description
        has_limit = config.limits.memory is not None or description.device_memory_bytes is not None
        if config.limits.max_micro_batch_size is not None or not has_limit or not has_processes():
            self._memory_limit = None
            return
        if known is None:
            result = self.probe()
            if not result.max_micro_batch_size:
                raise TaskError(f"{result.message} Use a smaller model or smaller samples, or raise limits.memory.")
            _log.info(result.message)
            known = result.max_micro_batch_size
        self._memory_limit = known

    def probe(self, on_row: Callable[[ProbeRow], None] = lambda row: None) -> ProbeResult:
        """Measure step time and memory at a few micro-batches, and find the largest that fits; trains no trial.

        Args:
            on_row: Receives each measurement as it comes.

        Raises:
            TaskError: The task can't be run.
            ConfigError: This platform runs no processes of their own.
        """
        if not has_processes():
            raise ConfigError("the probe measures in processes of its own, which this platform doesn't offer.")
        config, description = self.config, self.description
        sizes, world = config.search.batch_size.sizes(), description.num_devices
        n = largest_batch_of(config, description) or sizes[-1]
        most = max((size for size in sizes if size <= n), default=n)
        try:
            return probe(
                replace(self._any_spec(Plan(1, 1, num_devices=world), "probe"), is_rehearsal=True),
                self._processes(),
                self._timed(_UNWATCHED),
                smallest=max(1, sizes[0] // world),
                largest=max(1, most // world),
                powers_of_two=config.search.batch_size.lattice == "pow2",
                budget_bytes=config.limits.memory or _share_of_device(config, description),
                devices=self._listed_devices(),
                on_row=on_row,
            )
        except Crash as crash:
            raise TaskError(f"the probe failed: {crash.full_message}") from crash

    def rehearse(self, plan: Plan, variant: str | None = None) -> TrialRecord:
        """Train one optimizer step of a plan as a trial would, on all of its ranks, validate two batches, and stop.

        Nothing goes to the user's loggers and checkpoints.

        Args:
            plan: How the batch size is realised.
            variant: Name of the experiment's variant whose settings it has in place of the study's.

        Raises:
            Crash: It failed or died.
            BsoptError: The user's code or settings are wrong.
        """
        spec = self._any_spec(plan, "check", variant)
        first = replace(
            spec,
            budget=replace(spec.budget, tick_every=Amount(1.0, "samples")),  # a tick at the first step
            trainer={**spec.trainer, "limit_val_batches": 2},
            checkpoints=(),
            resume_file=None,
            is_rehearsal=True,
        )
        enough = StopDecision(StopReason.COMPLETED, message="its first step")
        return self.launch(first, Supervision(lambda tick: enough))

    def ladder_spec(self, plan: Plan) -> TrialSpec:
        """Return the trial whose first steps are trained at some learning rates."""
        return self._any_spec(plan, "ladder")

    def climb(self, spec: TrialSpec, request: LadderRequest) -> MeasuredStart:
        """Measure where the learning rate lives, in one process, if that pays.

        Raises:
            Crash: It failed or died.
            BsoptError: The user's code or settings are wrong.
        """
        function = "bsopt.training.ladder.of_trial:measure_start"
        try:
            found = self._call(function, spec, _UNWATCHED, request, devices=self._listed_devices())
        except (BsoptError, Crash):
            raise
        except Exception as error:  # in this process; another one's comes as a Crash
            raise Crash(StopReason.FAILED, describe_error(error)) from error
        assert isinstance(found, MeasuredStart)
        return found

    def spec(
        self,
        number: int,
        params: Mapping[str, Any],
        plan: Plan,
        *,
        root: int | None = None,
        replicate: int | None = None,
        is_designed: bool = False,
        variant: str | None = None,
    ) -> TrialSpec:
        """Return everything that a trial's processes need; the arguments are those of `trial_spec`."""
        return trial_spec(
            self.config,
            number,
            params,
            plan,
            study_folder=self.folder,
            description=self._description,
            root=root,
            replicate=replicate,
            is_designed=is_designed,
            variant=variant,
        )

    def launch(self, spec: TrialSpec, supervision: Supervision, *, worker: int | None = None) -> TrialRecord:
        """Train a trial.

        Args:
            spec: What to train.
            supervision: How it is watched.
            worker: Number of the worker that asks, from 0; the workers divide the GPUs. None takes all.

        Raises:
            Crash: It failed, died or was cancelled.
            ConfigError: The plan needs devices or nodes on which this process can't start ranks.
            BsoptError: The user's code or settings are wrong.
        """
        supervision = self._timed(supervision)
        if self._ranks is not None:
            return self._ranks(spec, supervision)
        if spec.plan.num_nodes > 1:
            raise ConfigError("trainer.num_nodes is above 1: only ranks that `torchrun` or srun started train on it.")
        if self._is_in_process:
            if spec.plan.world_size > 1:
                raise ConfigError("isolation: none trains in this process, on one device; set trainer.devices: 1.")
            if self._listed_devices() not in (None, [0]):
                raise ConfigError(
                    "isolation: none trains on the first GPU that this process sees: set trainer.devices: 1, and "
                    "choose the GPU with CUDA_VISIBLE_DEVICES."
                )
            Path(spec.folder).mkdir(parents=True, exist_ok=True)
            return run_here(spec, supervision)
        if spec.resume_file is not None:
            supervision = replace(supervision, grace_seconds=_GRACE_SECONDS)
        return self._processes().run(spec, supervision, devices=self._devices_of(worker, spec.plan))

    def call(self, function: str, spec: TrialSpec, supervision: Supervision, *arguments: Any) -> Any:
        """Call `module:function(spec, channel, *arguments)` and return its result.

        Raises:
            Crash: It failed, died or was cancelled.
            BsoptError: The user's code or settings are wrong.
        """
        return self._call(function, spec, supervision, *arguments, devices=self._listed_devices())

    def _call(
        self,
        function: str,
        spec: TrialSpec,
        supervision: Supervision,
        *arguments: Any,
        devices: list[int] | None = None,
    ) -> Any:
        supervision = self._timed(supervision)
        if not self._is_in_process:
            return self._processes().call(function, spec, supervision, *arguments, devices=devices)
        Path(spec.folder).mkdir(parents=True, exist_ok=True)
        module, _, name = function.partition(":")
        return getattr(importlib.import_module(module), name)(spec, DirectChannel(supervision), *arguments)

    @property
    def _is_in_process(self) -> bool:
        return self.config.isolation == "none" or not has_processes()

    def _processes(self) -> Launcher:
        """Return what starts trials in processes of their own; made once."""
        if self._launcher is None:
            factory = str(self.config.task.factory or "")
            self._launcher = Launcher(keep_main=factory.startswith("__main__"), preload=self._installed())
        return self._launcher

    def _installed(self) -> tuple[str, ...]:
        task = self.config.task.model_dump(mode="json", exclude_none=True)
        return installed_imports(task, [self.folder, Path.cwd()])

    def _timed(self, supervision: Supervision) -> Supervision:
        return replace(supervision, stall_seconds=float(self.config.limits.stall_timeout.value))

    def _listed_devices(self) -> list[int] | None:
        """Return the GPUs that the study file lists by their numbers; None where it only counts them."""
        chosen = self.config.trainer.get("devices", 1)
        return [int(device) for device in chosen] if isinstance(chosen, list) else None

    def _devices_of(self, worker: int | None, plan: Plan) -> list[int] | None:
        """Return the GPUs of one of the workers; None for all that there are."""
        listed, available = self._listed_devices(), self.description.num_available_devices
        if listed is not None or worker is None or not available or self.config.workers == 1:
            return listed
        first = worker * plan.num_devices
        return [(first + i) % available for i in range(plan.num_devices)]

    def _any_spec(self, plan: Plan, folder: str, variant: str | None = None) -> TrialSpec:
        """Return a trial of the study that isn't one of its trials."""
        params = {BATCH_SIZE: plan.global_batch_size, LR: self.config.search.lr.low, **some_params(self.config)}
        return replace(
            self.spec(0, params, plan, variant=variant), folder=str((self.config.folder / folder).absolute())
        )


def _share_of_device(config: StudyConfig, description: TaskDescription) -> int | None:
    """Return a trial's memory of a device that several workers share; None where each has its own."""
    if description.device_memory_bytes is None or not description.num_available_devices:
        return None
    sharing = -(-config.workers * description.num_devices // description.num_available_devices)
    if isinstance(config.trainer.get("devices"), list):
        sharing = config.workers  # each trains on the same ones
    return description.device_memory_bytes // sharing if sharing > 1 else None


def _needs_training() -> None:
    """Say what a light installation lacks before a process is started that would end for it."""
    for package in ("torch", "pytorch_lightning"):
        try:
            is_there = importlib.util.find_spec(package) is not None
        except ModuleNotFoundError:
            is_there = False
        if not is_there:
            raise MissingExtraError.of_training("training", package)
