"""From a study file and a trial's parameters to what its processes are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bsopt.config import StudyConfig
from bsopt.study.make_spec import some_params, trial_spec
from bsopt.trial.plan import Plan
from bsopt.trial.spec import TaskDescription, TrialSpec
from bsopt.units import Amount

Configure = Callable[..., StudyConfig]
PARAMS = {"batch_size": 8, "lr": 0.1}


def spec_of(config: StudyConfig, number: int = 0, plan: Plan | None = None, **options: Any) -> TrialSpec:
    return trial_spec(config, number, PARAMS, plan or Plan(8), study_folder=Path("here"), **options)


def test_trials_of_the_search_share_their_weights_and_shuffle_their_own_way(configure: Configure) -> None:
    config = configure(seed=7)
    seeds = [spec_of(config, number).seeds for number in range(20)]
    assert {seed.weights for seed in seeds} == {7}
    assert len({seed.data for seed in seeds}) == 20
    assert spec_of(configure(seed=8)).seeds.data != seeds[0].data


def test_a_retry_has_the_seeds_and_the_saved_state_of_its_first_try(configure: Configure) -> None:
    config = configure(resume=True)
    first, retry = spec_of(config, 2), spec_of(config, 5, root=2)
    assert retry.seeds == first.seeds
    assert retry.resume_file == first.resume_file
    assert retry.folder != first.folder
    assert retry.resume_overhead is None
    assert spec_of(configure(resume=False)).resume_file is None


def test_by_default_the_state_is_kept_where_that_is_cheap(configure: Configure, description: TaskDescription) -> None:
    spec = spec_of(configure(), description=replace(description, state_bytes=10**6))
    assert (spec.resume_file is not None, spec.resume_overhead) == (True, 0.01)
    assert spec_of(configure(), description=replace(description, state_bytes=10**9)).resume_file is None
    assert spec_of(configure()).resume_file is None
    nodes = configure(trainer={"num_nodes": 2})
    assert spec_of(nodes, description=replace(description, state_bytes=10**6)).resume_file is None


def test_repeats_start_from_weights_of_their_own_the_same_for_every_finalist(configure: Configure) -> None:
    config = configure()
    repeats = [spec_of(config, number, replicate=number % 3).seeds.weights for number in range(6)]
    assert len(set(repeats)) == 3
    assert repeats[:3] == repeats[3:]
    assert spec_of(config).seeds.weights not in repeats


def test_designed_runs_measure_more_and_nothing_twice(configure: Configure) -> None:
    config = configure(measure=["noise_scale", "update_norms"])
    assert spec_of(config).measure == ("noise_scale", "update_norms")
    assert spec_of(config, is_designed=True).measure == ("noise_scale", "update_norms", "weight_distance")


@pytest.mark.parametrize(
    ("budget", "plan", "drop_last", "steps"),
    [
        ({"epochs": 3}, Plan(8), False, None),  # max_epochs says it exactly
        ({"epochs": 2.5}, Plan(8), False, 2 * 12 + 6),
        ({"samples": 240}, Plan(8), False, 2 * 12 + 6),
        ({"samples": 240}, Plan(4, 2), False, 2 * 12 + 6),
        ({"samples": 192}, Plan(10), False, 2 * 10),  # the ragged last batch is a step
        ({"samples": 192}, Plan(10), True, 2 * 9),
        ({"samples": 192}, Plan(4, 1, 2), False, 2 * 12),
        ({"steps": 17}, Plan(8), False, 17),
        ({"time_per_trial": "1 h"}, Plan(8), False, None),
    ],
)
def test_updates_of_a_full_trial_are_told_where_they_can_be(
    configure: Configure,
    description: TaskDescription,
    budget: dict[str, Any],
    plan: Plan,
    drop_last: bool,
    steps: int | None,
) -> None:
    config = configure(budget={"trials": 4, **budget})
    spec = spec_of(config, plan=plan, description=replace(description, drop_last=drop_last))
    assert spec.max_steps == steps


def test_updates_of_data_of_unknown_length_are_told_where_samples_say_them(
    configure: Configure, description: TaskDescription
) -> None:
    config = configure(budget={"trials": 4, "samples": 240})
    assert spec_of(config).max_steps is None
    unsized = replace(description, num_train_samples=None)
    assert spec_of(config, description=unsized).max_steps == 240 // spec_of(config).batch_size
    timed = configure(budget={"trials": 4, "time_per_trial": "1 min", "validate_every": "24 samples"})
    assert spec_of(timed, description=unsized).max_steps is None


def test_a_trial_s_steps_and_epochs_are_told_whatever_its_budget_is_in(
    configure: Configure, description: TaskDescription
) -> None:
    plan = Plan(8, 2)  # 96 samples: 12 batches, 6 updates an epoch
    for budget, expected in (
        ({"epochs": 3}, (18, 3)),
        ({"epochs": 2.5}, (15, 3)),
        ({"samples": 144}, (9, 2)),
        ({"steps": 20}, (20, 4)),
    ):
        told = spec_of(configure(budget={"trials": 4, **budget}), plan=plan, description=description)
        assert (told.num_steps, told.num_epochs) == expected
    limited = configure(budget={"trials": 4, "epochs": 3}, trainer={"limit_train_batches": 4})
    assert spec_of(limited, plan=plan, description=description).num_steps == 6


def test_budget_and_objective_are_the_study_files(configure: Configure) -> None:
    budget = {"trials": 4, "samples": 240, "time_per_trial": "2 min", "validate_every": "24 samples"}
    spec = spec_of(configure(budget=budget, objective={"monitor": "val_acc", "direction": "maximize"}))
    assert (spec.budget.length, spec.budget.tick_every) == (Amount(240, "samples"), Amount(24, "samples"))
    assert spec.budget.seconds == 120
    assert (spec.objective.monitor, spec.objective.direction) == ("val_acc", "maximize")


def test_the_plans_batch_size_is_trained_and_folders_are_absolute(configure: Configure, tmp_path: Path) -> None:
    spec = spec_of(configure(), 3, Plan(3, 2))
    assert (spec.batch_size, spec.lr, spec.params) == (6, 0.1, PARAMS)
    assert spec.folder == str(tmp_path / "out" / "trials" / "0003")
    assert spec.task.folders[0] == "here"


@pytest.mark.parametrize(
    ("checkpoints", "kept"),
    [("none", ()), ("all", ("best",)), ({"trials": "finalists", "keep": ["initial", "last"]}, ("initial", "last"))],
)
def test_weights_are_kept_where_the_study_file_says(configure: Configure, checkpoints: Any, kept: tuple[str]) -> None:
    assert spec_of(configure(checkpoints=checkpoints)).checkpoints == kept


@pytest.mark.parametrize(("said", "workers", "threads"), [("3", 4, 3), ("", 1, 7), ("", 2, 3), ("nonsense", 100, 1)])
def test_ranks_share_the_cores_unless_the_user_says_otherwise(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, said: str, workers: int, threads: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert spec_of(configure(workers=workers)).num_threads == threads


def test_further_parameters_are_init_args_and_have_an_example_each(configure: Configure) -> None:
    params = {
        "model.width": {"low": 2, "high": 8, "integer": True},
        "model.momentum": {"low": 0.5, "high": 0.9},
        "data.crop": {"choices": ["none", "random"]},
    }
    search = {"batch_size": {"low": 4, "high": 32}, "lr": {"low": 0.001, "high": 0.3}, "params": params}
    config = configure(search=search)
    example = some_params(config)
    assert example == {"model.width": 2, "model.momentum": 0.5, "data.crop": "none"}
    assert isinstance(example["model.width"], int)
    spec = trial_spec(config, 0, {**PARAMS, **example}, Plan(8), study_folder=Path("."))
    assert spec.init_args == example


@pytest.mark.parametrize(("plan", "steps"), [(Plan(4), 720), (Plan(32), 90), (Plan(8, 2), 180)])
def test_updates_of_batches_that_are_counted_in_tokens_are_as_many_as_the_loader_gives(
    configure: Configure, description: TaskDescription, plan: Plan, steps: int
) -> None:
    in_tokens = replace(description, num_train_batches=240)  # 96 sequences of 10 tokens, in batches of 4 tokens
    assert spec_of(configure(), plan=plan, description=in_tokens).num_steps == steps
