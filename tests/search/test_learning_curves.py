from __future__ import annotations

import time
import warnings

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from bsopt.laws.surface_prior import ridge_prior
from bsopt.recommendation.fits import as_reported
from bsopt.search.learning_curves import Curves, predicted_finals, what_is_reported
from bsopt.search.model import Model, Settings
from bsopt.storage.attributes import read_records, write_info
from bsopt.trial.objective import Objective
from bsopt.trial.record import StudyInfo

EPOCHS = np.arange(1, 21)
SPACE = {"batch_size": IntDistribution(8, 1024, log=True), "lr": FloatDistribution(1e-4, 1.0, log=True)}
Step = int


def level(batch_size: int, lr: float) -> float:
    """A basin around lr = 0.01 · √(B/32): the value where a trial ends."""
    return 0.3 + 0.02 * np.log2(lr / (0.01 * np.sqrt(batch_size / 32))) ** 2


def curve(batch_size: int, lr: float) -> np.ndarray:
    """Fast starters end early: small learning rates decay with a smaller exponent, and curves cross."""
    exponent = 0.25 + 0.05 * np.log10(lr)
    return level(batch_size, lr) * (EPOCHS / 20.0) ** -exponent


def trial_of(
    batch_size: int,
    lr: float,
    *,
    reports: dict[Step, float] | int = 20,
    state: TrialState = TrialState.COMPLETE,
    scale: float = 1.0,
    offset: float = 0.0,
    samples: int = 1000,
) -> FrozenTrial:
    if isinstance(reports, int):
        values = scale * curve(batch_size, lr) + offset
        reports = {int(e) * samples: float(v) for e, v in zip(EPOCHS[:reports], values, strict=False)}
    value = reports[max(reports)] if state == TrialState.COMPLETE else None
    params = {"batch_size": batch_size, "lr": lr}
    return optuna.trial.create_trial(
        state=state, value=value, params=params, distributions=SPACE, intermediate_values=reports
    )


def study_of(*trials: FrozenTrial, direction: str = "minimize") -> optuna.Study:
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(seed=0))
    study.add_trials(trials)
    return study


def finals(study: optuna.Study, **names: str) -> dict:
    return predicted_finals(study, study.get_trials(deepcopy=False), **names)


FINISHED = [(32, 0.01), (128, 0.003), (512, 0.1), (64, 0.05), (256, 0.02)]


@pytest.mark.parametrize(
    ("scale", "offset", "direction"),
    [(1.0, 0.0, "minimize"), (50.0, 0.0, "minimize"), (-1.0, 0.99, "maximize"), (1.0, -0.6, "minimize")],
    ids=["loss", "large loss", "accuracy", "crosses zero"],
)
def test_an_unfinished_trial_is_predicted_where_it_would_have_ended(scale, offset, direction) -> None:
    finished = [trial_of(*point, scale=scale, offset=offset) for point in FINISHED]
    pruned = trial_of(128, 0.02, reports=8, state=TrialState.PRUNED, scale=scale, offset=offset)
    study = study_of(*finished, pruned, direction=direction)
    truth = scale * level(128, 0.02) + offset
    now = scale * curve(128, 0.02)[7] + offset
    (found,) = finals(study).values()
    assert abs(found.mean - truth) < 0.25 * abs(now - truth)
    assert abs(found.mean - truth) < 3 * found.sd
    assert found.sd < abs(now - truth)
    assert found.best == pytest.approx(now)
    assert found.progress == pytest.approx(0.4)


def test_predictions_narrow_as_a_trial_goes_on() -> None:
    finished = [trial_of(*point) for point in FINISHED]
    widths = []
    for reports in (2, 6, 14, 19):
        study = study_of(*finished, trial_of(128, 0.02, reports=reports, state=TrialState.RUNNING))
        widths.append(finals(study)[5].sd)
    assert widths == sorted(widths, reverse=True)


def test_a_trial_at_its_end_is_its_own_prediction() -> None:
    study = study_of(trial_of(32, 0.01), trial_of(32, 0.02, state=TrialState.RUNNING))
    assert finals(study)[1].mean == pytest.approx(curve(32, 0.02)[-1])
    assert finals(study)[1].sd == 0.0


