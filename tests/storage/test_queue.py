"""Hosts agree on who runs what, with nothing but the storage's numbers."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from bsopt.storage import ownership, queue
from bsopt.storage.attributes import CONFIRM_KEY, OWNER_KEY, REPLICATE_KEY, read_records
from bsopt.storage.databases import open_storage
from bsopt.storage.optuna_internals import trial_of
from bsopt.trial.record import StopReason

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study()


def begin(study: optuna.Study, *, by: str = "no longer held", worker: str | None = None) -> optuna.Trial:
    """Ask for a trial and claim it, as the loop does."""
    trial = study.ask()
    ownership.claim(trial, by=by, worker=worker)
    return trial


def suggest(trial: optuna.Trial) -> None:
    trial.suggest_int("batch_size", 8, 64, log=True)
    trial.suggest_float("lr", 1e-3, 1.0, log=True)


def test_of_two_hosts_that_take_the_last_place_the_lower_number_keeps_it(study: optuna.Study) -> None:
    first, second, third = (begin(study) for _ in range(3))
    assert [queue.excess(study, trial, total=2) for trial in (first, second)] == ["", ""]
    assert queue.excess(study, third, total=2) == "the study has its 2 trials"


def test_a_trial_that_was_handed_back_neither_counts_nor_is_run_again(study: optuna.Study) -> None:
    trial = begin(study)
    ownership.hand_back(trial, "the study has its trials")
    study.tell(trial, state=TrialState.FAIL)
    assert queue.num_counted(study) == 0
    assert queue.queue_retries(study, total=5) == 0
    assert read_records(study)[0].message == "not trained: the study has its trials"


def test_a_lost_trial_that_was_queued_twice_is_run_once(study: optuna.Study) -> None:
    lost = begin(study, worker="a")
    suggest(lost)
    assert ownership.give_up_of(study, ["a"]) == [0]
    for _ in range(2):  # two hosts at the same moment
        study.enqueue_trial(dict(lost.params), user_attrs={"bsopt:retry_of": 0})
    first, second = begin(study), begin(study)
    assert (queue.root_of(first), queue.root_of(second)) == (0, 0)
    assert queue.excess(study, first, total=5) == ""
    assert queue.excess(study, second, total=5) == "another host runs the same trial"


def test_a_queued_retry_keeps_its_place(study: optuna.Study) -> None:
    lost = begin(study, worker="a")
    suggest(lost)
    ownership.give_up_of(study, ["a"])
    assert queue.num_open(study, total=1) == 1
    queue.queue_retries(study, total=5)
    study.add_trial(optuna.trial.create_trial(state=TrialState.RUNNING))  # by a host that hadn't seen it
    other = trial_of(study, study.get_trials(deepcopy=False)[2])
    assert queue.excess(study, other, total=1) == "the study has its 1 trials"


def test_a_lost_trial_whose_place_was_taken_is_not_run_again(study: optuna.Study) -> None:
    lost = begin(study, worker="a")
    suggest(lost)
    ownership.give_up_of(study, ["a"])
    other = begin(study)
    suggest(other)
    assert queue.queue_retries(study, total=1) == 0
    assert queue.queue_retries(study, total=2) == 1
    assert queue.queue_retries(study, total=2) == 0


def test_a_continuation_takes_no_place_and_is_run_again_if_it_is_lost(study: optuna.Study) -> None:
    paused = begin(study)
    suggest(paused)
    study.tell(paused, state=TrialState.PRUNED)
    assert queue.num_open(study, total=1) == 0
    queue.queue_continuation(study, 0)
    assert queue.num_open(study, total=1) == 1
    first = begin(study, worker="a")
    suggest(first)
    assert (queue.root_of(first), queue.excess(study, first, total=1)) == (0, "")
    assert ownership.give_up_of(study, ["a"]) == [1]
    assert queue.queue_retries(study, total=5) == 1
    again = begin(study)
    suggest(again)
    assert again.user_attrs["continues"] == 0
    assert queue.excess(study, again, total=1) == ""
    study.tell(again, 1.0)
    assert (queue.num_counted(study), queue.num_open(study, total=1)) == (1, 0)


def test_a_queued_repeat_that_ended_as_it_began_is_lost(study: optuna.Study) -> None:
    marks = {CONFIRM_KEY: 4, REPLICATE_KEY: 0}
    study.enqueue_trial({"batch_size": 8, "lr": 0.1}, user_attrs=marks)
    study.tell(study.ask(), state=TrialState.FAIL)  # interrupted before it could be claimed
    assert [r.stop_reason for r in read_records(study)] == [StopReason.LOST]
    assert queue.queue_retries(study, total=5) == 1


def test_only_the_trials_of_the_workers_named_are_given_up(study: optuna.Study) -> None:
    for worker in ("a", "b", None):
        begin(study, worker=worker)
    assert ownership.give_up_of(study, ["b", "c"]) == [1]
    assert [r.stop_reason for r in read_records(study)] == [None, StopReason.LOST, None]


@pytest.mark.parametrize("changed", [{"host": "other"}, {"boot": "earlier"}, {"space": "a container"}])
def test_a_process_elsewhere_is_given_up_after_silence_only(study: optuna.Study, changed: dict[str, Any]) -> None:
    trial = begin(study)
    trial.set_user_attr(OWNER_KEY, {**ownership.this_process(), **changed, "pid": 1 << 30})
    assert ownership.running_elsewhere(study)
    assert ownership.give_up_lost(study) == []
    assert ownership.give_up_lost(study, now=time.time() + ownership.GRACE_SECONDS + 1) == [0]


def test_a_process_of_this_host_that_is_gone_is_given_up_at_once(study: optuna.Study) -> None:
    with ownership.claims() as claim:
        trial = begin(study, by=claim)
        trial.set_user_attr(OWNER_KEY, {**trial.user_attrs[OWNER_KEY], "pid": 1 << 30})
        assert ownership.give_up_lost(study) == [0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems hide all processes")
@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError, ProcessLookupError])
def test_a_process_that_may_not_be_looked_at_is_given_up_after_silence_only(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    owner = {**ownership.this_process(), "born": "7"}
    for pid in (os.getppid(), 1 << 30):
        begin(study).set_user_attr(OWNER_KEY, {**owner, "pid": pid})
    read = Path.read_text

    def hidden(path: Path, *arguments: Any, **named: Any) -> str:
        if path.name == "stat" and str(os.getpid()) not in path.parts:
            raise error
        return read(path, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", hidden)
    assert ownership.give_up_lost(study) == [1]  # it isn't there
    assert ownership.give_up_lost(study, now=time.time() + ownership.GRACE_SECONDS + 1) == [0]


def test_a_trial_of_this_process_is_given_up_once_the_process_no_longer_runs_it(study: optuna.Study) -> None:
    with ownership.claims() as claim:
        begin(study, by=claim)
        assert ownership.give_up_lost(study) == []
        with ownership.claims() as another:
            begin(study, by=another)
        assert ownership.running_elsewhere(study) == []
        assert ownership.give_up_lost(study) == [1]


class Killed(optuna.samplers.RandomSampler):
    """Ends its process as soon as a trial is asked for."""

    def before_trial(self, *arguments: Any) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("kind", ["sqlite:///", "journal://"])
def test_a_trial_says_from_its_beginning_whose_it_is(tmp_path: Path, kind: str) -> None:
    study = optuna.create_study(storage=open_storage(f"{kind}{tmp_path}/study"))
    killed = optuna.load_study(study_name=None, storage=study._storage, sampler=Killed())
    study.enqueue_trial({"lr": 0.1})
    for number in range(2):  # one that waited, and a new one
        with ownership.claims(worker="a") as claim:
            with pytest.raises(KeyboardInterrupt):
                killed.ask()
            owner = ownership.owner_of(study.trials[number])
            assert owner == {**ownership.this_process(), "worker": "a", "claim": claim}
            assert ownership.give_up_lost(study) == []
        assert ownership.give_up_lost(study) == [number]


def test_a_claim_is_put_on_one_trial_alone(tmp_path: Path) -> None:
    study = optuna.create_study(storage=open_storage(f"sqlite:///{tmp_path}/study.db"))
    with ownership.claims():
        study.ask(), study.ask()
    study.ask()
    assert [ownership.owner_of(trial) is not None for trial in study.trials] == [True, False, False]


def test_a_leader_stops_only_its_own_run(study: optuna.Study) -> None:
    assert not ownership.is_asked_to_stop(study, "run")
    ownership.ask_to_stop(study, "run")
    assert ownership.is_asked_to_stop(study, "run")
    assert not ownership.is_asked_to_stop(study, "another")


def test_runs_that_settle_something_come_beside_the_search_and_once() -> None:
    study = finished(3)
    runs = [({"batch_size": 8, "lr": 0.1}, 0), ({"batch_size": 16, "lr": 0.2}, None)]
    assert queue.queue_settling(study, runs) == 2
    assert queue.queue_settling(study, runs) == 0  # they still wait
    assert queue.num_waiting(study) == 2
    assert queue.num_open(study, total=3) == 2
    assert queue.num_open(study, total=1) == 2  # the study file asks for fewer by now
    trials = [study.ask() for _ in range(2)]
    assert all(queue.is_settling(trial) for trial in trials)
    assert [queue.is_repeat(trial) for trial in trials] == [True, False]
    assert queue.num_counted(study) == 3


def test_repeats_inside_a_budget_are_the_best_trials_first() -> None:
    study = finished(4)
    assert queue.queue_confirmations(study, replicates=2, most=3) == 3
    repeated = [study.ask().user_attrs["bsopt:confirms"] for _ in range(3)]
    assert repeated == [0, 0, 1]
    assert queue.queue_confirmations(study, replicates=2, most=3) == 0


def test_repeats_beyond_the_budget_leave_none_to_queue() -> None:
    study = finished(4)
    queue.queue_settling(study, [({"batch_size": 8, "lr": 0.1}, 3)] * 3)
    assert queue.queue_confirmations(study, replicates=2, most=2) == 0


def finished(num: int) -> optuna.Study:
    """A study whose first trial is the best."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for number in range(num):
        trial = study.ask()
        trial.suggest_int("batch_size", 8, 64)
        trial.suggest_float("lr", 0.01, 1.0)
        study.tell(trial, float(number))
    return study
