"""A study's two parameters are found under the names people give them, and never guessed."""

from __future__ import annotations

import math
from collections.abc import Callable

import optuna
import pytest

from bsopt import ScalingSampler
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
        ("batch", "lr0"),
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


def loss(size: float, lr: float) -> float:
    """Best at batch size 64 with learning rate 0.05."""
    return 0.2 + 0.03 * math.log2(lr / (0.05 * math.sqrt(size / 64))) ** 2 + 0.02 * math.log2(size / 64) ** 2


def size_of(trial: optuna.Trial) -> int:
    return trial.suggest_int("batch_size", 8, 512, log=True)


def rate_of(trial: optuna.Trial) -> float:
    return trial.suggest_float("lr", 1e-3, 1.0, log=True)


SPELLINGS: dict[str, Callable[[optuna.Trial], float]] = {
    "exponents as choices": lambda t: loss(
        2 ** t.suggest_categorical("log2_batch_size", [3, 4, 5, 6, 7, 8, 9]), rate_of(t)
    ),
    "exponents as floats": lambda t: loss(2 ** t.suggest_float("log2_batch_size", 3, 9), rate_of(t)),
    "digits": lambda t: loss(int(t.suggest_categorical("batch_size", ["16", "32", "64", "128", "256"])), rate_of(t)),
    "a range from zero": lambda t: loss(size_of(t), max(t.suggest_float("lr", 0.0, 0.5), 1e-6)),
    "a logarithm": lambda t: loss(size_of(t), 10 ** t.suggest_float("log10_lr", -3, 0)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_answer_is_in_samples_and_learning_rates_however_the_study_spells_them(spelling: str) -> None:
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
    study.optimize(SPELLINGS[spelling], n_trials=25)
    info, choice = read_info(study), recommend(study).choice
    assert info.lr_range is not None
    assert 0 < info.lr_range[0] < 0.05 < info.lr_range[1] <= 1
    assert choice is not None
    assert choice.batch_size == pytest.approx(64, rel=0.6)
    assert choice.lr.value == pytest.approx(0.05 * math.sqrt(choice.batch_size / 64), rel=0.4)


@pytest.mark.parametrize(("size", "lr"), [("log2_batch_size", "lr"), ("batch_size", "log10_lr")])
def test_our_sampler_searches_logarithms_as_what_they_stand_for(size: str, lr: str) -> None:
    sampler = ScalingSampler(batch_size=size, lr=lr, seed=1)
    study = optuna.create_study(sampler=sampler)
    study.optimize(SPELLINGS["exponents as floats" if size.startswith("log2") else "a logarithm"], n_trials=14)
    assert study.best_value < 0.205
    assert {round(record.batch_size or 0) for record in read_records(study)} <= {8, 16, 32, 64, 128, 256, 512}
    assert all(edge.low < edge.high for edge in sampler.explain(study).edges)
    choice = recommend(study).choice
    assert choice is not None
    assert choice.batch_size == 64


def test_a_logarithm_of_an_unknown_base_is_warned_of_and_then_refused(caplog: pytest.LogCaptureFixture) -> None:
    study = optuna.create_study(sampler=ScalingSampler(lr="neg_log_lr", seed=1))
    study.optimize(lambda t: loss(size_of(t), 10 ** -t.suggest_float("neg_log_lr", 0, 4)), n_trials=6)
    (warning,) = [r.getMessage() for r in caplog.records if "can't be" in r.getMessage() or "log10" in r.getMessage()]
    assert "neg_log_lr holds a logarithm" in warning
    assert "neg_log_lr holds a logarithm" in recommend(study).sentence
    with pytest.raises(ConfigError, match=r"lr='neg_log_lr': .*log=True, or its logarithm under a name that says"):
        recommend(study, lr="neg_log_lr")


def test_an_exponent_of_an_unknown_base_is_refused() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    study.optimize(lambda t: loss(2 ** t.suggest_int("batch_exp", 3, 9), rate_of(t)), n_trials=6)
    with pytest.raises(ConfigError, match=r"batch_exp holds a logarithm by its name.*log10 or log2"):
        recommend(study, batch_size="batch_exp")


def test_words_for_learning_rates_are_asked_about() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    rates = {"low": 0.01, "high": 0.1}
    study.optimize(lambda t: loss(size_of(t), rates[t.suggest_categorical("lr", ["low", "high"])]), n_trials=6)
    assert "lr has choices that aren't numbers" in recommend(study).sentence
