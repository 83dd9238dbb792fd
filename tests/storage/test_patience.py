"""What passes by itself is waited out; what doesn't is told in one message, and nothing is told twice."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy.exc
from optuna.trial import TrialState

from bsopt.errors import ConfigError, StorageFailedError
from bsopt.storage import databases
from bsopt.storage.patience import patient


class Flaky(optuna.storages.InMemoryStorage):
    """Fails so often, before or after what it was asked for was done."""

    def __init__(self, error: Exception, *, times: int, is_done: bool = False) -> None:
        super().__init__()
        self.error, self.left, self.is_done = error, times, is_done

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        if state.is_finished() and self.left:
            self.left -= 1
            if self.is_done:
                super().set_trial_state_values(trial_id, state, values)
            raise self.error
        return super().set_trial_state_values(trial_id, state, values)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which passes only while something waits."""
    now = [0.0]
    monkeypatch.setattr("bsopt.storage.patience.time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


LOST = sqlalchemy.exc.OperationalError("UPDATE", {}, Exception("server closed the connection unexpectedly"))


def _told(storage: Flaky, clock: list[float]) -> optuna.trial.FrozenTrial:
    study = optuna.create_study(storage=patient(storage, "sqlite:///x.db", clock=lambda: clock[0]))
    study.tell(study.ask(), 1.0)
    return study.trials[0]


@pytest.mark.parametrize("error", [LOST, OSError(errno.ENOSPC, "No space left on device")])
def test_what_passes_is_waited_out(error: Exception, clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    assert _told(Flaky(error, times=8), clock).value == 1.0
    assert 1 < clock[0] < 20
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    assert "the storage sqlite:///x.db fails" in caplog.text


def test_an_answer_that_was_lost_is_not_taken_for_a_failure(clock: list[float]) -> None:
    assert _told(Flaky(LOST, times=1, is_done=True), clock).value == 1.0


def test_the_wait_has_an_end_and_one_message(clock: list[float]) -> None:
    with pytest.raises(StorageFailedError, match=r"closed the connection unexpectedly. What was measured is kept"):
        _told(Flaky(LOST, times=10**9), clock)
    assert 120 <= clock[0] < 130


def test_after_one_long_wait_nothing_else_waits_for_some_time(clock: list[float]) -> None:
    storage = Flaky(LOST, times=10**9)
    study = optuna.create_study(storage=patient(storage, "x", clock=lambda: clock[0]))
    trial = study.ask()
    with pytest.raises(StorageFailedError):
        study.tell(trial, 1.0)
    waited = clock[0]
    with pytest.raises(StorageFailedError):
        study.tell(trial, state=TrialState.FAIL)
    assert clock[0] == waited
    storage.left, clock[0] = 3, waited + 1000
    study.tell(trial, 1.0)
    assert study.trials[0].value == 1.0


def test_what_cannot_pass_is_not_waited_for(clock: list[float]) -> None:
    damaged = sqlalchemy.exc.DatabaseError("SELECT", {}, Exception("database disk image is malformed"))
    with pytest.raises(StorageFailedError, match="malformed"):
        _told(Flaky(damaged, times=10**9), clock)
    assert clock[0] == 0.0


def test_what_is_no_failure_of_the_storage_is_raised_as_it_is(clock: list[float]) -> None:
    with pytest.raises(KeyError):
        patient(optuna.storages.InMemoryStorage(), "x").get_trial(7)


def test_the_wait_is_set_by_the_environment(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BSOPT_STORAGE_WAIT", "3")
    with pytest.raises(StorageFailedError):
        _told(Flaky(LOST, times=10**9), clock)
    assert clock[0] < 8
    monkeypatch.setenv("BSOPT_STORAGE_WAIT", "long")
    with pytest.raises(ConfigError, match="takes seconds"):
        patient(optuna.storages.InMemoryStorage(), "x")


def test_every_method_of_optunas_interface_is_passed_on(tmp_path: Path) -> None:
    made = patient(optuna.storages.InMemoryStorage(), "x")
    study = optuna.create_study(storage=made, study_name="s")
    study.enqueue_trial({"x": 0.5})
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    assert study.best_value <= 0.5
    assert optuna.get_all_study_names(made) == ["s"]


@pytest.mark.parametrize(
    "words", ["the database system is starting up", "the database system is not yet accepting connections"]
)
def test_a_server_that_is_starting_is_waited_for(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    refusal = sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception(f"connection failed: FATAL:  {words}"))
    refusals = [refusal] * 3

    def connect(address: str, options: object) -> str:
        if refusals:
            raise refusals.pop()
        return "opened"

    monkeypatch.setattr(databases, "_with_tables", connect)
    monkeypatch.setattr(databases, "with_cache", lambda storage: storage)
    monkeypatch.setattr(databases, "patient", lambda storage, url: storage)
    monkeypatch.setattr(databases, "_SECONDS_BETWEEN_ATTEMPTS", 0.01)
    assert databases.open_storage("postgresql+psycopg://me@host/db") == "opened"
    refusals.append(refusal)
    monkeypatch.setenv("BSOPT_STORAGE_WAIT", "0")
    with pytest.raises(StorageFailedError, match=f"{words}. Once it answers, run the same command again"):
        databases.open_storage("postgresql+psycopg://me@host/db")