def test_the_best_so_far_counts_and_not_the_last_report() -> None:
    up_again = trial_of(32, 0.02, reports={1000: 1.0, 2000: 0.5, 3000: 0.7}, state=TrialState.RUNNING)
    assert finals(study_of(trial_of(32, 0.01), up_again))[1].best == 0.5


def test_missing_repeated_and_infinite_reports_are_tolerated() -> None:
    ragged = {1000: float("nan"), 3000: 0.52, 4000: float("inf"), 7000: 0.45}
    diverged = trial_of(512, 1.0, reports={1000: 1e30, 20000: float("inf")})
    silent = trial_of(32, 0.02, reports={}, state=TrialState.PRUNED)
    only_nan = trial_of(32, 0.02, reports={1000: float("nan")}, state=TrialState.PRUNED)
    finished = [trial_of(*point) for point in FINISHED] + [diverged]
    study = study_of(*finished, trial_of(32, 0.02, reports=ragged, state=TrialState.PRUNED), silent, only_nan)
    found = finals(study)
    assert set(found) == {6}
    assert 0.2 < found[6].mean < 0.45


def test_nothing_is_predicted_before_anything_has_finished() -> None:
    assert finals(study_of(trial_of(32, 0.02, reports=5, state=TrialState.PRUNED))) == {}


def test_values_that_are_no_reports_predict_nothing() -> None:
    seconds = [
        optuna.trial.create_trial(
            value=100.0 + i, params={}, distributions={}, intermediate_values={1: 0.9, 2: 0.5, 3: 0.35}
        )
        for i in range(3)
    ]
    study = study_of(*seconds, trial_of(32, 0.02, reports=2, state=TrialState.PRUNED))
    assert finals(study) == {}


def test_a_study_for_the_time_to_a_target_predicts_nothing_even_where_times_look_like_values() -> None:
    study = study_of(*(trial_of(*point) for point in FINISHED), trial_of(32, 0.02, reports=5, state=TrialState.PRUNED))
    assert set(finals(study)) == {5}
    again = study_of(*study.trials)
    write_info(again, StudyInfo(name="s", objective=Objective("val_loss", target=0.1, cost="seconds")))
    assert finals(again) == {}


def test_several_objectives_predict_nothing() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"])
    assert predicted_finals(study, study.trials) == {}


def test_steps_that_count_updates_are_compared_at_equal_samples() -> None:
    def updates(batch_size: int, lr: float, count: int, state: TrialState) -> FrozenTrial:
        values = curve(batch_size, lr)[:count]
        reports = {int(e * 102400 / batch_size): float(v) for e, v in zip(EPOCHS, values, strict=False)}
        return trial_of(batch_size, lr, reports=reports, state=state)

    finished = [updates(*point, 20, TrialState.COMPLETE) for point in FINISHED]
    study = study_of(*finished, updates(1024, 0.04, 10, TrialState.PRUNED))
    (found,) = finals(study).values()
    assert found.progress == pytest.approx(0.5)
    assert found.mean == pytest.approx(level(1024, 0.04), rel=0.1)


def test_epochs_counted_from_zero_are_epochs_done() -> None:
    def epochs(count: int, state: TrialState) -> FrozenTrial:
        values = curve(32, 0.01)[:count]
        return trial_of(32, 0.01, reports={i: float(v) for i, v in enumerate(values)}, state=state)

    study = study_of(epochs(20, TrialState.COMPLETE), epochs(5, TrialState.PRUNED))
    assert finals(study)[1].progress == pytest.approx(0.25)


def test_other_names_and_missing_parameters_are_fine() -> None:
    reports = {1: 1.0, 2: 0.8, 4: 0.6, 8: 0.5}
    done = optuna.trial.create_trial(value=0.5, params={}, distributions={}, intermediate_values=reports)
    part = optuna.trial.create_trial(
        state=TrialState.PRUNED,
        params={"bs": 16},
        distributions={"bs": IntDistribution(8, 64)},
        intermediate_values={1: 1.1, 2: 0.9, 4: 0.7},
    )
    study = study_of(done, done, part)
    found = finals(study, batch_size="bs", lr="rate")[2]
    assert 0.5 < found.mean < 0.7


