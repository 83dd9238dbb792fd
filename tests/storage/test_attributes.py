"""What is stored reads back the same on every kind of storage, and nothing secret is shown."""

from __future__ import annotations

import math
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from bsopt.errors import StorageError, StorageFailedError
from bsopt.storage.attributes import (
    enqueued_params,
    is_ours,
    read_decay_remaining,
    read_info,
    read_record,
    read_records,
    write_info,
    write_record,
)
from bsopt.storage.databases import open_storage, redacted, study_url
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason, StudyInfo, Tick, TrialRecord


@pytest.fixture(params=["memory", "sqlite", "journal"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> optuna.storages.BaseStorage:
    urls = {
        "memory": "memory://",
        "sqlite": f"sqlite:///{tmp_path}/new/folder/s.db",
        "journal": f"journal://{tmp_path}/new/s.log",
    }
    return open_storage(urls[request.param])


def long_record(number: int) -> TrialRecord:
    ticks = tuple(
        Tick(index=i, samples=i * 100.0, step=i, epoch=i / 10, seconds=i / 100, value=1 / i, metrics={"val_acc": 0.5})
        for i in range(1, 2001)
    )
    return TrialRecord(
        number=number,
        outcome="complete",
        batch_size=64,
        lr=0.5,
        params={"batch_size": 64, "lr": 0.5},
        stop_reason=StopReason.COMPLETED,
        value=0.0005,
        best_tick=2000,
        ticks=ticks,
        plan=Plan(64),
        message="ünïcode " * 10,
    )


def test_record_longer_than_a_text_column_reads_back_the_same(storage: optuna.storages.BaseStorage) -> None:
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    trial.suggest_int("batch_size", 8, 128, log=True)
    trial.suggest_float("lr", 0.1, 1.0, log=True)
    written = long_record(trial.number)
    write_record(trial, written)
    study.tell(trial, written.value)
    (read,) = read_records(study)
    assert read.ticks == written.ticks
    assert read.plan == written.plan
    assert read.message == written.message
    assert read.value == 0.0005
    assert read.params == trial.params
    pieces = [v for k, v in study.trials[0].user_attrs.items() if k.startswith("bsopt:record:")]
    assert len(pieces) > 1
    assert max(map(len, pieces)) <= 65_535


def test_study_info_reads_back_the_same(storage: optuna.storages.BaseStorage) -> None:
    study = optuna.create_study(storage=storage)
    info = StudyInfo(name=study.study_name, batch_size_range=(8, 64), lr_range=(0.1, 1.0), config={"name": "x"})
    assert not is_ours(study)
    write_info(study, info)
    assert is_ours(study)
    assert read_info(study) == info


def test_outcome_is_what_optuna_holds_and_value_of_a_pruned_trial_is_its_best(
    storage: optuna.storages.BaseStorage,
) -> None:
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    record = TrialRecord(number=0, outcome="running", stop_reason=StopReason.PRUNED_PLATEAU, value=0.3)
    write_record(trial, record)
    trial.report(0.9, step=1)
    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    read = read_record(study, study.trials[0])
    assert read.outcome == "pruned"
    assert read.value == 0.3


def test_newer_format_is_refused_with_what_to_do() -> None:
    study = optuna.create_study(storage=open_storage("memory://"))
    study.set_user_attr("bsopt:info:0", '{"format": 99, "name": "x"}')
    study.set_user_attr("bsopt:info", 1)
    with pytest.raises(StorageError, match=r"newer bsopt .*upgrade"):
        read_info(study)


def test_older_format_is_refused_with_what_to_do() -> None:
    study = optuna.create_study(storage=open_storage("memory://"))
    study.set_user_attr("bsopt:info:0", '{"format": 1, "name": "x", "monitor": "val_loss"}')
    study.set_user_attr("bsopt:info", 1)
    with pytest.raises(StorageError, match=r"older bsopt \(format 1\).*--study-name"):
        read_info(study)


def test_a_record_is_parsed_once_and_a_changed_description_again(storage: optuna.storages.BaseStorage) -> None:
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    write_record(trial, long_record(trial.number))
    study.tell(trial, 0.0005)
    first, second = read_records(study)[0], read_records(study)[0]
    assert first.ticks is second.ticks
    info = StudyInfo(name=study.study_name, num_trials=3)
    for changed in (info, replace(info, num_trials=4), info):
        write_info(study, changed)
        assert read_info(study) == changed
        assert read_info(study) is read_info(study)


def test_trial_says_whether_its_learning_rate_still_decays() -> None:
    study = optuna.create_study()
    said = {None: {}, True: {"lr_decay_remaining": True}, False: {"lr_decay_remaining": False}}
    for attributes in said.values():
        study.enqueue_trial({}, user_attrs=attributes)
    assert [read_decay_remaining(trial) for trial in study.trials] == list(said)
    assert read_decay_remaining(study.trials[0], default=True) is True


def test_enqueued_trials_are_told_from_proposed_ones() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"x": 0.5})
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    assert [enqueued_params(trial) for trial in study.trials] == [{"x": 0.5}, None]


