"""Workers that submitit starts: as SLURM jobs on paper, and for real with its local executor."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from script import Script, owner, press_ctrl_c

from bsopt.cli.main import main
from bsopt.config import LoadedConfig
from bsopt.engines.leader import Leader
from bsopt.engines.slurm import SlurmEngine, SlurmOptions
from bsopt.storage.attributes import read_records
from bsopt.trial.record import StopReason

pytestmark = pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="submitit is not installed")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["study", "run", "study.yaml", *arguments])


def test_dry_run_prints_the_script_with_the_resources_and_submits_nothing(project: Path) -> None:
    options = ["--partition", "gpu", "--time", "240", "--mem", "32G", "--gpus-per-trial", "2", "--cpus-per-trial", "8"]
    result = run("--engine", "slurm", "--dry-run", *options, "--sbatch", "account=lab", "--sbatch", "--qos=low")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    asked = ["partition=gpu", "time=240", "mem=32G", "gpus-per-node=2", "cpus-per-task=8", "account=lab", "qos=low"]
    assert {f"#SBATCH --{line}" for line in asked} <= set(lines)
    assert "#SBATCH --signal=USR2@90" in lines  # ahead of the time limit, so that the trial is interrupted
    (command,) = [line for line in lines if line.startswith("srun")]
    assert command.endswith(f"-m submitit.core._submit {project}/runs/toy/slurm")
    assert not (project / "runs").exists()


def test_without_slurm_it_says_what_to_do(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(project))
    result = run("--engine", "slurm")
    assert result.exit_code == 2
    assert "there is no sbatch here" in result.stderr


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_preempted_and_a_killed_worker_cost_no_trial_and_ctrl_c_ends_the_last(
    held: Callable[..., LoadedConfig], passes: Path
) -> None:
    loaded = held("workers=2", "budget.trials=2")
    engine = SlurmEngine(loaded.config, SlurmOptions(minutes=5), is_local=True)
    leader = Leader.create(loaded, engine)
    done: list[str] = []

    def act(event: str, argument: Any) -> None:
        ended = [record.stop_reason for record in script.ended]
        if event == "ticked" and {number for number, _ in script.ticks} == {0, 1} and not done:
            done.append("preempt a worker")  # as submitit's signal ahead of the time limit does
            os.kill(owner(leader.optuna, 0)["pid"], signal.SIGUSR2)
        elif event == "ended" and ended == [StopReason.INTERRUPTED] and done == ["preempt a worker"]:
            done.append("kill the other")
            os.kill(owner(leader.optuna, 1)["pid"], signal.SIGKILL)
        elif event == "note" and " is gone" in argument:
            done.append("let one pass")
            (passes / "one").touch()
        elif done[-1:] == ["let one pass"] and StopReason.COMPLETED in ended and script.held:
            done.append("press Ctrl-C")
            press_ctrl_c()

    script = Script(act)
    summary = leader.run(script)
    assert done == ["preempt a worker", "kill the other", "let one pass", "press Ctrl-C"], script.notes
    assert summary.ended == "interrupted"
    reasons = [record.stop_reason for record in read_records(leader.optuna)]
    assert reasons[:2] == [StopReason.INTERRUPTED, StopReason.LOST]
    assert {StopReason.COMPLETED, StopReason.INTERRUPTED} <= set(reasons[2:])
    logs = "".join(path.read_text() for path in (loaded.config.folder / "slurm").glob("*.err"))
    assert "Caught signal SIGUSR2" in logs
    assert "Requeued job" in logs
