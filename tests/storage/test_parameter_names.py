"""A study's two parameters are found under the names people give them, and never guessed."""

from __future__ import annotations

import optuna
import pytest

from bsopt.errors import ConfigError
from bsopt.recommendation import recommend
from bsopt.storage.attributes import read_info, read_records
from bsopt.storage.parameter_names import NAMES_KEY, ParameterNames, find_names, unknown_names


def study_of(*names: str) -> optuna.Study:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    size, lr = names

    def objective(trial: optuna.Trial) -> float:
        exponent = trial.suggest_int(size, 3, 8) if "log2" in size else None
        B = 2**exponent if exponent else trial.suggest_int(size, 8, 256, log=True)
        return abs(trial.suggest_float(lr, 1e-4, 1.0, log=True) - 0.01 * B / 32)

    study.optimize(objective, n_trials=20)
    return study


@pytest.mark.parametrize(
    ("size", "lr"),
    [
        ("bs", "learning_rate"),
        ("data.batch_size", "optimizer.lr"),
        ("log2_batch_size", "lr"),
        ("train_batch_size", "eta"),
    ],
)
def test_usual_names_are_found(size: str, lr: str) -> None:
    study = study_of(size, lr)
    assert find_names(study) == ParameterNames(size, lr)
    records = read_records(study)
    assert all(8 <= (record.batch_size or 0) <= 256 for record in records)
    assert set(records[0].params) == {"batch_size", "lr"}
    assert read_info(study).batch_size_range == (8, 256)
    assert recommend(study).choice is not None


def test_unusual_names_are_asked_for_and_then_used() -> None:
    study = study_of("width", "speed")
    names = find_names(study)
    assert names == ParameterNames(None, None)
    assert "speed and width" in unknown_names(study, names)
    found = recommend(study)
    assert found.choice is None
    assert "the study has speed and width" in found.sentence
    assert recommend(study, batch_size="width", lr="speed").choice is not None


def test_a_note_on_the_study_names_them() -> None:
    study = study_of("width", "speed")
    study.set_user_attr(NAMES_KEY, {"batch_size": "width", "lr": "speed"})
    assert find_names(study) == ParameterNames("width", "speed")


def test_a_told_name_that_no_trial_has_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"no trial has.*bs and learning_rate.*Did you mean 'learning_rate'"):
        recommend(study_of("bs", "learning_rate"), lr="learningrate")


def test_a_number_for_the_parameters_name_says_what_to_write() -> None:
    with pytest.raises(ConfigError, match="at_batch_size=64"):
        recommend(study_of("bs", "lr"), batch_size=64)  # type: ignore[arg-type]


def test_epochs_are_not_taken_for_samples() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_int("batch_size", 8, 256, log=True)
        trial.suggest_float("lr", 1e-4, 1.0, log=True)
        for epoch in range(3):
            trial.report(1.0 / (1 + epoch), epoch)
        return 0.3

    study.optimize(objective, n_trials=1)
    assert read_info(study).step_unit is None
    (record,) = read_records(study, step_unit="epochs")
    assert [tick.epoch for tick in record.ticks] == [1.0, 2.0, 3.0]
    (record,) = read_records(study, step_unit="steps")
    assert record.batch_size is not None
    assert record.ticks[-1].samples == 3.0 * record.batch_size


def test_an_infeasible_trial_is_never_named_as_best() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))

    def objective(trial: optuna.Trial) -> float:
        B = trial.suggest_categorical("batch_size", [16, 32, 64, 128])
        lr = trial.suggest_float("lr", 1e-3, 1.0, log=True)
        trial.set_constraint("memory", float(B - 64))
        return 1.0 / B + abs(lr - 0.1)

    study.optimize(objective, n_trials=40)
    found = recommend(study)
    assert found.choice is not None
    assert found.choice.batch_size <= 64
