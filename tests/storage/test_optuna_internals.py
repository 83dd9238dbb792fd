"""What is used of Optuna beyond its public names still does what it should."""

from __future__ import annotations

import optuna
from optuna.trial import TrialState

from bsopt.storage.optuna_internals import trial_of


def test_the_live_trial_of_a_frozen_one_can_be_written_and_told() -> None:
    study = optuna.create_study()
    study.ask()
    asked = study.ask()
    trial = trial_of(study, study.get_trials(deepcopy=False)[1])
    trial.set_user_attr("key", "value")
    assert asked.number == trial.number == 1
    assert asked.user_attrs == {} or asked.user_attrs == {"key": "value"}
    study.tell(trial, state=TrialState.FAIL)
    assert study.trials[1].user_attrs == {"key": "value"}
    assert study.trials[1].state is TrialState.FAIL
