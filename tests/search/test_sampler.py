"""The sampler as a user meets it in plain Optuna."""

from __future__ import annotations

import logging
import math
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from optuna import Study, Trial
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from bsopt.errors import ConfigError
from bsopt.laws.scaling import Reference
from bsopt.search.sampler import ScalingSampler
from bsopt.search.space import batch_sizes_on

optuna.logging.set_verbosity(optuna.logging.ERROR)
SIZES = IntDistribution(8, 1024, log=True)
RATES = FloatDistribution(1e-5, 1.0, log=True)


def study_of(sampler: ScalingSampler, **options: Any) -> Study:
    return optuna.create_study(sampler=sampler, pruner=optuna.pruners.NopPruner(), **options)


def loss(params: Mapping[str, Any]) -> float:
    """A basin whose best is near B = 128, lr = 0.03."""
    b, x = math.log2(params["batch_size"]), math.log2(params["lr"])
    return 1.0 + 0.05 * (x + 5.0 - 0.5 * (b - 7.0)) ** 2 + 0.03 * (b - 7.0) ** 2


def objective(trial: Trial) -> float:
    return loss({"batch_size": trial.suggest_int("batch_size", 8, 1024, log=True), "lr": suggest_lr(trial)})


def suggest_lr(trial: Trial) -> float:
    return trial.suggest_float("lr", 1e-5, 1.0, log=True)


def told(b: int, lr: float, value: float | None, **options: Any) -> FrozenTrial:
    return create_trial(
        params={"batch_size": b, "lr": lr}, distributions={"batch_size": SIZES, "lr": RATES}, value=value, **options
    )


def trail(study: Study) -> list[tuple[int, float]]:
    return [(t.params["batch_size"], t.params["lr"]) for t in study.trials]


def test_first_trial_is_at_the_references_batch_size() -> None:
    study = study_of(ScalingSampler(reference=(64, 0.02), seed=0))
    params = study.ask({"batch_size": SIZES, "lr": RATES}).params
    assert params["batch_size"] == 64
    assert abs(math.log2(params["lr"] / 0.02)) < 1.5


def test_few_trials_find_the_basin() -> None:
    study = study_of(ScalingSampler(seed=0))
    study.optimize(objective, n_trials=12)
    assert study.best_value < 1.02


def test_maximising_the_opposite_gives_the_same_trials() -> None:
    one, two = study_of(ScalingSampler(seed=3)), study_of(ScalingSampler(seed=3), direction="maximize")
    one.optimize(objective, n_trials=7)
    two.optimize(lambda trial: -objective(trial), n_trials=7)
    assert trail(one) == trail(two)


def test_same_seed_gives_the_same_trials_in_another_storage_and_after_pickling(tmp_path: Any) -> None:
    plain = study_of(ScalingSampler(seed=5))
    plain.optimize(objective, n_trials=6)
    journal = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "log")))
    other = study_of(ScalingSampler(seed=5), storage=journal, study_name="other")
    for _ in range(6):  # as if each trial were asked for by a process of its own
        other.sampler = pickle.loads(pickle.dumps(ScalingSampler(seed=5)))
        other.optimize(objective, n_trials=1)
    assert trail(other) == trail(plain)


def test_other_seeds_give_other_trials() -> None:
    trails = []
    for seed in (0, 1):
        study = study_of(ScalingSampler(seed=seed))
        study.optimize(objective, n_trials=4)
        trails.append(trail(study))
    assert trails[0] != trails[1]


@pytest.mark.parametrize(
    ("lattice", "is_allowed"),
    [("pow2", lambda b: b & (b - 1) == 0), ({"multiple_of": 24}, lambda b: b % 24 == 0), ("any", lambda b: True)],
)
def test_batch_sizes_are_on_the_lattice(lattice: Any, is_allowed: Callable[[int], bool]) -> None:
    study = study_of(ScalingSampler(seed=0, lattice=lattice))
    study.optimize(objective, n_trials=6)
    assert all(is_allowed(b) and 8 <= b <= 1024 for b, _ in trail(study))


def test_categorical_and_float_batch_sizes_work() -> None:
    for distribution in (CategoricalDistribution([24, 48, 96, 192]), FloatDistribution(10.0, 500.0, log=True)):
        study = study_of(ScalingSampler(seed=0))
        for _ in range(6):
            trial = study.ask({"batch_size": distribution, "lr": RATES})
            study.tell(trial, loss(trial.params))
        assert study.best_value < 1.6


