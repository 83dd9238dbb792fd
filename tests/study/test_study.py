"""Whole studies on a toy project: real processes, real Lightning, real storages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import torch
from optuna.artifacts import get_all_artifact_meta

from bsopt.config import LoadedConfig, load_config
from bsopt.errors import ConfigError, InjectionError, MetricError, StorageError, StudyError, TaskError
from bsopt.storage.attributes import read_records
from bsopt.storage.databases import open_storage
from bsopt.study.study import Study, delete_study, list_studies, load_study
from bsopt.study.task_runner import TaskRunner
from bsopt.trial.events import Listener, TrialStart
from bsopt.trial.record import StopReason, Tick, TrialRecord

Load = Callable[..., LoadedConfig]


@pytest.fixture
def load(project: Path) -> Load:
    return lambda *overrides: load_config(project / "study.yaml", overrides)


class Log(Listener):
    def __init__(self) -> None:
        self.starts: list[TrialStart] = []
        self.ticks: list[tuple[int, Tick]] = []
        self.ends: list[TrialRecord] = []
        self.notes: list[str] = []

    def trial_started(self, start: TrialStart) -> None:
        self.starts.append(start)

    def ticked(self, number: int, tick: Tick) -> None:
        self.ticks.append((number, tick))

    def trial_ended(self, record: TrialRecord) -> None:
        self.ends.append(record)

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.mark.parametrize("package", ["pytorch_lightning", "lightning.pytorch"], indirect=True)
def test_study_runs_to_its_total_and_records_every_trial(load: Load, package: str) -> None:
    log = Log()
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


def test_the_same_command_continues_to_a_larger_total(load: Load) -> None:
    Study.create(load("budget.trials=1")).run()
    summary = Study.create(load("budget.trials=3")).run()
    assert (summary.num_complete, summary.num_new) == (3, 2)


def test_same_seed_gives_the_same_study(load: Load) -> None:
    curves = []
    for name in ("one", "two"):
        study = Study.create(load(), study_name=name)
        study.run()
        curves.append([[t.value for t in r.ticks] for r in study.records])
    assert curves[0] == curves[1]


def test_trials_share_initial_weights_but_not_the_order_of_data(load: Load) -> None:
    study = Study.create(load("search.lr.low=0.01", "search.lr.high=0.01", "search.lr.reference=null"))
    params = {"batch_size": 8, "lr": 0.01}
    study.optuna.enqueue_trial(params)
    study.optuna.enqueue_trial(params)
    study.run()
    first, second = study.records[:2]
    assert first.ticks[-1].value != second.ticks[-1].value
    assert abs(first.ticks[-1].value - second.ticks[-1].value) < 0.5 * first.ticks[0].value


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_optunas_samplers_and_pruners_work_by_name(load: Load, sampler: str) -> None:
    log = Log()
    study = Study.create(load(f"search.sampler={sampler}", "pruning={pruner: median, options: {n_startup_trials: 1}}"))
    study.run(log)
    assert all(record.batch_size in (4, 8, 16, 32) for record in study.records)  # snapped to the lattice
    assert all(record.stop_reason in (StopReason.COMPLETED, StopReason.PRUNED) for record in study.records)


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
    [("segfault@1", "segmentation fault"), ("raise@1", "the user's code is broken"), ("exit@1", "SystemExit")],
)
def test_a_broken_trial_costs_itself_and_its_curve_is_kept(load: Load, trouble: str, words: str) -> None:
    study = Study.create(load(f"task.model.init_args.trouble={trouble}", "budget.trials=2"))
    summary = study.run()
    assert summary.num_failed == 2
    assert all(words in r.message for r in study.records)
    assert all(len(r.ticks) == 1 for r in study.records)


def test_three_identical_failures_before_any_success_stop_the_study(load: Load) -> None:
    study = Study.create(load("task.model.init_args.trouble=raise", "budget.trials=9"))
    summary = study.run()
    assert (summary.ended, summary.num_failed) == ("same_failure", 3)
    assert "broken" in summary.message


def test_a_hanging_trial_is_given_up(load: Load) -> None:
    study = Study.create(load("task.model.init_args.trouble=hang@1", "budget.trials=1", "limits={stall_timeout: 2 s}"))
    study.run()
    record = study.records[0]
    assert record.stop_reason is StopReason.FAILED
    assert "no tick for 2 s" in record.message


@pytest.mark.parametrize("trouble", ["memory", "killed"])
def test_out_of_memory_is_tried_with_smaller_micro_batches(load: Load, trouble: str) -> None:
    log = Log()
    study = Study.create(load(f"task.model.init_args.trouble={trouble}", "budget.trials=1"))
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
    with pytest.raises(ConfigError, match="no known length"):
        Study.create(load(stream, "budget={trials: 1, epochs: 2}"), study_name="other")


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


def healthy(study: Study, loaded: LoadedConfig) -> Study:
    """Return a study whose task is that of another file."""
    config = study.config.model_copy(update={"task": loaded.config.task})
    return Study(study.optuna, TaskRunner(config, study.folder))


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bsopt", "study", "run", "study.yaml", "--json", *arguments]


def _ticks_in(checkpoint: Path) -> int:
    if not checkpoint.exists():
        return 0
    states = torch.load(checkpoint, weights_only=False)["callbacks"].values()
    return sum(len(state["ticks"]) for state in states if "ticks" in state)


def _wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.05)


def _processes_of(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "cwd") == str(folder) and int(entry.name) != os.getpid():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_everything_and_the_same_command_continues(project: Path, load: Load, sign: int) -> None:
    slow = ["--set", "task.model.init_args.trouble=hang@1", "--set", "budget.trials=2"]
    process = subprocess.Popen(_command(*slow), stdout=subprocess.PIPE, text=True, cwd=project)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("event") == "tick":
            break
    process.send_signal(sign)
    process.communicate(timeout=60)
    assert process.returncode == 130
    study = load_study("toy")
    assert [r.stop_reason for r in study.records] == [StopReason.INTERRUPTED]
    assert len(study.records[0].ticks) == 1
    _wait_for(lambda: not _processes_of(project))


@pytest.mark.slow
def test_a_killed_parent_leaves_no_orphan_and_its_trial_is_run_again(project: Path, load: Load) -> None:
    process = subprocess.Popen(
        _command("--set", "task.model.init_args.trouble=hang@1"), stdout=subprocess.PIPE, text=True, cwd=project
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("event") == "tick":
            break
    process.kill()
    process.wait()
    process.stdout.close()
    _wait_for(lambda: not _processes_of(project), 20)
    study = load_study("toy")
    params = study.records[0].params
    log = Log()
    study = healthy(study, load())
    summary = study.run(log)
    records = study.records
    assert records[0].stop_reason is StopReason.LOST
    assert records[1].params == params
    assert summary.num_complete == 4
    assert len(records) == 5
    assert any("lost" in note for note in log.notes)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_killed_trial_goes_on_from_its_last_validation(project: Path, load: Load, devices: int) -> None:
    settings = ["resume=true", "budget.trials=1", f"trainer.devices={devices}"]
    flags = [part for setting in settings for part in ("--set", setting)]
    broken = [*flags, "--set", "task.model.init_args.trouble=hang@2"]
    process = subprocess.Popen(_command(*broken), stdout=subprocess.PIPE, text=True, cwd=project)
    assert process.stdout is not None
    ticks = 0
    for line in process.stdout:
        ticks += json.loads(line).get("event") == "tick"
        if ticks == 2:
            break
    _wait_for(lambda: _ticks_in(Path("runs/toy/trials/0000/resume.ckpt")) == 2)
    process.kill()
    process.wait()
    process.stdout.close()
    _wait_for(lambda: not _processes_of(project), 20)
    study = load_study("toy")
    study = healthy(study, load())
    study.run()
    first, second = study.records
    assert first.stop_reason is StopReason.LOST
    assert second.stop_reason is StopReason.COMPLETED
    assert [t.samples for t in second.ticks] == [96, 192, 288]
    assert [t.value for t in second.ticks[:2]] == [t.value for t in first.ticks]
    assert second.ticks[2].step == 3 * second.ticks[0].step
    assert not Path("runs/toy/trials/0000/resume.ckpt").exists()


@pytest.mark.slow
def test_four_workers_run_seventy_queued_trials_exactly_once(load: Load) -> None:
    study = Study.create(load("workers=4", "budget={trials: 70, epochs: 1}", "isolation=none"))
    for number in range(70):
        study.optuna.enqueue_trial({"batch_size": 32, "lr": 0.001 + 0.001 * number})
    summary = study.run()
    rates = [round(r.params["lr"], 6) for r in study.records]
    assert summary.num_complete == 70
    assert len(rates) == len(set(rates)) == 70


@pytest.mark.distributed
@pytest.mark.parametrize("package", ["pytorch_lightning", "lightning.pytorch"], indirect=True)
@pytest.mark.parametrize("storage", ["memory://", "sqlite:///bsopt.db", "journal:///{folder}/journal.log"])
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


@pytest.mark.parametrize(("policy", "kept"), [("none", 0), ("finalists", 3), ("all", 4)])
def test_checkpoints_are_kept_by_policy(load: Load, policy: str, kept: int) -> None:
    study = Study.create(load(f"checkpoints={policy}"))
    study.run()
    assert sum(study.files.weights_of(r.number) is not None for r in study.records) == kept
    listed = get_all_artifact_meta(study.optuna) if policy != "all" else []
    for trial in study.optuna.trials:
        listed += get_all_artifact_meta(trial, storage=open_storage(study.config.storage))
    assert sum(meta.filename.endswith("best.ckpt") for meta in listed) == kept


def test_initial_best_and_last_weights_are_kept(load: Load) -> None:
    study = Study.create(load("checkpoints={trials: all, keep: [initial, best, last]}", "budget.trials=1"))
    study.run()
    weights = {}
    for kind in ("initial", "best", "last"):
        path = study.files.weights_of(0, kind)
        assert path is not None
        weights[kind] = torch.load(path, weights_only=True)["state_dict"]["net.weight"]
    assert not torch.equal(weights["initial"], weights["last"])
    assert torch.equal(weights["best"], weights["last"])  # the toy's loss falls to the end


def test_the_best_checkpoint_of_each_batch_size_is_kept(load: Load) -> None:
    study = Study.create(load("checkpoints=best_per_batch_size", "budget.trials=6", "search.batch_size.high=8"))
    study.run()
    sizes = {r.batch_size for r in study.records}
    assert len(list(Path("runs/toy/trials").glob("*/best.ckpt"))) == len(sizes)
