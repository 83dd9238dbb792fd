"""The same study on every storage, also from two hosts at once."""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from bsopt.config import load_config
from bsopt.records import StopReason
from bsopt.study import Study, load_study

sys.path.insert(0, str(Path(__file__).parent))
from servers import grpc_proxy, postgresql

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


def test_a_study_runs_continues_and_is_read_back(project: Path, storage: str, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    _load(project, name, f"storage={storage}", "budget.trials=2").run()
    summary = _load(project, name, f"storage={storage}", "budget.trials=3").run()
    assert (summary.num_complete, summary.num_new) == (3, 1)
    study = load_study(name, storage)
    assert all(r.stop_reason is StopReason.COMPLETED and len(r.ticks) == 3 for r in study.records)


def test_two_ranks_are_pruned(project: Path, storage: str, request: pytest.FixtureRequest) -> None:
    pruning = "pruning={pruner: threshold, options: {upper: 0.0, n_warmup_steps: 100}}"
    name = f"ranks-{request.node.callspec.id}"
    study = _load(project, name, f"storage={storage}", "trainer.devices=2", "budget.trials=1", pruning)
    study.run()
    assert [(r.stop_reason, len(r.ticks)) for r in study.records] == [(StopReason.PRUNED, 2)]


def test_two_hosts_share_a_study_and_run_each_trial_once(project: Path, database: str) -> None:
    _load(project, "shared", f"storage={database}", "budget.trials=12")
    command = [sys.executable, "-m", "bsopt", "study", "run", "study.yaml", "--json"]
    settings = ["--set", "name=shared", "--set", f"storage={database}", "--set", "budget.trials=12"]
    hosts = [
        subprocess.Popen([*command, *settings, "--set", f"output=host{n}"], cwd=project, stdout=subprocess.DEVNULL)
        for n in range(2)
    ]
    assert [host.wait(240) for host in hosts] == [0, 0]
    records = load_study("shared", database).records
    assert [r.number for r in records] == list(range(len(records)))
    counted = [r for r in records if r.stop_reason is StopReason.COMPLETED]
    assert 12 <= len(counted) <= 13  # two hosts may both see the last place free
