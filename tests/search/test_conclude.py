"""How a trial ends from within an objective: `conclude`, and `should_prune` alone."""

from __future__ import annotations

import json
from collections.abc import Sequence

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from pruned_studies import FLAT, STEPS, AlwaysPrunes, curve, flat_study, pruner, running, three_finished

from bsopt.search.pausing import continued
from bsopt.search.pruner import conclude
from bsopt.storage.attributes import CONTINUES, read_record
from bsopt.trial.record import StopReason

# In an objective


def conclusion(values: Sequence[float], study: optuna.Study) -> tuple[float | None, FrozenTrial]:
    """Run one trial that reports the values and ends when told to."""

    def objective(trial: optuna.Trial) -> float:
        for step, value in zip(STEPS, values, strict=False):
            trial.report(value, step)
            if (best := conclude(trial)) is not None:
                return best
        return -1.0

    study.optimize(objective, n_trials=1)
    trial = study.trials[-1]
    return (trial.value if trial.state == TrialState.COMPLETE else None), trial


def test_conclude_returns_the_best_value_of_a_converged_trial_and_stores_why() -> None:
    study = flat_study(pruner=pruner(patience=3))
    value, trial = conclusion([1.0, 0.5, 0.34, 0.33, 0.335, 0.335, 0.335, 0.335, 0.335, 0.335], study)
    assert value == 0.33
    record = read_record(study, trial)
    assert record.stop_reason == StopReason.CONVERGED
    assert "plateaued at 0.33" in record.message
    assert [tick.value for tick in record.ticks][:3] == [1.0, 0.5, 0.34]  # from Optuna's reports
    assert len(json.dumps(trial.user_attrs)) < 300


def test_conclude_raises_for_a_pruned_trial_whose_best_value_is_kept() -> None:
    study = three_finished(pruner=pruner())
    value, trial = conclusion([9.0, 8.0, 8.5, 8.0], study)
    assert value is None
    assert trial.state == TrialState.PRUNED
    assert read_record(study, trial).value == 8.0


def test_a_trial_that_never_was_finite_stores_no_best_value() -> None:
    _, trial = conclusion([float("nan"), float("inf")], three_finished(pruner=pruner()))
    assert trial.state == TrialState.PRUNED
    assert "NaN" not in json.dumps(trial.user_attrs)
    assert read_record(three_finished(), trial).stop_reason is StopReason.DIVERGED


def test_conclude_lets_a_promising_trial_run_to_its_end() -> None:
    assert conclusion(curve(0.3), three_finished(pruner=pruner()))[0] == -1.0


def test_an_objective_can_be_run_again_with_its_best_trial() -> None:
    again = optuna.trial.create_trial(value=1.0, user_attrs={CONTINUES: 3})
    for trial in (again, optuna.trial.FixedTrial({"lr": 0.1})):
        trial.report(1.0, 1)
        assert continued(trial) is None
        assert conclude(trial) is None


def test_conclude_serves_other_pruners_too() -> None:
    study = three_finished(pruner=AlwaysPrunes())
    assert conclusion([1.0], study)[1].state == TrialState.PRUNED
    assert conclusion([1.0, 0.9], three_finished(pruner=optuna.pruners.NopPruner()))[0] == -1.0


# As a plain Optuna pruner


def told(values: Sequence[float], study: optuna.Study) -> FrozenTrial:
    """Run one trial whose objective asks Optuna's way."""

    def objective(trial: optuna.Trial) -> float:
        for step, value in zip(STEPS, values, strict=False):
            trial.report(value, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return min(values)

    study.optimize(objective, n_trials=1)
    return study.trials[-1]


def test_should_prune_never_loses_the_best_value_and_says_how_to_do_better(caplog) -> None:
    study = flat_study(pruner=pruner(patience=3))
    assert told([*FLAT, *[0.33] * 13], study).state == TrialState.COMPLETE
    assert study.best_value == 0.33
    assert "bsopt.conclude(trial)" in caplog.text
    told([1.0, 0.5, *[0.329] * 18], study)
    assert caplog.text.count("bsopt.conclude") == 1


def test_should_prune_ends_a_converged_trial_that_is_not_the_best() -> None:
    study = flat_study(pruner=pruner(patience=3))
    as_good = [1.0, 0.7, 0.39, *[0.351] * 17]
    assert pruner(patience=3).decide(study, running(as_good[:8])).stop_reason is StopReason.CONVERGED
    ended = told(as_good, study)
    assert ended.state == TrialState.PRUNED
    assert len(ended.intermediate_values) < 10
    assert study.best_value == 0.35


def test_should_prune_works_in_any_storage_and_from_other_processes_view(tmp_path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = three_finished(storage=url, study_name="s", pruner=pruner())
    trial = study.ask()
    trial.suggest_int("batch_size", 8, 1024, log=True)
    for step, value in zip(STEPS, curve(9.0)[:4], strict=False):
        trial.report(value, step)
    assert trial.should_prune()
    elsewhere = optuna.load_study(study_name="s", storage=url, pruner=pruner())
    assert pruner().prune(elsewhere, elsewhere.trials[-1])


def test_repeated_reports_of_a_step_change_nothing() -> None:
    study = three_finished(pruner=pruner())
    trial = study.ask()
    for step, value in zip(STEPS, curve(0.3)[:6], strict=False):
        trial.report(value, step)
    before = trial.should_prune()
    with pytest.warns(UserWarning, match="already reported"):
        trial.report(99.0, 3)
    assert trial.should_prune() is before is False
