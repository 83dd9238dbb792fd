"""A study: ask -> plan -> train -> record. The only place where search and training meet."""

from __future__ import annotations

import importlib
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import optuna
from optuna.trial import FrozenTrial

from bsopt.config import LoadedConfig, StudyConfig, validate_config
from bsopt.errors import ConfigError, StudyError, TaskError, nearest
from bsopt.storage import queue
from bsopt.storage.attributes import BATCH_SIZE, LR, is_ours, read_info, read_record, read_records, write_info
from bsopt.storage.databases import open_storage, redacted
from bsopt.study.check import CheckReport, misfits, report
from bsopt.study.compatibility import check_unchanged, environment_of, find_or_make, is_same, stored_limit
from bsopt.study.files import StudyFiles, check_writable
from bsopt.study.make_spec import length_of, some_params, trial_spec
from bsopt.study.samplers import make_pruner, make_sampler, reference_of, rule_of
from bsopt.training.checkpoints import checkpoint_name
from bsopt.training.probe.probe import ProbeResult, ProbeRow, probe
from bsopt.training.processes.crash import Crash
from bsopt.training.processes.launcher import Launcher, has_processes, run_here
from bsopt.training.processes.supervision import DirectChannel, Supervision
from bsopt.trial.events import Listener, RunSummary, TrialStart
from bsopt.trial.plan import Limits, Plan, nearest_realisable
from bsopt.trial.record import StudyInfo, Tick, TrialRecord
from bsopt.trial.spec import StopDecision, TaskDescription, TrialSpec
from bsopt.units import in_samples

Callback: TypeAlias = Callable[[optuna.Study, FrozenTrial], None]

__all__ = ["Study", "delete_study", "list_studies", "load_study"]

_log = logging.getLogger(__name__)