@pytest.mark.parametrize("missing", ["lr", "batch_size"])
def test_either_parameter_may_be_missing(missing: str) -> None:
    study = study_of(ScalingSampler(seed=0))
    for _ in range(8):
        trial = study.ask({name: d for name, d in {"batch_size": SIZES, "lr": RATES}.items() if name != missing})
        study.tell(trial, loss({"batch_size": 128, "lr": 0.03} | trial.params))
    assert study.best_value < 1.05


def test_further_parameters_are_learned_too() -> None:
    study = study_of(ScalingSampler(seed=0))

    def richer(trial: Trial) -> float:
        dropout = trial.suggest_float("dropout", 0.0, 0.6)
        layers = trial.suggest_categorical("norm", ["none", "batch", "layer"])
        return objective(trial) + 2.0 * (dropout - 0.2) ** 2 + 0.2 * (layers != "batch")

    study.optimize(richer, n_trials=25)
    assert study.best_params["norm"] == "batch"
    assert study.best_value < 1.15


def test_enqueued_and_foreign_trials_are_learned_from() -> None:
    study = study_of(ScalingSampler(seed=0))
    study.enqueue_trial({"batch_size": 911, "lr": 0.5})
    study.enqueue_trial({"lr": 0.2})
    for b, x in ((16, -9), (64, -6), (256, -4), (128, -5)):
        study.add_trial(told(b, 2.0**x, loss({"batch_size": b, "lr": 2.0**x})))
    study.optimize(objective, n_trials=5)
    assert (911, 0.5) in trail(study)
    assert 0.2 in [lr for _, lr in trail(study)]
    assert study.best_value < 1.02


def test_range_that_was_widened_keeps_its_trials() -> None:
    study = study_of(ScalingSampler(seed=0))

    def narrow(trial: Trial) -> float:
        lr = trial.suggest_float("lr", 1e-5, 1e-3, log=True)
        return loss({"batch_size": trial.suggest_int("batch_size", 8, 1024, log=True), "lr": lr})

    study.optimize(narrow, n_trials=6)
    study.optimize(objective, n_trials=7)
    assert study.best_value < 1.05


def test_held_parameter_of_partial_fixed_sampler_is_kept() -> None:
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        fixed = optuna.samplers.PartialFixedSampler({"batch_size": 32}, ScalingSampler(seed=0))
    study = optuna.create_study(sampler=fixed, pruner=optuna.pruners.NopPruner())
    study.optimize(objective, n_trials=6)
    assert {b for b, _ in trail(study)} == {32}
    assert study.best_value < 1.3


def test_nan_and_infinite_values_do_not_stop_the_search() -> None:
    study = study_of(ScalingSampler(seed=0))
    for number in range(12):
        trial = study.ask({"batch_size": SIZES, "lr": RATES})
        if number == 3:
            with pytest.warns(UserWarning, match="nan"):
                study.tell(trial, math.nan)
        else:
            study.tell(trial, math.inf if trial.params["lr"] > 0.1 else loss(trial.params))
    assert study.best_value < 1.1


def test_out_of_memory_is_learned_as_a_boundary() -> None:
    study = study_of(ScalingSampler(seed=0))
    refused = 0
    for _ in range(20):
        trial = study.ask({"batch_size": SIZES, "lr": RATES})
        if trial.params["batch_size"] > 128:  # and the best without that limit would lie beyond
            refused += 1
            trial.set_constraint("memory", 1.0)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            trial.set_constraint("memory", -1.0)
            study.tell(trial, loss(trial.params) - 0.1 * math.log2(trial.params["batch_size"]))
    assert refused <= 4
    assert study.best_trial.params["batch_size"] == 128


def test_point_that_always_fails_is_not_proposed_for_ever() -> None:
    study = study_of(ScalingSampler(seed=0))
    failing = set()
    for _ in range(8):
        trial = study.ask({"batch_size": SIZES, "lr": RATES})
        failing.add((trial.params["batch_size"], round(math.log2(trial.params["lr"]))))
        study.tell(trial, state=TrialState.FAIL)
    assert len(failing) >= 4


