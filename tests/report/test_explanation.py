"""Why the search looked where it did, in words."""

from __future__ import annotations

import math
import re
from typing import Any

import optuna
import pytest

from bsopt import ScalingSampler
from bsopt.laws.scaling import Reference
from bsopt.report.explanation import reasons
from bsopt.storage.attributes import write_info
from bsopt.testing.study import example_data
from bsopt.trial.record import StudyInfo
from bsopt.visualization.study_data import load


def objective(trial: optuna.Trial) -> float:
    """A basin around batch size 128 and a ridge that grows with the square root."""
    b = math.log2(trial.suggest_int("batch_size", 8, 1024, log=True))
    x = math.log2(trial.suggest_float("lr", 1e-4, 1.0, log=True))
    return 0.3 + 0.05 * (b - 7.0) ** 2 + 0.05 * (x - (-5.0 + 0.5 * (b - 7.0))) ** 2


def searched(num_trials: int, **search: Any) -> optuna.Study:
    """A study that bsopt's sampler really sampled, described as a study file would."""
    asked = {"sampler": "scaling", "batch_size": {"lattice": "pow2"}, "lr": {"rule": "sqrt"}} | search
    reference = Reference(32, 0.01)
    sampler = ScalingSampler(rule=asked["lr"]["rule"], reference=reference, seed=0)
    study = optuna.create_study(study_name="searched", sampler=sampler)
    info = StudyInfo("searched", optimizer="sgd", rule="sqrt", reference=reference, seed=0, config={"search": asked})
    write_info(study, info)
    study.optimize(objective, n_trials=num_trials)
    return study


@pytest.fixture(scope="module")
def study() -> optuna.Study:
    return searched(16)


def test_the_passage_says_where_it_started_what_it_believes_and_why(study: optuna.Study) -> None:
    found = str(reasons(load(study)))
    assert "the square-root rule, through batch size 32 with learning rate 0.01, a published default" in found
    assert study.sampler.explain(study).message in found  # type: ignore[attr-defined]
    assert f"<b>Trial {study.best_trial.number}, the best" in found
    assert re.search(r"<b>Trial 15, .*the latest: </b>", found)
    assert "chance to beat the best" in found


def test_a_trial_that_was_given_is_not_said_to_be_proposed() -> None:
    study = searched(8)
    study.enqueue_trial({"batch_size": 128, "lr": 2.0**-5})
    study.optimize(objective, n_trials=1)
    found = str(reasons(load(study)))
    assert study.best_trial.number == 8
    assert "the best: " not in found
    assert "the best and" not in found
    assert "Trial 7, the latest" in found


def test_another_samplers_trials_get_no_reasons() -> None:
    found = str(reasons(load(searched(8, sampler="tpe"))))
    assert "After 8 trials" in found
    assert "Trial 7" not in found
    assert "whoever proposed them. It starts from the square-root rule" in found
    assert "Before the first trial" not in found


def test_without_a_rule_it_says_so(study: optuna.Study) -> None:
    found = str(reasons(load(searched(6, lr={"rule": None}))))
    assert "somewhat slower than the optimizer" in found


def test_a_best_trial_at_the_edge_is_told() -> None:
    study = searched(4)
    for lr in (1.0, 0.9, 0.8, 0.7):
        study.enqueue_trial({"batch_size": 1024, "lr": lr})
    study.optimize(lambda trial: objective(trial) - 10.0 * trial.params["lr"], n_trials=4)
    found = str(reasons(load(study)))
    assert "Consider searching lr" in found
    assert "Consider searching batch_size from 8 to 4096" in found


def test_there_is_no_passage_without_a_belief() -> None:
    assert reasons(example_data(12)) is None  # records alone
    alone = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    alone.optimize(lambda trial: trial.suggest_float("lr", 1e-3, 1.0, log=True), n_trials=4)
    assert reasons(load(alone)) is None
    both = optuna.create_study(directions=["minimize", "minimize"], sampler=optuna.samplers.RandomSampler(0))
    both.optimize(lambda trial: (objective(trial), trial.params["lr"]), n_trials=4)
    assert reasons(load(both)) is None
    assert reasons(load(optuna.create_study())) is None
