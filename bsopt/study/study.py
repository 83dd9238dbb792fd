"""A study: its task, its trials and its files, made from a study file or opened again by name."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from bsopt.config import LoadedConfig, StudyConfig, validate_config
from bsopt.config.schema import check_name
from bsopt.errors import ConfigError, StudyError, TaskError, nearest
from bsopt.storage import queue
from bsopt.storage.attributes import BATCH_SIZE, LR, is_ours, read_info, read_record, read_records, write_info
from bsopt.storage.databases import open_storage, redacted
from bsopt.study.check import CheckReport, misfits, report, with_first_step
from bsopt.study.compatibility import find, find_or_make, info_of, is_same, stored_limit
from bsopt.study.files import StudyFiles, check_writable
from bsopt.study.make_spec import keeps_state
from bsopt.study.measured_start import beyond_range, is_open, measured_start, with_start
from bsopt.study.runner import Callback, StudyRunner
from bsopt.study.running_trial import start_of
from bsopt.study.samplers import make_pruner, make_sampler, with_optimizer
from bsopt.study.task_runner import RanksLaunch, TaskRunner
from bsopt.training.processes.crash import Crash
from bsopt.training.processes.supervision import Supervision
from bsopt.trial.curve import end_by_value
from bsopt.trial.events import Listener, RunSummary
from bsopt.trial.plan import nearest_realisable
from bsopt.trial.record import StudyInfo, Tick, TrialRecord
from bsopt.trial.spec import StopDecision, checkpoint_name

__all__ = ["Study", "delete_study", "list_studies", "load_study"]


class Study:
    """A study of batch size and learning rate on a user's own Lightning task.

    `Study.create` makes one from a study file, `load_study` opens one by name.

    Args:
        study: The Optuna study.
        task: Builds, probes and trains what is studied.
        file: The study file.

    Attributes:
        optuna: The Optuna study.
        task: The task, as the study file describes it.
        config: What the study file says, defaults filled in.
        file: The study file, in whose folder imports are looked up first.
        files: The trials' logs and weights, and the artifact store.
    """

    def __init__(self, study: optuna.Study, task: TaskRunner, file: Path) -> None:
        self.optuna = study
        self.task = task
        self.config = task.config
        self.file = file
        self.files = StudyFiles(study, task.config)
        self._is_prepared = False

    @classmethod
    def create(
        cls,
        loaded: LoadedConfig,
        *,
        storage: str | None = None,
        study_name: str | None = None,
        ranks: RanksLaunch | None = None,
    ) -> Study:
        """Open the study that a file describes, making it where it doesn't exist yet.

        Args:
            loaded: The study file.
            storage: Address of the storage in place of the file's.
            study_name: Name in place of the file's.
            ranks: Trains trials on ranks that were started elsewhere (bsopt.engines.ranks); None trains them here.

        Raises:
            StudyError: It exists with another task, space, objective or trial length; the message says what changed.
            BsoptError: The storage can't be opened, or the task can't be built.
        """
        config = _renamed(loaded.config, storage, study_name)
        check_writable(config.folder)
        study = cls(find_or_make(config), TaskRunner(config, loaded.folder, ranks=ranks), loaded.path)
        study._prepare()
        return study

    @classmethod
    def check(
        cls,
        loaded: LoadedConfig,
        *,
        storage: str | None = None,
        study_name: str | None = None,
        step: bool = True,
    ) -> CheckReport:
        """Validate all that can be before a run, and say what will be run; leaves no study behind.

        Args:
            loaded: The study file.
            storage: Address of the storage in place of the file's.
            study_name: Name in place of the file's.
            step: Whether one optimizer step is trained and two batches are validated, as in a trial.

        Raises:
            BsoptError: The task can't be built or the storage can't be opened.
        """
        config = _renamed(loaded.config, storage, study_name)
        check_writable(config.folder)
        backend = open_storage(config.storage)
        find(config, backend)
        _check_earlier(config.search.prior_from, backend)
        task = TaskRunner(config, loaded.folder)
        make_sampler(with_optimizer(config, task.description.optimizer))
        found = report(config, task.description, task.limits(), storage=redacted(config.storage))
        if found.problems:
            return found
        make_pruner(config, info_of(config, task.description, task.limits(), file=loaded.path))
        return with_first_step(found, task) if step else found

    @property
    def info(self) -> StudyInfo:
        """What the study searches and how it trains, as stored."""
        return read_info(self.optuna)

    @property
    def records(self) -> list[TrialRecord]:
        """What every trial measured, oldest first."""
        return read_records(self.optuna)

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
        if not self._is_prepared:
            self._prepare()
        self._find_start(listener or Listener())
        runner = StudyRunner(
            self.optuna,
            self.task,
            config=self.config,
            files=self.files,
            listener=listener or Listener(),
            callbacks=callbacks,
            worker=worker,
        )
        return runner.run()

    def train(self, trial: int | None = None, *, listener: Listener | None = None) -> TrialRecord:
        """Train the best trial's, or a given trial's, configuration at full budget and keep its best weights.

        Args:
            trial: Number of a trial; None for the best.
            listener: Receives what happens.

        Returns:
            The record; `measurements["checkpoint"]` is the path of the best weights.

        Raises:
            StudyError: There is no such trial, or none succeeded yet.
            TaskError: The training failed.
        """
        watch = listener or Listener()
        frozen = self._trial(trial)
        limits = self.task.limits()
        plan = read_record(self.optuna, frozen).plan or nearest_realisable(int(frozen.params[BATCH_SIZE]), limits)
        folder = self.config.folder / f"train-{frozen.number:04d}"
        shutil.rmtree(folder, ignore_errors=True)
        spec = replace(
            self.task.spec(frozen.number, frozen.params, plan, root=queue.root_of(frozen)),
            folder=str(folder),
            checkpoints=("best",),
            resume_file=None,
            objective=replace(self.config.objective.value, target=None, cost=None),
        )
        start = start_of(frozen.number, spec.params, plan=plan, lr=spec.lr, info=self.info, folder=folder)
        watch.trial_started(start)

        ticks: list[Tick] = []

        def on_tick(tick: Tick) -> StopDecision:
            ticks.append(tick)
            watch.ticked(frozen.number, tick)
            return end_by_value(ticks, spec.objective)

        try:
            record = self.task.launch(spec, Supervision(on_tick, lambda: False))
        except Crash as crash:
            raise TaskError(f"the training failed: {crash.full_message}") from crash
        checkpoint = str(folder / checkpoint_name("best"))
        record = replace(record, measurements={**record.measurements, "checkpoint": checkpoint})
        watch.trial_ended(record)
        return record

    def _trial(self, number: int | None) -> FrozenTrial:
        """Return a trial that has been asked for its parameters; the best one for None."""
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

    def _prepare(self) -> None:
        """Build the task once, check it against the study, store what the study is, and set sampler and pruner."""
        study, task = self.optuna, self.task
        config = with_optimizer(self.config, task.description.optimizer)
        stored = self.info if is_ours(study) else None
        task.find_memory_limit(stored_limit(stored, config, task.description) if stored is not None else None)
        problems = misfits(config, task.description, task.limits())
        if problems:
            raise ConfigError("\n".join(problems))
        info = info_of(config, task.description, task.limits(), file=self.file)
        info = with_start(info, stored.measured_start if stored is not None else None)
        if stored is None or not is_same(stored, info):
            write_info(study, info)
        self._set_sampler(config, info)
        earlier = self._earlier(config)
        is_alike = earlier is not None and is_ours(earlier) and read_info(earlier).objective == info.objective
        pauses = keeps_state(config, task.description)
        study.pruner = make_pruner(config, info, pauses=pauses, prior_from=earlier if is_alike else None)
        self._is_prepared = True

    def _set_sampler(self, config: StudyConfig, info: StudyInfo) -> None:
        self.optuna.sampler = make_sampler(config, reference=info.reference, prior_from=self._earlier(config))

    def _earlier(self, config: StudyConfig) -> optuna.Study | None:
        """Return the study of `search.prior_from`."""
        name = config.search.prior_from
        return load_study(name, config.storage).optuna if name else None

    def _find_start(self, listener: Listener) -> None:
        """Measure where the learning rate lives before the first trial, where the study file leaves that open."""
        config, info = with_optimizer(self.config, self.task.description.optimizer), self.info
        if info.measured_start is not None or not is_open(config) or self.optuna.get_trials(deepcopy=False):
            return
        start = measured_start(config, self.task, info)
        if start.lr is not None or config.search.lr.measure == "always":
            listener.note(f"the learning rate was {start}")
        if warning := beyond_range(config, start):
            listener.note(warning)
        info = with_start(info, start)
        write_info(self.optuna, info)
        self._set_sampler(config, info)


def load_study(name: str, storage: str = "sqlite:///bsopt.db") -> Study:
    """Return a study that bsopt ran, from its storage.

    Args:
        name: Its name.
        storage: The storage's address.

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
    info = read_info(study)
    if not info.config:
        raise StudyError(
            f"the study {name!r} wasn't made by bsopt, so there is no task to train. Figures and reports work on it."
        )
    config = validate_config({**info.config, "storage": storage}, source=f"study {name}")
    file = Path(info.file or "study.yaml")
    return Study(study, TaskRunner(config, file.parent, memory_limit=info.max_micro_batch_size), file)


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


def _check_earlier(name: str | None, storage: BaseStorage) -> None:
    """Refuse the name of an earlier study that the storage doesn't hold."""
    names = optuna.get_all_study_names(storage) if name is not None else []
    if name is not None and name not in names:
        raise ConfigError(f"search.prior_from: there is no study {name!r} in the storage.{nearest(name, names)}")


def _renamed(config: StudyConfig, storage: str | None, name: str | None) -> StudyConfig:
    names = {"storage": storage or config.storage, "name": check_name(name or config.name)}
    return config.model_copy(update=names)