def test_running_trials_are_not_proposed_again() -> None:
    study = study_of(ScalingSampler(seed=0))
    study.optimize(objective, n_trials=4)
    asked = [study.ask({"batch_size": SIZES, "lr": RATES}).params for _ in range(6)]
    apart = [
        abs(math.log2(one["lr"] / two["lr"])) + abs(math.log2(one["batch_size"] / two["batch_size"]))
        for i, one in enumerate(asked)
        for two in asked[:i]
    ]
    assert min(apart) > 0.1


def test_workers_that_start_together_spread_out() -> None:
    study = study_of(ScalingSampler(seed=0))
    asked = {tuple(study.ask({"batch_size": SIZES, "lr": RATES}).params.values()) for _ in range(8)}
    assert len(asked) == 8


def test_threads_share_a_sampler() -> None:
    study = study_of(ScalingSampler(seed=0))
    study.optimize(objective, n_trials=12, n_jobs=3)
    assert len(set(trail(study))) >= 10


def test_noise_leads_to_a_good_point_all_the_same() -> None:
    rng = np.random.default_rng(0)
    study = study_of(ScalingSampler(seed=0))
    study.optimize(lambda trial: objective(trial) + 0.05 * float(rng.standard_normal()), n_trials=25)
    assert loss(study.best_params) < 1.1


def test_two_objectives_find_both_ends_of_the_front() -> None:
    study = study_of(ScalingSampler(seed=0), directions=["minimize", "maximize"])

    def both(trial: Trial) -> tuple[float, float]:
        return objective(trial), math.log2(trial.params["batch_size"])

    study.optimize(both, n_trials=20)
    front = [t.params["batch_size"] for t in study.best_trials]
    assert min(front) <= 128
    assert max(front) == 1024


def test_wrong_reference_is_overcome() -> None:
    for factor in (1 / 16, 16):
        study = study_of(ScalingSampler(seed=0, reference=Reference(128, 0.03 * factor)))
        study.optimize(objective, n_trials=15)
        assert study.best_value < 1.05


def test_cost_draws_the_search_to_cheaper_points() -> None:
    means = []
    for cost in (None, lambda params: 4096.0 / params["batch_size"]):
        study = study_of(ScalingSampler(seed=0, cost=cost))
        study.optimize(objective, n_trials=10)
        means.append(np.mean([math.log2(b) for b, _ in trail(study)]))
    assert means[1] > means[0]


def test_used_up_budget_silences_the_cost() -> None:
    plain, spent = study_of(ScalingSampler(seed=0)), ScalingSampler(seed=0, cost=lambda p: p["lr"], cost_budget=1e-9)
    priced = study_of(spent)
    plain.optimize(objective, n_trials=5)
    priced.optimize(objective, n_trials=5)
    assert trail(plain) == trail(priced)


def test_pruned_trials_count_by_where_they_would_have_ended() -> None:
    study = study_of(ScalingSampler(seed=0))
    for b, x in ((16, -9), (64, -6), (256, -4), (128, -5), (32, -7)):
        final = loss({"batch_size": b, "lr": 2.0**x})
        curve = {step: final + 2.0 / step for step in (1, 2, 4, 8, 16)}
        study.add_trial(told(b, 2.0**x, curve[16], intermediate_values=curve))
    reports = {1: 9.0, 2: 8.5, 4: 8.2}
    study.add_trial(told(512, 2.0**-3, None, state=TrialState.PRUNED, intermediate_values=reports))
    sampler = study.sampler
    assert isinstance(sampler, ScalingSampler)
    there = sampler.predict(study, {"batch_size": 512, "lr": 2.0**-3})
    assert there is not None
    assert there.mean > there.transform(2.0)


def test_belief_needs_three_finished_trials_and_then_ranks_points() -> None:
    study = study_of(ScalingSampler(seed=0))
    sampler = study.sampler
    assert isinstance(sampler, ScalingSampler)
    study.optimize(objective, n_trials=2)
    assert sampler.predict(study, {"batch_size": 128, "lr": 0.03}) is None
    study.optimize(objective, n_trials=10)
    good, bad = (sampler.predict(study, {"batch_size": 128, "lr": lr}) for lr in (0.03, 1e-5))
    assert good is not None
    assert bad is not None
    assert good.mean + good.sd < bad.mean - bad.sd
    assert good.best == pytest.approx(float(good.transform(study.best_value)))