class Study:
    """A study of batch size and learning rate on a user's own Lightning task.

    Attributes:
        optuna: The Optuna study.
        config: What its file says, defaults filled in.
        folder: The study file's folder, where imports are looked up first.
        ranks: Trains trials on ranks that were started elsewhere (bsopt.engines.ranks); None trains them here.
    """

    def __init__(self, study: optuna.Study, config: StudyConfig, folder: Path) -> None:
        self.optuna = study
        self.config = config
        self.folder = folder
        self._launcher: Launcher | None = None
        self._description: TaskDescription | None = None
        self._memory_limit: int | None = None
        self.ranks: Callable[[TrialSpec, Supervision], TrialRecord] | None = None

    @classmethod
    def create(cls, loaded: LoadedConfig, *, storage: str | None = None, study_name: str | None = None) -> Study:
        """Open the study that a file describes, making it where it doesn't exist yet.

        Args:
            loaded: The study file.
            storage: Address of the storage in place of the file's.
            study_name: Name in place of the file's.

        Raises:
            StudyError: It exists with another task, space, objective or trial length; the message says what changed.
            BsoptError: The storage can't be opened, or the task can't be built.
        """
        config = _renamed(loaded.config, storage, study_name)
        check_writable(config.folder)
        study = cls(find_or_make(config), config, loaded.folder)
        study._memory_limit = study._find_memory_limit()
        study._describe()
        return study

    @classmethod
    def check(cls, loaded: LoadedConfig, *, storage: str | None = None, study_name: str | None = None) -> CheckReport:
        """Validate all that can be validated without training, and say what will be run; leaves no study behind.

        Raises:
            BsoptError: The task can't be built or the storage can't be opened.
        """
        config = _renamed(loaded.config, storage, study_name)
        check_writable(config.folder)
        backend = open_storage(config.storage)
        if config.name in optuna.get_all_study_names(backend):
            check_unchanged(optuna.load_study(study_name=config.name, storage=backend), config)
        study = cls(optuna.create_study(), config, loaded.folder)
        make_sampler(config)
        return report(config, study.description, study.limits(), storage=redacted(config.storage))

    @property
    def info(self) -> StudyInfo:
        """What the study searches and how it trains, as stored."""
        return read_info(self.optuna)

    @property
    def records(self) -> list[TrialRecord]:
        """What every trial measured, oldest first."""
        return read_records(self.optuna)

    @property
    def description(self) -> TaskDescription:
        """What building the task told; built once."""
        if self._description is None:
            self._description = self._ask_task()
        return self._description

    def run(
        self, listener: Listener | None = None, *, callbacks: Sequence[Callback] = (), worker: str | None = None
    ) -> RunSummary:
        """Run trials until the study has its total number; continues what an earlier run began.

        A first Ctrl-C (or SIGTERM) ends the trials under way as interrupted and returns; they are run again
        by the next run. A second one ends at once.

        Args:
            listener: Receives what happens.
            callbacks: Optuna callbacks, called with the study and each ended trial.
            worker: The name that a leader gave this run (bsopt.engines). Without one, the run stays until the
                trials of other hosts have ended, and runs them again if their host is gone.

        Raises:
            BsoptError: The user's code or settings are wrong; what was measured before is kept.
        """
        from bsopt.study.runner import StudyRun

        return StudyRun(self, listener or Listener(), callbacks=callbacks, worker=worker).run()

    def train(self, trial: int | None = None, *, listener: Listener | None = None) -> TrialRecord:
        """Train the best trial's, or a given trial's, configuration at full budget and keep its best weights.

        Args:
            trial: Number of a trial; None for the best.
            listener: Receives what happens.

        Returns:
            The record; `measurements["checkpoint"]` is the path of the best weights.

        Raises:
            StudyError: There is no such trial, or none succeeded yet.
            BsoptError: The training failed.
        """
        watch = listener or Listener()
        frozen = self._trial(trial)
        record = read_record(self.optuna, frozen)
        limits = self.limits()
        plan = record.plan or nearest_realisable(int(frozen.params[BATCH_SIZE]), limits)
        folder = self.config.folder / f"train-{frozen.number:04d}"
        shutil.rmtree(folder, ignore_errors=True)
        spec = replace(
            self.spec(frozen.number, frozen.params, plan, root=queue.root_of(frozen)),
            folder=str(folder),
            checkpoints=("best",),
            resume_file=None,
            objective=replace(self.config.objective.value, target=None, cost=None),
        )
        watch.trial_started(self._start(spec))

        def on_tick(tick: Tick) -> StopDecision:
            watch.ticked(frozen.number, tick)
            return StopDecision()

        try:
            result = self.launch(spec, Supervision(on_tick, lambda: False, stall_seconds=self._stall_seconds))
        except Crash as crash:
            raise TaskError(f"the training failed: {crash.full_message}") from crash
        result = replace(
            result, measurements={**result.measurements, "checkpoint": str(folder / checkpoint_name("best"))}
        )
        watch.trial_ended(result)
        return result

    @property
    def files(self) -> StudyFiles:
        """The trials' logs and weights, and the artifact store."""
        return StudyFiles(self.optuna, self.config)

    @property
    def designed_patience(self) -> float | None:
        """Nominal samples without improvement after which a designed run ends; None without an experiment."""
        experiment = self.config.experiment
        if experiment is None:
            return None
        return in_samples(experiment.patience, self.info.num_train_samples, "experiment.patience")

    def limits(self) -> Limits:
        """Return what the devices and the user allow."""
        config, description = self.config, self.description
        users = config.limits.max_micro_batch_size
        return Limits(
            num_devices=description.num_devices,
            num_nodes=int(config.trainer.get("num_nodes", 1)),
            max_micro_batch_size=users if users is not None else self._memory_limit,
            max_global_batch_size=description.num_train_samples,
            allow_accumulation=config.limits.accumulation,
            why="limits.max_micro_batch_size" if users is not None else "memory",
        )

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
        n = description.num_train_samples or sizes[-1]
        most = max((size for size in sizes if size <= n), default=n)
        spec = self._any_spec(Plan(1, 1, num_devices=world), "probe")
        try:
            return probe(
                spec,
                self.launcher,
                Supervision(stall_seconds=self._stall_seconds),
                smallest=max(1, sizes[0] // world),
                largest=max(1, most // world),
                powers_of_two=config.search.batch_size.lattice == "pow2",
                budget_bytes=config.limits.memory or _share_of_device(config, description),
                on_row=on_row,
            )
        except Crash as crash:
            raise TaskError(f"the probe failed: {crash.full_message}") from crash

    def spec(
        self,
        number: int,
        params: Mapping[str, Any],
        plan: Plan,
        *,
        root: int | None = None,
        replicate: int | None = None,
        is_designed: bool = False,
    ) -> TrialSpec:
        """Return everything that a trial's processes need; the arguments are those of `trial_spec`."""
        resume_file = self.files.resume_file(number if root is None else root) if self.config.resume else None
        return trial_spec(
            self.config,
            number,
            params,
            plan,
            study_folder=self.folder,
            trial_folder=self.files.folder_of(number),
            resume_file=resume_file,
            description=self._description,
            root=root,
            replicate=replicate,
            is_designed=is_designed,
        )

    def launch(self, spec: TrialSpec, supervision: Supervision, *, devices: Sequence[int] | None = None) -> TrialRecord:
        """Train a trial where the study's `isolation` says.

        Raises:
            Crash: It failed, died or was cancelled.
            BsoptError: The user's code or settings are wrong.
        """
        if self.ranks is not None:
            return self.ranks(spec, supervision)
        if spec.plan.num_nodes > 1:
            raise ConfigError("trainer.num_nodes is above 1: only ranks that `torchrun` or srun started train on it.")
        if self._in_process:
            if spec.plan.world_size > 1:
                raise ConfigError("isolation: none trains in this process, on one device; set trainer.devices: 1.")
            Path(spec.folder).mkdir(parents=True, exist_ok=True)
            return run_here(spec, supervision)
        return self.launcher.run(spec, supervision, devices=devices)

    def call(self, function: str, spec: TrialSpec, supervision: Supervision, *arguments: Any) -> Any:
        """Call `module:function(spec, channel, *arguments)` where the study's `isolation` says.

        Raises:
            Crash: It failed, died or was cancelled.
            BsoptError: The user's code or settings are wrong.
        """
        if not self._in_process:
            return self.launcher.call(function, spec, supervision, *arguments)
        Path(spec.folder).mkdir(parents=True, exist_ok=True)
        module, _, name = function.partition(":")
        return getattr(importlib.import_module(module), name)(spec, DirectChannel(supervision), *arguments)

    @property
    def launcher(self) -> Launcher:
        """Starts trials in processes of their own."""
        if self._launcher is None:
            factory = str(self.config.task.factory or "")
            self._launcher = Launcher(keep_main=factory.startswith("__main__"))
        return self._launcher

    @property
    def _in_process(self) -> bool:
        return self.config.isolation == "none" or not has_processes()

    @property
    def _stall_seconds(self) -> float:
        return float(self.config.limits.stall_timeout.value)

    def _start(self, spec: TrialSpec) -> TrialStart:
        info = self.info
        ticks = None
        if info.budget_samples and info.tick_samples:
            ticks = int(-(-info.budget_samples * (1 - 1e-9) // info.tick_samples))
        return TrialStart(
            number=spec.number,
            batch_size=spec.batch_size,
            lr=spec.lr,
            params=spec.params,
            plan=spec.plan,
            num_ticks=ticks,
            log=str(Path(spec.folder) / "log.txt"),
        )

    def _trial(self, number: int | None) -> FrozenTrial:
        if number is None:
            try:
                return self.optuna.best_trial
            except ValueError as error:
                raise StudyError(f"the study {self.config.name!r} has no successful trial yet.") from error
        trials = self.optuna.get_trials(deepcopy=False)
        if not 0 <= number < len(trials):
            raise StudyError(
                f"the study {self.config.name!r} has no trial {number}; it has {len(trials)} (0 is the first)."
            )
        if not {BATCH_SIZE, LR} <= set(trials[number].params):
            raise StudyError(f"trial {number} has no batch_size and lr yet.")
        return trials[number]

    def _any_spec(self, plan: Plan, folder: str) -> TrialSpec:
        """Return a trial of the study that isn't one of its trials."""
        params = {BATCH_SIZE: plan.global_batch_size, LR: self.config.search.lr.low, **some_params(self.config)}
        return replace(self.spec(0, params, plan), folder=str((self.config.folder / folder).absolute()))

    def _find_memory_limit(self) -> int | None:
        """Return the largest micro-batch that memory allows, as stored or probed now; None where nothing limits it."""
        config, description = self.config, self.description
        has_limit = config.limits.memory is not None or description.device_memory_bytes is not None
        if config.limits.max_micro_batch_size is not None or not has_limit or not has_processes():
            return None
        if is_ours(self.optuna) and (stored := stored_limit(self.info, config, description)) is not None:
            return stored
        result = self.probe()
        if not result.max_micro_batch_size:
            raise TaskError(f"{result.message} Use a smaller model or smaller samples, or raise limits.memory.")
        _log.info(result.message)
        return result.max_micro_batch_size

    def _ask_task(self) -> TaskDescription:
        spec = self._any_spec(Plan(self.config.search.batch_size.sizes()[0]), "task")
        supervision = Supervision(stall_seconds=self._stall_seconds)
        try:
            description = self.call("bsopt.training.task.describe:describe_task", spec, supervision)
        except Crash as crash:
            raise TaskError(f"the task can't be built: {crash.full_message}") from crash
        assert isinstance(description, TaskDescription)
        return description

    def _describe(self) -> None:
        """Build the task once, check it against the study, and store what the study is."""
        description, config = self.description, self.config
        n, budget = description.num_train_samples, config.budget
        problems = misfits(config, description, self.limits())
        if problems:
            raise ConfigError("\n".join(problems))
        every = in_samples(budget.validate_every, n, "budget.validate_every")
        length = length_of(config)
        samples = None if length is None or length.unit == "steps" else in_samples(length, n, "budget.epochs")
        lattice = config.search.batch_size
        info = StudyInfo(
            name=config.name,
            objective=config.objective.value,
            batch_size_range=(lattice.low, lattice.high),
            lr_range=(config.search.lr.low, config.search.lr.high),
            batch_sizes=() if lattice.lattice == "any" else lattice.sizes(),
            rule=rule_of(config.search),
            reference=reference_of(config.search),
            optimizer=description.optimizer or config.search.optimizer,
            num_train_samples=n,
            budget_samples=samples,
            tick_samples=every,
            num_devices=description.num_devices,
            num_nodes=int(config.trainer.get("num_nodes", 1)),
            seed=config.seed,
            num_trials=budget.trials,
            has_batch_norm=description.has_batch_norm,
            max_micro_batch_size=self.limits().max_micro_batch_size,
            config={**config.as_dict(), "storage": redacted(config.storage), "folder": str(self.folder)},
            environment=environment_of(description),
        )
        if not is_ours(self.optuna) or not is_same(self.info, info):
            write_info(self.optuna, info)
        prior = None
        if config.search.prior_from:
            prior = load_study(config.search.prior_from, config.storage).optuna
        self.optuna.sampler = make_sampler(config, prior_from=prior)
        self.optuna.pruner = make_pruner(config, info)


def load_study(name: str, storage: str = "sqlite:///bsopt.db") -> Study:
    """Return a study that bsopt ran, from its storage.

    Raises:
        StudyError: There is no such study, or bsopt didn't make it.
        StorageError: The storage can't be opened.
    """
    backend = open_storage(storage)
    names = optuna.get_all_study_names(backend)
    if name not in names:
        known = f" There are: {', '.join(sorted(names))}." if names else " It holds no study yet."
        raise StudyError(f"there is no study {name!r} in {redacted(storage)}.{nearest(name, names)}{known}")
    study = optuna.load_study(study_name=name, storage=backend)
    stored = dict(read_info(study).config)
    if not stored:
        raise StudyError(
            f"the study {name!r} wasn't made by bsopt, so there is no task to train. Figures and reports work on it."
        )
    folder = Path(stored.pop("folder", "."))
    config = validate_config({**stored, "storage": storage}, source=f"study {name}")
    loaded = Study(study, config, folder)
    loaded._memory_limit = read_info(study).max_micro_batch_size
    return loaded


def list_studies(storage: str) -> list[optuna.Study]:
    """Return the studies in a storage, by name.

    Raises:
        StorageError: The storage can't be opened.
    """
    backend = open_storage(storage)
    return [optuna.load_study(study_name=n, storage=backend) for n in sorted(optuna.get_all_study_names(backend))]


def delete_study(name: str, storage: str) -> None:
    """Delete a study from its storage; files in its output folder stay.

    Raises:
        StudyError: There is no such study.
        StorageError: The storage can't be opened.
    """
    backend = open_storage(storage)
    if name not in optuna.get_all_study_names(backend):
        raise StudyError(f"there is no study {name!r} in {redacted(storage)}.")
    optuna.delete_study(study_name=name, storage=backend)


def _renamed(config: StudyConfig, storage: str | None, name: str | None) -> StudyConfig:
    return config.model_copy(update={"storage": storage or config.storage, "name": name or config.name})


def _share_of_device(config: StudyConfig, description: TaskDescription) -> int | None:
    """Return a trial's memory of a device that several workers share; None where each has its own."""
    if description.device_memory_bytes is None or not description.num_available_devices:
        return None
    sharing = -(-config.workers * description.num_devices // description.num_available_devices)
    return description.device_memory_bytes // sharing if sharing > 1 else None
