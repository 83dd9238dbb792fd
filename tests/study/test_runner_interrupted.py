"""What ends a run or a trial before its time: nothing measured is lost, and the trial is run again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy.exc
from optuna.trial import TrialState

from bsopt.errors import BsoptError, MachineError, StorageError, StorageFailedError, StudyError
from bsopt.storage import ownership, queue
from bsopt.storage.attributes import OWNER_KEY, read_records
from bsopt.training.processes.launcher import Crash, Supervision
from bsopt.trial.record import StopReason, TrialRecord
from bsopt.trial.spec import TrialSpec

Pretend = Callable[..., Any]
Train = Callable[[TrialSpec, Supervision], TrialRecord]


def test_a_crash_without_which_no_trial_can_be_trained_ends_the_run_and_its_trial_is_run_again(
    pretend: Pretend, usual: Train
) -> None:
    broken = [True]

    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        if broken:
            broken.clear()
            raise Crash(StopReason.INTERRUPTED, "rank 1 is gone", ends_study=True)
        return usual(spec, supervision)

    study = pretend(train)
    with pytest.raises(StudyError, match="rank 1 is gone"):
        study.run()
    assert study.run().num_complete == 4
    assert study.records[1].params == study.records[0].params
    assert len(study.records) == 5


def test_an_interrupted_trial_is_run_again_with_the_same_parameters_and_seeds(pretend: Pretend, usual: Train) -> None:
    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        if spec.number == 1:
            signal.raise_signal(signal.SIGINT)
        if supervision.is_cancelled():
            raise Crash(StopReason.INTERRUPTED, "interrupted")
        return usual(spec, supervision)

    study = pretend(train)
    summary = study.run()
    assert (summary.ended, summary.num_complete, summary.num_failed) == ("interrupted", 1, 0)
    assert study.run().num_complete == 4
    assert [record.stop_reason for record in study.records] == [
        StopReason.COMPLETED,
        StopReason.INTERRUPTED,
        *[StopReason.COMPLETED] * 3,
    ]
    assert study.records[2].params == study.records[1].params
    seeds = [record.seed for record in study.records]
    assert seeds[2] not in (seeds[0], seeds[3], seeds[4])


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"])
def test_each_signal_that_asks_for_an_end_gets_an_orderly_one(pretend: Pretend, usual: Train, name: str) -> None:
    number = getattr(signal, name)

    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        signal.raise_signal(number)
        raise Crash(StopReason.INTERRUPTED, "interrupted")

    study = pretend(train)
    before = signal.getsignal(number)
    summary = study.run()
    assert (summary.ended, summary.signal) == ("interrupted", number)
    assert study.records[0].stop_reason is StopReason.INTERRUPTED
    assert signal.getsignal(number) == before


def test_a_hang_up_that_is_told_twice_still_ends_in_order(pretend: Pretend) -> None:
    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        signal.raise_signal(signal.SIGHUP)  # by the system
        signal.raise_signal(signal.SIGHUP)  # by output that finds its terminal gone
        raise Crash(StopReason.INTERRUPTED, "interrupted")

    summary = pretend(train).run()
    assert (summary.ended, summary.signal) == ("interrupted", signal.SIGHUP)


def test_a_process_that_nohup_started_lives_on_when_its_terminal_closes(pretend: Pretend, usual: Train) -> None:
    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        signal.raise_signal(signal.SIGHUP)
        return usual(spec, supervision)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert pretend(train).run().num_complete == 4
    finally:
        signal.signal(signal.SIGHUP, before)


ENDINGS = {
    "a second Ctrl-C": KeyboardInterrupt(signal.SIGINT),
    "a deleted working folder": FileNotFoundError(2, "No such file or directory"),
    "what nobody foresaw": RuntimeError("a bug"),
    "a storage that fails": sqlalchemy.exc.OperationalError("INSERT", {}, Exception("disk full")),
}


@pytest.mark.parametrize("error", [pytest.param(error, id=name) for name, error in ENDINGS.items()])
@pytest.mark.parametrize("place", ["while it trains", "before it trains", "when its record is written"])
def test_whatever_ends_a_run_its_trial_is_run_again_and_the_total_holds(
    pretend: Pretend, usual: Train, monkeypatch: pytest.MonkeyPatch, error: BaseException, place: str
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        record = usual(spec, supervision)
        if spec.number == 1:
            if place == "while it trains":
                fail()
            if place == "when its record is written":
                monkeypatch.setattr("bsopt.study.runner.write_record", fail)
        if spec.number == 0 and place == "before it trains":
            monkeypatch.setattr("bsopt.study.runner.suggest", fail)
        return record

    study = pretend(train)
    with pytest.raises((type(error), BsoptError)):
        study.run()
    monkeypatch.undo()
    assert [r.stop_reason for r in study.records][1:] == [StopReason.LOST]
    summary = study.run()
    assert (summary.num_complete, summary.num_failed) == (4, 0)
    if place != "before it trains":
        assert study.records[2].params == study.records[1].params
    assert len(study.records) == 5
    assert study.run().ended == "nothing_to_do"


@pytest.mark.parametrize("event", ["trial_started", "ticked", "trial_ended", "note"])
def test_a_listener_that_fails_ends_the_run_and_costs_no_trial(pretend: Pretend, event: str) -> None:
    study = pretend(confirm_seeds=1, budget={"trials": 1, "epochs": 3})

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the listener's own")

    setattr(study.log, event, fail)
    with pytest.raises(RuntimeError, match="the listener's own"):
        study.run()
    delattr(study.log, event)
    assert study.run().num_complete == 2
    assert all(record.stop_reason is not StopReason.LOST for record in study.records)


def test_a_folder_that_can_not_be_written_ends_the_run_and_keeps_the_trial(
    pretend: Pretend, usual: Train, tmp_path: Path
) -> None:
    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        folder = tmp_path / "out" / "trials" / f"{spec.number:04d}"
        folder.mkdir(parents=True)
        (folder / "log.txt").write_text("a line")
        return usual(spec, supervision)

    (tmp_path / "artifacts").write_text("in the way")
    study = pretend(train)
    with pytest.raises(StorageError, match="artifact folder"):
        study.run()
    assert [r.stop_reason for r in study.records] == [StopReason.COMPLETED]


def test_a_trial_whose_output_folder_was_deleted_is_lost_and_not_failed(
    pretend: Pretend, usual: Train, tmp_path: Path
) -> None:
    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        if spec.number == 1:
            (tmp_path / "out").rmdir()
            raise Crash(StopReason.FAILED, "FileNotFoundError: log.txt")
        return usual(spec, supervision)

    (tmp_path / "out").mkdir()
    study = pretend(train)
    with pytest.raises(MachineError, match=r"the output folder .*out is gone"):
        study.run()
    assert [r.stop_reason for r in study.records] == [StopReason.COMPLETED, StopReason.LOST]


def test_a_killed_trial_is_run_again_in_the_same_run(pretend: Pretend, usual: Train) -> None:
    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        if spec.number in (1, 2):
            raise Crash(StopReason.LOST, "the training process was killed")
        return usual(spec, supervision)

    study = pretend(train)
    summary = study.run()
    assert (summary.num_complete, summary.num_failed, summary.num_new) == (4, 0, 6)
    assert study.records[1].params == study.records[2].params == study.records[3].params
    assert {start.plan.micro_batch_size for start in study.log.starts} == {
        start.batch_size for start in study.log.starts
    }


def test_a_trial_that_is_killed_again_and_again_has_failed(pretend: Pretend, usual: Train) -> None:
    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        if spec.number:
            raise Crash(StopReason.LOST, "the training process was killed")
        return usual(spec, supervision)

    study = pretend(train, budget={"trials": 2, "epochs": 3})
    summary = study.run()
    assert (summary.num_complete, summary.num_failed) == (1, 1)
    assert [r.stop_reason for r in study.records] == [
        StopReason.COMPLETED,
        StopReason.LOST,
        StopReason.LOST,
        StopReason.FAILED,
    ]


def test_a_lost_trial_is_run_again_and_counts_once(pretend: Pretend) -> None:
    study = pretend()
    lost = study.optuna.ask()
    lost.suggest_int("batch_size", 4, 32, log=True)
    lost.suggest_float("lr", 0.001, 0.3, log=True)
    lost.set_user_attr(OWNER_KEY, {**ownership.this_process(), "pid": 1 << 30})  # no such process
    assert study.run().num_complete == 4
    assert study.records[0].stop_reason is StopReason.LOST
    assert study.records[1].params == study.records[0].params
    assert len(study.records) == 5


def test_a_trial_that_another_host_gave_up_is_left_to_it(
    pretend: Pretend, usual: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        if spec.number == 0:
            with monkeypatch.context() as patch:
                patch.setenv("BSOPT_HOST", "other")  # which has heard nothing of this one for too long
                ownership.give_up_lost(study.optuna, now=time.time() + 1e6)
                queue.queue_retries(study.optuna, total=1000)
        return usual(spec, supervision)

    study = pretend(train, budget={"trials": 2, "epochs": 3})
    assert study.run().num_complete == 2
    reasons = [record.stop_reason for record in study.records]
    assert reasons == [StopReason.LOST, StopReason.COMPLETED, StopReason.COMPLETED]
    assert study.records[1].params == study.records[0].params


def test_a_place_that_another_host_took_is_handed_back(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["the study has its trials"])
    monkeypatch.setattr(queue, "excess", lambda *_, **__: next(answers, ""))
    study = pretend()
    summary = study.run()
    assert (summary.num_complete, summary.num_failed, summary.num_new) == (4, 0, 4)
    assert [len(record.ticks) for record in study.records] == [0, 3, 3, 3, 3]


def test_a_run_stays_until_the_trials_of_other_hosts_have_ended(
    pretend: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bsopt.study.runner._LOOK_SECONDS", 0.01)
    study = pretend(budget={"trials": 2, "epochs": 3})
    other = study.optuna.ask()
    other.set_user_attr(OWNER_KEY, {**ownership.this_process(), "host": "other"})
    ownership.sign_of_life(other)

    def note(message: str) -> None:
        assert "waiting for trial 0" in message
        study.optuna.tell(other, 5.0)

    study.log.note = note
    summary = study.run()
    assert (summary.num_complete, summary.num_new) == (2, 1)


def test_a_worker_with_a_leader_leaves_other_hosts_to_it(pretend: Pretend) -> None:
    study = pretend(budget={"trials": 2, "epochs": 3})
    other = study.optuna.ask()
    other.set_user_attr(OWNER_KEY, {**ownership.this_process(), "host": "other"})
    ownership.sign_of_life(other)
    summary = study.run(worker="leader-0")
    assert (summary.num_complete, summary.num_new) == (1, 1)
    assert study.optuna.trials[0].state is TrialState.RUNNING
    assert study.optuna.trials[1].user_attrs[OWNER_KEY]["worker"] == "leader-0"


def test_a_failing_storage_is_named_and_ends_the_run(pretend: Pretend) -> None:
    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        raise sqlalchemy.exc.OperationalError("INSERT", {}, Exception("disk full"))

    study = pretend(train)
    with pytest.raises(StorageError, match=r"storage memory:// failed: .*disk full"):
        study.run()
    assert len(read_records(study.optuna)) == 1


def test_a_storage_that_can_be_read_but_not_written_is_named_and_the_next_run_continues(
    pretend: Pretend, usual: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> bool:
        raise StorageFailedError("database or disk is full")

    study = pretend(usual)
    with monkeypatch.context() as patch:
        patch.setattr(study.optuna._storage, "set_trial_state_values", fail)
        with pytest.raises(StorageFailedError, match="disk is full"):  # and not Optuna's "Should not reach."
            study.run()
    assert study.optuna.trials[0].state is TrialState.RUNNING
    assert study.run().num_complete == 4
    assert [r.stop_reason for r in study.records] == [StopReason.LOST, *[StopReason.COMPLETED] * 4]
    assert study.records[1].params == study.records[0].params
