from __future__ import annotations

import math
from typing import Any

import optuna
import pytest

from bsopt.recommendation import recommend
from bsopt.report.answer import answer
from bsopt.testing.study import example_study
from bsopt.trial.objective import Direction, Objective
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason, StudyInfo, Tick, TrialRecord
from bsopt.visualization.study_data import StudyData, load


def _trial(number: int, size: int, lr: float, value: float, **more: Any) -> TrialRecord:
    reason = more.pop("stop_reason", StopReason.COMPLETED)
    return TrialRecord(number, reason.outcome, batch_size=size, lr=lr, value=value, stop_reason=reason, **more)


def _data(*records: TrialRecord, direction: Direction = "minimize", **info: Any) -> StudyData:
    return StudyData(StudyInfo("made", objective=Objective("loss", direction), **info), records)


def test_without_a_trial_there_is_no_answer() -> None:
    assert answer(_data()).sentence == "No trial has been run yet, so there is no answer."


def test_without_a_completed_trial_there_is_no_answer() -> None:
    found = answer(_data(_trial(0, 32, 0.1, 0.5, stop_reason=StopReason.DIVERGED)))
    assert found.batch_size is None
    assert "None of the 1 trials" in found.sentence


def test_few_trials_are_only_the_best_so_far() -> None:
    found = answer(_data(_trial(0, 32, 0.1, 0.5), _trial(1, 64, 0.1, 0.4)))
    assert found.batch_size == 64
    assert any("best so far" in caveat for caveat in found.caveats)


def test_repeats_tell_the_noise_and_who_is_as_good() -> None:
    values = {32: (0.300, 0.310, 0.305), 64: (0.312, 0.318, 0.309), 256: (0.40, 0.41, 0.405)}
    trials = [
        _trial(10 * i + j, size, 0.01, value)
        for i, (size, group) in enumerate(values.items())
        for j, value in enumerate(group)
    ]
    found = answer(_data(*trials))
    assert found.noise == pytest.approx(0.0048, abs=0.0005)
    assert [record.batch_size for record in found.as_good] == [32, 64]  # each setting once, however often repeated
    assert "Batch sizes 32 and 64 are as good within noise" in found.sentence


def test_a_steep_curve_is_not_mistaken_for_noise() -> None:
    ticks = tuple(Tick(i, 100.0 * i, i, i, i, 2.0 - 0.05 * i) for i in range(1, 25))
    found = answer(_data(_trial(0, 32, 0.1, 0.8, ticks=ticks, best_tick=24)))
    assert found.noise == pytest.approx(0.0, abs=1e-9)


def test_the_edge_of_the_searched_range_is_named() -> None:
    found = answer(_data(_trial(0, 8, 0.99, 0.1), lr_range=(1e-4, 1.0), batch_size_range=(8, 64)))
    assert sum("edge of the searched range" in caveat for caveat in found.caveats) == 2


def test_a_larger_value_is_better_when_maximising() -> None:
    found = answer(_data(_trial(0, 8, 0.1, 0.8), _trial(1, 16, 0.1, 0.9), direction="maximize"))
    assert found.value == 0.9


def test_settings_say_how_the_batch_size_is_realised() -> None:
    found = answer(_data(_trial(0, 128, 0.1, 0.8, plan=Plan(32, 2, 2))))
    assert "batch_size: 32" in found.yaml
    assert "accumulate_grad_batches: 2" in found.yaml
    assert "devices: 2" in found.yaml
    assert "accumulate_grad_batches=2, devices=2" in found.snippet


def test_a_study_is_answered_by_the_recommendation() -> None:
    study = example_study(40)
    found, recommended = answer(load(study)), recommend(study)
    assert recommended.choice is not None
    assert (found.sentence, found.caveats) == (recommended.sentence, recommended.caveats)
    assert (found.batch_size, found.lr) == (recommended.choice.batch_size, recommended.choice.lr.value)
    assert found.choices[0].goal == "quality"
    assert found.yaml == recommended.to_yaml().strip()
    assert found.as_good[0].number == study.best_trial.number


def test_two_objectives_are_answered_by_the_best_trial_of_the_first() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=optuna.samplers.RandomSampler(0))

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        return trial.suggest_float("lr", 0.1, 1.0), 1.0 / trial.suggest_int("batch_size", 8, 64)

    study.optimize(objective, n_trials=8)
    assert answer(load(study)).lr == min(trial.params["lr"] for trial in study.trials)


def test_a_nan_value_is_never_the_best() -> None:
    found = answer(_data(_trial(0, 8, 0.1, math.inf), _trial(1, 16, 0.1, 0.9)))
    assert found.batch_size == 16
