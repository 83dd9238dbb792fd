"""Trials of two nodes whose ranks torchrun started: two nodes of one rank each on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bsopt.cli.main import main
from bsopt.config import load_config
from bsopt.engines.ranks import Ranks, standing_of
from bsopt.errors import ConfigError
from bsopt.study.study import load_study
from bsopt.training.processes.environments import RankInfo, free_port
from bsopt.trial.record import StopReason

STUDY = ["study", "run", "study.yaml", "--json", "--set", "trainer.num_nodes=2"]
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
TORCHRUN |= {"MASTER_ADDR": "node0", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "x"}
SRUN = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_NNODES": "2"}
SRUN |= {"SLURM_NODELIST": "gpu[07,09]", "SLURM_JOB_ID": "123456", "SLURM_JOB_NAME": "train"}


@pytest.mark.parametrize(
    ("environment", "rank_info"),
    [
        (TORCHRUN, RankInfo(1, 4, 1, 2, node=0, address="node0", port=29500)),
        (SRUN, RankInfo(3, 4, 1, 2, node=1, address="gpu07", port=15000 + 3456)),
        ({**TORCHRUN, "WORLD_SIZE": "1"}, None),
        ({**SRUN, "SLURM_JOB_NAME": "interactive"}, None),
        ({**SRUN, "SLURM_NTASKS": "1"}, None),
        ({}, None),
    ],
)
def test_a_rank_learns_its_place_from_its_launcher(environment: dict[str, str], rank_info: RankInfo | None) -> None:
    assert standing_of(environment) == rank_info


def test_ranks_that_do_not_fit_the_trials_are_refused(project: Path) -> None:
    config = load_config(project / "study.yaml", ["trainer.num_nodes=2"]).config
    with pytest.raises(ConfigError, match=r"4 ranks were started, 2 on each node, but .* 1 device\(s\) on each of 2"):
        Ranks(RankInfo(0, 4, 0, 2), config)


def test_several_nodes_without_their_ranks_are_refused(project: Path) -> None:
    result = CliRunner().invoke(main, STUDY)
    assert result.exit_code == 2
    assert "torchrun --nnodes 2 --nproc-per-node 1" in result.stderr
    assert not (project / "bsopt.db").exists()


Start = Callable[..., list[subprocess.Popen[str]]]


@pytest.fixture
def start(project: Path) -> Iterator[Start]:
    """Start the study on two nodes, by torchrun or as torchrun would start its ranks."""
    started: list[subprocess.Popen[str]] = []

    def start(*overrides: str, torchrun: bool = False) -> list[subprocess.Popen[str]]:
        port = str(free_port())
        settings = [part for override in overrides for part in ("--set", override)]
        for node in range(2):
            command = [sys.executable, "-m", "bsopt", *STUDY, *settings]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            if torchrun:
                nodes = ["--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(node)]
                where = ["--master-addr", "127.0.0.1", "--master-port", port]
                command = [sys.executable, "-m", "torch.distributed.run", *nodes, *where, *command[1:]]
            else:
                place = {"RANK": str(node), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
                place |= {"GROUP_RANK": str(node), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
                environment |= {**place, "TORCHELASTIC_RUN_ID": "test"}
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            started.append(subprocess.Popen(command, cwd=project, text=True, env=environment, **pipes))
        return started

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def events(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.distributed
@pytest.mark.slow
def test_two_nodes_of_torchrun_train_each_trial_together_and_are_pruned(project: Path, start: Start) -> None:
    pruning = "pruning={pruner: threshold, options: {upper: 0.0, n_warmup_steps: 100}}"
    leader, other = start("budget.trials=2", pruning, torchrun=True)
    told, errors = leader.communicate(timeout=250)
    assert leader.returncode == 1, errors  # none is complete
    assert other.wait(60) == 1
    records = load_study("toy", f"sqlite:///{project}/bsopt.db").records
    assert [(r.stop_reason, len(r.ticks)) for r in records] == [(StopReason.PRUNED, 2)] * 2
    assert all(r.plan is not None and (r.plan.num_devices, r.plan.num_nodes) == (1, 2) for r in records)
    assert events(told)[-1]["num_pruned"] == 2


@pytest.mark.distributed
@pytest.mark.slow
def test_a_failing_node_costs_a_trial_and_a_dead_one_ends_all_with_a_message(project: Path, start: Start) -> None:
    leader, other = start("budget.trials=9", "task.model.init_args.trouble=rank1@1")
    assert leader.stdout is not None
    for line in leader.stdout:
        if json.loads(line)["event"] == "trial_ended":
            break
    other.send_signal(signal.SIGKILL)
    _, errors = leader.communicate(timeout=250)
    assert leader.returncode == 2
    assert "rank 1 is gone" in errors
    assert "the same command continues the study" in errors
    *failed, last = load_study("toy", f"sqlite:///{project}/bsopt.db").records
    assert failed
    assert all(r.stop_reason is StopReason.FAILED for r in failed)
    assert all("rank 1 on " in r.message and "exited with code 3" in r.message for r in failed)
    assert last.stop_reason is StopReason.INTERRUPTED  # and is run again
