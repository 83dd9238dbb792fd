"""The runner's bookkeeping, with trials that only pretend to train."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from bsopt.errors import TaskError
from bsopt.search.pruner import PlateauPruner
from bsopt.storage import queue
from bsopt.study.run_queue import RunQueue
from bsopt.training.processes.launcher import Crash, Supervision
from bsopt.trial.record import StopReason, TrialRecord
from bsopt.trial.spec import StopDecision, TrialSpec

Pretend = Callable[..., Any]
Train = Callable[[TrialSpec, Supervision], TrialRecord]


def test_trials_run_to_the_total_and_every_step_is_told(pretend: Pretend) -> None:
    study = pretend()
    ended: list[int] = []
    summary = study.run(callbacks=[lambda _, trial: ended.append(trial.number)])
    assert (summary.ended, summary.num_complete, summary.num_new, summary.num_asked) == ("finished", 4, 4, 4)
    assert [start.number for start in study.log.starts] == ended == [0, 1, 2, 3]
    assert {start.num_ticks for start in study.log.starts} == {3}
    assert [(number, tick.index) for number, tick in study.log.ticks] == [(n, i) for n in range(4) for i in (1, 2, 3)]
    assert study.log.ends == study.records
    assert [trial.value for trial in study.optuna.trials] == [1.0] * 4
    assert all(trial.intermediate_values == {96: 3.0, 192: 2.0, 288: 1.0} for trial in study.optuna.trials)


def test_a_finished_study_is_left_as_it_is(pretend: Pretend) -> None:
    study = pretend()
    study.run()
    summary = study.run()
    assert (summary.ended, summary.num_new, summary.num_complete) == ("nothing_to_do", 0, 4)
    assert len(study.optuna.trials) == 4


def test_another_samplers_batch_sizes_are_trained_at_the_nearest_of_the_lattice(pretend: Pretend) -> None:
    study = pretend(budget={"trials": 12, "epochs": 3})
    study.run()
    assert {record.batch_size for record in study.records} <= {4, 8, 16, 32}
    assert not {record.params["batch_size"] for record in study.records} <= {4, 8, 16, 32}
    assert all(1 / 1.5 < r.batch_size / r.params["batch_size"] < 1.5 for r in study.records)


def test_several_workers_run_each_queued_trial_exactly_once(pretend: Pretend, usual: Train) -> None:
    together = threading.Barrier(3)

    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        if spec.number < 3:
            together.wait(20)  # until three trials are under way
        return usual(spec, supervision)

    study = pretend(train, workers=3, budget={"trials": 12, "epochs": 3})
    rates = [0.01 + 0.01 * number for number in range(12)]
    for rate in rates:
        study.optuna.enqueue_trial({"batch_size": 8, "lr": rate})
    summary = study.run()
    assert summary.num_complete == 12
    assert sorted(record.lr for record in study.records) == pytest.approx(rates)


def test_a_trial_queued_by_hand_with_what_is_no_batch_size_costs_itself_alone(pretend: Pretend) -> None:
    study = pretend(budget={"trials": 3, "epochs": 3})
    study.optuna.enqueue_trial({"batch_size": "eight", "lr": 0.1})
    summary = study.run()
    assert (summary.num_complete, summary.num_failed) == (2, 1)
    assert "queued with {'batch_size': 'eight', 'lr': 0.1}" in study.records[0].message
    assert study.run().ended == "nothing_to_do"


def test_out_of_memory_halves_the_micro_batch_for_this_and_every_later_trial(pretend: Pretend, usual: Train) -> None:
    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        if spec.plan.micro_batch_size > 2:
            raise Crash(StopReason.OUT_OF_MEMORY, "no memory")
        return usual(spec, supervision)

    study = pretend(train, budget={"trials": 2, "epochs": 3})
    for _ in range(2):
        study.optuna.enqueue_trial({"batch_size": 8, "lr": 0.1})
    assert study.run().num_complete == 2
    assert [(start.number, start.plan.micro_batch_size) for start in study.log.starts] == [
        (0, 8),
        (0, 4),
        (0, 2),
        (1, 2),
    ]
    assert {start.plan.global_batch_size for start in study.log.starts} == {8}


@pytest.mark.parametrize(
    ("num_devices", "starts"),
    [
        (128, 0),  # more than there are samples: no plan at all
        (1, 1),  # runs out of memory, and gradients may not be accumulated
    ],
)
def test_a_size_that_cannot_be_trained_is_pruned_and_marked_infeasible(
    pretend: Pretend, num_devices: int, starts: int
) -> None:
    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        raise Crash(StopReason.OUT_OF_MEMORY, "no memory")

    budget, limits = {"trials": 1, "epochs": 3}, {"accumulation": False}
    study = pretend(train, num_devices=num_devices, limits=limits, budget=budget)
    assert study.run().num_pruned == 1
    assert study.records[0].stop_reason is StopReason.OUT_OF_MEMORY
    assert len(study.log.starts) == starts
    assert max(study.optuna.trials[0].constraints.values()) > 0


def test_a_crash_costs_its_trial_and_the_curve_so_far_is_kept(pretend: Pretend, usual: Train) -> None:
    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        record = usual(spec, supervision)
        if spec.number == 1:
            raise Crash(StopReason.FAILED, "it broke", log_tail="the last line")
        return record

    study = pretend(train)
    summary = study.run()
    assert (summary.num_complete, summary.num_failed) == (3, 1)
    broken = study.records[1]
    assert (broken.outcome, broken.stop_reason, broken.value) == ("fail", StopReason.FAILED, 1.0)
    assert [tick.value for tick in broken.ticks] == [3.0, 2.0, 1.0]
    assert "it broke" in broken.message
    assert "the last line" in broken.message


def test_three_identical_failures_before_any_success_end_the_run(pretend: Pretend) -> None:
    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        raise Crash(StopReason.FAILED, "always the same", log_tail=f"of trial {spec.number}")

    study = pretend(train, budget={"trials": 9, "epochs": 3})
    summary = study.run()
    assert (summary.ended, summary.num_failed) == ("same_failure", 3)


def test_after_a_success_eight_identical_failures_in_a_row_end_the_run(pretend: Pretend, usual: Train) -> None:
    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        if spec.number in (0, 4):
            return usual(spec, supervision)
        raise Crash(StopReason.FAILED, "the device is gone", log_tail=f"of trial {spec.number}")

    study = pretend(train, budget={"trials": 20, "epochs": 3})
    summary = study.run()
    assert (summary.ended, summary.num_complete, summary.num_failed) == ("same_failure", 2, 11)
    assert summary.message.startswith("the last 8 trials failed the same way")
    again = study.run()  # the same at once, and a success would have ended the row
    assert (again.ended, again.num_new) == ("same_failure", 1)


def test_different_failures_go_on(pretend: Pretend) -> None:
    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        raise Crash(StopReason.FAILED, f"failure {spec.number % 2}")

    summary = pretend(train, budget={"trials": 6, "epochs": 3}).run()
    assert (summary.ended, summary.num_failed) == ("finished", 6)


@pytest.mark.parametrize("first", [0, 1])
def test_a_users_mistake_ends_the_run_unless_a_trial_has_succeeded(pretend: Pretend, usual: Train, first: int) -> None:
    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        if spec.number == first:
            raise TaskError("the module has no lr")
        return usual(spec, supervision)

    study = pretend(train)
    if first == 0:
        with pytest.raises(TaskError, match="no lr"):
            study.run()
        assert len(study.records) == 1
    else:
        assert study.run().num_complete == 3
    assert study.records[first].stop_reason is StopReason.FAILED


def test_trials_beside_a_finished_search_are_counted_and_given_to_all_workers(pretend: Pretend, usual: Train) -> None:
    meeting = threading.Barrier(2)

    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        if spec.number >= 4:
            meeting.wait(20)
        return usual(spec, supervision)

    study = pretend(train, workers=2)
    study.run()
    queue.queue_settling(study.optuna, [({"batch_size": 8, "lr": lr}, None) for lr in (0.01, 0.02)])
    summary = study.run()
    assert (summary.num_new, summary.num_complete, summary.num_asked) == (2, 6, 6)


def test_finalists_are_repeated_over_fresh_seeds_and_never_twice(pretend: Pretend, usual: Train) -> None:
    specs: list[TrialSpec] = []

    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        specs.append(spec)
        return usual(spec, supervision)

    study = pretend(train, confirm_seeds=2)
    summary = study.run()
    assert summary.num_complete == summary.num_new == 4 + 3 * 2
    assert len({spec.seeds.weights for spec in specs[:4]}) == 1
    assert len({spec.seeds.weights for spec in specs[4:]}) == 2  # the same two for every finalist
    assert not {spec.seeds.weights for spec in specs[4:]} & {spec.seeds.weights for spec in specs[:4]}
    assert study.run().ended == "nothing_to_do"


def test_designed_runs_are_trained_beside_the_search(pretend: Pretend) -> None:
    experiment = {"batch_sizes": [4, 8], "reference_lr": 0.01, "arms": ["fixed_lr"], "seeds": 2}
    study = pretend(experiment=experiment, budget={"trials": 1, "epochs": 3})
    summary = study.run()
    assert (summary.num_complete, summary.num_asked) == (5, 5)
    designed = [(r.batch_size, r.design_seed) for r in study.records if r.design_seed is not None]
    assert sorted(designed) == [(4, 0), (4, 1), (8, 0), (8, 1)]
    assert study.run().ended == "nothing_to_do"


def test_no_trial_begins_once_the_studys_time_is_over(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    study = pretend(budget={"trials": 9, "epochs": 3, "time": "1 h"})
    monkeypatch.setattr(RunQueue, "is_time_up", property(lambda self: len(study.log.ends) >= 2))
    summary = study.run()
    assert (summary.ended, summary.num_complete) == ("time_up", 2)
    assert study.run().ended == "time_up"


def test_a_target_that_was_never_reached_prunes(pretend: Pretend) -> None:
    study = pretend(objective={"target": 2.0, "cost": "samples"}, budget={"trials": 1, "epochs": 3})
    study.run()
    assert (study.records[0].stop_reason, study.records[0].value) == (StopReason.TARGET_REACHED, 192.0)
    missed = pretend(objective={"target": 0.5, "cost": "samples"}, budget={"trials": 1, "epochs": 3})
    assert missed.run().num_pruned == 1


class PausesSecond(PlateauPruner):
    """Pauses trial 1 at its second tick and finds its chance back once three others have finished."""

    chance_at_first = 0.0

    def decide(self, study: optuna.Study, trial: optuna.trial.FrozenTrial, **kwargs: Any) -> StopDecision:
        pauses = trial.number == 1 and len(trial.intermediate_values) == 2
        return StopDecision(StopReason.PAUSED, "paused", 0.2) if pauses else StopDecision()

    def chance(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> float:
        return 1.0 if len(study.get_trials(states=(TrialState.COMPLETE,))) >= 3 else self.chance_at_first


def test_a_paused_trial_is_gone_on_with_from_its_state_and_counts_once(pretend: Pretend, usual: Train) -> None:
    specs: list[TrialSpec] = []

    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        specs.append(spec)
        assert spec.resume_file is not None
        if spec.number == 1:
            Path(spec.resume_file).parent.mkdir(parents=True, exist_ok=True)
            Path(spec.resume_file).write_text("state")
        elif spec.number == 4:
            assert Path(spec.resume_file).read_text() == "state"
        return usual(spec, supervision)

    study = pretend(train, budget={"trials": 4, "epochs": 3})
    study.optuna.pruner = PausesSecond(pause_below=0.3)
    assert study.run().num_complete == 4
    reasons = [record.stop_reason for record in study.records]
    assert reasons == [StopReason.COMPLETED, StopReason.PAUSED, *[StopReason.COMPLETED] * 3]
    assert study.records[4].params == study.records[1].params
    assert study.optuna.trials[4].user_attrs["continues"] == 1
    assert specs[4].seeds == specs[1].seeds
    assert not Path(str(specs[1].resume_file)).exists()
    assert any("trial 1 is gone on with" in note for note in study.log.notes)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_paused_trial_is_gone_on_with_when_nothing_new_is_to_come(
    workers: int, pretend: Pretend, usual: Train
) -> None:
    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        if spec.number == 1:
            Path(str(spec.resume_file)).parent.mkdir(parents=True, exist_ok=True)
            Path(str(spec.resume_file)).write_text("state")
        return usual(spec, supervision)

    study = pretend(train, budget={"trials": 3, "epochs": 3}, workers=workers)
    study.optuna.pruner = PausesSecond(pause_below=0.3)
    study.optuna.pruner.chance_at_first = 0.2
    summary = study.run()
    assert (summary.num_complete, summary.num_pruned, summary.num_new) == (3, 0, 3), "it counts once"
    assert study.records[1].stop_reason is StopReason.PAUSED
    assert study.optuna.trials[3].user_attrs["continues"] == 1
    assert any("trial 1 is gone on with: nothing new is to come" in note for note in study.log.notes)


def test_what_is_left_paused_by_an_interrupted_run_is_gone_on_with(pretend: Pretend, usual: Train) -> None:
    states: list[Path] = []

    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        states.append(Path(str(spec.resume_file)))
        if spec.number == 1:
            states[-1].parent.mkdir(parents=True, exist_ok=True)
            states[-1].write_text("state")
        return usual(spec, supervision)

    study = pretend(train, budget={"trials": 2, "epochs": 3})
    study.optuna.pruner = PausesSecond(pause_below=0.3)
    study.run()
    states[1].write_text("state")  # as after an interruption, which deletes none
    study.optuna.pruner.chance_at_first = 0.2
    assert study.run().num_complete == 2
    assert study.optuna.trials[2].user_attrs["continues"] == 1


def test_the_states_of_paused_trials_are_deleted_with_the_study_s_last_trial(pretend: Pretend, usual: Train) -> None:
    states: list[Path] = []

    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        states.append(Path(str(spec.resume_file)))
        states[-1].parent.mkdir(parents=True, exist_ok=True)
        states[-1].write_text("state")
        assert all(state.exists() for state in states[1:2])
        return usual(spec, supervision)

    study = pretend(train, budget={"trials": 2, "epochs": 3})
    study.optuna.pruner = PausesSecond(pause_below=0.3)
    assert study.run().ended == "finished"
    assert [record.stop_reason for record in study.records] == [StopReason.COMPLETED, StopReason.PAUSED]
    assert not any(state.exists() for state in states)


def test_optunas_pruner_is_asked_by_name(pretend: Pretend) -> None:
    study = pretend(budget={"trials": 1, "epochs": 3})
    study.optuna.pruner = optuna.pruners.ThresholdPruner(upper=0.0, n_warmup_steps=100)
    assert study.run().num_pruned == 1
    assert (study.records[0].stop_reason, len(study.records[0].ticks)) == (StopReason.PRUNED, 2)


def test_what_every_trial_warns_of_is_told_once(pretend: Pretend, usual: Train) -> None:
    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        own = () if spec.number < 2 else ("the third's own",)
        return replace(usual(spec, supervision), warnings=("no training loss", *own))

    study = pretend(train, budget={"trials": 3, "epochs": 3})
    study.run()
    assert [note for note in study.log.notes if note.startswith("trial")] == [
        "trial 0: no training loss",
        "trial 2: the third's own",
    ]
    assert [len(record.warnings) for record in study.records] == [1, 1, 2]
