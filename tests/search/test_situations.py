"""What an Optuna user does with a sampler: ours raises nothing where Optuna's own don't.

Each situation is a function that makes a study with a given sampler and brings it into the situation. It runs with
`ScalingSampler`, and beside it with TPE and the Gaussian process that come with Optuna.
"""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, PartialFixedSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from bsopt import ScalingSampler
from bsopt.storage.databases import open_storage

Situation = Callable[[BaseSampler, Path], optuna.Study]
SITUATIONS: list[Situation] = []
PEERS: dict[str, Callable[[], BaseSampler]] = {
    "tpe": lambda: TPESampler(n_startup_trials=3, seed=0),
    "gp": lambda: GPSampler(n_startup_trials=3, seed=0),
}
THEY_RAISE = {("tpe", "old_trials_added"), ("gp", "one_sampler_for_two_studies")}
"""Of a rate of 0 that the present log range can't hold, and of a second study's other parameters."""
SPACE = {"batch_size": IntDistribution(8, 1024, log=True), "lr": FloatDistribution(1e-4, 1.0, log=True)}
TRIALS = 6


def situation(function: Situation) -> Situation:
    SITUATIONS.append(function)
    return function


def loss(batch_size: float, lr: float) -> float:
    return (math.log2(lr) + 4.0 - 0.5 * math.log2(batch_size / 64)) ** 2 + 0.1 * abs(math.log2(batch_size / 64))


def objective(trial: optuna.Trial) -> float:
    return loss(trial.suggest_int("batch_size", 8, 1024, log=True), trial.suggest_float("lr", 1e-4, 1.0, log=True))


