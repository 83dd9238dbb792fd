"""The leader: what it refuses, what it tells, and when it gives up; with workers in this process."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from optuna.trial import TrialState
from script import Script

from bsopt.cli.main import main
from bsopt.config import load_config
from bsopt.engines.leader import Leader, Lost
from bsopt.engines.ray import RayEngine
from bsopt.engines.resources import Resources, resources_of
from bsopt.engines.worker import Job, Outcome, work
from bsopt.errors import (
    ConfigError,
    MachineError,
    MissingExtraError,
    StorageError,
    StorageFailedError,
    StudyError,
    TaskError,
)
from bsopt.storage import queue
from bsopt.storage.attributes import read_records
from bsopt.trial.record import StopReason


class Here:
    """An engine that runs each worker to its end where it is placed."""

    uploads_code = False
    outlives_leader = False

    def __init__(self, run: Callable[[Job], Outcome] = work, *, spans_hosts: bool = False) -> None:
        self.run = run
        self.spans_hosts = spans_hosts
        self.jobs: list[Job] = []

    def advice(self, workers: int) -> str:
        return ""

    def place(self, job: Job) -> Here.Place:
        self.jobs.append(job)
        return Here.Place(self.run, job)

    def close(self) -> None:
        pass

    class Place:
        def __init__(self, run: Callable[[Job], Outcome], job: Job) -> None:
            self._run, self._job = run, job

        def outcome(self) -> Outcome | None:
            return self._run(self._job)

        def has_begun(self) -> bool:
            return True

        def end(self) -> None:
            pass


def load(project: Path, *overrides: str) -> Leader:
    return Leader.create(load_config(project / "study.yaml", ["isolation=none", *overrides]), Here())


@pytest.mark.parametrize("storage", ["memory://", "sqlite://"])
def test_a_storage_that_ends_with_this_process_is_refused(project: Path, storage: str) -> None:
    with pytest.raises(StorageError, match=r"ends with this process.*postgresql\+psycopg://.*journal:///"):
        load(project, f"storage={storage}")


def test_sqlite_is_refused_where_workers_are_on_other_hosts(project: Path) -> None:
    loaded = load_config(project / "study.yaml")
    with pytest.raises(StorageError, match="locks don't hold between hosts"):
        Leader.create(loaded, Here(spans_hosts=True))
    Leader.create(loaded, Here(spans_hosts=False))


@pytest.mark.slow
def test_every_event_of_the_workers_is_told_as_if_they_ran_here(project: Path) -> None:
    # A sampler of Optuna's proposes batch sizes beside the lattice.
    leader = load(project, "budget.trials=2", "confirm_seeds=1", "search.sampler=random")
    script = Script()
    summary = leader.run(script)
    assert (summary.ended, summary.num_complete, summary.num_new) == ("finished", 4, 4)  # two and their repeats
    assert script.info is not None
    assert script.info.objective.monitor == "val_loss"
    assert [start.number for start in script.started] == [0, 1, 2, 3]
    assert [start.batch_size for start in script.started] == [record.batch_size for record in script.ended]
    assert [(n, t.index) for n, t in script.ticks] == [(n, i) for n in range(4) for i in (1, 2, 3)]
    records = read_records(leader.optuna)
    assert script.ended == records
    assert [t.value for n, t in script.ticks if n == 0] == [t.value for t in records[0].ticks]
    assert leader.run().ended == "nothing_to_do"


def test_a_mistake_that_a_worker_meets_ends_the_study_with_its_message(project: Path) -> None:
    leader = load(project, "task.model.class_path=toy.Missing")
    with pytest.raises(TaskError, match=r"'Missing'.*\(on "):
        leader.run()


@pytest.mark.slow
def test_workers_that_always_die_end_the_study(project: Path) -> None:
    def die(job: Job) -> Outcome:
        raise Lost("its process died")

    loaded = load_config(project / "study.yaml", ["workers=2"])
    engine = Here(die)
    with pytest.raises(StudyError, match="6 workers were lost before any of them finished a trial"):
        Leader.create(loaded, engine).run()
    assert len({job.name for job in engine.jobs}) == len(engine.jobs)


def test_the_cluster_is_let_go_of_also_where_the_storage_failed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **named: object) -> int:
        raise StorageFailedError("the storage failed")

    closed = []
    leader = load(project)
    monkeypatch.setattr(leader.engine, "close", lambda: closed.append(True))
    monkeypatch.setattr(queue, "queue_retries", fail)
    with pytest.raises(StorageFailedError):
        leader.run()
    assert closed


@pytest.mark.parametrize("outlives_leader", [False, True])
def test_a_closed_terminal_ends_the_workers_unless_they_are_the_clusters(project: Path, outlives_leader: bool) -> None:
    ended: list[str] = []

    class Waiting(Here.Place):
        def outcome(self) -> Outcome | None:
            signal.raise_signal(signal.SIGHUP)
            return None

        def has_begun(self) -> bool:
            return False

        def end(self) -> None:
            ended.append(self._job.name)

    engine = Here()
    engine.outlives_leader = outlives_leader
    engine.place = lambda job: Waiting(engine.run, job)  # type: ignore[method-assign]
    leader = Leader.create(load_config(project / "study.yaml"), engine)
    summary = leader.run()
    assert (summary.ended, summary.signal) == ("interrupted", signal.SIGHUP)
    assert bool(ended) is not outlives_leader


@pytest.mark.slow
def test_a_trial_that_never_began_is_not_told_as_done(project: Path) -> None:
    load(project, "budget.trials=1").run()
    leader = load(project, "budget.trials=2")
    leader.optuna.tell(leader.optuna.ask(), state=TrialState.FAIL)
    script = Script()
    leader.run(script)
    assert (script.done, len(script.ended)) == (1, 1)


@pytest.mark.slow
def test_an_interrupted_worker_is_replaced_and_its_trial_run_again(project: Path) -> None:
    def preempted(job: Job) -> Outcome:
        if job.name.endswith("-0"):
            return Outcome("interrupted", "preempted")
        return work(job)

    loaded = load_config(project / "study.yaml", ["isolation=none", "budget.trials=1"])
    script = Script()
    leader = Leader.create(loaded, Here(preempted))
    assert leader.run(script).num_complete == 1
    assert any("was interrupted; another takes its place" in note for note in script.notes)
    assert [r.stop_reason for r in read_records(leader.optuna)] == [StopReason.COMPLETED]


@pytest.mark.parametrize(
    ("trainer", "has_gpus", "needs"),
    [
        ({"accelerator": "cpu", "devices": 2}, True, Resources(cpus=2, gpus=0)),
        ({"accelerator": "gpu", "devices": 2}, False, Resources(cpus=2, gpus=2)),
        ({"devices": [0, 1, 2]}, True, Resources(cpus=3, gpus=3)),
        ({"devices": 1}, False, Resources(cpus=1, gpus=0)),
    ],
)
def test_a_worker_takes_a_core_and_a_gpu_for_each_rank(
    project: Path, trainer: dict[str, object], has_gpus: bool, needs: Resources
) -> None:
    config = load_config(project / "study.yaml").config.model_copy(update={"trainer": trainer})
    assert resources_of(config, has_gpus=has_gpus) == needs


@pytest.mark.parametrize(
    ("trainer", "message"), [({"devices": "auto"}, "--gpus-per-trial"), ({"num_nodes": 2}, "srun")]
)
def test_what_cannot_be_reserved_is_refused(project: Path, trainer: dict[str, object], message: str) -> None:
    config = load_config(project / "study.yaml").config.model_copy(update={"trainer": trainer})
    with pytest.raises(ConfigError, match=message):
        resources_of(config, has_gpus=True)


def test_a_missing_extra_says_how_to_install_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bsopt.engines.ray import RayEngine
    from bsopt.engines.slurm import SlurmEngine, SlurmOptions

    for name in ("ray", "submitit"):
        monkeypatch.setitem(sys.modules, name, None)
    loaded = load_config(project / "study.yaml")
    with pytest.raises(MissingExtraError, match=r"pip install 'bsopt\[ray\]'"):
        RayEngine(loaded.config, loaded.folder)
    with pytest.raises(MissingExtraError, match=r"pip install 'bsopt\[slurm\]'"):
        SlurmEngine(loaded.config, SlurmOptions(), is_local=True)


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        (None, MachineError, r"can't start Ray on this machine: it timed out\. Run the same command again"),
        ("auto", StudyError, r"can't join the Ray cluster at auto: it timed out\. Is it running"),
    ],
)
def test_a_cluster_that_can_not_be_had_is_the_machines_failure_or_the_address_wrong(
    project: Path, monkeypatch: pytest.MonkeyPatch, address: str | None, error: type[Exception], words: str
) -> None:
    def init(**settings: object) -> None:
        raise RuntimeError("it timed out.\nraylet …")

    monkeypatch.setattr("bsopt.engines.ray._import_ray", lambda: SimpleNamespace(init=init))
    config = load_config(project / "study.yaml").config
    with pytest.raises(error, match=words):
        RayEngine(config, project, address=address)


def test_an_option_of_another_engine_is_refused(project: Path) -> None:
    result = CliRunner().invoke(main, ["study", "run", "study.yaml", "--partition", "gpu"])
    assert result.exit_code == 2
    assert "--partition goes with --engine slurm" in result.stderr
