"""What a Trainer is given: the study file's arguments over bsopt's defaults, the plan's over both."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest

from bsopt.errors import TaskError
from bsopt.training.task.build import Task
from bsopt.training.trainer_arguments import built_arguments, make_trainer, trainer_arguments
from bsopt.trial.plan import Plan
from bsopt.trial.spec import Budget, TrialSpec
from bsopt.units import Amount

TICK = Amount(1, "epochs")


@pytest.mark.parametrize(
    ("length", "max_steps", "expected"),
    [
        (Amount(3, "epochs"), None, (3, -1)),
        (Amount(2.5, "epochs"), 30, (3, 30)),
        (Amount(960, "samples"), 120, (-1, 120)),
        (Amount(120, "steps"), 120, (-1, 120)),
        (None, None, (-1, -1)),
    ],
)
def test_the_budget_becomes_epochs_and_steps(
    spec: TrialSpec, length: Amount | None, max_steps: int | None, expected: tuple[int, int]
) -> None:
    arguments = trainer_arguments(replace(spec, budget=Budget(length, TICK), max_steps=max_steps))
    assert (arguments["max_epochs"], arguments["max_steps"]) == expected


def test_the_plan_decides_on_devices_and_accumulation(spec: TrialSpec) -> None:
    alone = trainer_arguments(replace(spec, plan=Plan(8, 4)))
    assert (alone["devices"], alone["num_nodes"], alone["accumulate_grad_batches"]) == (1, 1, 4)
    assert "strategy" not in alone
    together = trainer_arguments(replace(spec, plan=Plan(8, 1, 2, 3)))
    assert (together["devices"], together["num_nodes"], together["strategy"]) == (2, 3, "ddp")


def test_a_look_at_the_task_takes_one_device(spec: TrialSpec) -> None:
    several = replace(spec, plan=Plan(8, 1, 2), trainer={**spec.trainer, "devices": 4, "strategy": "ddp"})
    arguments = trainer_arguments(several, for_training=False)
    assert (arguments["devices"], arguments["strategy"]) == (1, "auto")
    chosen = replace(several, trainer={"devices": [3, 1]})
    assert trainer_arguments(chosen, for_training=False)["devices"] == [3]
    assert trainer_arguments(several)["devices"] == 2


@pytest.mark.parametrize(
    ("length", "num_steps"),
    [(Amount(8190, "samples"), 1024), (Amount(3, "epochs"), -1), (Amount(120, "steps"), 120), (None, -1)],
)
def test_a_schedule_can_be_planned_where_the_task_is_only_looked_at(
    spec: TrialSpec, length: Amount | None, num_steps: int
) -> None:
    looked_at = replace(spec, budget=Budget(length, TICK), max_steps=None)
    assert trainer_arguments(looked_at, for_training=False)["max_steps"] == num_steps
    assert trainer_arguments(looked_at)["max_steps"] == -1


def test_a_strategy_that_the_accelerator_cannot_run_is_refused_in_lightnings_words(spec: TrialSpec) -> None:
    task = Task(None, None, "pytorch_lightning")
    arguments = built_arguments(replace(spec, trainer={"accelerator": "cpu", "strategy": "fsdp"}))
    with pytest.raises(TaskError, match=r"trainer: in the study file.*[Ff][Ss][Dd][Pp]"):
        make_trainer(task, arguments)


def test_the_study_file_overrides_defaults_but_not_the_clock(spec: TrialSpec) -> None:
    given = {"log_every_n_steps": 1, "strategy": "ddp_find_unused_parameters_true", "val_check_interval": 5}
    arguments = trainer_arguments(replace(spec, plan=Plan(8, 1, 2), trainer=given))
    assert (arguments["log_every_n_steps"], arguments["strategy"]) == (1, "ddp_find_unused_parameters_true")
    assert (arguments["val_check_interval"], arguments["check_val_every_n_epoch"]) == (sys.maxsize, None)
    assert arguments["default_root_dir"] == spec.folder


@pytest.mark.parametrize("is_list", [True, False])
def test_callbacks_of_the_study_file_are_built_and_come_first(spec: TrialSpec, is_list: bool) -> None:
    block: Any = {"class_path": "pytorch_lightning.callbacks.Timer", "init_args": {"interval": "epoch"}}
    ours = object()
    arguments = built_arguments(replace(spec, trainer={"callbacks": [block] if is_list else block}), [ours])
    assert [type(callback).__name__ for callback in arguments["callbacks"]] == ["Timer", "object"]
    assert arguments["callbacks"][-1] is ours
    assert arguments["logger"] is False


def test_an_argument_that_the_trainer_does_not_have_is_refused_with_the_nearest() -> None:
    with pytest.raises(TaskError, match=r"trainer\.precison: .* no such argument\. Did you mean 'precision'\?"):
        make_trainer(Task(None, None, "pytorch_lightning"), {"precison": "bf16-mixed"})
