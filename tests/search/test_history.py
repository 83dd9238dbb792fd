"""A study's trials as the numbers that the surface is fitted to, without a sampler around them."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from bsopt.laws.response_surface import MOST_POINTS
from bsopt.search.history import History, finished_key, finite_reports, history_of, joint_space, study_sign
from bsopt.search.space import Space

SIZES: BaseDistribution = IntDistribution(8, 1024, log=True)
RATES: BaseDistribution = FloatDistribution(1e-5, 1.0, log=True)
SPACE = Space.of({"batch_size": SIZES, "lr": RATES}, batch_size="batch_size", lr="lr")


def told(b: int, lr: float, value: float | None, *, is_infeasible: bool = False, **options) -> FrozenTrial:
    trial = create_trial(
        params={"batch_size": b, "lr": lr},
        distributions=options.pop("distributions", {"batch_size": SIZES, "lr": RATES}),
        value=value,
        **options,
    )
    if is_infeasible:
        trial.set_constraint("memory", 1.0)
    return trial


def study_of(*trials: FrozenTrial, directions: tuple[str, ...] = ("minimize",)) -> optuna.Study:
    study = optuna.create_study(directions=list(directions))
    study.add_trials(trials)
    return study


def history(study: optuna.Study, **options) -> History:
    return history_of(study, study.trials, SPACE, **{"predicted": {}, **options})


def spread(n: int) -> list[FrozenTrial]:
    rng = np.random.default_rng(0)
    return [
        told(int(2 ** rng.integers(3, 11)), float(2.0 ** rng.uniform(-16, 0)), float(v)) for v in rng.uniform(1, 2, n)
    ]


def test_rows_are_coordinates_and_values_are_standardised_with_smaller_better() -> None:
    found = history(study_of(told(64, 0.25, 3.0), told(128, 0.5, 1.0), told(8, 1.0, 2.0)))
    assert found.rows.tolist() == [[6.0, -2.0], [7.0, -1.0], [3.0, 0.0]]
    assert found.y.argsort().tolist() == [1, 2, 0]
    assert found.y.mean() == pytest.approx(0.0, abs=1e-9)
    assert found.best == found.y[1]
    assert found.numbers == (0, 1, 2)


def test_maximising_the_opposite_is_the_same_history() -> None:
    down = history(study_of(told(64, 0.25, 3.0), told(128, 0.5, 1.0), told(8, 1.0, 2.0)))
    up = history(
        study_of(told(64, 0.25, -3.0), told(128, 0.5, -1.0), told(8, 1.0, -2.0), directions=("maximize",)),
    )
    assert up.y == pytest.approx(down.y)


def test_pruned_trials_count_with_their_prediction_and_its_error_and_are_never_the_best() -> None:
    pruned = told(32, 0.1, None, state=TrialState.PRUNED, intermediate_values={1: 5.0})
    study = study_of(told(64, 0.25, 3.0), told(128, 0.5, 1.0), pruned)
    assert history(study).num_finished == 2
    found = history(study, predicted={2: (0.5, 0.3)})
    assert found.num_finished == 3
    assert found.y.argmin() == 2
    assert found.is_feasible.tolist() == [True, True, False]
    assert found.best == found.y[1]
    assert found.sd[2] > 0.0
    assert found.sd[:2].tolist() == [0.0, 0.0]


def test_diverged_trials_count_as_the_worst_without_stretching_the_scale() -> None:
    plain = history(study_of(told(64, 0.25, 3.0), told(128, 0.5, 1.0), told(8, 1.0, 2.0)))
    with_one = history(study_of(told(64, 0.25, 3.0), told(128, 0.5, 1.0), told(8, 1.0, 2.0), told(8, 0.9, math.inf)))
    assert np.isfinite(with_one.y).all()
    assert with_one.y.argmax() == 3
    assert np.ptp(with_one.y[:3]) > 0.2 * np.ptp(plain.y)


def test_infeasible_trials_are_labelled_and_never_the_best() -> None:
    found = history(study_of(told(64, 0.25, 3.0), told(1024, 0.5, 1.0, is_infeasible=True)))
    assert found.is_feasible.tolist() == [True, False]
    assert found.labels.tolist() == [1.0, -1.0]
    assert len(history(study_of(told(64, 0.25, 3.0), told(1024, 0.5, 1.0))).labelled) == 0


def test_a_failure_says_nothing_of_the_constraints() -> None:
    found = history(study_of(told(64, 0.25, 3.0), told(1024, 0.5, None, state=TrialState.FAIL)))
    assert found.num_finished == 1
    assert not len(found.labels)


def test_long_histories_keep_the_best_the_latest_and_the_far_ones() -> None:
    trials = [*spread(100), told(8, 1.0, 99.0)]
    found = history(study_of(*trials))
    values = [trial.value for trial in trials]
    assert len(found.y) == MOST_POINTS
    assert found.num_finished == 101
    assert int(np.argmin(values)) in found.numbers
    assert set(range(95, 101)) <= set(found.numbers)
    assert found.numbers == tuple(sorted(found.numbers))


def test_weights_choose_among_several_objectives() -> None:
    pair = [(1.0, 2.0), (2.0, 1.0), (3.0, 3.0)]
    trials = [
        create_trial(params={"batch_size": 64, "lr": 0.1 * (i + 1)}, distributions={"batch_size": SIZES, "lr": RATES},
                     values=list(values))
        for i, values in enumerate(pair)
    ]  # fmt: skip
    study = study_of(*trials, directions=("minimize", "minimize"))
    first, second = (history(study, weights=np.array(w)).y.argmin() for w in ((0.95, 0.05), (0.05, 0.95)))
    assert (first, second) == (0, 1)


def test_joint_space_follows_a_range_that_was_widened_and_drops_what_some_trials_lack() -> None:
    narrow = {"batch_size": SIZES, "lr": FloatDistribution(1e-3, 1e-1, log=True)}
    extra = {"batch_size": SIZES, "lr": RATES, "dropout": FloatDistribution(0.0, 0.5)}
    later = create_trial(params={"batch_size": 64, "lr": 0.1, "dropout": 0.1}, distributions=extra, value=1.0)
    study = study_of(told(64, 0.01, 1.0, distributions=narrow), later)
    assert joint_space(study.trials) == {"batch_size": SIZES, "lr": RATES}


def test_joint_space_leaves_out_parameters_that_changed_their_kind_or_cannot_vary() -> None:
    before = {"batch_size": SIZES, "lr": FloatDistribution(1e-5, 1.0), "seed": IntDistribution(3, 3)}
    after = {**before, "lr": RATES}
    trials = [
        create_trial(params={"batch_size": 64, "lr": 0.1, "seed": 3}, distributions=d, value=1.0)
        for d in (before, after)
    ]
    assert joint_space(study_of(*trials).trials) == {"batch_size": SIZES}
    assert joint_space([]) == {}


def test_joint_space_compares_choices() -> None:
    trials = [
        create_trial(params={"act": "relu"}, distributions={"act": CategoricalDistribution(choices)}, value=1.0)
        for choices in (["relu", "gelu"], ["relu", "tanh"])
    ]
    assert joint_space(study_of(*trials).trials) == {}


def test_finished_key_changes_with_finished_trials_only() -> None:
    study = study_of(told(64, 0.25, 3.0))
    before = finished_key(study, study.trials)
    study.ask({"batch_size": SIZES, "lr": RATES})
    assert finished_key(study, study.trials) == before
    study.add_trial(told(128, 0.25, 3.0))
    assert finished_key(study, study.trials) != before


def test_finite_reports_are_sorted_by_step() -> None:
    reports = {3: 0.5, 1: 0.4, 2: math.nan, 4: math.inf}
    steps, values = finite_reports(told(32, 0.1, 1.0, intermediate_values=reports))
    assert (steps.tolist(), values.tolist()) == ([1.0, 3.0], [0.4, 0.5])
    assert [len(part) for part in finite_reports(told(32, 0.1, 1.0))] == [0, 0]


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1.0), ("maximize", -1.0)])
def test_sign_turns_values_into_ones_to_be_minimised(direction: str, sign: float) -> None:
    assert study_sign(study_of(directions=(direction,))) == sign