def test_explanation_names_basin_ridge_and_reason() -> None:
    study = study_of(ScalingSampler(seed=0))
    study.optimize(objective, n_trials=16)
    sampler = study.sampler
    assert isinstance(sampler, ScalingSampler)
    said = sampler.explain(study)
    assert said.is_fitted
    assert said.basin is not None
    assert said.basin.batch_sizes[0][0] == 128
    assert said.basin.lr_low < 0.03125 < said.basin.lr_high
    for point in said.ridge:
        best = 2.0 ** (-5.0 + 0.5 * (math.log2(point.batch_size) - 7.0))
        assert point.low * 0.8 <= best <= point.high * 1.25
    assert said.last is not None
    assert said.last.number == 15
    assert "chance to beat the best" in said.last.reason


def test_explanation_of_a_part_of_the_range_says_which_was_tried_and_looks_beyond() -> None:
    """The tried rates end where 16 has its best, 128's is three octaves above."""

    def quadratic(trial: optuna.Trial) -> float:
        size, lr = trial.suggest_int("batch_size", 8, 1024, log=True), trial.suggest_float("lr", 1e-4, 1.0, log=True)
        return math.log2(lr / (0.0005 * size)) ** 2

    study = optuna.create_study()
    for size in (16, 32, 64, 128):
        for lr in (0.001, 0.002, 0.004, 0.008):
            study.enqueue_trial({"batch_size": size, "lr": lr})
    study.optimize(quadratic, 16)
    said = ScalingSampler().explain(study)
    assert said.message.startswith("After 16 trials at batch sizes 16 to 128 no batch size stands out; likeliest are")
    assert said.basin is not None
    assert len(said.basin.batch_sizes) > 1


def test_explanation_before_any_trial_is_the_prior() -> None:
    study = study_of(ScalingSampler(seed=0))
    study.ask({"batch_size": SIZES, "lr": RATES})
    sampler = study.sampler
    assert isinstance(sampler, ScalingSampler)
    said = sampler.explain(study)
    assert not said.is_fitted
    assert "Too few" in said.message


def test_explanation_of_an_empty_study_says_what_is_missing() -> None:
    sampler = ScalingSampler(seed=0)
    assert "needs both" in sampler.explain(study_of(sampler)).message


def test_best_at_the_edge_is_warned_of_once_with_a_wider_range(caplog: pytest.LogCaptureFixture) -> None:
    study = study_of(ScalingSampler(seed=0))

    def edgy(trial: Trial) -> float:
        lr = trial.suggest_float("lr", 1e-5, 1e-3, log=True)
        return loss({"batch_size": trial.suggest_int("batch_size", 8, 1024, log=True), "lr": lr})

    with caplog.at_level(logging.WARNING, logger="bsopt"):
        study.optimize(edgy, n_trials=14)
    about_lr = [record.message for record in caplog.records if "highest lr" in record.message]
    assert len(about_lr) == 1
    sampler = study.sampler
    assert isinstance(sampler, ScalingSampler)
    edge = next(edge for edge in sampler.explain(study).edges if edge.parameter == "lr")
    assert edge.high > 5e-3


def test_ridge_of_an_earlier_study_starts_the_next_one() -> None:
    earlier = study_of(ScalingSampler(seed=0, reference=(32, 1e-4)))
    earlier.optimize(objective, n_trials=15)
    for source in (earlier, earlier.sampler.explain(earlier)):  # type: ignore[attr-defined]
        later = study_of(ScalingSampler(seed=0, reference=(32, 1e-4), prior_from=source))
        later.optimize(objective, n_trials=1)
        assert abs(math.log2(later.trials[0].params["lr"]) - (-5 + 0.5 * (math.log2(trail(later)[0][0]) - 7))) < 1.0


