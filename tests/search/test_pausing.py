from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

import bsopt
from bsopt.errors import ConfigError
from bsopt.search.learning_curves import predicted_finals
from bsopt.search.pausing import continue_paused, worth_continuing
from bsopt.storage.attributes import CONTINUES, read_record
from bsopt.trial.record import StopReason

SPACE = {"batch_size": IntDistribution(8, 1024, log=True), "lr": FloatDistribution(1e-4, 1.0, log=True)}
STEPS = np.arange(1, 21)


def curve(final: float, *, exponent: float = 0.3) -> list[float]:
    return [float(v) for v in final * (STEPS / 20.0) ** -exponent]


def trial_of(values: list[float], *, state: TrialState = TrialState.COMPLETE, **attributes: object) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=state,
        value=values[-1] if state == TrialState.COMPLETE else None,
        params={"batch_size": 32, "lr": 0.01},
        distributions=SPACE,
        intermediate_values={int(s): v for s, v in zip(STEPS, values, strict=False)},
        user_attrs=attributes,
    )


def pausing(**kwargs) -> bsopt.PlateauPruner:
    return bsopt.PlateauPruner(**{"audit_every": 0, "pause_below": 0.3, **kwargs})


def study_of(*trials: FrozenTrial, **kwargs) -> optuna.Study:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), pruner=pausing(**kwargs))
    study.add_trials(trials)
    return study


BEHIND = curve(0.4)[:6]


def falls_late(final: float) -> list[float]:
    """Until its eighth report as the one behind, then lower than any."""
    late = np.geomspace(1.0, final / 0.4, 12)
    return [*curve(0.4)[:8], *(float(v) for v in late * np.array(curve(0.4)[8:]))]


def test_a_small_chance_pauses_and_none_prunes() -> None:
    study = study_of(*(trial_of(curve(f)) for f in (0.35, 0.4, 0.5)))
    decisions = {
        final: pausing().decide(study, trial_of(curve(final)[:6], state=TrialState.RUNNING))
        for final in (0.35, 0.4, 2.0)
    }
    assert decisions[0.35].outcome is None
    assert decisions[0.4].stop_reason is StopReason.PAUSED
    assert decisions[0.4].outcome == "pruned"
    assert "paused at" in decisions[0.4].message
    assert decisions[2.0].stop_reason is StopReason.PRUNED_HOPELESS


def test_nothing_is_paused_before_three_trials_have_finished() -> None:
    running = trial_of(curve(0.6)[:6], state=TrialState.RUNNING)
    two = study_of(*(trial_of(curve(f)) for f in (0.35, 0.4)))
    decision = pausing().decide(two, running)
    assert decision.stop_reason is None
    assert 0.05 < decision.probability < 0.3
    assert pausing(min_finished=2).decide(two, running).stop_reason is StopReason.PAUSED


def test_nothing_is_paused_in_the_second_half() -> None:
    study = study_of(*(trial_of(curve(f)) for f in (0.35, 0.4, 0.5)), threshold=0.0)
    early, late = (trial_of(curve(0.4)[:n], state=TrialState.RUNNING) for n in (6, 12))
    assert pausing(threshold=0.0).decide(study, early).stop_reason is StopReason.PAUSED
    assert pausing(threshold=0.0).decide(study, late).outcome is None


def test_nothing_is_paused_unless_asked_for() -> None:
    study = study_of(*(trial_of(curve(f)) for f in (0.35, 0.4, 0.5)), pause_below=0.0)
    assert study.pruner.decide(study, trial_of(BEHIND, state=TrialState.RUNNING)).outcome is None


def test_a_paused_trial_is_queued_again_once_its_chance_is_back() -> None:
    study = study_of(*(trial_of(curve(f)) for f in (0.35, 0.4, 0.5)), trial_of(BEHIND, state=TrialState.PRUNED))
    assert continue_paused(study) is None
    # Curves at these parameters turn out to fall late: the paused one may do so, too.
    study.add_trials([trial_of(falls_late(f)) for f in (0.34, 0.345, 0.35, 0.355)])
    assert continue_paused(study) == 3
    assert continue_paused(study) is None  # it waits
    trial = study.ask()
    assert trial.user_attrs == {CONTINUES: 3}
    assert trial.suggest_float("lr", 1e-4, 1.0, log=True) == 0.01
    assert worth_continuing(study) is None  # it runs


def test_at_the_end_all_that_is_not_hopeless_is_gone_on_with_the_most_promising_first() -> None:
    done = [trial_of(curve(f)) for f in (0.35, 0.4, 0.5)]
    hopeless, behind, nearer = (trial_of(curve(f)[:6], state=TrialState.PRUNED) for f in (2.0, 0.4, 0.38))
    study = study_of(*done, hopeless, behind, nearer)
    assert continue_paused(study) is None
    assert worth_continuing(study, at_end=True, can_continue=lambda trial: trial.number != 5) == 4
    assert continue_paused(study, at_end=True) == 5
    study.tell(study.ask(), 0.4)
    assert continue_paused(study, at_end=True) == 4
    study.tell(study.ask(), 0.4)
    assert continue_paused(study, at_end=True) is None


