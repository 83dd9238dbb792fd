"""Studies of the toy project, and studies whose trials only pretend to train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from bsopt.config import LoadedConfig, StudyConfig, load_config, validate_config
from bsopt.storage.attributes import read_records, write_info
from bsopt.study.compatibility import info_of
from bsopt.study.files import StudyFiles
from bsopt.study.runner import Callback, StudyRunner
from bsopt.study.task_runner import RanksLaunch, TaskRunner
from bsopt.training.processes.launcher import Supervision
from bsopt.trial.curve import best_tick
from bsopt.trial.events import Listener, RunSummary, TrialStart
from bsopt.trial.record import StopReason, Tick, TrialRecord
from bsopt.trial.spec import StopDecision, TaskDescription, TrialSpec

Load = Callable[..., LoadedConfig]


class Log(Listener):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.starts: list[TrialStart] = []
        self.ticks: list[tuple[int, Tick]] = []
        self.ends: list[TrialRecord] = []
        self.notes: list[str] = []

    def trial_started(self, start: TrialStart) -> None:
        self.starts.append(start)

    def ticked(self, number: int, tick: Tick) -> None:
        self.ticks.append((number, tick))

    def trial_ended(self, record: TrialRecord) -> None:
        self.ends.append(record)

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture
def log() -> Log:
    """A listener that keeps what it is told."""
    return Log()


@pytest.fixture
def load(project: Path) -> Load:
    """Load the toy project's study with overrides."""
    return lambda *overrides: load_config(project / "study.yaml", overrides)


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., StudyConfig]:
    """Make the configuration of a study whose task doesn't exist, with some blocks in place of the usual ones."""

    def make(**blocks: Any) -> StudyConfig:
        usual = {
            "name": "pretended",
            "task": {"model": "nowhere.Model", "data": "nowhere.Data"},
            "search": {"batch_size": {"low": 4, "high": 32}, "lr": {"low": 0.001, "high": 0.3}},
            "budget": {"trials": 4, "epochs": 3},
            "pruning": "none",
            "storage": "memory://",
            "output": str(tmp_path / "out"),
        }
        return validate_config({**usual, **blocks}, source="test")

    return make


@pytest.fixture
def description() -> TaskDescription:
    """What building a small task on a CPU would tell."""
    return TaskDescription(
        num_train_samples=96,
        num_train_batches=None,
        drop_last=False,
        package="pytorch_lightning",
        module="Model",
        data="Data",
        num_parameters=5,
        has_batch_norm=False,
        is_automatic=True,
        has_epoch_plateau_scheduler=False,
        optimizer="SGD",
        num_devices=1,
        num_available_devices=None,
        device="cpu",
        device_memory_bytes=None,
    )


def trained(spec: TrialSpec, supervision: Supervision, values: Sequence[float] = (3.0, 2.0, 1.0)) -> TrialRecord:
    """Tell a tick of 96 samples for each value, as far as the study lets the trial go on; return its record."""
    ticks: list[Tick] = []
    told = StopDecision()
    for index, value in enumerate(values, start=1):
        tick = Tick(
            index=index, samples=96.0 * index, step=index, epoch=float(index), seconds=float(index), value=value
        )
        ticks.append(tick)
        told = supervision.on_tick(tick)
        if told.is_stop:
            break
    reason, best = told.stop_reason or StopReason.COMPLETED, best_tick(ticks, spec.objective)
    return TrialRecord(
        number=spec.number,
        outcome=reason.outcome,
        batch_size=spec.batch_size,
        lr=spec.lr,
        params=spec.params,
        stop_reason=reason,
        message=told.message,
        value=best.value if best else None,
        best_tick=best.index if best else None,
        ticks=tuple(ticks),
        plan=spec.plan,
        seed=spec.seeds.data,
    )


class PretendedTask(TaskRunner):
    """A task that is described beforehand, and whose trials are trained by a function of the test."""

    def __init__(self, config: StudyConfig, described: TaskDescription, train: RanksLaunch = trained) -> None:
        super().__init__(config, Path("."), ranks=train)
        self._description = described


@dataclass
class Pretended:
    """A study in memory that is run by a real StudyRunner, again and again, with trials that only pretend to train."""

    config: StudyConfig
    task: PretendedTask
    log: Log = field(default_factory=Log)

    def __post_init__(self) -> None:
        direction = self.config.objective.value.value_direction
        sampler, pruner = optuna.samplers.RandomSampler(seed=0), optuna.pruners.NopPruner()
        self.optuna = optuna.create_study(direction=direction, sampler=sampler, pruner=pruner)
        description, limits = self.task.description, self.task.limits()
        write_info(self.optuna, info_of(self.config, description, limits, file=Path("study.yaml")))

    @property
    def records(self) -> list[TrialRecord]:
        return read_records(self.optuna)

    def run(self, *, callbacks: Sequence[Callback] = (), worker: str | None = None) -> RunSummary:
        files = StudyFiles(self.optuna, self.config)
        runner = StudyRunner(
            self.optuna,
            self.task,
            config=self.config,
            files=files,
            listener=self.log,
            callbacks=callbacks,
            worker=worker,
        )
        return runner.run()


@pytest.fixture
def pretend(configure: Callable[..., StudyConfig], description: TaskDescription) -> Callable[..., Pretended]:
    """Make a study whose trials are trained by a function of the test, by default to 3, 2, 1."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def make(train: RanksLaunch = trained, *, num_devices: int = 1, **blocks: Any) -> Pretended:
        config = configure(**blocks)
        return Pretended(config, PretendedTask(config, replace(description, num_devices=num_devices), train))

    return make


@pytest.fixture
def train_to() -> Callable[..., RanksLaunch]:
    """Return a function that trains every trial to the same values."""
    return lambda *values: lambda spec, supervision: trained(spec, supervision, values)


@pytest.fixture
def usual(train_to: Callable[..., RanksLaunch]) -> RanksLaunch:
    """Train a trial to 3, 2, 1."""
    return train_to(3.0, 2.0, 1.0)
