"""The sampler, the pruner and the parameters that a study file asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest

from bsopt.config import StudyConfig
from bsopt.errors import ConfigError, MissingExtraError
from bsopt.laws.scaling import Reference
from bsopt.search.pruner import PlateauPruner
from bsopt.search.sampler import ScalingSampler
from bsopt.search.seeded_by_trial import SeededByTrial
from bsopt.study.samplers import make_pruner, make_sampler, reference_of, rule_of, suggest, with_optimizer
from bsopt.trial.record import StudyInfo

Configure = Callable[..., StudyConfig]
INFO = StudyInfo("s", num_train_samples=96)


def search(**changes: Any) -> dict[str, Any]:
    return {"batch_size": {"low": 4, "high": 32}, "lr": {"low": 0.001, "high": 0.3}, **changes}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tpe", optuna.samplers.TPESampler),
        ("gp", optuna.samplers.GPSampler),
        ("random", optuna.samplers.RandomSampler),
        ("qmc", optuna.samplers.QMCSampler),
    ],
)
def test_samplers_are_made_by_name(configure: Configure, name: str, kind: type) -> None:
    sampler = make_sampler(configure(search=search(sampler=name)))
    assert isinstance(sampler, SeededByTrial)
    assert isinstance(sampler.sampler_of(0), kind)


def test_a_sampler_that_needs_a_package_says_so_before_the_first_trial(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(search=search(sampler="cmaes"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'bsopt\[cmaes\]'"):
        make_sampler(config)


def test_without_a_name_the_sampler_is_ours(configure: Configure) -> None:
    assert isinstance(make_sampler(configure()), ScalingSampler)


def test_a_sampler_has_the_studys_seed(configure: Configure) -> None:
    def proposed(seed: int) -> dict[str, Any]:
        config = configure(search=search(sampler="random"), seed=seed)
        study = optuna.create_study(sampler=make_sampler(config))
        return suggest(study.ask(), config.search)

    assert proposed(1) == proposed(1)
    assert proposed(1) != proposed(2)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", ["scaling", "tpe", "gp", "random", "cmaes", "qmc"])
def test_no_two_workers_or_runs_propose_the_same(configure: Configure, name: str) -> None:
    """Each has a sampler of its own with the study's seed, as on another host or after an interruption."""
    if name == "cmaes":
        pytest.importorskip("cmaes")
    config = configure(search=search(sampler=name), seed=1)
    study = optuna.create_study()
    proposed = []
    for _ in range(2):
        study.sampler = make_sampler(config)
        trials = [study.ask() for _ in range(3)]
        proposed += [suggest(trial, config.search) for trial in trials]
        for trial in trials:
            study.tell(trial, 1.0)
    assert len({tuple(params.values()) for params in proposed}) == len(proposed)


def test_rule_and_reference_are_the_optimizers_where_none_is_given(configure: Configure) -> None:
    sgd, adam = configure(), configure(search=search(optimizer="adam"))
    assert rule_of(sgd.search) != rule_of(adam.search)
    assert reference_of(sgd) != reference_of(adam)
    given = {"low": 0.001, "high": 0.3, "rule": "none", "reference": {"batch_size": 8, "lr": 0.05}}
    own = configure(search=search(lr=given))
    assert (rule_of(own.search), reference_of(own)) == ("none", Reference(8, 0.05))


def test_a_default_falls_with_the_length_of_training_and_a_given_reference_does_not(configure: Configure) -> None:
    short, long = (reference_of(configure(), budget_samples=samples) for samples in (1e4, 1e8))
    assert short.lr > long.lr
    constant = configure(pruning={"pruner": "plateau", "options": {"decays_to_end": False}})
    assert reference_of(constant, budget_samples=1e8).lr < long.lr
    given = {"low": 0.001, "high": 0.3, "reference": {"batch_size": 8, "lr": 0.05}}
    assert reference_of(configure(search=search(lr=given)), budget_samples=1e8) == Reference(8, 0.05)


