"""Trials of whole studies on a toy project: whatever happens in one is told, and costs no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bsopt.config import LoadedConfig
from bsopt.errors import ConfigError, InjectionError, MachineError, MetricError
from bsopt.study.study import Study
from bsopt.trial.record import StopReason

Load = Callable[..., LoadedConfig]


@pytest.mark.slow
def test_trials_share_initial_weights_but_not_the_order_of_data(load: Load) -> None:
    study = Study.create(load("search.lr.low=0.01", "search.lr.high=0.01", "search.lr.reference=null"))
    params = {"batch_size": 8, "lr": 0.01}
    study.optuna.enqueue_trial(params)
    study.optuna.enqueue_trial(params)
    study.run()
    first, second = study.records[:2]
    assert first.ticks[-1].value != second.ticks[-1].value
    assert abs(first.ticks[-1].value - second.ticks[-1].value) < 0.5 * first.ticks[0].value


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_optunas_samplers_and_pruners_work_by_name(load: Load, sampler: str, log: Any) -> None:
    study = Study.create(load(f"search.sampler={sampler}", "pruning={pruner: median, options: {n_startup_trials: 1}}"))
    study.run(log)
    assert all(record.batch_size in (4, 8, 16, 32) for record in study.records)  # snapped to the lattice
    assert all(record.stop_reason in (StopReason.COMPLETED, StopReason.PRUNED) for record in study.records)


@pytest.mark.slow
def test_in_process_isolation_trains_the_same(load: Load) -> None:
    values = []
    for isolation in ("process", "none"):
        study = Study.create(load(f"isolation={isolation}", "budget.trials=2"), study_name=isolation)
        study.run()
        values.append([r.value for r in study.records])
    assert values[0] == pytest.approx(values[1])


def test_further_parameters_reach_the_module(load: Load) -> None:
    study = Study.create(load("search.params={model.momentum: {low: 0.1, high: 0.9}}", "budget.trials=2"))
    study.run()
    assert all(0.1 <= r.params["model.momentum"] <= 0.9 for r in study.records)
    assert study.records[0].value != study.records[1].value


def test_factory_and_its_attributes_work(load: Load) -> None:
    for number, factory in enumerate(("toy:build", "toy:build_without_arguments")):
        inject = "inject={lr: model.hparams.lr, batch_size: data.batch_size}" if number else "inject={}"
        study = Study.create(load(f"task={{factory: '{factory}'}}", inject, "budget.trials=1", f"name=factory{number}"))
        study.run()
        assert study.records[0].stop_reason is StopReason.COMPLETED


def test_nan_is_divergence_and_keeps_the_best_value(load: Load) -> None:
    study = Study.create(load("task.model.init_args.trouble=nan@1", "budget.trials=1"))
    study.run()
    record = study.records[0]
    assert record.stop_reason is StopReason.DIVERGED
    assert record.outcome == "pruned"
    assert record.value == record.ticks[0].value
    assert "nan" in record.message


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("segfault@1", "segmentation fault"),
        ("raise@1", "the user's code is broken"),
        ("exit@1", "SystemExit"),
        ("mute@1", "Mute (toy.py"),
    ],
)
def test_a_broken_trial_costs_itself_and_its_curve_is_kept(load: Load, trouble: str, words: str) -> None:
    study = Study.create(load(f"task.model.init_args.trouble={trouble}", "budget.trials=2"))
    summary = study.run()
    assert summary.num_failed == 2
    assert all(words in r.message for r in study.records)
    assert all(len(r.ticks) == 1 for r in study.records)


def test_a_project_that_closes_its_output_costs_no_trial(load: Load) -> None:
    study = Study.create(load("task.model.init_args.trouble=closed@1", "budget.trials=1"))
    study.run()
    assert study.records[0].stop_reason is StopReason.COMPLETED


@pytest.mark.slow
def test_a_disk_that_is_full_ends_the_run_and_costs_no_trial(load: Load, project: Path) -> None:
    study = Study.create(load("task.model.init_args.trouble=full@1", "budget.trials=2"))
    with pytest.raises(MachineError, match=r"No space left on device: metrics\.csv\. What was measured is kept"):
        study.run()
    assert [(r.stop_reason, len(r.ticks)) for r in study.records] == [(StopReason.LOST, 1)]
    (project / "space").touch()
    assert study.run().num_complete == 2


def test_three_identical_failures_before_any_success_stop_the_study(load: Load) -> None:
    study = Study.create(load("task.model.init_args.trouble=raise", "budget.trials=9"))
    summary = study.run()
    assert (summary.ended, summary.num_failed) == ("same_failure", 3)
    assert "broken" in summary.message


@pytest.mark.slow
def test_a_hanging_trial_is_given_up(load: Load) -> None:
    study = Study.create(load("task.model.init_args.trouble=hang@1", "budget.trials=1", "limits={stall_timeout: 2 s}"))
    study.run()
    record = study.records[0]
    assert record.stop_reason is StopReason.FAILED
    assert "no tick for 2 s" in record.message


def test_a_trial_that_is_always_killed_is_run_three_times_as_it_is_and_has_failed(load: Load, log: Any) -> None:
    study = Study.create(load("task.model.init_args.trouble=killed", "budget.trials=1"))
    study.optuna.enqueue_trial({"batch_size": 8, "lr": 0.01})
    assert study.run(log).num_failed == 1
    assert [r.stop_reason for r in study.records] == [StopReason.LOST, StopReason.LOST, StopReason.FAILED]
    assert [s.plan.micro_batch_size for s in log.starts] == [8, 8, 8]
    assert "nothing says that memory ran out" in study.records[2].message


def test_out_of_memory_is_tried_with_smaller_micro_batches(load: Load, log: Any) -> None:
    study = Study.create(load("task.model.init_args.trouble=memory", "budget.trials=1"))
    study.optuna.enqueue_trial({"batch_size": 8, "lr": 0.01})
    study.run(log)
    assert study.records[0].stop_reason is StopReason.OUT_OF_MEMORY
    assert [s.plan.micro_batch_size for s in log.starts] == [8, 4, 2, 1]
    assert all(s.plan.global_batch_size == 8 for s in log.starts)
    assert any("out of memory" in note for note in log.notes)


def test_target_ends_trials_and_counts_what_it_took(load: Load) -> None:
    study = Study.create(load("objective={target: 1.0, cost: samples}", "budget={trials: 3, epochs: 30}"))
    study.optuna.enqueue_trial({"batch_size": 4, "lr": 0.1})
    study.run()
    first = study.records[0]
    assert first.stop_reason is StopReason.TARGET_REACHED
    assert first.value == first.ticks[-1].samples


def test_fractional_budgets_end_with_a_tick(load: Load) -> None:
    study = Study.create(load("budget={trials: 1, samples: 240}"))
    study.run()
    assert [t.samples for t in study.records[0].ticks] == [96, 192, 240]


def test_data_of_unknown_length_is_counted_in_samples(load: Load) -> None:
    stream = "task.data.init_args.sized=false"
    study = Study.create(load(stream, "budget={trials: 1, samples: 192, validate_every: 64 samples}"))
    study.run()
    assert [t.samples for t in study.records[0].ticks] == [64, 128, 192]
    with pytest.raises(ConfigError, match="have no length"):
        Study.create(load(stream, "budget={trials: 1, epochs: 2}"), study_name="other")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "error", "words"),
    [
        ("task.model.init_args.trouble=deaf", InjectionError, "asked for learning rate .* has 0.123"),
        ("task.data.init_args.deaf=true", InjectionError, "the training loader has 5"),
        ("objective.monitor=val_los", MetricError, "logged are: .*val_loss.*Did you mean 'val_loss'"),
        ("task.model.init_args.trouble=unlogged", MetricError, "val_mae"),
    ],
)
def test_a_mistake_that_every_trial_would_meet_ends_the_run_at_once(
    load: Load, override: str, error: type[Exception], words: str
) -> None:
    study = Study.create(load(override))
    with pytest.raises(error, match=words):
        study.run()
    assert len(study.records) == 1


def test_verification_can_be_switched_off(load: Load) -> None:
    study = Study.create(load("task.model.init_args.trouble=deaf", "inject.verify=false", "budget.trials=1"))
    assert study.run().num_complete == 1


@pytest.mark.distributed
@pytest.mark.parametrize(
    "package",
    ["pytorch_lightning", pytest.param("lightning.pytorch", marks=pytest.mark.slow)],
    indirect=True,
)
@pytest.mark.parametrize(
    "storage",
    [
        "sqlite:///bsopt.db",
        pytest.param("memory://", marks=pytest.mark.slow),
        pytest.param("journal:///{folder}/journal.log", marks=pytest.mark.slow),
    ],
)
def test_two_ranks_are_pruned_on_any_storage(load: Load, storage: str, project: Path, package: str) -> None:
    pruning = "pruning={pruner: threshold, options: {upper: 0.0, n_warmup_steps: 100}}"
    overrides = ("trainer.devices=2", "budget.trials=1", pruning, f"storage={storage.format(folder=project)}")
    study = Study.create(load(*overrides))
    study.run()
    record = study.records[0]
    assert record.stop_reason is StopReason.PRUNED
    assert len(record.ticks) == 2
    assert record.plan is not None
    assert record.plan.num_devices == 2


@pytest.mark.distributed
def test_the_metric_is_averaged_over_ranks(load: Load) -> None:
    study = Study.create(load("trainer.devices=2", "task.model.init_args.trouble=no_sync", "budget.trials=1"))
    study.run()
    assert study.records[0].ticks[0].value == pytest.approx(1.5)


@pytest.mark.distributed
def test_a_lost_rank_fails_the_trial_and_leaves_nothing(load: Load, project: Path) -> None:
    study = Study.create(load("trainer.devices=2", "task.model.init_args.trouble=rank1@1", "budget.trials=1"))
    study.run()
    record = study.records[0]
    assert record.stop_reason is StopReason.FAILED
    assert "rank 1" in record.message