def test_what_was_called_hopeless_or_diverged_is_not_gone_on_with() -> None:
    late = [trial_of(falls_late(f)) for f in (0.34, 0.345, 0.35, 0.355)]
    study = study_of(*late, trial_of([1.0, 0.6, float("nan"), float("nan")], state=TrialState.PRUNED))
    assert worth_continuing(study) is None


def test_a_continuation_is_told_what_was_reported_and_ends_by_itself() -> None:
    study = study_of(*(trial_of(curve(f)) for f in (0.35, 0.4, 0.5)), trial_of(BEHIND, state=TrialState.PRUNED))
    study.enqueue_trial({"batch_size": 32, "lr": 0.01}, user_attrs={CONTINUES: 3})
    trial = study.ask()
    earlier = bsopt.continued(trial)
    assert earlier is not None
    assert earlier.number == 3
    assert study.trials[4].intermediate_values == earlier.intermediate_values
    assert bsopt.conclude(trial) is None  # it isn't paused again
    assert bsopt.continued(study.ask()) is None


def test_a_continuation_that_was_pruned_is_not_gone_on_with() -> None:
    done = [trial_of(curve(f)) for f in (0.35, 0.4, 0.5)]
    study = study_of(*done, trial_of(BEHIND, state=TrialState.PRUNED))
    assert continue_paused(study, at_end=True) == 3
    trial = study.ask()
    bsopt.continued(trial)
    study.tell(trial, state=TrialState.PRUNED)  # as where its checkpoint is gone
    assert continue_paused(study, at_end=True) is None


def test_a_trial_that_was_queued_twice_is_gone_on_with_once() -> None:
    study = study_of(*(trial_of(curve(f)) for f in (0.35, 0.4, 0.5)), trial_of(BEHIND, state=TrialState.PRUNED))
    for _ in range(2):
        study.enqueue_trial({"batch_size": 32, "lr": 0.01}, user_attrs={CONTINUES: 3})
    first, second = study.ask(), study.ask()
    assert bsopt.continued(first) is not None
    with pytest.raises(optuna.TrialPruned, match="trial 4 goes on from trial 3 already"):
        bsopt.continued(second)
    assert not study.trials[5].intermediate_values
    study.tell(first, state=TrialState.FAIL)
    study.enqueue_trial({"batch_size": 32, "lr": 0.01}, user_attrs={CONTINUES: 3})
    study.tell(second, state=TrialState.FAIL)
    assert bsopt.continued(study.ask()) is not None  # as a retry of one that failed


def test_the_pruner_says_how_many_trials_went_on_from_paused_ones() -> None:
    done = [trial_of(curve(f)) for f in (0.35, 0.4, 0.5)]
    study = study_of(*done, trial_of(BEHIND, state=TrialState.PRUNED), trial_of(curve(0.3), **{CONTINUES: 3}))
    told = "1 of 5 trials were pruned. 1 trial went on from paused ones, which count among these."
    assert study.pruner.explain(study) == told


def test_the_sampler_learns_from_the_continuation_where_a_paused_trial_ends() -> None:
    done = [trial_of(curve(f)) for f in (0.35, 0.4, 0.5)]
    study = study_of(*done, trial_of(BEHIND, state=TrialState.PRUNED), trial_of(curve(0.3), **{CONTINUES: 3}))
    assert predicted_finals(study, study.get_trials(deepcopy=False))[3].mean == pytest.approx(0.3)


def test_pausing_needs_a_chance() -> None:
    with pytest.raises(ConfigError, match="pause_below must be in"):
        pausing(pause_below=1.0)


def test_the_documented_pattern_pays_only_for_the_rest() -> None:
    """Ten lines of plain Optuna; checkpoints are the epoch reached, by trial number."""
    checkpoints: dict[int, int] = {}
    trained: list[int] = []

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_int("batch_size", 8, 512, log=True)
        lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
        final = 0.3 + 0.02 * np.log2(lr / 0.03) ** 2
        earlier = bsopt.continued(trial)
        start = 0 if earlier is None else checkpoints[earlier.number]
        trained.append(0)
        value = np.inf
        for epoch in range(start, 20):
            trained[-1] += 1
            value = float(final * ((epoch + 1) / 20.0) ** -(0.2 + 0.3 * (lr < 0.01)))  # small rates fall late
            trial.report(value, epoch + 1)
            checkpoints[trial.number] = epoch + 1
            if (best := bsopt.conclude(trial)) is not None:
                return best
        return value

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1), pruner=pausing(pause_below=0.5))
    study.optimize(objective, n_trials=25, callbacks=[bsopt.continue_paused])
    while bsopt.continue_paused(study, at_end=True) is not None:
        study.optimize(objective, n_trials=1)
    paused = [t for t in study.trials if read_record(study, t).stop_reason is StopReason.PAUSED]
    continuations = [t for t in study.trials if CONTINUES in t.user_attrs]
    assert paused
    for trial in continuations:
        before = study.trials[trial.user_attrs[CONTINUES]]
        assert trial.params == before.params
        assert trained[trial.number] + len(before.intermediate_values) == len(trial.intermediate_values)
    assert worth_continuing(study, at_end=True) is None
    assert len(study.trials) > 25
    assert sum(trained) < 20 * len(study.trials)