def test_the_optimizer_is_the_one_that_the_task_builds(configure: Configure) -> None:
    assert with_optimizer(configure(), "AdamW").search.optimizer == "adamw"
    assert with_optimizer(configure(), None).search.optimizer is None
    assert with_optimizer(configure(search=search(optimizer="adam")), "AdamW").search.optimizer == "adam"
    with pytest.raises(ConfigError, match=r"search\.optimizer is 'sgd', but the task builds AdamW"):
        with_optimizer(configure(search=search(optimizer="sgd")), "AdamW")


def test_our_pruner_counts_patience_in_samples_and_the_users_options_come_last(configure: Configure) -> None:
    pruner = make_pruner(configure(pruning={"pruner": "plateau", "patience": "2 epochs", "min_delta": 0.1}), INFO)
    assert isinstance(pruner, PlateauPruner)
    assert (pruner.patience, pruner.min_delta, pruner.rule, pruner.target) == (192.0, 0.1, "keras", None)
    assert (pruner.unit, pruner.unit_size) == ("epochs", 96.0)
    assert pruner.pause_below == 0.0
    pausing = make_pruner(configure(pruning="plateau"), INFO, pauses=True)
    assert isinstance(pausing, PlateauPruner)
    assert 0.0 < pausing.pause_below < 0.5
    own = make_pruner(configure(pruning={"pruner": "plateau", "options": {"rule": "noise"}}), INFO)
    assert isinstance(own, PlateauPruner)
    assert own.rule == "noise"


@pytest.mark.parametrize(("direction", "target"), [("minimize", 0.9), ("maximize", -0.9)])
def test_our_pruner_knows_the_target_as_optuna_hears_the_metric(
    configure: Configure, direction: str, target: float
) -> None:
    objective = {"monitor": "metric", "direction": direction, "target": 0.9, "cost": "seconds"}
    pruner = make_pruner(configure(pruning="plateau", objective=objective), INFO)
    assert isinstance(pruner, PlateauPruner)
    assert pruner.target == target


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    ("pruning", "kind"),
    [
        ("none", optuna.pruners.NopPruner),
        ("median", optuna.pruners.MedianPruner),
        ("SuccessiveHalvingPruner", optuna.pruners.SuccessiveHalvingPruner),
        ("successive_halving", optuna.pruners.SuccessiveHalvingPruner),
        ({"pruner": "patient", "options": {"wrapped_pruner": "median", "patience": 2}}, optuna.pruners.PatientPruner),
    ],
)
def test_optunas_pruners_are_made_by_name(configure: Configure, pruning: Any, kind: type) -> None:
    assert isinstance(make_pruner(configure(pruning=pruning), INFO), kind)


@pytest.mark.parametrize(
    ("pruning", "info", "words"),
    [
        ("medain", INFO, "Did you mean 'median'"),
        ({"pruner": "median", "options": {"patience": 3}}, INFO, "the pruner median refuses them"),
        ("plateau", StudyInfo("s"), "no known length"),
    ],
)
def test_a_pruner_that_cannot_be_made_is_refused(
    configure: Configure, pruning: Any, info: StudyInfo, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        make_pruner(configure(pruning=pruning), info)


def test_every_parameter_is_asked_for_in_its_range(configure: Configure) -> None:
    params = {
        "model.width": {"low": 2, "high": 8, "integer": True, "step": 2},
        "model.weight_decay": {"low": 1e-5, "high": 1e-2, "log": True},
        "data.crop": {"choices": ["none", "random"]},
    }
    config = configure(search=search(params=params))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(10):
        found = suggest(study.ask(), config.search)
        assert list(found) == ["batch_size", "lr", *params]
        assert 4 <= found["batch_size"] <= 32
        assert found["model.width"] in (2, 4, 6, 8)
        assert 1e-5 <= found["model.weight_decay"] <= 1e-2
        assert found["data.crop"] in ("none", "random")
