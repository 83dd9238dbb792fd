"""Workers on a real Ray cluster of two nodes on this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from process_tree import family
from script import Script, owner, press_ctrl_c

from bsopt.config import LoadedConfig
from bsopt.engines.leader import Leader
from bsopt.errors import MachineError
from bsopt.storage.attributes import read_records
from bsopt.trial.record import StopReason

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # on a busy machine every process of Ray's starts slowly
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes with a core each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        soon = {
            "health_check_initial_delay_ms": 1000,
            "health_check_period_ms": 1000,
            "health_check_failure_threshold": 3,
        }
        head = {"num_cpus": 1, "include_dashboard": False, "_system_config": soon}
        nodes = Cluster(initialize_head=True, head_node_args=head)
        nodes.add_node(num_cpus=1)
        yield nodes
        nodes.shutdown()


def test_a_lost_node_and_a_lost_worker_cost_no_trial_and_ctrl_c_ends_the_last(
    cluster: Any, held: Callable[..., LoadedConfig], passes: Path, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from bsopt.engines.ray import RayEngine

    loaded = held("workers=2", "budget.trials=2", f"storage=journal://{project}/journal.log")
    engine = RayEngine(loaded.config, loaded.folder, address=cluster.address, upload_code=True)
    assert engine.spans_hosts
    leader = Leader.create(loaded, engine)
    for name in ("toy.py", "held.py"):
        (project / name).unlink()  # the workers have what was sent
    (other_node,) = cluster.worker_nodes
    done: list[str] = []

    def act(event: str, argument: Any) -> None:
        lost = [note for note in script.notes if " is gone" in note]
        if event == "ticked" and {number for number, _ in script.ticks} == {0, 1} and not done:
            done.append("lose a node")
            cluster.remove_node(other_node, allow_graceful=False)
        elif event == "note" and len(lost) == 1 and done == ["lose a node"]:
            done.append("lose a worker")
            (left,) = {0, 1} - {int(number) for number in re.findall(r"trial (\d)", lost[0])}
            os.kill(owner(leader.optuna, left)["pid"], signal.SIGKILL)
        elif event == "note" and len(lost) == 2 and done[-1] == "lose a worker":
            done.append("let one pass")
            (passes / "one").touch()
        elif done[-1:] == ["let one pass"] and _completed(script) == 1 and script.held:
            done.append("press Ctrl-C")
            press_ctrl_c()

    script = Script(act)
    summary = leader.run(script)
    assert done == ["lose a node", "lose a worker", "let one pass", "press Ctrl-C"], script.notes
    assert summary.ended == "interrupted"
    records = [r for r in read_records(leader.optuna) if r.stop_reason is not None]  # the last waits to be run again
    assert [r.stop_reason for r in records[:2]] == [StopReason.LOST, StopReason.LOST]
    assert {r.stop_reason for r in records[2:]} == {StopReason.COMPLETED, StopReason.INTERRUPTED}
    assert sorted(r.lr or 0 for r in records[:2]) == sorted(r.lr or 0 for r in records[2:])
    assert "raylet" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("part", "message"),
    [("gcs_server", r"the head of the Ray cluster, .* is gone"), ("raylet", "node on this machine is gone")],
)
def test_a_part_of_the_cluster_that_dies_ends_the_run_with_a_message(
    held: Callable[..., LoadedConfig], project: Path, monkeypatch: pytest.MonkeyPatch, part: str, message: str
) -> None:
    from bsopt.engines import ray as engines

    monkeypatch.setattr(engines, "_LOOK_SECONDS", 1.0)
    monkeypatch.setattr(engines, "_PATIENCE_SECONDS", 3.0)
    loaded = held("budget.trials=1", f"storage=journal://{project}/journal.log")
    leader = Leader.create(loaded, engines.RayEngine(loaded.config, loaded.folder))
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in family(os.getpid())}
    (pid,) = [pid for pid, command in commands.items() if Path(command[0]).name == part]
    script = Script(lambda event, argument: os.kill(pid, signal.SIGKILL) if event == "ticked" else None)
    with pytest.raises(MachineError, match=message):
        leader.run(script)
    records = read_records(leader.optuna)
    assert {record.stop_reason for record in records} <= {StopReason.LOST, None}  # and is run again


def _completed(script: Script) -> int:
    return sum(record.stop_reason is StopReason.COMPLETED for record in script.ended)