def test_the_model_is_kept_until_another_trial_finishes() -> None:
    study = study_of(*(trial_of(*point) for point in FINISHED))
    first = Curves.of(study, study.trials)
    assert Curves.of(study, study.trials) is first
    study.add_trial(trial_of(64, 0.01, reports=3, state=TrialState.PRUNED))
    assert Curves.of(study, study.trials) is first
    study.add_trial(trial_of(64, 0.01))
    assert Curves.of(study, study.trials) is not first


def test_predicting_300_pruned_trials_takes_a_fraction_of_a_second() -> None:
    rng = np.random.default_rng(0)
    points = [(int(2 ** rng.uniform(3, 10)), float(10 ** rng.uniform(-4, 0))) for _ in range(600)]
    trials = [trial_of(*point) for point in points[:300]]
    trials += [trial_of(*point, reports=1 + i % 19, state=TrialState.PRUNED) for i, point in enumerate(points[300:])]
    study = study_of(*trials)
    known = study.get_trials(deepcopy=False)
    predicted_finals(study, known)
    start = time.process_time()
    found = predicted_finals(study, known)
    assert len(found) == 300
    assert time.process_time() - start < 0.5


INSTANCES = 0.3 * np.sin(2.1 * np.arange(15))


def tried_on_instances(study: optuna.Study, *, num_trials: int, num_of_pruned: int = 5) -> None:
    """Report one value per problem instance, in no order, and return their mean; every other trial is pruned."""
    for number in range(num_trials):
        size, lr = FINISHED[number % len(FINISHED)]
        order = np.random.default_rng(number).permutation(len(INSTANCES))[: num_of_pruned if number % 2 else None]
        reports = {int(i): float(level(size, lr) + INSTANCES[i]) for i in order}
        trial = trial_of(size, lr, reports=reports, state=TrialState.PRUNED if number % 2 else TrialState.COMPLETE)
        if trial.state == TrialState.COMPLETE:
            trial.values = [float(np.mean(list(reports.values())))]
        study.add_trial(trial)


def test_reports_of_instances_are_no_curve() -> None:
    study = study_of()
    tried_on_instances(study, num_trials=8)
    assert what_is_reported(study, study.trials) == "parts"
    assert finals(study) == {}


def test_a_wilcoxon_pruner_says_so_before_any_trial_has_finished() -> None:
    study = study_of(trial_of(32, 0.01))
    assert what_is_reported(study, study.trials) == "curve"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.pruner = optuna.pruners.PatientPruner(optuna.pruners.WilcoxonPruner(), patience=1)
    assert what_is_reported(study, study.trials) == "other"
    assert finals(study) == {}


def test_a_value_of_the_test_set_beside_the_validation_curve_leaves_it_a_curve() -> None:
    trials = [trial_of(*point) for point in FINISHED]
    for trial in trials:
        trial.values = [1.02 * trial.value]
    study = study_of(*trials, trial_of(128, 0.02, reports=8, state=TrialState.PRUNED))
    assert what_is_reported(study, study.trials) == "curve"
    assert len(finals(study)) == 1


def test_a_pruned_trial_of_instances_counts_with_the_mean_of_its_reports() -> None:
    study = study_of()
    tried_on_instances(study, num_trials=12)
    settings = Settings(ridge_prior("sgd", None, None), "pow2", "batch_size", "lr", 0)
    model = Model.of(study, study.trials, SPACE, settings=settings)
    at = model.history.numbers.index(1)
    mean = np.mean(list(study.trials[1].intermediate_values.values()))
    assert model.history.transform.inverse(model.history.y[[at]])[0] == pytest.approx(mean, rel=1e-3)
    assert model.history.sd[at] > 0
    pruned = as_reported(read_records(study), study)[1]
    assert pruned.value == pytest.approx(mean)
    assert not pruned.ticks
