"""Which runs a design consists of, and how a study trains them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bsopt.config import ExperimentConfig, LoadedConfig
from bsopt.errors import ConfigError, StudyError
from bsopt.experiment import Design, experiment_of
from bsopt.study.study import Study
from bsopt.trial.events import Listener, TrialStart
from bsopt.trial.record import StopReason, TrialRecord

Load = Callable[..., LoadedConfig]


class Variants(Listener):
    """Notes which variant each trial trains."""

    def __init__(self) -> None:
        self.begun: list[str | None] = []
        self.ended: list[str | None] = []

    def trial_started(self, start: TrialStart) -> None:
        self.begun.append(start.variant)

    def trial_ended(self, record: TrialRecord) -> None:
        self.ended.append(record.design_variant)


def _design(**changes: object) -> Design:
    given = {"batch_sizes": [32, 64, 256], "reference_lr": 0.01, "seeds": 2, **changes}
    return Design.of(ExperimentConfig.model_validate(given))


def test_a_configuration_of_several_arms_is_trained_once() -> None:
    design = _design(grid=[0.01, 0.08])
    assert design.configurations == (
        *((32, 0.01), (32, 0.08)),
        *((64, 0.01), (64, 0.02), (64, 0.08)),
        *((256, 0.01), (256, 0.08)),
    )
    assert design.arms_of(32, 0.01) == ("grid", "fixed_lr", "scaled_lr")
    assert design.arms_of(256, 0.08) == ("grid", "scaled_lr", "higher_lr")
    assert design.arms_of(64, 0.02) == ("scaled_lr",)
    assert design.arms_of(64, 0.03) == ()


def test_runs_come_seed_by_seed() -> None:
    runs = _design(arms=["fixed_lr"]).runs
    assert [(run.batch_size, run.seed) for run in runs] == [(32, 0), (64, 0), (256, 0), (32, 1), (64, 1), (256, 1)]


def test_arms_that_are_left_out_have_no_runs() -> None:
    design = _design(arms=["fixed_lr", "scaled_lr"], grid=[0.5])
    assert design.grid == ()
    assert design.configurations == ((32, 0.01), (64, 0.01), (64, 0.02), (256, 0.01), (256, 0.08))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("experiment.batch_sizes=[8]", "batch_sizes"),
        ("experiment.batch_sizes=[8, 12]", r"\[12\] aren't among those of search.batch_size"),
        ("experiment.reference_lr=0.5", "outside search.lr"),
        ("experiment.params={model.width: 3}", "each of search.params"),
        ("experiment.arms=[fixed]", "experiment.arms"),
        ("experiment=null", "nothing would be run"),
        ("objective.direction=maximize", "about a loss"),
    ],
)
def test_mistakes_in_a_design_are_told(load: Load, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(override)


@pytest.mark.slow
def test_every_designed_run_is_trained_once_and_continued_where_it_stopped(load: Load) -> None:
    small = ("experiment.arms=[fixed_lr, scaled_lr]", "experiment.batch_sizes=[8, 32]", "budget.epochs=1")
    study = Study.create(load(*small))
    summary = study.run()
    assert (summary.ended, summary.num_complete, summary.num_asked) == ("finished", 6, 6)
    experiment = experiment_of(study.optuna)
    assert experiment is not None
    assert experiment.num_missing == 0
    asked = {(run.batch_size, run.lr, run.seed) for run in experiment.design.runs}
    assert {(run.batch_size, run.lr, run.seed) for run in experiment.runs} == asked
    assert Study.create(load(*small)).run().ended == "nothing_to_do"
    more = Study.create(load(*small, "experiment.seeds=3"))
    assert more.run().num_new == 3


@pytest.mark.slow
def test_runs_of_one_seed_start_from_the_same_weights(load: Load) -> None:
    study = Study.create(load("checkpoints={trials: all, keep: [initial]}", "experiment.arms=[fixed_lr]"))
    study.run()
    import torch

    starts: dict[int, list[torch.Tensor]] = {}
    for record in study.records:
        path = study.files.weights_of(record.number, "initial")
        assert path is not None
        assert record.design_seed is not None
        starts.setdefault(record.design_seed, []).append(torch.load(path)["state_dict"]["net.weight"])
    assert all(torch.equal(start, found[0]) for found in starts.values() for start in found)
    assert not torch.equal(starts[0][0], starts[1][0])


def test_a_run_ends_when_its_loss_has_not_improved_for_the_patience(load: Load) -> None:
    still = "experiment={batch_sizes: [8, 16], reference_lr: 0.9, arms: [fixed_lr], seeds: 1, patience: 1 epochs}"
    study = Study.create(load(still, "budget.epochs=300", "search.lr.high=2.0"))
    study.run()
    for record in study.records:
        assert record.stop_reason is StopReason.CONVERGED
        assert record.best is not None
        assert record.ticks[-1].index == record.best.index + 1


@pytest.mark.slow
def test_weights_are_kept_where_the_training_loss_is_first_as_low_as_asked(load: Load) -> None:
    asked = "experiment={batch_sizes: [8, 16], reference_lr: 0.01, arms: [fixed_lr], seeds: 1, matched_loss: 1000.0}"
    study = Study.create(load(asked))
    study.run()
    import torch

    for record in study.records:
        matched, best = (study.files.weights_of(record.number, kind) for kind in ("matched", "best"))
        assert matched is not None
        assert best is not None
        assert torch.load(matched)["global_step"] == record.ticks[0].step
        assert torch.load(best)["global_step"] > record.ticks[0].step
    assert record.ticks[0].metrics["train_loss"] < 1000.0
    unasked = Study.create(load("name=unasked", "experiment.arms=[fixed_lr]", "experiment.seeds=1"))
    unasked.run()
    assert unasked.files.weights_of(0, "matched") is None


@pytest.mark.slow
def test_a_run_that_diverged_has_its_best_loss_alone(load: Load) -> None:
    study = Study.create(load("experiment.arms=[fixed_lr]", "experiment.seeds=1", "task.model.init_args.trouble=nan@2"))
    study.run()
    experiment = experiment_of(study.optuna)
    assert experiment is not None
    assert {run.record.stop_reason for run in experiment.runs} == {StopReason.DIVERGED}
    assert all(set(run.measurements) == {"best_val_loss", "best_train_loss"} for run in experiment.runs)


@pytest.mark.slow
def test_a_search_goes_on_beside_the_design(load: Load) -> None:
    study = Study.create(load("budget.trials=3", "experiment.arms=[fixed_lr]", "experiment.seeds=1", "workers=2"))
    assert study.run().num_complete == 6
    assert sorted(record.design_seed is None for record in study.records) == [False] * 3 + [True] * 3


@pytest.mark.slow
def test_further_parameters_are_the_design_s(load: Load) -> None:
    also = "search.params={model.momentum: {low: 0.0, high: 0.9}}"
    one = ("experiment.arms=[fixed_lr]", "experiment.seeds=1", "experiment.params={model.momentum: 0.25}")
    study = Study.create(load(also, *one))
    study.run()
    assert {record.params["model.momentum"] for record in study.records} == {0.25}


@pytest.mark.slow
def test_a_variant_trains_the_runs_of_its_arms_with_its_own_settings(load: Load) -> None:
    small = ("experiment={batch_sizes: [8, 32], reference_lr: 0.01, arms: [fixed_lr, scaled_lr], seeds: 1}",)
    small = (*small, "budget.epochs=1", "search.lr.high=0.1")
    half = ("experiment.variants.half={trainer: {precision: bf16-mixed}, arms: [fixed_lr]}",)
    heavy = ("experiment.variants.heavy={params: {model.momentum: 0.5}, arms: [scaled_lr]}",)
    study, log = Study.create(load(*small, *half)), Variants()
    assert study.run(log).num_complete == 5
    assert log.begun == log.ended == [None] * 3 + ["half"] * 2
    experiment = experiment_of(study.optuna)
    assert experiment is not None
    assert (len(experiment.runs), len(experiment.varied), experiment.num_missing) == (3, 2, 0)
    assert {run.record.precision for run in experiment.runs} == {"32-true"}
    assert {(run.record.precision, run.variant, run.arms) for run in experiment.varied} >= {
        ("bf16-mixed", "half", ("fixed_lr",))
    }
    assert not any(run.record.has_result for run in experiment.varied)  # no evidence for the study's own settings
    own = {(run.batch_size, run.seed): run.record.seed for run in experiment.arm("fixed_lr")}
    assert set(own) == {(run.batch_size, run.seed) for run in experiment.arm("fixed_lr/half")}
    assert [verdict.key for verdict in experiment.variant_verdicts["half"]] == [
        "half:no_worse", "half:faster_epochs", "half:less_memory",
    ]  # fmt: skip
    with pytest.raises(StudyError, match=r"experiment\.variants\.half\.trainer\.precision"):
        Study.create(load(*small, "experiment.variants.half={trainer: {precision: 64-true}, arms: [fixed_lr]}"))
    more = Study.create(load(*small, *half, *heavy))
    assert more.run().num_new == 2
    found = experiment_of(more.optuna)
    assert found is not None
    values = {name: found.values("best_val_loss", name) for name in ("scaled_lr", "scaled_lr/heavy")}
    assert values["scaled_lr"][32] != values["scaled_lr/heavy"][32]


def test_check_tries_a_step_of_each_variant(load: Load) -> None:
    small = ("experiment={batch_sizes: [8, 32], reference_lr: 0.01, arms: [fixed_lr], seeds: 1}", "search.lr.high=0.1")
    wrong = "experiment.variants={one: {params: {model.nope: 1}, arms: [fixed_lr]}}"
    (problem,) = Study.check(load(*small, wrong)).problems
    assert problem.startswith("one step was trained with experiment.variants.one, and a trial would fail like it")
    assert "takes no argument 'nope'" in problem
    fine = "experiment.variants={one: {params: {model.momentum: 0.5}, arms: [fixed_lr]}}"
    assert Study.check(load(*small, fine)).problems == ()


def test_check_says_what_the_design_is_and_what_it_lacks(load: Load) -> None:
    report = Study.check(load("checkpoints=none"))
    assert dict(report.rows)["designed runs"] == "20: 10 batch sizes with learning rates, 2 seeds each"
    assert any("below 5 no finding" in warning for warning in report.warnings)
    assert any("checkpoints: all" in warning for warning in report.warnings)


def test_another_patience_is_another_study(load: Load) -> None:
    Study.create(load())
    with pytest.raises(StudyError, match=r"experiment\.patience"):
        Study.create(load("experiment.patience=3 epochs"))


@pytest.mark.slow
def test_every_run_has_what_the_findings_compare(load: Load) -> None:
    study = Study.create(load("experiment.arms=[fixed_lr]"))
    study.run()
    experiment = experiment_of(study.optuna)
    assert experiment is not None
    expected = {
        "best_val_loss",
        "best_train_loss",
        "epochs_to_train_loss",
        "val_loss_at_train_loss",
        "overfitting",
        "epoch_distance_growth",
        "samples_per_second",
        "peak_memory",
        "seconds_per_epoch",
        "epochs_to_best",
        "seconds_to_best",
        "distance_from_init",
        "epoch_distance",
        "update_norm",
    }
    assert experiment.runs
    assert all(expected - {"peak_memory"} <= set(run.measurements) <= expected for run in experiment.runs)
    at_fixed = experiment.values("best_val_loss", "fixed_lr")
    assert list(at_fixed) == [8, 16, 32]
    assert all(sorted(seeds) == [0, 1] for seeds in at_fixed.values())
    assert len(experiment.verdicts) == 24
    assert "2 runs" in experiment.verdicts[0].sentence  # too few seeds to judge


@pytest.mark.slow
def test_a_fixed_share_of_the_updates_is_measured_whatever_the_machine_s_speed(load: Load) -> None:
    study = Study.create(load("experiment.arms=[fixed_lr]", "experiment.seeds=1"))
    study.run()
    for record in study.records:
        norms = record.measurements["UpdateNorms"]
        assert norms["num_measured"] == norms["num_updates"] // 5 + bool(norms["num_updates"] % 5)
