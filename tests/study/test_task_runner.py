"""A study's task, without a study."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bsopt.config import StudyConfig
from bsopt.errors import ConfigError, MissingExtraError, TaskError
from bsopt.study.task_runner import TaskRunner
from bsopt.training.probe.probe import ProbeResult, ProbeRow
from bsopt.training.processes.crash import Crash
from bsopt.training.processes.launcher import Launcher, Supervision
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason, Tick, TrialRecord
from bsopt.trial.spec import StopDecision, TaskDescription, TrialSpec

Configure = Callable[..., StudyConfig]
UNWATCHED = Supervision(lambda tick: StopDecision(), lambda: False)
PARAMS = {"batch_size": 8, "lr": 0.1}


@pytest.fixture
def task_of(configure: Configure, description: TaskDescription) -> Callable[..., TaskRunner]:
    """Return a function that makes a task of study file blocks, described as it is told."""

    def make(changes: Mapping[str, Any] | None = None, *, ranks: Any = None, **blocks: Any) -> TaskRunner:
        task = TaskRunner(configure(**blocks), Path("."), ranks=ranks)
        task._description = replace(description, **(changes or {}))
        return task

    return make


@pytest.mark.parametrize("package", ["torch", "pytorch_lightning"])
def test_a_light_installation_is_told_what_training_needs(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(MissingExtraError, match=f"{package} isn't installed: pip install torch pytorch-lightning"):
        _ = TaskRunner(configure(), Path(".")).description


def test_the_users_limit_comes_before_memorys(task_of: Callable[..., TaskRunner]) -> None:
    both = task_of({"device_memory_bytes": 2**30}, limits={"max_micro_batch_size": 16})
    both.find_memory_limit(8)
    assert (both.limits().max_micro_batch_size, both.limits().why) == (16, "limits.max_micro_batch_size")
    memory = task_of({"device_memory_bytes": 2**30})
    memory.find_memory_limit(8)
    assert (memory.limits().max_micro_batch_size, memory.limits().why) == (8, "memory")


def test_nothing_is_probed_where_nothing_limits_memory_or_the_limit_is_known(
    task_of: Callable[..., TaskRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TaskRunner, "probe", lambda self: pytest.fail("probed"))
    on_cpu = task_of()
    on_cpu.find_memory_limit(8)
    assert on_cpu.limits().max_micro_batch_size is None
    known = task_of(limits={"memory": "1 GiB"})
    known.find_memory_limit(8)
    assert known.limits().max_micro_batch_size == 8


@pytest.mark.parametrize("found", [0, 4])
def test_what_a_probe_finds_is_the_limit(
    task_of: Callable[..., TaskRunner], monkeypatch: pytest.MonkeyPatch, found: int
) -> None:
    result = ProbeResult((), None, None, None, found, True, None, "the finding")  # type: ignore[arg-type]
    monkeypatch.setattr(TaskRunner, "probe", lambda self: result)
    task = task_of(limits={"memory": "1 GiB"})
    if found:
        task.find_memory_limit()
        assert task.limits().max_micro_batch_size == 4
    else:
        with pytest.raises(TaskError, match=r"the finding .* raise limits\.memory"):
            task.find_memory_limit()


@pytest.mark.parametrize(
    ("trainer", "workers", "available", "devices"),
    [
        ({"devices": 1}, 3, 4, [[0], [1], [2]]),
        ({"devices": 2}, 3, 4, [[0, 1], [2, 3], [0, 1]]),
        ({"devices": 1}, 1, 4, [None]),
        ({"devices": 1}, 2, None, [None, None]),
        ({"devices": 2}, 2, 3, [[0, 1], [2, 0]]),
        ({"devices": [3, 5]}, 2, 8, [[3, 5], [3, 5]]),
        ({"devices": [3]}, 1, 8, [[3]]),
    ],
)
def test_workers_divide_the_gpus(
    task_of: Callable[..., TaskRunner],
    monkeypatch: pytest.MonkeyPatch,
    trainer: dict[str, Any],
    workers: int,
    available: int | None,
    devices: list[Any],
) -> None:
    used = []
    monkeypatch.setattr(Launcher, "run", lambda self, spec, supervision, devices: used.append(devices))
    num_devices = len(trainer["devices"]) if isinstance(trainer["devices"], list) else trainer["devices"]
    task = task_of({"num_available_devices": available}, trainer=trainer, workers=workers)
    spec = task.spec(0, PARAMS, Plan(4, num_devices=num_devices))
    for worker in range(workers):
        task.launch(spec, UNWATCHED, worker=worker)
    assert used == devices
    task.launch(spec, UNWATCHED)
    assert used[-1] == (trainer["devices"] if isinstance(trainer["devices"], list) else None)


def test_gpus_that_the_study_lists_are_probed_and_examined_and_described_as_themselves(
    task_of: Callable[..., TaskRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Any] = []

    def call(self: Launcher, function: str, *arguments: Any, devices: Any = None) -> Any:
        used.append((function.rpartition(":")[2], devices))
        size = arguments[0].plan.micro_batch_size
        return ProbeRow(size, "ok", seconds_per_step=1.0, peak_memory_bytes=size) if "probe" in function else {}

    monkeypatch.setattr(Launcher, "call", call)
    task = task_of({"num_available_devices": 8}, trainer={"devices": [3]})
    assert task.probe().max_micro_batch_size > 0
    task.call("examining:examine", task.spec(5, PARAMS, Plan(8)), UNWATCHED)
    assert used[-1] == ("examine", [3])
    assert {name for name, devices in used if devices == [3]} == {"measure", "examine"}
    assert all(devices == [3] for _, devices in used)
    task._description = None
    with pytest.raises(AssertionError):
        task.description  # noqa: B018  (the Trainer looks for number 3 by itself)
    assert used[-1] == ("describe_task", None)


@pytest.mark.parametrize(
    ("trainer", "workers", "num_devices", "available", "share"),
    [
        ({"devices": 1}, 2, 1, 2, None),
        ({"devices": 1}, 2, 1, 1, 500),
        ({"devices": 1}, 5, 1, 2, 333),
        ({"devices": 2}, 2, 2, 3, 500),
        ({"devices": [3, 5]}, 2, 2, 8, 500),
        ({"devices": [3, 5]}, 1, 2, 8, None),
        ({"devices": 1}, 3, 1, None, None),
    ],
)
def test_workers_that_share_a_gpu_divide_its_memory(
    task_of: Callable[..., TaskRunner],
    monkeypatch: pytest.MonkeyPatch,
    trainer: dict[str, Any],
    workers: int,
    num_devices: int,
    available: int | None,
    share: int | None,
) -> None:
    budgets: list[int | None] = []
    monkeypatch.setattr("bsopt.study.task_runner.probe", lambda *_, budget_bytes, **__: budgets.append(budget_bytes))
    memory = 1000 if available is not None else None
    told = {"num_devices": num_devices, "num_available_devices": available, "device_memory_bytes": memory}
    task_of(told, trainer=trainer, workers=workers).probe()
    task_of(told, trainer=trainer, workers=workers, limits={"memory": "100 B"}).probe()
    assert budgets == [share, 100]


def test_in_this_process_only_the_first_gpu_can_be_had(task_of: Callable[..., TaskRunner]) -> None:
    task = task_of(isolation="none", trainer={"devices": [3]})
    with pytest.raises(ConfigError, match=r"set trainer\.devices: 1, and choose the GPU with CUDA_VISIBLE_DEVICES"):
        task.launch(task.spec(0, PARAMS, Plan(8)), UNWATCHED)


def test_ranks_that_were_started_elsewhere_train_the_trial_and_hear_the_time_limit(
    task_of: Callable[..., TaskRunner],
) -> None:
    told: list[Supervision] = []

    def ranks(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        told.append(supervision)
        return TrialRecord(spec.number, "complete")

    task = task_of(ranks=ranks, limits={"stall_timeout": "7 s"})
    assert task.launch(task.spec(3, PARAMS, Plan(8, num_nodes=2)), UNWATCHED).number == 3
    assert told[0].stall_seconds == 7.0


@pytest.mark.parametrize(
    ("isolation", "plan", "words"),
    [("process", Plan(8, num_nodes=2), "num_nodes is above 1"), ("none", Plan(8, num_devices=2), "on one device")],
)
def test_plans_that_cannot_be_trained_here_are_refused(
    task_of: Callable[..., TaskRunner], isolation: str, plan: Plan, words: str
) -> None:
    task = task_of(isolation=isolation)
    with pytest.raises(ConfigError, match=words):
        task.launch(task.spec(0, PARAMS, plan), UNWATCHED)


def test_a_function_is_called_in_this_process_without_isolation(
    task_of: Callable[..., TaskRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    def examine(spec: TrialSpec, channel: Any, argument: int) -> tuple[int, int, bool]:
        channel.progress(1, 2)
        return spec.number, argument, channel.is_cancelled()

    monkeypatch.setitem(sys.modules, "examining", SimpleNamespace(examine=examine))
    steps: list[tuple[int, int]] = []
    watched = replace(UNWATCHED, on_progress=lambda done, total: steps.append((done, total)))
    task = task_of(isolation="none")
    assert task.call("examining:examine", task.spec(5, PARAMS, Plan(8)), watched, 3) == (5, 3, False)
    assert steps == [(1, 2)]


def test_a_task_that_crashes_is_told_as_the_users(
    task_of: Callable[..., TaskRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(self: Launcher, *arguments: Any, **_: Any) -> Any:
        raise Crash(StopReason.FAILED, "ValueError: no data")

    monkeypatch.setattr(Launcher, "call", call)
    task = task_of()
    with pytest.raises(TaskError, match="the probe failed: ValueError: no data"):
        task.probe()
    task._description = None
    with pytest.raises(TaskError, match="the task can't be built: ValueError: no data"):
        task.description  # noqa: B018


def test_a_platform_without_processes_probes_nothing(
    task_of: Callable[..., TaskRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bsopt.study.task_runner.has_processes", lambda: False)
    task = task_of(limits={"memory": "1 GiB"})
    task.find_memory_limit()
    assert task.limits().max_micro_batch_size is None
    with pytest.raises(ConfigError, match="processes of its own, which this platform doesn't offer"):
        task.probe()


def test_a_rehearsal_ends_at_its_first_step_and_stores_nothing(
    task_of: Callable[..., TaskRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    decisions: list[StopDecision] = []

    def run(self: Launcher, spec: TrialSpec, supervision: Supervision, devices: Any) -> TrialRecord:
        assert (spec.budget.tick_every.value, spec.budget.tick_every.unit) == (1.0, "samples")
        assert (spec.is_rehearsal, spec.checkpoints, spec.resume_file) == (True, (), None)
        assert spec.trainer["limit_val_batches"] == 2
        decisions.append(supervision.on_tick(Tick(1, samples=8, step=1, epoch=0.1, seconds=1.0, value=2.0)))
        return TrialRecord(spec.number, "complete")

    monkeypatch.setattr(Launcher, "run", run)
    assert task_of().rehearse(Plan(4, 2)).outcome == "complete"
    assert (decisions[0].stop_reason, decisions[0].message) == (StopReason.COMPLETED, "its first step")