def test_prior_from_a_study_without_trials_is_refused() -> None:
    with pytest.raises(ConfigError, match="prior_from"):
        ScalingSampler(prior_from=study_of(ScalingSampler(seed=0)))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rule": "liner"}, "Did you mean 'linear'"),
        ({"lattice": "pow3"}, "multiple_of"),
        ({"seed": -1}, "at least 0"),
        ({"cost_budget": 0.0}, "above 0"),
        ({"optimizer": "adagradd"}, "Did you mean 'adagrad'"),
        ({"reference": 0.1}, r"\(batch size, learning rate\), for example \(32, 0.01\), got 0.1"),
        ({"reference": (0.01, 32)}, r"Did you mean \(32, 0.01\)"),
        ({"reference": ("32", 0.01)}, "for example"),
        ({"reference": (32, -0.01)}, "positive"),
        ({"batch_size": 64}, "name of a parameter"),
        ({"lr": 0.1}, "name of a parameter"),
        ({"batch_size": "lr"}, "two parameters"),
    ],
)
def test_wrong_arguments_are_refused_with_what_is_allowed(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ScalingSampler(**options)


def test_an_optimizer_of_ones_own_needs_rule_and_reference() -> None:
    ScalingSampler(optimizer="mine", rule="linear", reference=(32, 0.1))
    ScalingSampler(optimizer="FusedAdam")
    with pytest.raises(ConfigError, match="both a rule and a reference"):
        ScalingSampler(optimizer="mine", rule="linear")


@pytest.mark.parametrize(
    "options",
    [{}, {"seed": 3, "optimizer": "adam"}, {"reference": (64, 0.02), "rule": "sqrt", "lattice": "any", "lr": "eta"}],
)
def test_representation_rebuilds_the_sampler(options: dict[str, Any]) -> None:
    sampler = ScalingSampler(**options)
    again = eval(repr(sampler))
    assert repr(again) == repr(sampler)
    first, second = (study_of(each).ask({"batch_size": SIZES, "lr": RATES}).params for each in (sampler, again))
    assert first == second


def test_a_parameter_that_the_model_does_not_choose_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    def sometimes(trial: optuna.Trial) -> float:
        return objective(trial) + (trial.suggest_float("dropout", 0, 1) if trial.number % 2 else 0.0)

    def always(trial: optuna.Trial) -> float:
        return objective(trial) + trial.suggest_float("dropout", 0, 1)

    study = optuna.create_study(sampler=ScalingSampler(seed=0))
    with caplog.at_level("WARNING", logger="bsopt"):
        study_of(ScalingSampler(seed=0)).optimize(always, n_trials=3)
        assert "random" not in caplog.text
        study.optimize(sometimes, n_trials=6)
    assert [record.message.split(":")[0] for record in caplog.records if "random" in record.message] == [
        "The parameter dropout is drawn at random"
    ]


def test_long_studies_are_thinned_and_still_improve() -> None:
    rng = np.random.default_rng(0)
    study = study_of(ScalingSampler(seed=0))
    rows = [{"batch_size": int(2 ** rng.integers(3, 11)), "lr": float(2 ** rng.uniform(-16, 0))} for _ in range(400)]
    study.add_trials([told(row["batch_size"], row["lr"], loss(row) + 0.3) for row in rows if loss(row) > 1.1])
    before = study.best_value
    study.optimize(objective, n_trials=3)
    assert study.best_value < before - 0.3


def test_a_batch_size_may_be_searched_as_an_exponent() -> None:
    def objective(trial: optuna.Trial) -> float:
        size = 2 ** trial.suggest_int("log2_bs", 3, 10)
        lr = trial.suggest_float("lr", 1e-5, 1, log=True)
        return (math.log2(lr / 0.01) - math.log2(size / 32)) ** 2 + 0.1 * math.log2(size / 32) ** 2

    study = optuna.create_study(sampler=ScalingSampler(seed=0, batch_size="log2_bs"))
    study.optimize(objective, n_trials=12)
    assert study.trials[0].params["log2_bs"] == 7  # the published default's 128 samples
    assert study.best_value < 0.1


def test_a_range_that_powers_of_two_hardly_cover_has_others_in_between() -> None:
    sizes = batch_sizes_on("pow2", IntDistribution(50, 200, log=True))
    assert sizes.tolist() == [64, 96, 128, 192]


def test_missing_parameters_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    study = optuna.create_study(sampler=ScalingSampler(seed=0))
    with caplog.at_level("WARNING", logger="bsopt"):
        study.optimize(lambda trial: trial.suggest_int("bs", 8, 64, log=True) * 1.0, n_trials=4)
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "The study has no parameter batch_size and no lr; it has bs. Name them to the sampler with batch_size= and lr=."
    ]
