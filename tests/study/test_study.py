"""Whole studies on a toy project: made, checked, run, continued, repeated, listed and deleted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from bsopt.config import LoadedConfig, validate_config
from bsopt.errors import ConfigError, StorageError, StudyError, TaskError
from bsopt.search.pruner import PlateauPruner
from bsopt.storage.attributes import read_records
from bsopt.storage.databases import open_storage
from bsopt.study.study import Study, delete_study, list_studies, load_study
from bsopt.trial.record import StopReason

Load = Callable[..., LoadedConfig]


@pytest.mark.parametrize("package", ["pytorch_lightning", "lightning.pytorch"], indirect=True)
def test_study_runs_to_its_total_and_records_every_trial(load: Load, package: str, log: Any) -> None:
    study = Study.create(load())
    summary = study.run(log)
    assert (summary.ended, summary.num_complete, summary.num_new) == ("finished", 4, 4)
    assert study.task.description.package == package
    for record in study.records:
        assert record.stop_reason is StopReason.COMPLETED
        assert [t.samples for t in record.ticks] == [96, 192, 288]
        assert record.value == min(t.value for t in record.ticks)
        assert record.plan is not None
        assert record.plan.global_batch_size == record.batch_size == record.params["batch_size"]
        assert record.samples_exact == 288
        assert record.num_steps == 3 * -(-96 // record.batch_size)
        assert record.seconds_per_epoch is not None
        assert record.peak_memory_bytes is not None
    assert summary.best is not None
    assert summary.best.value == min(r.value for r in study.records if r.value is not None)
    assert [s.number for s in log.starts] == [0, 1, 2, 3]
    assert len(log.ticks) == 12


def test_a_finished_study_says_so_and_changes_nothing(load: Load) -> None:
    Study.create(load("budget.trials=1")).run()
    before = Path("bsopt.db").read_bytes()
    summary = Study.create(load("budget.trials=1")).run()
    assert summary.ended == "nothing_to_do"
    assert "finished" in summary.message
    assert Path("bsopt.db").read_bytes() == before


def test_what_is_stored_is_a_study_file_that_makes_the_same_study(load: Load) -> None:
    info = Study.create(load("budget.trials=1")).info
    again = validate_config(dict(info.config)).as_dict()
    assert again == load("budget.trials=1", "search.optimizer=sgd").config.as_dict()  # it is the task's
    assert info.file == str(load().path)


def test_the_same_command_continues_to_a_larger_total(load: Load) -> None:
    Study.create(load("budget.trials=1")).run()
    summary = Study.create(load("budget.trials=3")).run()
    assert (summary.num_complete, summary.num_new) == (3, 2)


@pytest.mark.slow
def test_an_earlier_study_tells_sampler_and_pruner(load: Load) -> None:
    Study.create(load("budget.trials=5")).run()
    later = Study.create(load("name=later", "search.prior_from=toy", "pruning=plateau", "budget.trials=1"))
    later.run()
    pruner = later.optuna.pruner
    assert isinstance(pruner, PlateauPruner)
    assert [len(curve.steps) for curve in pruner.earlier_curves] == 5 * [3]
    assert "prior_from" in repr(later.optuna.sampler)
    other = Study.create(load("name=other", "search.prior_from=toy", "pruning=plateau", "objective.direction=maximize"))
    assert isinstance(other.optuna.pruner, PlateauPruner)
    assert other.optuna.pruner.earlier_curves == ()  # of a loss that is to fall


@pytest.mark.slow
def test_same_seed_gives_the_same_study(load: Load) -> None:
    curves = []
    for name in ("one", "two"):
        study = Study.create(load(), study_name=name)
        study.run()
        curves.append([[t.value for t in r.ticks] for r in study.records])
    assert curves[0] == curves[1]


@pytest.mark.parametrize(
    ("override", "error", "words"),
    [
        ("task.model=missing.Net", TaskError, "no module 'missing'"),
        ("task.model=toy.Nope", TaskError, "no 'Nope'"),
        ("task.model=toy.NoLr", TaskError, "takes no argument 'lr' or 'learning_rate'"),
        ("task.model.init_args={mommentum: 1}", TaskError, "Did you mean 'momentum'"),
        ("search.batch_size.high=128", ConfigError, "training set has 96 samples: set it to 64"),
        ("search.lr={low: 1, high: 0.1}", ConfigError, "range is empty"),
        ("budget.validate_every=16 samples", ConfigError, "less than the largest batch"),
        ("trainer.max_epochs=3", ConfigError, "budget.epochs"),
        ("inject.lr=optimizer.lr", TaskError, "optimizer"),
    ],
)
def test_what_can_be_told_before_training_is(load: Load, override: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Study.create(load(override))
    assert (
        not Path("bsopt.db").exists()
        or list_studies("sqlite:///bsopt.db") == []
        or not read_records(optuna.load_study(study_name="toy", storage="sqlite:///bsopt.db"))
    )


def test_a_changed_search_space_is_refused_and_says_what_changed(load: Load) -> None:
    Study.create(load("budget.trials=1")).run()
    with pytest.raises(StudyError, match=r"search\.lr\.high: it was 0\.3, now 0\.5"):
        Study.create(load("search.lr.high=0.5"))


def test_read_only_places_are_named(load: Load, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        place = "/proc/nowhere"
    else:
        (tmp_path / "locked").mkdir(mode=0o500)
        place = str(tmp_path / "locked")
    with pytest.raises(ConfigError, match="can't write"):
        Study.create(load(f"output={place}/out"))
    with pytest.raises(StorageError):
        open_storage(f"sqlite:///{place}/study.db")


def test_check_reports_without_leaving_a_study(load: Load) -> None:
    report = Study.check(load("search.batch_size.high=128"))
    assert any("96 samples" in problem for problem in report.problems)
    assert dict(report.plans)[8] == "8"
    assert ("budget.validate_every", "1 epoch") in report.rows
    assert optuna.get_all_study_names(open_storage("sqlite:///bsopt.db")) == []


def test_train_repeats_the_best_at_full_budget_and_keeps_its_weights(load: Load) -> None:
    study = Study.create(load("budget.trials=2"))
    summary = study.run()
    record = load_study("toy").train()
    assert summary.best is not None
    assert record.value == summary.best.value
    assert Path(record.measurements["checkpoint"]).exists()
    with pytest.raises(StudyError, match="no trial 9"):
        study.train(9)


def test_passwords_are_never_stored(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_FILE", "secret.db")
    study = Study.create(load("budget.trials=1", "storage=sqlite:///${SECRET_FILE}"))
    assert Path("secret.db").exists()
    assert study.info.config["storage"] == "sqlite:///${SECRET_FILE}"


def test_deleting_and_listing(load: Load) -> None:
    Study.create(load())
    assert [s.study_name for s in list_studies("sqlite:///bsopt.db")] == ["toy"]
    delete_study("toy", "sqlite:///bsopt.db")
    assert list_studies("sqlite:///bsopt.db") == []
    with pytest.raises(StudyError, match="no study 'toy'"):
        load_study("toy")


@pytest.mark.slow
@pytest.mark.parametrize("count", [10, 70])
def test_four_workers_run_every_queued_trial_exactly_once(load: Load, count: int) -> None:
    study = Study.create(load("workers=4", f"budget={{trials: {count}, epochs: 1}}", "isolation=none"))
    for number in range(count):
        study.optuna.enqueue_trial({"batch_size": 32, "lr": 0.001 + 0.001 * number})
    summary = study.run()
    rates = [round(r.params["lr"], 6) for r in study.records]
    assert summary.num_complete == count
    assert len(rates) == len(set(rates)) == count


@pytest.mark.slow
def test_finalists_are_confirmed_over_fresh_seeds_and_never_twice(load: Load) -> None:
    study = Study.create(load("confirm_seeds=2", "budget.trials=4"))
    summary = study.run()
    repeats = [r for r in study.records if r.confirms is not None]
    assert summary.num_new == 4 + 3 * 2
    assert sorted(r.confirms for r in repeats if r.confirms is not None) == sorted(
        2 * sorted({r.confirms for r in repeats})
    )
    originals = {r.number: r for r in study.records}
    for repeat in repeats:
        assert repeat.confirms is not None
        assert repeat.params == originals[repeat.confirms].params
        assert repeat.ticks[0].value != originals[repeat.confirms].ticks[0].value  # other initial weights
    assert Study.create(load("confirm_seeds=2", "budget.trials=4")).run().ended == "nothing_to_do"