def curve(trial: optuna.Trial) -> float:
    end = objective(trial)
    for epoch in range(6):
        trial.report(end + 4.0 / (1 + epoch), epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return end


# --- spaces ----------------------------------------------------------------------------------------------------


@situation
def both_on_log_ranges(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=TRIALS)
    return study


@situation
def batch_size_from_a_list(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    study.optimize(
        lambda t: loss(t.suggest_categorical("batch_size", [16, 64, 256]), t.suggest_float("lr", 1e-4, 1, log=True)),
        n_trials=TRIALS,
    )
    return study


@situation
def batch_size_as_an_exponent(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    study.optimize(
        lambda t: loss(2 ** t.suggest_int("log2_batch_size", 3, 10), t.suggest_float("lr", 1e-4, 1, log=True)),
        n_trials=TRIALS,
    )
    return study


@situation
def stepped_and_linear_ranges(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    study.optimize(
        lambda t: loss(t.suggest_int("batch_size", 8, 200, step=24), t.suggest_float("lr", 0.01, 0.5, step=0.01)),
        n_trials=TRIALS,
    )
    return study


@situation
def batch_size_alone(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: loss(t.suggest_int("batch_size", 8, 1024), 0.1), n_trials=TRIALS)
    return study


@situation
def learning_rate_alone(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: loss(64, t.suggest_float("lr", 1e-4, 1, log=True)), n_trials=TRIALS)
    return study


@situation
def neither_of_the_two(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: t.suggest_float("x", -5, 5) ** 2 + t.suggest_int("n", 0, 3), n_trials=TRIALS)
    return study


@situation
def no_parameter_at_all(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: float(t.number), n_trials=TRIALS)
    return study


@situation
def further_parameters_of_every_kind(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    def many(trial: optuna.Trial) -> float:
        further = trial.suggest_float("momentum", 0, 0.99) + trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True)
        further += trial.suggest_categorical("nesterov", [True, False]) + trial.suggest_int("layers", 1, 4)
        return objective(trial) + further + (trial.suggest_categorical("act", ["relu", None]) is None)

    study = optuna.create_study(sampler=sampler)
    study.optimize(many, n_trials=TRIALS)
    return study


@situation
def conditional_parameters(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    def branching(trial: optuna.Trial) -> float:
        if trial.suggest_categorical("optimizer", ["sgd", "adam"]) == "sgd":
            return objective(trial) + trial.suggest_float("momentum", 0.0, 0.9)
        return loss(trial.suggest_int("batch_size", 8, 1024, log=True), trial.suggest_float("lr_adam", 1e-5, 1e-1))

    study = optuna.create_study(sampler=sampler)
    study.optimize(branching, n_trials=TRIALS + 3)
    return study


@situation
def ranges_that_change_between_trials(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    for low, high, slow in ((8, 256, 1e-3), (64, 4096, 1e-5), (1, 16, 0.1)):
        study.optimize(
            lambda t, low=low, high=high, slow=slow: loss(
                t.suggest_int("batch_size", low, high, log=True), t.suggest_float("lr", slow, 1.0, log=True)
            ),
            n_trials=3,
        )
    return study


@situation
def ranges_of_a_single_value(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    study.optimize(
        lambda t: loss(t.suggest_int("batch_size", 64, 64, log=True), t.suggest_float("lr", 0.1, 0.1, log=True)),
        n_trials=4,
    )
    return study


# --- states ----------------------------------------------------------------------------------------------------


@situation
def failed_trials_and_nan(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    def failing(trial: optuna.Trial) -> float:
        value = objective(trial)
        if trial.number % 3 == 0:
            raise RuntimeError("out of memory")
        return math.nan if trial.number % 3 == 1 else value

    study = optuna.create_study(sampler=sampler)
    study.optimize(failing, n_trials=TRIALS + 2, catch=(RuntimeError,))
    return study


@situation
def infinite_and_enormous_values(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    odd = {0: math.inf, 1: 1e300, 2: -1e300, 4: math.inf}
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: objective(t) + odd.get(t.number, 0.0), n_trials=TRIALS)
    return study


@situation
def every_value_the_same(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: 0.0 * objective(t), n_trials=TRIALS)
    return study


@situation
def pruned_by_hyperband(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=6, reduction_factor=2)
    study = optuna.create_study(sampler=sampler, pruner=pruner)
    study.optimize(curve, n_trials=10)
    return study


@situation
def pruned_by_the_other_pruners(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some of them are experimental
        pruners = _pruners()
    for pruner in pruners:
        study = optuna.create_study(sampler=copy.deepcopy(sampler), pruner=pruner)
        study.optimize(curve, n_trials=5)
    return study


def _pruners() -> list[optuna.pruners.BasePruner]:
    return [
        optuna.pruners.MedianPruner(n_startup_trials=2),
        optuna.pruners.PercentilePruner(50.0, n_startup_trials=2),
        optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
        optuna.pruners.ThresholdPruner(upper=30.0),
        optuna.pruners.PatientPruner(optuna.pruners.MedianPruner(n_startup_trials=2), patience=1),
        optuna.pruners.WilcoxonPruner(n_startup_steps=2),
    ]


@situation
def all_trials_pruned_before_a_report(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    def ended(trial: optuna.Trial) -> float:
        objective(trial)
        raise optuna.TrialPruned

    study = optuna.create_study(sampler=sampler)
    study.optimize(ended, n_trials=TRIALS)
    return study


@situation
def enqueued_in_whole_in_part_and_out_of_range(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    for params in ({"batch_size": 32, "lr": 0.1}, {"lr": 0.01}, {"batch_size": 48}, {"batch_size": 4096, "lr": 7.0}):
        study.enqueue_trial(params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's, that a value is out of range
        study.optimize(objective, n_trials=TRIALS)
        study.enqueue_trial({"lr": 0.02, "unknown": 3})
        study.optimize(objective, n_trials=2)
    return study


@situation
def one_parameter_held_fixed(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that PartialFixedSampler is experimental
        fixed = PartialFixedSampler({"batch_size": 128}, sampler)
    study = optuna.create_study(sampler=fixed)
    study.optimize(objective, n_trials=TRIALS)
    assert {trial.params["batch_size"] for trial in study.trials} == {128}
    return study


@situation
def many_trials_running_at_once(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    asked = [study.ask(SPACE) for _ in range(TRIALS)]
    for trial in reversed(asked):
        study.tell(trial, loss(**trial.params))
    study.tell(study.ask(SPACE), state=TrialState.FAIL)
    study.ask()  # runs for ever, without parameters
    study.tell(study.ask(SPACE), 1.0)
    return study


# --- objectives ------------------------------------------------------------------------------------------------


@situation
def a_metric_to_maximize(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler, direction="maximize")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that metric names are experimental
        study.set_metric_names(["accuracy"])
    study.optimize(lambda t: 1.0 / (1.0 + objective(t)), n_trials=TRIALS)
    return study


@situation
def two_objectives(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler, directions=["minimize", StudyDirection.MAXIMIZE])
    study.optimize(lambda t: (objective(t), t.params["batch_size"]), n_trials=TRIALS)
    return study


@situation
def constraints(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    def limited(trial: optuna.Trial) -> float:
        value = objective(trial)
        trial.set_constraint("memory", trial.params["batch_size"] / 256 - 1.0)
        if trial.number == 3:
            raise optuna.TrialPruned
        return value

    study = optuna.create_study(sampler=sampler)
    study.optimize(limited, n_trials=TRIALS)
    return study


@situation
def nothing_feasible(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    def limited(trial: optuna.Trial) -> float:
        trial.set_constraint("memory", 1.0)
        return objective(trial)

    study = optuna.create_study(sampler=sampler)
    study.optimize(limited, n_trials=TRIALS)
    return study


# --- trials from elsewhere -------------------------------------------------------------------------------------


@situation
def old_trials_added(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    study.add_trial(create_trial(params={}, distributions={}, value=3.0))
    for place, size in enumerate((1, 100, 30_000)):
        wide = {"batch_size": IntDistribution(1, 2**16, log=True), "lr": FloatDistribution(0.0, 10.0)}
        params = {"batch_size": size, "lr": float(place)}  # a rate of 0 among them
        study.add_trial(create_trial(params=params, distributions=wide, value=1.0 + place))
    study.add_trial(
        create_trial(params={"other": "a"}, distributions={"other": CategoricalDistribution(["a"])}, value=1.0)
    )
    study.optimize(objective, n_trials=TRIALS)
    return study


@situation
def a_copied_study(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    storage = optuna.storages.InMemoryStorage()
    first = optuna.create_study(sampler=optuna.samplers.RandomSampler(0), study_name="first", storage=storage)
    first.optimize(objective, n_trials=4)
    optuna.copy_study(from_study_name="first", from_storage=storage, to_storage=storage, to_study_name="second")
    study = optuna.load_study(study_name="second", storage=storage, sampler=sampler)
    study.optimize(objective, n_trials=4)
    return study


@situation
def pickled_and_copied_on_the_way(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=3)
    study = pickle.loads(pickle.dumps(study))
    study.optimize(objective, n_trials=3)
    study.sampler = copy.deepcopy(study.sampler)
    study.sampler.reseed_rng()
    study.optimize(objective, n_trials=2)
    return study


@situation
def one_sampler_for_two_studies(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    first, second = (optuna.create_study(sampler=sampler, direction=way) for way in ("minimize", "maximize"))
    for _ in range(3):
        first.optimize(objective, n_trials=2)
        second.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=2)
    return first


# --- storages and workers --------------------------------------------------------------------------------------


@situation
def a_database_of_optunas(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler, storage=f"sqlite:///{tmp_path}/optuna.db")
    study.optimize(objective, n_trials=4)
    again = optuna.load_study(study_name=study.study_name, storage=f"sqlite:///{tmp_path}/optuna.db", sampler=sampler)
    again.optimize(objective, n_trials=2)
    return again


@situation
def a_journal(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    study = optuna.create_study(sampler=sampler, storage=storage)
    study.optimize(objective, n_trials=TRIALS)
    return study


@situation
def four_threads(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler, storage=open_storage(f"sqlite:///{tmp_path}/threads.db"))
    study.optimize(objective, n_trials=8, n_jobs=4)
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    return study


@situation
def ask_and_tell_by_number(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    for _ in range(TRIALS):
        trial = study.ask()
        value = objective(trial)
        study.tell(trial.number, value, skip_if_finished=True)
    return study


@situation
def stopped_by_a_callback(sampler: BaseSampler, tmp_path: Path) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, timeout=600, callbacks=[MaxTrialsCallback(5, states=(TrialState.COMPLETE,))])
    assert len(study.trials) == 5
    return study


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(verbosity)


@pytest.mark.slow
@pytest.mark.parametrize("bring", SITUATIONS, ids=lambda bring: bring.__name__)
def test_ours_raises_nothing_where_optunas_own_samplers_do_not(bring: Situation, tmp_path: Path) -> None:
    study = bring(ScalingSampler(seed=0), tmp_path)
    for trial in study.get_trials(deepcopy=False):
        _check(trial)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # theirs: non-finite values, divisions, experimental classes
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("bring", SITUATIONS, ids=lambda bring: bring.__name__)
def test_optunas_own_samplers_beside(bring: Situation, peer: str, tmp_path: Path) -> None:
    if (peer, bring.__name__) in THEY_RAISE:
        with pytest.raises((ValueError, KeyError)):
            bring(PEERS[peer](), tmp_path)
    else:
        assert bring(PEERS[peer](), tmp_path).trials


def _check(trial: FrozenTrial) -> None:
    for name, value in trial.params.items():
        distribution = trial.distributions[name]
        is_given = name in trial.system_attrs.get("fixed_params", {})
        assert is_given or distribution._contains(distribution.to_internal_repr(value))