def test_foreign_study_tells_what_optuna_keeps() -> None:
    study = optuna.create_study(direction="maximize")
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        study.set_metric_names(["accuracy"])

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_int("batch_size", 16, 256, log=True)
        trial.suggest_float("lr", 1e-3, 1e-1, log=True)
        for step, value in ((100, 0.5), (200, 0.9), (300, math.nan)):
            trial.report(value, step)
        return 0.8

    study.optimize(objective, n_trials=1)
    info, (record,) = read_info(study), read_records(study)
    assert (info.objective.monitor, info.objective.direction) == ("accuracy", "maximize")
    assert info.batch_size_range == (16, 256)
    assert info.lr_range == (1e-3, 1e-1)
    assert [tick.samples for tick in record.ticks] == [100.0, 200.0, 300.0]
    assert record.best is not None
    assert record.best.value == 0.9
    assert record.value == 0.8
    assert record.stop_reason is None
    assert record.batch_size == study.trials[0].params["batch_size"]


def test_foreign_study_without_our_parameters_is_read() -> None:
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    (record,) = read_records(study)
    assert (record.batch_size, record.lr) == (None, None)
    assert read_info(study).batch_size_range is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:secret@host/db", "postgresql+psycopg://me:***@host/db"),
        ("postgresql://:secret@host/db", "postgresql://:***@host/db"),
        ("mysql+pymysql://host/db?user=me&password=secret&x=1", "mysql+pymysql://host/db?user=me&password=***&x=1"),
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("grpc://host:13000", "grpc://host:13000"),
        ("postgresql://me:se/cret@host/db", "postgresql://me:***@host/db"),
    ],
)
def test_passwords_are_never_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown


def test_environment_variables_are_expanded_and_missing_ones_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "secret")
    monkeypatch.delenv("DB_HOST", raising=False)
    assert study_url("postgresql://me:${DB_PASSWORD}@host/db") == "postgresql://me:secret@host/db"
    with pytest.raises(StorageError, match="the environment variable DB_HOST, which isn't set"):
        open_storage("postgresql://${DB_HOST}/db")


@pytest.mark.parametrize("url", ["nonsense", "postgresql+nodriver://me:secret@host/db", "sqlite:////dev/null/x.db"])
def test_storage_that_can_not_be_opened_is_one_message_without_the_password(url: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_storage(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["sqlite:///", "journal://"])
def test_a_folder_is_no_storage(tmp_path: Path, kind: str) -> None:
    with pytest.raises(StorageError, match=r"is a folder: name a file in it, e\.g\. .*study\.db"):
        open_storage(f"{kind}{tmp_path}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite:///", "journal://"])
def test_a_file_that_is_deleted_while_it_is_used_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("BSOPT_STORAGE_WAIT", "0")
    study = optuna.create_study(storage=open_storage(f"{kind}{tmp_path}/study"))
    (tmp_path / "study").unlink()
    with pytest.raises(StorageFailedError, match=r"its file is gone\. Put it or a copy of it back"):
        study.ask()


def test_a_missing_driver_is_named() -> None:
    with pytest.raises(StorageError, match=r"needs a driver that isn't installed .*cx_Oracle"):
        open_storage("oracle+cx_oracle://me:secret@host/db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_read_only_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(StorageError, match="read-only"):
            open_storage(f"sqlite:///{tmp_path}/s.db")
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_waiting_trials_on_sqlite_are_run_once_each_by_many_threads(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    study = optuna.create_study(study_name="x", storage=open_storage(url))
    for number in range(12):
        study.enqueue_trial({"x": float(number)})

    def worker(_: int) -> list[float]:
        own = optuna.load_study(study_name="x", storage=open_storage(url))
        found = []
        for _ in range(3):
            trial = own.ask()
            found.append(trial.suggest_float("x", 0, 100))
            own.tell(trial, 0.0)
        return found

    with ThreadPoolExecutor(4) as pool:
        found = [x for part in pool.map(worker, range(4)) for x in part]
    assert sorted(found) == [float(number) for number in range(12)]
