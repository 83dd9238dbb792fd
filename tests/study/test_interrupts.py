"""Studies that are interrupted or killed: nothing is left behind, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bsopt.config import LoadedConfig
from bsopt.study.study import Study, load_study
from bsopt.study.task_runner import TaskRunner
from bsopt.trial.record import StopReason

Load = Callable[..., LoadedConfig]


def healthy(study: Study, loaded: LoadedConfig) -> Study:
    """Return a study whose task is that of another file."""
    config = study.config.model_copy(update={"task": loaded.config.task})
    return Study(study.optuna, TaskRunner(config, study.file.parent), study.file)


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
    assert process.returncode == 128 + sign
    study = load_study("toy")
    assert [r.stop_reason for r in study.records] == [StopReason.INTERRUPTED]
    assert len(study.records[0].ticks) == 1
    _wait_for(lambda: not _processes_of(project))


@pytest.mark.slow
def test_a_killed_parent_leaves_no_orphan_and_its_trial_is_run_again(project: Path, load: Load, log: Any) -> None:
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
    settings.append("checkpoints={trials: all, keep: [initial, best]}")
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
    assert study.files.weights_of(1, "initial") is not None
    assert study.files.weights_of(1, "best") is not None
