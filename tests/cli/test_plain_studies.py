"""What the command line says of studies that bsopt didn't make can be followed there."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from click.testing import Result
from recommended_studies import foreign

Invoke = Callable[..., Result]


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/bsopt.db"


@pytest.mark.slow
def test_next_runs_of_a_plain_study_are_lines_of_its_own_python(invoke: Invoke, storage: str) -> None:
    optuna.copy_study(
        from_study_name=(source := foreign(30)).study_name,
        from_storage=source._storage,
        to_storage=storage,
        to_study_name="plain",
    )
    output = invoke("study", "recommend", "plain").output
    assert "--settle" not in output
    assert "What to run next:\n" in output
    code = re.search(r"^study\.enqueue_trial\(.*^study\.optimize\(objective, n_trials=\d\)$", output, re.M | re.S)
    assert code is not None
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    exec(code.group(), {"study": study, "objective": lambda trial: trial.suggest_float("lr", 1e-4, 1.0, log=True)})
    assert all(trial.params["lr"] == trial.system_attrs["fixed_params"]["lr"] for trial in study.trials)


@pytest.mark.slow
def test_next_runs_of_a_grid_are_points_of_it(invoke: Invoke, storage: str) -> None:
    def objective(trial: optuna.Trial) -> float:
        size = int(trial.suggest_categorical("batch_size", ["16", "32", "64"]))
        lr = 10 ** trial.suggest_categorical("log10_lr", [-4, -3, -2, -1])
        return 0.3 + 0.01 * math.log10(lr / 0.004) ** 2 + 0.002 * float(rng.standard_normal()) + 0 * size

    rng = np.random.default_rng(0)
    (study := study_in(storage)).optimize(objective, n_trials=16)
    output = invoke("study", "recommend", "p").output
    code = re.search(r"^study\.enqueue_trial\(.*^study\.optimize\(objective, n_trials=\d\)$", output, re.M | re.S)
    assert code is not None
    exec(code.group(), {"study": study, "objective": objective})
    asked = study.trials[16:]
    assert asked
    assert all(trial.params == trial.system_attrs["fixed_params"] for trial in asked)
    rates = {f"lr {10 ** trial.params['log10_lr']:.3g}" for trial in asked}
    assert set(re.findall(r"batch size \d+, (lr [\d.]+\d) \(about", output)) <= rates


def study_in(storage: str, *directions: str) -> optuna.Study:
    sampler = optuna.samplers.RandomSampler(seed=0)
    return optuna.create_study(study_name="p", storage=storage, directions=directions or ["minimize"], sampler=sampler)


def test_show_says_why_no_best_is_shown_and_takes_the_names(invoke: Invoke, storage: str) -> None:
    study_in(storage).optimize(lambda t: t.suggest_int("b", 8, 64) * t.suggest_float("rate", 0.1, 1), n_trials=4)
    output = " ".join(invoke("study", "show", "p").output.split())
    assert "No trial is complete yet" not in output
    assert output.count("Which parameter is the batch size or the learning rate isn't known") == 1
    named = invoke("study", "show", "p", "--batch-size-name", "b", "--lr-name", "rate")
    assert named.exit_code == 0, named.output
    assert "best trial: batch size" in named.output
    assert "recommended: Batch size" in named.output
    assert "bsopt study recommend p --batch-size-name b --lr-name rate\n" in named.output


def test_a_study_of_the_learning_rate_alone_is_told_to_be_one(invoke: Invoke, storage: str) -> None:
    study_in(storage).optimize(lambda t: t.suggest_float("lr", 0.1, 1), n_trials=3)
    output = invoke("study", "show", "p").output
    assert "The study doesn't search the batch size: its only parameter is lr." in " ".join(output.split())
    assert "isn't known" not in output


@pytest.mark.parametrize("form", ["--yaml", "--python"])
def test_what_has_no_single_answer_says_so_where_only_settings_were_asked_for(
    invoke: Invoke, storage: str, form: str
) -> None:
    study = study_in(storage, "minimize", "maximize")
    study.optimize(lambda t: (t.suggest_int("batch_size", 8, 64), t.suggest_float("lr", 0.1, 1)), n_trials=4)
    found = invoke("study", "recommend", "p", form)
    assert found.exit_code == 1
    assert found.stdout == ""
    assert "there is no single best batch size" in " ".join(found.stderr.split())


def test_several_objectives_have_no_best_trial(invoke: Invoke, storage: str) -> None:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        return trial.suggest_int("batch_size", 8, 64), trial.suggest_float("lr", 0.1, 1)

    study_in(storage, "minimize", "maximize").optimize(objective, n_trials=4)
    output = invoke("study", "show", "p").output
    assert "minimize objective 1, maximize objective 2\n" in output
    assert "best trial" not in output
    assert "there is no single best batch size" in " ".join(output.split())
    assert json.loads(invoke("study", "show", "p", "--json").output)["best_trial"] is None


def test_failures_without_a_reason_are_said_to_have_none(invoke: Invoke, storage: str) -> None:
    def objective(trial: optuna.Trial) -> float:
        trial.suggest_int("batch_size", 8, 64), trial.suggest_float("lr", 0.1, 1)
        raise RuntimeError("broken")

    study_in(storage).optimize(objective, n_trials=2, catch=(RuntimeError,))
    output = " ".join(invoke("study", "show", "p").output.split())
    assert "No trial is complete yet." in output
    assert "trials 0 and 1: Optuna stored no reason" in output
