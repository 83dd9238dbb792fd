"""Ranks, fork server and parent are killed: nothing outlives the parent, and no trial is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from process_tree import family, parents

from bsopt.study.study import load_study
from bsopt.trial.record import StopReason

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1000),  # a busy machine is no failure
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's help is Linux's"),
]

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(project: Path) -> Iterator[Start]:
    """Start the toy study and wait for its first tick."""
    started: list[subprocess.Popen[str]] = []

    def start(*overrides: str) -> subprocess.Popen[str]:
        settings = [part for override in overrides for part in ("--set", override)]
        command = [sys.executable, "-m", "bsopt", "study", "run", "study.yaml", "--json", *settings]
        process = subprocess.Popen(command, cwd=project, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] == "tick":
                break
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _server_and_ranks(pid: int) -> tuple[int, list[int]]:
    """Return the fork server of a study's process and its ranks."""
    tree = parents()
    (server,) = [child for child, parent in tree.items() if parent == pid and child in tree.values()]
    return server, [child for child, parent in tree.items() if parent == server]


def _wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.05)


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("state", ["stuck in C", "stopped"])
def test_a_rank_never_outlives_a_killed_parent(start: Start, state: str, devices: int) -> None:
    trouble = "stuck@1" if state == "stuck in C" else "hang@1"
    process = start(f"task.model.init_args.trouble={trouble}", f"trainer.devices={devices}")
    time.sleep(1)
    there = set(family(process.pid))
    _, ranks = _server_and_ranks(process.pid)
    assert len(ranks) == devices
    if state == "stopped":
        for rank in ranks:
            os.kill(rank, signal.SIGSTOP)
    process.kill()
    _wait_for(lambda: not there & parents().keys())


def test_a_killed_fork_server_costs_no_trial(start: Start, project: Path) -> None:
    process = start("workers=2", "budget.trials=6", "budget.epochs=40", "trainer.limit_val_batches=1")
    server, _ = _server_and_ranks(process.pid)
    os.kill(server, signal.SIGKILL)
    told, errors = process.communicate(timeout=800)
    assert process.returncode == 0, errors
    assert json.loads(told.splitlines()[-1])["num_complete"] == 6
    records = load_study("toy", f"sqlite:///{project}/bsopt.db").records
    reasons = [record.stop_reason for record in records]
    assert reasons.count(StopReason.COMPLETED) == 6
    assert set(reasons) == {StopReason.COMPLETED, StopReason.LOST}
    assert all(record.plan is not None and record.plan.accumulate_grad_batches == 1 for record in records)


@pytest.mark.parametrize(
    ("number", "devices", "rank"), [(signal.SIGKILL, 1, 0), (signal.SIGTERM, 2, 0), (signal.SIGTERM, 2, 1)]
)
def test_a_killed_rank_is_no_proof_of_too_little_memory(
    start: Start, project: Path, number: int, devices: int, rank: int
) -> None:
    """Nor does it leave its peer waiting: Lightning's handler of SIGTERM would."""
    process = start("budget.trials=2", "budget.epochs=40", f"trainer.devices={devices}")
    _, ranks = _server_and_ranks(process.pid)
    os.kill(sorted(ranks)[rank], number)
    _, errors = process.communicate(timeout=800)
    assert process.returncode == 0, errors
    first, second, *_ = load_study("toy", f"sqlite:///{project}/bsopt.db").records
    assert (first.stop_reason, second.stop_reason) == (StopReason.LOST, StopReason.COMPLETED)
    assert (first.params, first.plan) == (second.params, second.plan)
    assert "nothing says that memory ran out" in first.message


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGQUIT, 131), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_in_order_and_names_itself(
    start: Start, project: Path, number: signal.Signals, code: int
) -> None:
    process = start("task.model.init_args.trouble=hang@1", "budget.trials=2")
    there = set(family(process.pid))
    process.send_signal(number)
    told, errors = process.communicate(timeout=800)
    assert process.returncode == code, errors
    assert json.loads(told.splitlines()[-1])["ended"] == "interrupted"
    records = load_study("toy", f"sqlite:///{project}/bsopt.db").records
    assert [r.stop_reason for r in records] == [StopReason.INTERRUPTED]
    assert records[0].ticks
    _wait_for(lambda: not there & parents().keys())


def test_a_second_ctrl_c_ends_at_once_and_loses_nothing(start: Start, project: Path) -> None:
    process = start("budget.epochs=200", "budget.trials=1", "workers=2")
    for _ in range(3):
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=800)
    assert process.returncode == 130
    assert "Traceback" not in errors
    again = start("budget.epochs=200", "budget.trials=1")
    _, errors = again.communicate(timeout=800)
    assert again.returncode == 0, errors
    records = load_study("toy", f"sqlite:///{project}/bsopt.db").records
    assert records[0].stop_reason in (StopReason.INTERRUPTED, StopReason.LOST)
    assert [r.stop_reason for r in records[1:]] == [StopReason.COMPLETED]
    assert records[1].params == records[0].params


def test_output_that_nobody_reads_any_more_ends_a_run_in_order(start: Start, project: Path) -> None:
    process = start("budget.trials=9", "budget.epochs=30")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    assert process.wait(800) == 129
    assert errors == ""
    records = load_study("toy", f"sqlite:///{project}/bsopt.db").records
    assert records[-1].stop_reason in (StopReason.INTERRUPTED, StopReason.COMPLETED)


def test_a_deleted_working_folder_is_told_and_its_trial_run_again(start: Start, project: Path) -> None:
    gone = project / "gone"
    gone.mkdir()
    for file in ("toy.py", "study.yaml"):
        (gone / file).write_text((project / file).read_text())
    command = [sys.executable, "-m", "bsopt", "study", "run", "study.yaml", "--json"]
    settings = [f"storage=sqlite:///{project}/other.db", "budget.epochs=20"]
    command += [part for setting in settings for part in ("--set", setting)]
    process = subprocess.Popen(command, cwd=gone, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "trial_ended":
            break
    subprocess.run(["rm", "-r", str(gone)], check=True)
    _, errors = process.communicate(timeout=800)
    assert process.returncode == 3, errors
    assert "Traceback" not in errors
    assert "gone" in errors
    records = load_study("toy", f"sqlite:///{project}/other.db").records
    reasons = {record.stop_reason for record in records}
    assert reasons <= {StopReason.COMPLETED, StopReason.LOST}, [(r.stop_reason, r.message) for r in records]
