"""The same study on every storage, also from two hosts at once."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from servers import grpc_proxy, postgresql

from bsopt.cli.main import main
from bsopt.config import load_config
from bsopt.report import write_report
from bsopt.report.dashboard import publish
from bsopt.storage.ownership import give_up_lost
from bsopt.storage.queue import queue_retries
from bsopt.study.study import Study, load_study
from bsopt.study.task_runner import TaskRunner
from bsopt.trial.events import Listener
from bsopt.trial.record import StopReason, Tick

pytestmark = [pytest.mark.distributed, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgresql(tmp_path_factory.mktemp("postgresql")) as url:
        yield url


@pytest.fixture(autouse=True)
def _let_go_of_connections() -> Iterator[None]:
    """Collect Optuna's connection pools, which it never closes, without psycopg's remark on that."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(params=["postgresql", "grpc", "journal"])
def storage(request: pytest.FixtureRequest, project: Path) -> Iterator[str]:
    if request.param == "journal":
        yield f"journal://{project}/journal.log"
    elif request.param == "postgresql":
        yield request.getfixturevalue("database")
    else:
        with grpc_proxy(request.getfixturevalue("database")) as address:
            yield address


def _load(project: Path, name: str, *overrides: str) -> Study:
    return Study.create(load_config(project / "study.yaml", [f"name={name}", *overrides]))


@pytest.mark.slow
def test_a_study_runs_continues_and_is_read_back(project: Path, storage: str, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    _load(project, name, f"storage={storage}", "budget.trials=2").run()
    summary = _load(project, name, f"storage={storage}", "budget.trials=3").run()
    assert (summary.num_complete, summary.num_new) == (3, 1)
    study = load_study(name, storage)
    assert all(r.stop_reason is StopReason.COMPLETED and len(r.ticks) == 3 for r in study.records)


@pytest.mark.slow
def test_two_ranks_are_pruned(project: Path, storage: str, request: pytest.FixtureRequest) -> None:
    pruning = "pruning={pruner: threshold, options: {upper: 0.0, n_warmup_steps: 100}}"
    name = f"ranks-{request.node.callspec.id}"
    study = _load(project, name, f"storage={storage}", "trainer.devices=2", "budget.trials=1", pruning)
    study.run()
    assert [(r.stop_reason, len(r.ticks)) for r in study.records] == [(StopReason.PRUNED, 2)]


def _host(project: Path, name: str, *overrides: str) -> subprocess.Popen[str]:
    """Start the study on a "host" with a name, a working folder and an output folder of its own."""
    folder = project / name
    folder.mkdir()
    for file in ("toy.py", "study.yaml"):
        shutil.copy(project / file, folder / file)
    settings = [part for override in overrides for part in ("--set", override)]
    command = [sys.executable, "-m", "bsopt", "study", "run", "study.yaml", "--json", *settings]
    environment = {**os.environ, "BSOPT_HOST": name, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
def test_two_hosts_share_a_study_and_run_each_trial_once(project: Path, database: str) -> None:
    settings = ["name=shared", f"storage={database}", "budget.trials=6"]
    hosts = [_host(project, name, *settings) for name in ("one", "two")]
    told = [host.communicate(timeout=240)[0] for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], told
    records = load_study("shared", database).records
    assert [r.number for r in records] == list(range(len(records)))
    assert sum(r.stop_reason is StopReason.COMPLETED for r in records) == 6
    assert {r.stop_reason for r in records} <= {
        StopReason.COMPLETED,
        StopReason.INTERRUPTED,
    }  # a last place, handed back


@pytest.mark.slow
def test_the_trial_of_a_killed_host_is_run_again_by_the_other(
    project: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["name=killed", f"storage={database}", "budget.trials=3"]
    host = _host(project, "one", *settings, "task.model.init_args.trouble=hang@1")
    assert host.stdout is not None
    for line in host.stdout:
        if json.loads(line)["event"] == "tick":
            break
    _look_at("killed", database)
    host.kill()
    host.communicate()
    study = _load(project, "killed", *settings[1:], "task.model.init_args.trouble=hang@1")
    healthy = study.config.model_copy(update={"task": load_config(project / "study.yaml").config.task})
    study = Study(study.optuna, TaskRunner(healthy, study.file.parent), study.file)
    notes: list[str] = []

    class Log(Listener):
        def note(self, message: str) -> None:
            notes.append(message)
            if "waiting for trial 0" in message:  # alive by all that this host can know: silence alone tells
                assert len(study.records) == 3
                monkeypatch.setattr("bsopt.storage.ownership.GRACE_SECONDS", 0.0)

    summary = study.run(Log())
    records = study.records
    assert (summary.ended, summary.num_complete) == ("finished", 3)
    assert [r.stop_reason for r in records] == [StopReason.LOST, *[StopReason.COMPLETED] * 3]
    assert records[3].params == records[0].params
    assert [note for note in notes if "lost" in note] == ["trial 0 was lost, its process is gone; it is run again"]


def _look_at(name: str, storage: str) -> None:
    """Look at a study whose only trial is being trained, from a host that doesn't."""
    study = load_study(name, storage).optuna
    page = write_report([study], Path("report.html")).path.read_text()
    assert name in page
    publish(study)
    shown = CliRunner().invoke(main, ["study", "show", name, "--storage", storage, "--json"])
    assert shown.exit_code == 0, shown.output
    (trial,) = json.loads(shown.stdout)["trials"]
    assert (trial["outcome"], trial["stop_reason"]) == ("running", None)
    assert trial["ticks"]


@pytest.mark.slow
def test_a_host_that_was_given_up_leaves_its_trial_to_the_other(
    project: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = _load(project, "cut-off", f"storage={database}", "budget.trials=2")
    notes: list[str] = []

    class Log(Listener):
        def ticked(self, number: int, tick: Tick) -> None:
            if (number, tick.index) == (0, 1):  # another host, which hasn't heard of this one for too long
                with monkeypatch.context() as patch:
                    patch.setenv("BSOPT_HOST", "other")
                    give_up_lost(study.optuna, now=time.time() + 1e6)
                    queue_retries(study.optuna, total=1000)

        def note(self, message: str) -> None:
            notes.append(message)

    summary = study.run(Log())
    assert summary.num_complete == 2
    assert [r.stop_reason for r in study.records] == [StopReason.LOST, StopReason.COMPLETED, StopReason.COMPLETED]
    assert any("trial 0 was given up by another host" in note for note in notes)
